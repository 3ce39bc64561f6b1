package wire

import "time"

// The control messages. Each travels as JSON in one frame and is checked on arrival, on both sides;
// unknown fields are ignored, so that either side may be newer. docs/wire.md is the specification.

// Site names one app on one host; every request about releases carries it.
type Site struct {
	App   string `json:"app"`             // a short name: [A-Za-z0-9._-]{1,64}
	Path  string `json:"path"`            // absolute and clean, at least two levels deep
	Owner string `json:"owner,omitempty"` // user or user:group the files belong to; obeyed only by a helper that runs as root
}

// HelloReply is what a helper says about itself and its host.
type HelloReply struct {
	Protocol int       `json:"protocol"`
	Hash     string    `json:"hash"` // hex SHA-256 of the running helper
	OS       string    `json:"os"`
	Arch     string    `json:"arch"`
	CPUs     int       `json:"cpus"`
	PID      int       `json:"pid,omitempty"` // of the running helper
	UID      int       `json:"uid"`
	User     string    `json:"user"`
	Home     string    `json:"home"`
	BootID   string    `json:"boot_id"`
	Now      time.Time `json:"now"`
}

// Holder says who has a lock.
type Holder struct {
	Who     string    `json:"who"` // user@machine of the operator
	PID     int       `json:"pid"`
	Run     string    `json:"run"`
	Command string    `json:"command"` // release, rollback, restart, …
	Release string    `json:"release,omitempty"`
	Since   time.Time `json:"since"`
}

// LockRequest takes the host's lock for one app; it is held until the helper ends or Unlock.
type LockRequest struct {
	Site   Site   `json:"site"`
	Holder Holder `json:"holder"`
}

// LockReply says whether the lock was had; Held is set when somebody else has it.
type LockReply struct {
	Held *Holder `json:"held,omitempty"`
}

// UnlockRequest lets go of the lock of one app. It is no error when it was not held.
type UnlockRequest struct {
	Site Site `json:"site"`
}

// Mark is what is known of a release.
type Mark string

// A release is staged when its files are whole, live once it was switched to, and healthy or bad
// once its health was asked.
const (
	MarkStaged  Mark = "staged"
	MarkLive    Mark = "live"
	MarkHealthy Mark = "healthy"
	MarkBad     Mark = "bad"
)

// Release is the record kept beside each release, in .godeploy/releases/ID.json.
type Release struct {
	ID       string    `json:"id"`  // 20261123-104107-4f2c9e1
	Seq      int       `json:"seq"` // order: larger is later; never a clock
	Root     string    `json:"root"`
	Mark     Mark      `json:"mark"`
	Previous string    `json:"previous,omitempty"` // what was current when this was switched to
	Commit   string    `json:"commit,omitempty"`
	Branch   string    `json:"branch,omitempty"`
	Message  string    `json:"message,omitempty"`
	By       string    `json:"by,omitempty"`
	Created  time.Time `json:"created"`
	Config   string    `json:"config,omitempty"` // hash over [process] and the like, to know when nothing changed
	// Secrets is a hash over the release's secrets, "" when it has none. It is made so that trying out what
	// they may be costs much.
	Secrets string `json:"secrets,omitempty"`
	// Once is what became of the once hooks, nil before they were begun.
	Once *OnceRun `json:"once,omitempty"`
	// Heads are the heads of the database schema that the release was made for, nil when nobody asked.
	Heads *[]string `json:"heads,omitempty"`
}

// State is what a host has of an app. Releases are sorted by Seq.
type State struct {
	Exists    bool      `json:"exists"`            // the app's path is there
	Current   string    `json:"current,omitempty"` // release id that current points to
	Refusal   string    `json:"refusal,omitempty"` // why current cannot be switched: a real folder, a foreign link
	Releases  []Release `json:"releases,omitempty"`
	FreeBytes int64     `json:"free_bytes"`
	FreeNodes int64     `json:"free_nodes"`
	Writable  bool      `json:"writable"`          // this user can make what is missing below path
	Holder    *Holder   `json:"holder,omitempty"`  // who holds the lock, if somebody does
	Missing   []string  `json:"missing,omitempty"` // shared files asked for and not there
	InUse     []string  `json:"in_use,omitempty"`  // releases some process has as its working folder
	// Dangling says that there is no release where current points to.
	Dangling bool     `json:"dangling,omitempty"`
	Journal  *Journal `json:"journal,omitempty"` // of the last run that moved current
	// Drained is why the host is out of its balancer, nil when it is not, as far as was noted here. The
	// balancer's own hosts know better.
	Drained *Drained `json:"drained,omitempty"`
	// Freeze is the note of whoever wants no changes here, nil when there is none. It may have run out.
	Freeze *Freeze `json:"freeze,omitempty"`
}

// StateRequest asks for State; SharedFiles are looked for below shared/.
type StateRequest struct {
	Site        Site     `json:"site"`
	SharedFiles []string `json:"shared_files,omitempty"`
}

// PrepareRequest makes path, releases/, shared/ and the shared folders where they are missing.
type PrepareRequest struct {
	Site       Site     `json:"site"`
	SharedDirs []string `json:"shared_dirs,omitempty"`
}

// StageRequest opens a stream that brings a release in (docs/wire.md, "The sync stream"). Its reply,
// after the stream, is StageReply.
type StageRequest struct {
	Site        Site     `json:"site"`
	Release     Release  `json:"release"`
	Parent      string   `json:"parent,omitempty"` // release whose unchanged files are linked
	SharedDirs  []string `json:"shared_dirs,omitempty"`
	SharedFiles []string `json:"shared_files,omitempty"`
	Carry       []string `json:"carry,omitempty"` // copied from the parent
	Links       string   `json:"links,omitempty"` // auto, hard, reflink, copy
	// Verify "all" reads every file of the parent again: one whose content is not what was recorded is
	// sent anew. "" and "changed" go by size, time and mode.
	Verify string `json:"verify,omitempty"`
	// Holder, when set, makes the request one that stands alone: it takes the lock for the holder and
	// makes the app's path first, as Lock and Prepare would. A lock that somebody else has is a fault of
	// code lock-held.
	Holder *Holder `json:"holder,omitempty"`
	// Nearest lets the host pick the parent, when none is named: the newest release with this very root
	// and config, else current, else the newest.
	Nearest bool `json:"nearest,omitempty"`
	// SkipUnchanged makes no release when the parent is this very tree, untouched, under the same config.
	SkipUnchanged bool `json:"skip_unchanged,omitempty"`
	// Env is the file of secrets that comes with the release, nil when it has none.
	Env *EnvFile `json:"env,omitempty"`
}

// StageReply counts what staging did.
type StageReply struct {
	Files    int   `json:"files"`
	Linked   int   `json:"linked"`
	Written  int   `json:"written"`
	Received int64 `json:"received"` // bytes of the stream
	Bytes    int64 `json:"bytes"`    // size of the tree
	// Parent is the release that was built from, "" when there was none.
	Parent string `json:"parent,omitempty"`
	// Unchanged says that SkipUnchanged held: nothing was made, and Parent is the release that is there.
	Unchanged bool `json:"unchanged,omitempty"`
}

// SwitchRequest points current at a release, atomically. Expect, when set, is what current must
// point to now.
type SwitchRequest struct {
	Site   Site   `json:"site"`
	ID     string `json:"id"`               // "" removes current: the undo of a first release
	Expect string `json:"expect,omitempty"` // id, "" for any
}

// SwitchReply gives what current pointed to before.
type SwitchReply struct {
	Previous string `json:"previous,omitempty"`
}

// MarkRequest records what became of a release.
type MarkRequest struct {
	Site     Site   `json:"site"`
	ID       string `json:"id"`
	Mark     Mark   `json:"mark"`
	Previous string `json:"previous,omitempty"`
}

// RemoveRequest removes releases; current and any that a process stands in are refused. Retire leaves the
// last one's tree for the next release to be built from; without it one that was left goes too.
type RemoveRequest struct {
	Site   Site     `json:"site"`
	IDs    []string `json:"ids"`
	Retire bool     `json:"retire,omitempty"`
}

// RemoveReply names what was kept because it is in use.
type RemoveReply struct {
	Kept []string `json:"kept,omitempty"`
}

// ExecRequest runs a program. Its output comes as Output frames, its end as ExecReply.
type ExecRequest struct {
	Argv    []string          `json:"argv"` // execve'd, no shell
	Dir     string            `json:"dir,omitempty"`
	Env     map[string]string `json:"env,omitempty"`   // added to a small fixed environment
	User    string            `json:"user,omitempty"`  // run as user or user:group; needs a helper that runs as root
	Stdin   []byte            `json:"stdin,omitempty"` // at most 512 KiB; nothing means /dev/null
	Timeout time.Duration     `json:"timeout,omitempty"`
	Keep    bool              `json:"keep,omitempty"` // leave its children alone when it has ended: it starts a daemon
}

// ExecReply tells how the program ended.
type ExecReply struct {
	Exit     int    `json:"exit"`             // exit status; -1 when a signal ended it
	Signal   string `json:"signal,omitempty"` // name of the signal, "KILL"
	TimedOut bool   `json:"timed_out,omitempty"`
	Dropped  int64  `json:"dropped,omitempty"` // bytes of output past the cap
	MS       int64  `json:"ms"`
	// Held: something it left running kept its output open, which is closed now: a daemon that
	// still writes there will fail. It should be started with its output redirected.
	Held bool `json:"held,omitempty"`
}

// ProcsRequest asks about a process and its children.
type ProcsRequest struct {
	PID int `json:"pid"`
}

// Proc is one process as /proc shows it.
type Proc struct {
	PID   int      `json:"pid"`
	PPID  int      `json:"ppid"`
	UID   int      `json:"uid"`
	Start uint64   `json:"start"`         // clock ticks since boot: with PID an identity
	CWD   string   `json:"cwd,omitempty"` // physical; "" when this user may not see it
	Args  []string `json:"args,omitempty"`
}

// ProcsReply has the process first, then its children; empty when it is gone.
type ProcsReply struct {
	Procs []Proc `json:"procs,omitempty"`
}

// SignalRequest signals a process if it is still the one that was seen.
type SignalRequest struct {
	PID    int    `json:"pid"`
	Start  uint64 `json:"start"`
	Signal string `json:"signal"` // HUP, TERM, QUIT, KILL, USR2, WINCH
}

// FileRequest reads a file of at most 1 MiB minus overhead, or writes one whole (temporary name,
// fsync, rename).
type FileRequest struct {
	Path    string `json:"path"`
	Write   bool   `json:"write,omitempty"`
	Content []byte `json:"content,omitempty"`
	Mode    uint32 `json:"mode,omitempty"`
}

// FileReply has the content; Exists is false when there is no such file.
type FileReply struct {
	Exists  bool   `json:"exists"`
	Content []byte `json:"content,omitempty"`
}

// ErrorReply is the answer to a request that failed.
type ErrorReply struct {
	Code string `json:"code"` // a fault code
	Msg  string `json:"msg"`
	Hint string `json:"hint,omitempty"`
	// Facts are lines of evidence, Next commands to type; at most 16 each.
	Facts []string `json:"facts,omitempty"`
	Next  []string `json:"next,omitempty"`
}

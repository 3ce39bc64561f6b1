// Package event is the vocabulary in which a run tells what happens. Workers report; renderers in
// package cmd draw. Every output mode shows the same stream: they differ in nothing but drawing.
package event

import "time"

// Type says which fields of an Event mean something. The set only grows (docs/json.md).
type Type string

// The types of schema 1.
const (
	RunStart   Type = "run.start"
	RunEnd     Type = "run.end"
	PlanHost   Type = "plan.host"
	PlanFile   Type = "plan.file"
	Lock       Type = "lock"
	PhaseStart Type = "phase.start"
	PhaseEnd   Type = "phase.end"
	HostStart  Type = "host.start"
	HostEnd    Type = "host.end"
	Connect    Type = "connect"
	Progress   Type = "progress"
	CmdStart   Type = "cmd.start"
	CmdOutput  Type = "cmd.output"
	CmdEnd     Type = "cmd.end"
	Proof      Type = "proof"
	Health     Type = "health"
	Retry      Type = "retry"
	Info       Type = "info"
	Warn       Type = "warn"
	Error      Type = "error"
	Interrupt  Type = "interrupted"
)

// Event is one thing that happened. Msg is the very text that plain mode prints, without clock and
// host; an event with an empty Msg is for machines and live drawing only. Text that came from a
// host may hold anything: renderers neutralise control characters, reporters need not.
type Event struct {
	Time  time.Time `json:"t"`
	Type  Type      `json:"type"`
	Host  string    `json:"host,omitempty"`
	Phase string    `json:"phase,omitempty"` // check, sync, build, once, switch, after
	Step  string    `json:"step,omitempty"`
	Msg   string    `json:"msg,omitempty"`

	Done  int64  `json:"done,omitempty"`  // Progress
	Total int64  `json:"total,omitempty"` // Progress
	Unit  string `json:"unit,omitempty"`  // Progress: bytes, files, hosts
	// Progress in bytes: the files that were begun, and how many there are.
	Files   int `json:"files,omitempty"`
	OfFiles int `json:"of_files,omitempty"`

	Command  string   `json:"command,omitempty"` // RunStart: the verb; CmdStart, CmdEnd: the command line
	Env      string   `json:"env,omitempty"`
	App      string   `json:"app,omitempty"`
	Release  string   `json:"release,omitempty"`
	Previous string   `json:"previous,omitempty"`
	Hosts    []string `json:"hosts,omitempty"`
	User     string   `json:"user,omitempty"`
	Commit   string   `json:"commit,omitempty"`
	Branch   string   `json:"branch,omitempty"`
	DryRun   bool     `json:"dry_run,omitempty"`

	Exit   *int   `json:"exit,omitempty"`   // CmdEnd, RunEnd
	Stream string `json:"stream,omitempty"` // CmdOutput: stdout or stderr
	Text   string `json:"text,omitempty"`   // CmdOutput: one line without its end
	MS     int64  `json:"ms,omitempty"`     // duration of what ended, in milliseconds

	Try    int `json:"try,omitempty"`    // Health, Retry: which attempt, from 1
	Of     int `json:"of,omitempty"`     // Health, Retry: out of how many
	Status int `json:"status,omitempty"` // Health: HTTP status, 0 when there was no answer

	Code   string   `json:"code,omitempty"` // Error, Warn: the fault's code
	Facts  []string `json:"facts,omitempty"`
	Hint   string   `json:"hint,omitempty"`
	Next   []string `json:"next,omitempty"`
	File   string   `json:"file,omitempty"`
	Line   int      `json:"line,omitempty"`
	Column int      `json:"column,omitempty"`
	Error  string   `json:"error,omitempty"`

	Op    string `json:"op,omitempty"`    // PlanFile: create, update, meta, delete, kept
	Path  string `json:"path,omitempty"`  // PlanFile
	Why   string `json:"why,omitempty"`   // PlanFile: the reasons, separated by commas
	Bytes int64  `json:"bytes,omitempty"` // PlanFile: size; PhaseEnd of sync: sent

	Changed int `json:"changed,omitempty"` // HostEnd of sync: how many were made or changed
	Deleted int `json:"deleted,omitempty"` // HostEnd of sync

	Result   string              `json:"result,omitempty"`   // HostEnd, RunEnd: ok, unchanged, failed, rolled_back, mixed, interrupted, refused
	Outcomes map[string]string   `json:"outcomes,omitempty"` // RunEnd: what is true of each host: unchanged, staged, switched, healthy, rolled_back, broken, unknown
	Behind   []string            `json:"behind,omitempty"`   // RunEnd: hosts that a release goes to and this run left out
	Fleet    map[string][]string `json:"fleet,omitempty"`    // RunEnd: release id to the hosts that serve it; "" is none
}

// Reporter takes events. Report may be called from any goroutine, must not keep the Event's slices
// for writing, and must return soon: a slow terminal may never slow a release.
type Reporter interface {
	Report(Event)
}

// Discard drops every event.
type Discard struct{}

// Report does nothing.
func (Discard) Report(Event) {}

// Func lets a function be a Reporter.
type Func func(Event)

// Report calls f.
func (f Func) Report(e Event) { f(e) }

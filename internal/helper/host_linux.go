package helper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// host is one helper at work.
type host struct {
	locks    *locks
	programs *programs
	hash     func() (string, error)
	handlers map[wire.Kind]wire.Handler
	// under is held for reading by whatever changes a layout under its lock. A change that was
	// cancelled ends in its own time, and the lock must not go before it.
	under sync.RWMutex
	door  door
	armed armed
	o     Options
}

// Options change what a helper is; the zero value is the one that is pushed to hosts.
type Options struct {
	// Wrap stands between the helper and an app's folder: what is tested there is how it takes faults.
	Wrap func(filesync.FS) filesync.FS
	// Boot is taken for the id of the host's boot; "" asks the kernel.
	Boot string
	// Silence is how long the controller may say nothing; 0 is 30 s.
	Silence time.Duration
}

func newHost(o Options) (*host, error) {
	programs, err := newPrograms()
	if err != nil {
		return nil, err
	}
	h := &host{
		locks:    &locks{state: lockState(), held: map[wire.Site][]*os.File{}},
		programs: programs,
		o:        o,
		hash:     sync.OnceValues(ownHash),
	}
	h.handlers = map[wire.Kind]wire.Handler{
		wire.KindHello:   on(h.hello),
		wire.KindLock:    on(h.lock),
		wire.KindUnlock:  on(h.unlock),
		wire.KindState:   on(h.state),
		wire.KindPrepare: on(h.prepare),
		wire.KindStage:   h.stage,
		wire.KindSwitch:  on(h.change),
		wire.KindMark:    on(h.mark),
		wire.KindNote:    on(h.annotate),
		wire.KindRemove:  on(h.remove),
		wire.KindExec:    h.exec,
		wire.KindProcs:   on(procs),
		wire.KindSignal:  on(signalProc),
		wire.KindFile:    on(file),
		wire.KindPlace:   h.place,
		wire.KindLanes:   h.lanes,
		wire.KindAudit:   on(h.audit),
		wire.KindKeyFile: on(keyFile),
		wire.KindArm:     on(h.arm),
		wire.KindStep:    on(h.reach),
		wire.KindRecover: on(h.recover),
		wire.KindSockets: on(sockets),
	}
	return h, nil
}

// message is a pointer to a message type that checks itself.
type message[T any] interface {
	*T
	wire.Checker
}

// on makes a handler of a function of one message.
func on[T any, P message[T]](do func(context.Context, T) (any, error)) wire.Handler {
	return func(ctx context.Context, r *wire.Request) (any, error) {
		var req T
		if err := r.Decode(P(&req)); err != nil {
			return nil, err
		}
		return do(ctx, req)
	}
}

// serve answers until the controller goes. The order at the end keeps two runs apart: handlers have
// ended their programs, what these left behind is killed, a host that was left half-way is finished or
// undone, and then the locks go.
func (h *host) serve(ctx context.Context, rwc io.ReadWriteCloser) error {
	server := &wire.Server{Handler: h.handle, Greet: h.greet, Silence: h.o.Silence}
	err := server.Serve(ctx, rwc)
	h.door.close()
	h.programs.killAll()
	h.leave(ctx)
	h.programs.killAll()
	h.locks.releaseAll()
	return err
}

func (h *host) handle(ctx context.Context, r *wire.Request) (any, error) {
	do, ok := h.handlers[r.Kind]
	if !ok {
		return nil, wire.ErrUnsupported
	}
	return do(ctx, r)
}

func (h *host) hello(context.Context, wire.Nothing) (any, error) { return h.greet() }

// greet says who the helper is.
func (h *host) greet() (wire.HelloReply, error) {
	hash, err := h.hash()
	if err != nil {
		return wire.HelloReply{}, err
	}
	me := self()
	return wire.HelloReply{
		Protocol: wire.Protocol, Hash: hash, OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(),
		PID: os.Getpid(), UID: os.Getuid(), User: me.name, Home: me.home, BootID: h.boot(), Now: time.Now(),
	}, nil
}

// boot tells one boot of the host from another; "" where the kernel does not say.
func (h *host) boot() string {
	if h.o.Boot != "" {
		return h.o.Boot
	}
	return bootID()
}

func ownHash() (string, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	return hex.EncodeToString(sum.Sum(nil)), errors.Join(err, f.Close())
}

func (h *host) lock(_ context.Context, req wire.LockRequest) (any, error) {
	held, err := h.locks.take(req.Site, req.Holder)
	if err != nil || held != nil {
		return wire.LockReply{Held: held}, err
	}
	h.programs.killOrphans()
	return wire.LockReply{}, nil
}

// unlock lets go of a lock once nothing runs any more that was started under it: a hook that was told
// to end and takes its time must not go on beside the next run.
func (h *host) unlock(_ context.Context, req wire.UnlockRequest) (any, error) {
	h.programs.killAll()
	h.under.Lock()
	defer h.under.Unlock()
	h.armed.drop(req.Site)
	h.locks.release(req.Site)
	return nil, nil
}

// site opens an app's layout for one request.
func (h *host) site(ctx context.Context, s wire.Site) (*Site, error) {
	uid, gid, err := owner(ctx, s.Owner)
	if err != nil {
		return nil, err
	}
	tree, err := filesync.OpenLocal(s.Path)
	if err != nil {
		return nil, err
	}
	physical, err := filepath.EvalSymlinks(s.Path)
	if err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	if h.o.Wrap != nil {
		tree = h.o.Wrap(tree)
	}
	return &Site{FS: tree, Path: s.Path, Physical: physical, UID: uid, GID: gid, WorkingDirs: workingDirs}, nil
}

// owner gives whom files are to belong to; a helper that is not root leaves them its own.
func owner(ctx context.Context, name string) (uid, gid int, err error) {
	if name == "" || os.Geteuid() != 0 {
		return -1, -1, nil
	}
	who, err := lookup(ctx, name)
	return who.uid, who.gid, err
}

// locked runs do on an app's layout if its lock is held here.
func (h *host) locked(ctx context.Context, s wire.Site, do func(*Site) (any, error)) (any, error) {
	h.under.RLock()
	defer h.under.RUnlock()
	if !h.locks.has(s) {
		return nil, fault.New(fault.LockLost, "the lock of %s is not held by this connection", s.App)
	}
	tree, err := h.site(ctx, s)
	if err != nil {
		return nil, explain(err, "open %s", s.Path)
	}
	reply, err := do(tree)
	return reply, errors.Join(err, tree.FS.Close())
}

func (h *host) state(ctx context.Context, req wire.StateRequest) (any, error) {
	holder, err := h.locks.holder(req.Site)
	if err != nil {
		return nil, explain(err, "look at the lock")
	}
	tree, err := h.site(ctx, req.Site)
	if errors.Is(err, fs.ErrNotExist) {
		state, err := absent(req)
		state.Holder = holder
		return state, err
	}
	if err != nil {
		return nil, explain(err, "open %s", req.Site.Path)
	}
	state, err := tree.State(ctx, req.SharedFiles)
	state.Holder = holder
	state.Writable = writable(req.Site.Path)
	return state, errors.Join(err, tree.FS.Close())
}

// absent is the state of an app whose path is not there: the room is that of the folder it would
// be made in.
func absent(req wire.StateRequest) (wire.State, error) {
	above := filepath.Dir(req.Site.Path)
	for {
		if _, err := os.Stat(above); err == nil {
			break
		}
		above = filepath.Dir(above) // ends at "/", which is there
	}
	state := wire.State{Missing: req.SharedFiles, Writable: unix.Access(above, unix.W_OK|unix.X_OK) == nil}
	tree, err := filesync.OpenLocal(above)
	if err != nil {
		return state, explain(err, "open %s", above)
	}
	room, err := tree.Free()
	state.FreeBytes, state.FreeNodes = room.Bytes, room.Nodes
	return state, errors.Join(err, tree.Close())
}

// writable reports whether this user can make what is missing in the layout.
func writable(root string) bool {
	for _, d := range []string{"", releasesDir, sharedDir, stateDir, recordsDir} {
		err := unix.Access(filepath.Join(root, d), unix.W_OK|unix.X_OK)
		if err != nil && (d == "" || !errors.Is(err, fs.ErrNotExist)) {
			return false
		}
	}
	return true
}

func (h *host) prepare(ctx context.Context, req wire.PrepareRequest) (any, error) {
	if !h.locks.has(req.Site) {
		return nil, fault.New(fault.LockLost, "the lock of %s is not held by this connection", req.Site.App)
	}
	if err := h.ground(ctx, req.Site); err != nil {
		return nil, err
	}
	return h.locked(ctx, req.Site, func(s *Site) (any, error) { return nil, s.Prepare(ctx, req.SharedDirs) })
}

// makePath makes the app's path with what is missing on the way; only the last folder becomes the
// owner's.
func makePath(ctx context.Context, s wire.Site) error {
	if _, err := os.Stat(s.Path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	uid, gid, err := owner(ctx, s.Owner)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.Path), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(s.Path, 0o755); err != nil {
		return err
	}
	return os.Lchown(s.Path, uid, gid)
}

func (h *host) stage(ctx context.Context, r *wire.Request) (any, error) {
	var req wire.StageRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if req.Holder != nil {
		if err := h.admit(ctx, req.Site, *req.Holder); err != nil {
			return nil, err
		}
	}
	return h.locked(ctx, req.Site, func(s *Site) (any, error) { return s.Stage(ctx, req, r.Stream()) })
}

func (h *host) change(ctx context.Context, req wire.SwitchRequest) (any, error) {
	return h.locked(ctx, req.Site, func(s *Site) (any, error) {
		previous, err := s.Switch(ctx, req.ID, req.Expect)
		return wire.SwitchReply{Previous: previous}, err
	})
}

func (h *host) mark(ctx context.Context, req wire.MarkRequest) (any, error) {
	return h.locked(ctx, req.Site, func(s *Site) (any, error) {
		return nil, s.Mark(ctx, req.ID, req.Mark, req.Previous)
	})
}

func (h *host) remove(ctx context.Context, req wire.RemoveRequest) (any, error) {
	return h.locked(ctx, req.Site, func(s *Site) (any, error) {
		kept, err := s.Remove(ctx, req.IDs, req.Retire)
		return wire.RemoveReply{Kept: kept}, err
	})
}

package deploy

import (
	"context"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
	filesync "godeploy/sync"
)

// world is a fleet in memory: it keeps the promises of Host and Service and fails where it is told
// to. Real hosts are in e2e; here every order of failures can be tried.
type world struct {
	mu    sync.Mutex
	hosts []*fakeHost
	// fail is asked before every step; an error makes it fail. The step's effect is left out.
	fail func(host, step, id string) error
	// late is asked after every step that has done something; an error is what comes back instead of the
	// answer. With one of code ssh-lost the connection is gone, as with fail.
	late func(host, step, id string) error
	// see looks at the world after every step.
	see func()
	log []string
}

type fakeHost struct {
	w       *world
	name    string
	state   wire.State
	serving string // release that its processes run
	running bool
	locked  *wire.Holder
	lost    bool // its connection
	audit   []wire.AuditEntry
	keeper
}

func (w *world) step(h *fakeHost, step, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, h.name+" "+step)
	if h.lost {
		return fault.New(fault.SSHLost, "the connection was lost")
	}
	return h.heard(w.fail, step, id)
}

// did ends a step that has done something.
func (w *world) did(h *fakeHost, step, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.see != nil {
		w.see()
	}
	return h.heard(w.late, step, id)
}

// change is how a step does what it does: the world may be looked at meanwhile.
func (w *world) change(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

func (h *fakeHost) heard(say func(host, step, id string) error, step, id string) error {
	if say == nil {
		return nil
	}
	err := say(h.name, step, id)
	h.lost = h.lost || fault.Is(err, fault.SSHLost)
	return err
}

func newWorld(names ...string) *world {
	w := &world{}
	for _, name := range names {
		w.hosts = append(w.hosts, &fakeHost{w: w, name: name, state: wire.State{
			Exists: true, Writable: true, FreeBytes: 1 << 40, FreeNodes: 1 << 20,
		}})
	}
	return w
}

func (h *fakeHost) Inventory() inventory.Host {
	return inventory.Host{Name: h.name, Address: "192.0.2.1", Roles: []string{"app"}, Weight: 1}
}
func (h *fakeHost) Facts() wire.HelloReply {
	if h.facts != nil {
		return *h.facts
	}
	return wire.HelloReply{User: "deploy", UID: 1000}
}
func (h *fakeHost) State(context.Context, []string) (wire.State, error) {
	err := h.w.step(h, "state", "")
	var s wire.State
	h.w.change(func() {
		s = h.state
		s.Releases = slices.Clone(s.Releases)
	})
	return s, err
}
func (h *fakeHost) Lock(_ context.Context, holder wire.Holder) (*wire.Holder, error) {
	if err := h.w.step(h, "lock", ""); err != nil {
		return nil, err
	}
	if h.locked != nil {
		return h.locked, nil
	}
	return nil, nil
}
func (h *fakeHost) BreakLock(context.Context) error         { return nil }
func (h *fakeHost) Prepare(context.Context, []string) error { return h.w.step(h, "prepare", "") }
func (h *fakeHost) Stage(_ context.Context, req wire.StageRequest, src *filesync.Source, _ filesync.SendOptions) (wire.StageReply, filesync.Stats, error) {
	if err := h.w.step(h, "stage", req.Release.ID); err != nil {
		return wire.StageReply{}, filesync.Stats{}, err
	}
	h.w.change(func() {
		h.state.Releases = append(h.state.Releases, req.Release)
		h.keep(req)
	})
	return wire.StageReply{Files: len(src.Manifest.Entries)}, filesync.Stats{}, h.w.did(h, "stage", req.Release.ID)
}
func (h *fakeHost) Switch(_ context.Context, id, expect string) (string, error) {
	if err := h.w.step(h, "switch", id); err != nil {
		return "", err
	}
	if expect != "" && expect != h.state.Current {
		return "", fault.New(fault.SwitchFailed, "current is %s, not %s", h.state.Current, expect)
	}
	if _, ok := find(h.state, id); !ok && id != "" {
		return "", fault.New(fault.ReleaseUnknown, "no release %s", id)
	}
	before := h.state.Current
	h.w.change(func() { h.state.Current, h.state.Dangling = id, false })
	return before, h.w.did(h, "switch", id)
}
func (h *fakeHost) Mark(_ context.Context, id string, mark wire.Mark, previous string) error {
	if err := h.w.step(h, "mark "+string(mark), id); err != nil {
		return err
	}
	h.w.change(func() { h.marked(id, mark, previous) })
	return h.w.did(h, "mark "+string(mark), id)
}
func (h *fakeHost) marked(id string, mark wire.Mark, previous string) {
	for i := range h.state.Releases {
		if h.state.Releases[i].ID == id {
			h.state.Releases[i].Mark = mark
			if previous != "" {
				h.state.Releases[i].Previous = previous
			}
		}
	}
	if mark == wire.MarkHealthy && h.state.Journal.Open() && h.state.Journal.To == id {
		h.note(wire.StepDone)
	}
}
func (h *fakeHost) Remove(_ context.Context, ids []string) ([]string, error) {
	if err := h.w.step(h, "remove", ids[0]); err != nil {
		return nil, err
	}
	h.w.change(func() {
		h.state.Releases = slices.DeleteFunc(h.state.Releases, func(r wire.Release) bool {
			return slices.Contains(ids, r.ID) && r.ID != h.state.Current
		})
	})
	return nil, nil
}
func (h *fakeHost) Exec(_ context.Context, req wire.ExecRequest, output func(string, []byte)) (wire.ExecReply, error) {
	if err := h.w.step(h, "exec "+req.Argv[len(req.Argv)-1], ""); err != nil {
		return wire.ExecReply{}, err
	}
	return h.answer(req, output), nil
}
func (h *fakeHost) Procs(context.Context, int) ([]wire.Proc, error)        { return nil, nil }
func (h *fakeHost) Signal(context.Context, wire.SignalRequest) error       { return nil }
func (h *fakeHost) Dial(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
func (h *fakeHost) Close() error                                           { return nil }
func (h *fakeHost) File(_ context.Context, req wire.FileRequest) (wire.FileReply, error) {
	if req.Write {
		if err := h.w.step(h, "note drained", ""); err != nil {
			return wire.FileReply{}, err
		}
		h.w.change(func() { h.state.Drained = wire.ReadDrained(req.Content) })
		return wire.FileReply{}, nil
	}
	content, ok := h.secrets[path.Base(req.Path)]
	return wire.FileReply{Exists: ok, Content: content}, nil
}

// fakeService keeps the promises of Service: a restart makes what current points to serve.
type fakeService struct{ w *world }

func (s fakeService) on(h Host) *fakeHost { return h.(*fakeHost) }
func (s fakeService) Ready(_ context.Context, h Host) error {
	return s.w.step(s.on(h), "ready", "")
}
func (s fakeService) Check(_ context.Context, h Host, id string) error {
	return s.w.step(s.on(h), "check", id)
}
func (s fakeService) Start(_ context.Context, h Host, id string) error {
	return s.Restart(context.Background(), h, id, false)
}
func (s fakeService) Stop(_ context.Context, h Host) error {
	if err := s.w.step(s.on(h), "stop", ""); err != nil {
		return err
	}
	s.w.change(func() { s.on(h).running, s.on(h).serving = false, "" })
	return nil
}
func (s fakeService) Restart(_ context.Context, h Host, id string, _ bool) error {
	if err := s.w.step(s.on(h), "restart", id); err != nil {
		return err
	}
	if got := s.on(h).state.Current; got != id {
		return fmt.Errorf("restarted on %q, want %q", got, id)
	}
	s.w.change(func() { s.on(h).running, s.on(h).serving = true, id })
	return s.w.did(s.on(h), "restart", id)
}
func (s fakeService) Way(_ context.Context, h Host, graceful bool) (string, error) {
	return fmt.Sprintf("on %s, graceful %v", s.on(h).name, graceful), nil
}
func (s fakeService) Serves(_ context.Context, h Host, id string) error {
	if got := s.on(h).serving; got != id {
		return fmt.Errorf("serves %q", got)
	}
	return nil
}
func (s fakeService) State(_ context.Context, h Host) (string, error) {
	if s.on(h).running {
		return "active", nil
	}
	return "inactive", nil
}

// smallest is a file for hosts a, b, c, … without a health url.
func smallest(t *testing.T, more string) *inventory.Env {
	t.Helper()
	text := `version = 1
[app]
name = "swiper"
path = "/opt/swiper"
keep = 3
[health]
settle = "0s"
` + more + `
[env.test.hosts]
a = { role = "app", address = "192.0.2.1" }
b = { role = "app", address = "192.0.2.2" }
c = { role = "app", address = "192.0.2.3" }
`
	f, err := inventory.Parse("godeploy.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := f.Env("test")
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// fleet gives a Fleet over the world; the clock moves a minute with every run.
func (w *world) fleet(env *inventory.Env, clock *time.Time) *Fleet {
	*clock = clock.Add(time.Minute)
	now := *clock
	f := &Fleet{Env: env, Service: fakeService{w}, Local: hooks.Local{}, Report: event.Discard{}, Parallel: 4,
		Holder: wire.Holder{Who: "ops@laptop", Run: "1"}, Now: func() time.Time { return now }, Dir: "."}
	for _, h := range w.hosts {
		f.Hosts = append(f.Hosts, h)
	}
	return f
}

// source scans a tree of one file with the given content.
func source(t *testing.T, content string) func(context.Context) (*filesync.Source, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	src, err := filesync.Scan(t.Context(), dir, filesync.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = src.Close() })
	return func(context.Context) (*filesync.Source, error) { return src, nil }
}

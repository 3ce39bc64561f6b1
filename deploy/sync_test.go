package deploy

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// farHost is a fakeHost that can do all at once, as a helper can.
type farHost struct {
	*fakeHost
	mu     sync.Mutex
	others bool          // another run has the lock until ours is let go of
	slow   chan struct{} // State waits for it
	placed []wire.PlaceRequest
	said   int64 // bytes of what it has, before it failed
}

func (h *farHost) State(ctx context.Context, shared []string) (wire.State, error) {
	if h.slow != nil {
		select {
		case <-h.slow:
		case <-ctx.Done():
			return wire.State{}, context.Cause(ctx)
		}
	}
	return h.fakeHost.State(ctx, shared)
}

func (h *farHost) Lock(ctx context.Context, holder wire.Holder) (*wire.Holder, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.others {
		return &wire.Holder{Who: "ci@runner", Command: "sync"}, h.w.step(h.fakeHost, "lock", "")
	}
	return h.fakeHost.Lock(ctx, holder)
}

func (h *farHost) Unlock(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.others = false // the other run goes as we go
	return h.w.step(h.fakeHost, "unlock", "")
}

func (h *farHost) StageWhen(ctx context.Context, req wire.StageRequest, src *filesync.Source, ready func(context.Context) (filesync.SendOptions, error)) (wire.StageReply, filesync.Stats, error) {
	if req.Holder == nil || !req.Nearest {
		return wire.StageReply{}, filesync.Stats{}, errors.New("a request that cannot stand alone")
	}
	o, err := ready(ctx)
	if err != nil {
		return wire.StageReply{}, filesync.Stats{}, err
	}
	for _, r := range h.state.Releases {
		if r.Root == req.Release.Root && req.SkipUnchanged {
			return wire.StageReply{Parent: r.ID, Unchanged: true}, filesync.Stats{Sent: 50}, h.w.step(h.fakeHost, "same", r.ID)
		}
	}
	reply, stats, err := h.Stage(ctx, req, src, o)
	reply.Written = 1
	return reply, stats, err
}

func (h *farHost) Place(_ context.Context, req wire.PlaceRequest, src *filesync.Source, _ filesync.SendOptions) (wire.PlaceReply, filesync.Stats, error) {
	h.mu.Lock()
	h.placed = append(h.placed, req)
	h.mu.Unlock()
	if err := h.w.step(h.fakeHost, "place", ""); err != nil {
		return wire.PlaceReply{}, filesync.Stats{Received: h.said}, err
	}
	return wire.PlaceReply{Files: src.Manifest.Files(), Written: 1, Changes: []wire.PlaceChange{{Path: "app.py", Op: wire.PlaceUpdate, Kind: wire.PlaceFile, Why: wire.WhySize}}}, filesync.Stats{Sent: 100}, nil
}

func (h *farHost) PlaceWhen(ctx context.Context, req wire.PlaceRequest, src *filesync.Source, ready func(context.Context) (filesync.SendOptions, error)) (wire.PlaceReply, filesync.Stats, error) {
	o, err := ready(ctx)
	if err != nil || req.Holder == nil {
		return wire.PlaceReply{}, filesync.Stats{}, errors.Join(err, errors.New("a request that cannot stand alone"))
	}
	return h.Place(ctx, req, src, o)
}

// far makes the hosts of a world such that can do all at once.
func (w *world) far(f *Fleet) []*farHost {
	var all []*farHost
	f.Hosts = nil
	for _, h := range w.hosts {
		one := &farHost{fakeHost: h}
		all = append(all, one)
		f.Hosts = append(f.Hosts, one)
	}
	return all
}

func didStep(w *world, step string) (hosts []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.log {
		if host, did, _ := strings.Cut(line, " "); did == step {
			hosts = append(hosts, host)
		}
	}
	slices.Sort(hosts)
	return hosts
}

func TestSyncStagesEverywhereAndSwitchesNothing(t *testing.T) {
	t.Parallel()
	for name, far := range map[string]bool{"at once": true, "step by step": false} {
		w, env, clock := newWorld("a", "b", "c"), smallest(t, ""), time.Now()
		run := func(content string) *SyncResult {
			t.Helper()
			f := w.fleet(env, &clock)
			if far {
				w.far(f)
			}
			got, err := f.Sync(t.Context(), SyncWant{Scan: source(t, content)})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return got
		}
		got := run("v1")
		if got.Verdict != Done || got.Staged() != got.Release || got.Release == "" {
			t.Errorf("%s: got %+v", name, got)
		}
		for _, h := range w.hosts {
			if h.state.Current != "" || len(h.state.Releases) != 1 || h.state.Releases[0].Mark != wire.MarkStaged {
				t.Errorf("%s: %s has %+v", name, h.name, h.state)
			}
		}
		if !far {
			continue
		}
		if again := run("v1"); again.Verdict != Nothing || again.Staged() != got.Release || again.Differs() {
			t.Errorf("the same tree again: got %+v", again)
		}
		if log := w.hosts[1].audit; len(log) != 1 || log[0].Command != "sync" || log[0].Release != got.Release || log[0].Outcome != string(Staged) ||
			log[0].Verdict != string(Done) || log[0].By == "" || log[0].Check() != nil {
			t.Errorf("the log after a sync that changed and one that did not: %+v", log)
		}
		run("v2")
		run("v3")
		for _, h := range w.hosts {
			if len(h.state.Releases) != keptStaged || h.state.Releases[0].ID == got.Release {
				t.Errorf("%s: staged releases pile up: %+v", h.name, h.state.Releases)
			}
		}
	}
}

// Nothing is sent to anybody while one host has not answered, and nothing at all when one answers no.
func TestNothingIsSentBeforeEveryHostIsReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, env, clock := newWorld("a", "b", "c"), smallest(t, ""), time.Now()
		f := w.fleet(env, &clock)
		hosts := w.far(f)
		hosts[2].slow = make(chan struct{})
		done := make(chan error, 1)
		src := source(t, "v1")
		go func() {
			_, err := f.Sync(t.Context(), SyncWant{Scan: src})
			done <- err
		}()
		synctest.Wait()
		if got := didStep(w, "stage"); got != nil {
			t.Errorf("staged on %v while c had not answered", got)
		}
		close(hosts[2].slow)
		if err := <-done; err != nil || len(didStep(w, "stage")) != 3 {
			t.Errorf("got %v, staged on %v", err, didStep(w, "stage"))
		}
	})
}

func TestOneHostThatCannotStopsAll(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b", "c"), smallest(t, ""), time.Now()
	w.hosts[0].state.Refusal, w.hosts[2].state.FreeBytes = "it is a folder", 1
	f := w.fleet(env, &clock)
	w.far(f)
	got, err := f.Sync(t.Context(), SyncWant{Scan: source(t, "v1")})
	if !fault.Is(err, fault.LayoutRefused) || !fault.Is(err, fault.DiskFull) || len(fault.All(err)) != 2 || got.Verdict != Refused {
		t.Errorf("got %v, %v, want both refusals and nothing else", got.Verdict, err)
	}
	if hosts := didStep(w, "stage"); hosts != nil {
		t.Errorf("staged on %v", hosts)
	}
}

// Two runs that meet: ours lets go of what it has and takes the locks in order.
func TestLocksOfAnotherRunAreWaitedForInOrder(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b", "c"), smallest(t, ""), time.Now()
	f := w.fleet(env, &clock)
	w.far(f)[1].others = true
	got, err := f.Sync(t.Context(), SyncWant{Scan: source(t, "v1")})
	if err != nil || got.Verdict != Done || len(didStep(w, "unlock")) != 3 {
		t.Fatalf("got %v, %v, unlocked %v", got.Verdict, err, didStep(w, "unlock"))
	}
	var order []string
	after := false
	for _, line := range w.log {
		host, did, _ := strings.Cut(line, " ")
		after = after || did == "unlock"
		if after && did == "lock" && len(order) < 3 {
			order = append(order, host)
		}
	}
	if !slices.Equal(order, []string{"a", "b", "c"}) {
		t.Errorf("locked in the order %v", order)
	}
}

func TestAHeldLockSendsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // it is asked for again for a while
		w, env, clock := newWorld("a", "b"), smallest(t, ""), time.Now()
		w.hosts[1].locked = &wire.Holder{Who: "ci@runner", Command: "release"}
		f := w.fleet(env, &clock)
		w.far(f)
		got, err := f.Sync(t.Context(), SyncWant{Scan: source(t, "v1")})
		if !fault.Is(err, fault.LockHeld) || !strings.Contains(err.Error(), "ci@runner") || got.Verdict != Refused {
			t.Errorf("got %v, %v, want a refusal", got.Verdict, err)
		}
		if hosts := didStep(w, "stage"); hosts != nil {
			t.Errorf("staged on %v", hosts)
		}
	})
}

// A host that fails while files come in stops nobody else, and nothing that serves has changed.
func TestOneHostThatFailsLaterLeavesTheOthersStaged(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b", "c"), smallest(t, ""), time.Now()
	w.fail = func(host, step, _ string) error {
		if host == "b" && step == "stage" {
			return fault.New(fault.DiskFull, "no room left")
		}
		return nil
	}
	f := w.fleet(env, &clock)
	w.far(f)
	got, err := f.Sync(t.Context(), SyncWant{Scan: source(t, "v1")})
	if !fault.Is(err, fault.DiskFull) || got.Verdict != WholeOld || len(didStep(w, "stage")) != 3 {
		t.Errorf("got %v, %v", got.Verdict, err)
	}
}

func TestPlaceTellsWhetherFoldersWereChanged(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fails map[string]fault.Code
		said  int64
		want  Verdict
	}{
		{nil, 0, Done},
		{map[string]fault.Code{"a": fault.LayoutRefused, "b": fault.LayoutRefused}, 0, Refused},
		{map[string]fault.Code{"a": fault.LayoutRefused, "b": fault.DeleteRefused}, 9, Mixed},
		{map[string]fault.Code{"a": fault.DeleteRefused, "b": fault.DeleteRefused}, 9, Refused},
		{map[string]fault.Code{"b": fault.LayoutRefused}, 0, Mixed},
		{map[string]fault.Code{"a": fault.SSHLost, "b": fault.SSHLost}, 9, Mixed},
	} {
		w, env, clock := newWorld("a", "b"), smallest(t, ""), time.Now()
		w.fail = func(host, step, _ string) error {
			if code, ok := tt.fails[host]; ok && step == "place" {
				return fault.New(code, "no")
			}
			return nil
		}
		f := w.fleet(env, &clock)
		hosts := w.far(f)
		for _, h := range hosts {
			h.said = tt.said
		}
		got, err := f.Sync(t.Context(), SyncWant{Scan: source(t, "v1"), Place: &Placing{Delete: true, Verify: "all"}, List: true})
		if got.Verdict != tt.want || (err == nil) != (tt.fails == nil) || got.Release != "" {
			t.Errorf("%v: got %v, %v, want %v", tt.fails, got.Verdict, err, tt.want)
		}
		for _, h := range hosts {
			if len(h.placed) != 1 || !h.placed[0].Delete || h.placed[0].Verify != "all" || h.placed[0].DryRun || h.placed[0].Site.Path != "/opt/swiper" {
				t.Errorf("%s was asked %+v", h.name, h.placed)
			}
		}
	}
}

func TestDryRunTakesNoLock(t *testing.T) {
	t.Parallel()
	for _, place := range []*Placing{nil, {}} {
		w, env, clock := newWorld("a", "b"), smallest(t, ""), time.Now()
		f := w.fleet(env, &clock)
		w.far(f)
		got, err := f.Sync(t.Context(), SyncWant{Scan: source(t, "v1"), Place: place, DryRun: true})
		if err != nil || !got.Differs() || len(got.Hosts[0].Changes) != 1 || !got.Hosts[0].Listed {
			t.Errorf("got %+v, %v", got, err)
		}
		if len(didStep(w, "lock"))+len(didStep(w, "stage"))+len(didStep(w, "prepare")) > 0 {
			t.Errorf("something was changed: %v", w.log)
		}
	}
}

func TestStaleStagedSparesWhatMatters(t *testing.T) {
	t.Parallel()
	s := wire.State{Current: "r2", InUse: []string{"r3"}, Releases: []wire.Release{
		{ID: "r1", Mark: wire.MarkStaged}, {ID: "r2", Mark: wire.MarkStaged}, {ID: "r3", Mark: wire.MarkStaged}, {ID: "r4", Mark: wire.MarkHealthy},
		{ID: "r5", Mark: wire.MarkStaged}, {ID: "r6", Mark: wire.MarkBad}, {ID: "r7", Mark: wire.MarkLive}, {ID: "r8", Mark: wire.MarkStaged},
	}}
	for keep, want := range map[int]string{0: "r8 r5 r1", 1: "r5 r1", 2: "r1", 3: ""} {
		if got := strings.Join(staleStaged(s, keep), " "); got != want {
			t.Errorf("keep %d: got %q, want %q", keep, got, want)
		}
	}
}

func TestItemise(t *testing.T) {
	t.Parallel()
	file := func(path string, size int64, mode uint32, hash byte) filesync.Entry {
		return filesync.Entry{Path: path, Kind: filesync.File, Size: size, Mode: mode, Hash: filesync.Hash{hash}}
	}
	have := &filesync.Manifest{Entries: []filesync.Entry{
		{Path: "dir", Kind: filesync.Dir, Mode: 0o755}, file("dir/gone", 1, 0o644, 1), file("mode", 1, 0o644, 1), file("same", 1, 0o644, 1),
		file("size", 1, 0o644, 1), file("text", 1, 0o644, 1), file("type", 1, 0o644, 1),
	}}
	want := &filesync.Manifest{Entries: []filesync.Entry{
		{Path: "dir", Kind: filesync.Dir, Mode: 0o755}, file("dir/new", 3, 0o644, 2), file("mode", 1, 0o755, 1), file("same", 1, 0o644, 1),
		file("size", 2, 0o600, 2), file("text", 1, 0o644, 2), {Path: "type", Kind: filesync.Link, Link: "same"},
	}}
	var got []string
	for _, c := range Itemise(have, want) {
		got = append(got, c.Op.String()+" "+c.Path+" "+c.Why.String())
	}
	const expect = "delete dir/gone deleted|create dir/new new|meta mode mode|update size size,mode|update text content|update type type"
	if strings.Join(got, "|") != expect {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), expect)
	}
	if n := len(Itemise(nil, want)); n != len(want.Entries) {
		t.Errorf("against nothing: %d changes", n)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 11478: "11,478", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := Count(n); got != want {
			t.Errorf("%d: got %s", n, got)
		}
	}
}

package deploy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// released gives a world on a first release of the tree v1.
func released(t *testing.T, more string, names ...string) (*world, *time.Time, *Result) {
	t.Helper()
	w, clock := newWorld(names...), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	got, err := w.fleet(smallest(t, more), &clock).Release(t.Context(), Want{Scan: source(t, "v1")})
	if err != nil {
		t.Fatal(err)
	}
	w.log = nil
	return w, &clock, got
}

func noSource(context.Context) (*filesync.Source, error) {
	return nil, errors.New("the source was read")
}

// count says how often a step was taken.
func (w *world) count(step string) int {
	n := 0
	for _, line := range w.log {
		if _, s, _ := strings.Cut(line, " "); s == step {
			n++
		}
	}
	return n
}

func TestResumeSendsNothingAgain(t *testing.T) {
	t.Parallel()
	w, clock, first := released(t, "", "a", "b", "c")
	env := smallest(t, "")
	w.fail = planted("c", "restart")
	failed, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: source(t, "v2")})
	if err == nil || failed.Verdict != WholeOld {
		t.Fatalf("got %v, %v, want whole on the old", failed.Verdict, err)
	}
	w.fail, w.log = nil, nil
	got, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: noSource, Resume: failed.Release})
	if err != nil || got.Verdict != Done || got.Release != failed.Release || got.Previous != first.Release {
		t.Fatalf("got %v of %s over %s, %v, want %s done", got.Verdict, got.Release, got.Previous, err, failed.Release)
	}
	if w.count("stage") != 0 || w.count("switch") != 3 {
		t.Errorf("staged %d, switched %d, want 0 and 3", w.count("stage"), w.count("switch"))
	}
}

func TestResumeLeavesHostsThatServeIt(t *testing.T) {
	t.Parallel()
	more := "[release]\non_failure = \"stop\""
	w, clock, _ := released(t, more, "a", "b", "c")
	env := smallest(t, more)
	w.fail = planted("b", "restart")
	mixed, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: source(t, "v2")})
	if err == nil || mixed.Verdict != Mixed || w.hosts[0].serving != mixed.Release || w.hosts[2].serving == mixed.Release {
		t.Fatalf("got %v, %v, want a mixed fleet", mixed.Verdict, err)
	}
	w.fail, w.log = nil, nil
	got, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: noSource, Resume: mixed.Release})
	if err != nil || got.Verdict != Done {
		t.Fatalf("got %v, %v, want done", got.Verdict, err)
	}
	for _, line := range w.log {
		if line == "a switch" || line == "a restart" {
			t.Errorf("a had its turn again: %v", w.log)
		}
	}
	if again, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: noSource, Resume: mixed.Release}); err != nil || again.Verdict != Nothing {
		t.Errorf("a second time: got %v, %v, want nothing to do", again.Verdict, err)
	}
}

func TestResumeSendsOnlyWhereItLacks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		tree string
		code fault.Code
	}{{"v2", ""}, {"another", fault.SyncSourceChanged}} {
		w, clock, _ := released(t, "", "a", "b", "c")
		env := smallest(t, "")
		w.fail = planted("c", "stage")
		failed, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: source(t, "v2")})
		if err == nil {
			t.Fatal("the release came out")
		}
		w.fail, w.log = nil, nil
		got, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: source(t, tt.tree), Resume: failed.Release})
		if tt.code != "" {
			if !fault.Is(err, tt.code) || got.Verdict != Refused || w.count("stage") != 0 {
				t.Errorf("%s: got %v, %v, want a refusal", tt.tree, got.Verdict, err)
			}
			continue
		}
		if err != nil || got.Verdict != Done || w.count("stage") != 1 {
			t.Errorf("%s: got %v, %v, staged %d, want done with one stage", tt.tree, got.Verdict, err, w.count("stage"))
		}
	}
}

// Another run may have removed the release in the moment before the lock was had.
func TestResumeSendsWhatWentMissingMeanwhile(t *testing.T) {
	t.Parallel()
	w, clock, _ := released(t, "", "a", "b")
	env := smallest(t, "")
	w.fail = planted("b", "restart")
	tree := source(t, "v2")
	failed, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: tree})
	if err == nil {
		t.Fatal("the release came out")
	}
	w.fail = func(host, step, _ string) error {
		if host == "a" && step == "lock" {
			h := w.hosts[1]
			h.state.Releases = h.state.Releases[:1]
		}
		return nil
	}
	got, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: tree, Resume: failed.Release})
	if err != nil || got.Verdict != Done || w.hosts[1].serving != failed.Release {
		t.Errorf("got %v, %v, want done", got.Verdict, err)
	}
}

func TestResumeRefusesWhatIsOver(t *testing.T) {
	t.Parallel()
	w, clock, first := released(t, "", "a", "b")
	env := smallest(t, "")
	if _, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: source(t, "v2")}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{first.Release, "20200101-000000-0000000", "../x"} {
		got, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: noSource, Resume: id})
		if err == nil || got.Verdict != Refused {
			t.Errorf("%s: got %v, %v, want a refusal", id, got.Verdict, err)
		}
	}
}

func TestAFailedReleaseDoesNotPushAGoodOneOut(t *testing.T) {
	t.Parallel()
	w, clock, first := released(t, "", "a", "b")
	env := smallest(t, "")
	for i := range 6 {
		w.fail = planted("b", "restart")
		if _, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: source(t, strings.Repeat("x", i+1))}); err == nil {
			t.Fatal("the release came out")
		}
	}
	for _, h := range w.hosts {
		if _, ok := find(h.state, first.Release); !ok || len(h.state.Releases) > 1+keptStaged {
			t.Errorf("%s has %d releases, the good one: %v", h.name, len(h.state.Releases), ok)
		}
	}
	w.fail = nil
	if _, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: source(t, "good")}); err != nil {
		t.Fatal(err)
	}
	if got, err := w.fleet(env, clock).Rollback(t.Context(), "", ""); err != nil || got.Release != first.Release {
		t.Errorf("rolled back to %s, %v, want %s", got.Release, err, first.Release)
	}
}

func TestContinueGoesOnWithTheOthers(t *testing.T) {
	t.Parallel()
	for _, more := range []string{"on_failure = \"continue\"", "max_failures = 1"} {
		w, clock, first := released(t, "[release]\n"+more, "a", "b", "c")
		w.fail = planted("b", "restart")
		got, err := w.fleet(smallest(t, "[release]\n"+more), clock).Release(t.Context(), Want{Scan: source(t, "v2")})
		if err == nil || got.Verdict != Mixed {
			t.Fatalf("%s: got %v, %v, want mixed", more, got.Verdict, err)
		}
		for i, want := range []string{got.Release, first.Release, got.Release} {
			if h := w.hosts[i]; h.serving != want || h.state.Current != want {
				t.Errorf("%s: %s serves %s, want %s", more, h.name, h.serving, want)
			}
		}
	}
}

func TestFailuresAreCountedOverTheFleet(t *testing.T) {
	t.Parallel()
	more := "[release]\nmax_failures = 1"
	w, clock, first := released(t, more, "a", "b", "c")
	w.fail = func(host, step, id string) error {
		if host != "c" && step == "restart" && id != first.Release {
			return fault.New(fault.RestartFailed, "no")
		}
		return nil
	}
	got, err := w.fleet(smallest(t, more), clock).Release(t.Context(), Want{Scan: source(t, "v2")})
	if err == nil || got.Verdict != WholeOld || got.Hosts[2].Outcome != Staged {
		t.Errorf("got %v, %+v, %v, want the second failure to end it", got.Verdict, got.Hosts, err)
	}
}

func TestEveryHostKeepsALogOfWhatWasDone(t *testing.T) {
	t.Parallel()
	w, clock, first := released(t, "", "a", "b")
	env := smallest(t, "")
	if _, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: source(t, "v1")}); err != nil { // nothing to do, nothing to tell
		t.Fatal(err)
	}
	w.fail = planted("b", "restart")
	second, _ := w.fleet(env, clock).Release(t.Context(), Want{Scan: source(t, "v2"), Commit: "abc"})
	if _, err := w.fleet(env, clock).Restart(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	h := w.hosts[1]
	if len(h.audit) != 3 {
		t.Fatalf("got %d entries, want 3: %+v", len(h.audit), h.audit)
	}
	got := h.audit[1]
	want := wire.AuditEntry{Time: got.Time, Run: "1", By: "ops@laptop", Command: "release", Release: second.Release, Previous: first.Release,
		Now: first.Release, Commit: "abc", Outcome: "rolled_back", Verdict: "rolled_back", MS: got.MS}
	if got != want || h.audit[0].Outcome != "healthy" || h.audit[2].Command != "restart" {
		t.Errorf("got %+v", h.audit)
	}
}

package deploy

import (
	"context"
	"errors"
	"testing"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// killedAt gives three hosts on a proven v1, and the first of them on a v2 whose run was killed
// between its switch and its proof.
func killedAt(t *testing.T) (*world, *time.Time, string) {
	t.Helper()
	w, env := newWorld("a", "b", "c"), smallest(t, "")
	clock := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	good, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")})
	if err != nil {
		t.Fatal(err)
	}
	h := w.hosts[0]
	h.state.Releases = append(h.state.Releases, wire.Release{
		ID: "20261123-000200-abcdef0", Seq: 2, Root: "2", Mark: wire.MarkLive, Previous: good.Release,
	})
	h.state.Current = "20261123-000200-abcdef0"
	return w, &clock, good.Release
}

// Nobody may be told "whole" when a run before this one left a host elsewhere.
func TestWholeIsNotSaidOfAFleetThatAKilledRunLeftMixed(t *testing.T) {
	t.Parallel()
	w, clock, _ := killedAt(t)
	w.fail = planted("b", "stage")
	got, err := w.fleet(smallest(t, ""), clock).Release(t.Context(), Want{Scan: source(t, "v3")})
	if err == nil || got.Verdict != Mixed || got.Hosts[0].Outcome != Switched {
		t.Errorf("got %v, %+v, %v, want mixed, and a told as switched only", got.Verdict, got.Hosts[0], err)
	}
}

// What was never proven on a host is nothing to go back to.
func TestUndoGoesBackToAProvenRelease(t *testing.T) {
	t.Parallel()
	w, clock, good := killedAt(t)
	w.fail = planted("c", "restart")
	got, err := w.fleet(smallest(t, ""), clock).Release(t.Context(), Want{Scan: source(t, "v3")})
	if err == nil || got.Verdict != WholeOld || got.Previous != good {
		t.Fatalf("got %v on %s, %v, want whole on %s", got.Verdict, got.Previous, err, good)
	}
	for _, h := range w.hosts {
		if h.serving != good || h.state.Current != good {
			t.Errorf("%s serves %s and has %s, want %s", h.name, h.serving, h.state.Current, good)
		}
	}
}

// A record that cannot be written, as on a full disk, does not turn a host that is back into a
// broken one.
func TestAHostThatIsBackIsBackWithoutARecord(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b"), smallest(t, ""), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	first, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")})
	if err != nil {
		t.Fatal(err)
	}
	w.fail = func(host, step, _ string) error {
		if host == "b" && (step == "mark live" || step == "mark bad") {
			return fault.New(fault.DiskFull, "no room")
		}
		return nil
	}
	got, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v2")})
	if err == nil || got.Verdict != WholeOld || w.hosts[1].serving != first.Release {
		t.Errorf("got %v, %v, want whole on the old", got.Verdict, err)
	}
}

// A rollback that is stopped by hand says nothing against the release it went to.
func TestAStoppedRollbackCanBeDoneAgain(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b"), smallest(t, ""), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	first, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v2")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	w.fail = func(host, step, _ string) error {
		if host == "b" && step == "restart" && ctx.Err() == nil {
			cancel(fault.New(fault.Interrupted, "stopped"))
			return context.Cause(ctx)
		}
		return nil
	}
	if got, err := w.fleet(env, &clock).Rollback(ctx, "", ""); err == nil || got.Verdict != WholeOld {
		t.Fatalf("got %v, %v, want whole on v2", got.Verdict, err)
	}
	w.fail = nil
	got, err := w.fleet(env, &clock).Rollback(t.Context(), "", "")
	if err != nil || got.Release != first.Release {
		t.Errorf("got %v to %s, %v, want a rollback to %s", got.Verdict, got.Release, err, first.Release)
	}
}

// A release that was sent but whose hooks may not have run is not switched to by name either.
func TestRollbackRefusesWhatWasOnlySent(t *testing.T) {
	t.Parallel()
	for _, mark := range []wire.Mark{wire.MarkStaged, wire.MarkBad} {
		w, env, clock := newWorld("a", "b"), smallest(t, ""), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")}); err != nil {
			t.Fatal(err)
		}
		for i, h := range w.hosts {
			one := wire.Release{ID: "20261123-000200-abcdef0", Seq: 2, Mark: wire.MarkHealthy}
			if i == 0 {
				one.Mark = mark
			}
			h.state.Releases = append(h.state.Releases, one)
		}
		got, err := w.fleet(env, &clock).Rollback(t.Context(), "20261123-000200-abcdef0", "")
		if !fault.Is(err, fault.RollbackNone) || got.Verdict != Refused {
			t.Errorf("%s: got %v, %v, want a refusal", mark, got.Verdict, err)
		}
	}
}

// dying is a service whose processes end right after they were seen to run.
type dying struct{ fakeService }

func (s dying) Restart(ctx context.Context, h Host, id string, graceful bool) error {
	err := s.fakeService.Restart(ctx, h, id, graceful)
	if s.on(h).name == "b" && id != s.on(h).state.Releases[0].ID {
		s.on(h).serving = ""
	}
	return err
}

// Without a health check nobody else would notice.
func TestAServiceThatDiesAfterItsProofIsNotReleased(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b"), smallest(t, ""), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	f := w.fleet(env, &clock)
	f.Service = dying{fakeService{w}}
	if _, err := f.Release(t.Context(), Want{Scan: source(t, "v1")}); err != nil {
		t.Fatal(err)
	}
	f = w.fleet(env, &clock)
	f.Service = dying{fakeService{w}}
	if got, err := f.Release(t.Context(), Want{Scan: source(t, "v2")}); err == nil || got.Verdict != WholeOld {
		t.Errorf("got %v, %v, want it undone", got.Verdict, err)
	}
}

func planted(host, step string) func(string, string, string) error {
	times := 1
	return func(h, s, _ string) error {
		if h != host || s != step || times == 0 {
			return nil
		}
		times--
		return errors.New("planted")
	}
}

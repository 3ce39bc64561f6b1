package deploy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

func TestReleaseThenNothingNewThenAgain(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b", "c"), smallest(t, ""), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	src := source(t, "v1")
	first, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src})
	if err != nil || first.Verdict != Done {
		t.Fatalf("got %v, %v, want done", first.Verdict, err)
	}
	second, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src})
	if err != nil || second.Verdict != Nothing || second.Release != first.Release {
		t.Errorf("got %v of %s, %v, want nothing new and %s", second.Verdict, second.Release, err, first.Release)
	}
	again, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src, Again: true})
	if err != nil || again.Verdict != Done || again.Release == first.Release {
		t.Errorf("got %v of %s, %v, want another release", again.Verdict, again.Release, err)
	}
}

// A host that serves something else than its current says is released to again, though the tree is
// the same.
func TestNothingNewIsProvenNotAssumed(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b"), smallest(t, ""), time.Now()
	src := source(t, "v1")
	if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src}); err != nil {
		t.Fatal(err)
	}
	w.hosts[1].serving = "something else"
	got, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src})
	if err != nil || got.Verdict != Done {
		t.Errorf("got %v, %v, want a release that heals", got.Verdict, err)
	}
}

func TestNoHostSwitchesBeforeAllAreStagedAndChecked(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b", "c"), smallest(t, "[hooks]\nrelease = [\"build\"]\nonce = [\"migrate\"]"), time.Now()
	if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")}); err != nil {
		t.Fatal(err)
	}
	switched := false
	once := 0
	for _, line := range w.log {
		_, step, _ := strings.Cut(line, " ")
		switch {
		case step == "switch":
			switched = true
		case step == "stage" || step == "check" || strings.HasPrefix(step, "exec"):
			if switched {
				t.Errorf("%q after the first switch", line)
			}
		}
		if step == "exec migrate" {
			once++
		}
	}
	if once != 1 {
		t.Errorf("the once hook ran %d times", once)
	}
}

func TestAHeldLockChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, heldLock) // it is asked for again for a while
}

func heldLock(t *testing.T) {
	w, env, clock := newWorld("a", "b"), smallest(t, ""), time.Now()
	w.hosts[1].locked = &wire.Holder{Who: "ci@runner", Command: "release"}
	got, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")})
	if !fault.Is(err, fault.LockHeld) || got.Verdict != Refused {
		t.Fatalf("got %v, %v, want a refusal", got.Verdict, err)
	}
	if joined := strings.Join(w.log, ","); strings.Contains(joined, "stage") || strings.Contains(joined, "prepare") {
		t.Errorf("something was changed: %v", w.log)
	}
}

func TestEveryBadHostIsListed(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b", "c"), smallest(t, ""), time.Now()
	w.hosts[0].state.Refusal = "it is a folder"
	w.hosts[2].state.FreeBytes = 1
	got, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")})
	if !fault.Is(err, fault.LayoutRefused) || !fault.Is(err, fault.DiskFull) || got.Verdict != Refused {
		t.Errorf("got %v, %v, want both refusals", got.Verdict, err)
	}
}

func TestOnFailureStopLeavesHostsAsTheyAre(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b", "c"), smallest(t, "[release]\non_failure = \"stop\""), time.Now()
	if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")}); err != nil {
		t.Fatal(err)
	}
	w.fail = func(host, step, _ string) error {
		if host == "b" && step == "restart" {
			return fault.New(fault.RestartFailed, "no")
		}
		return nil
	}
	got, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v2")})
	if err == nil || got.Verdict != Mixed {
		t.Fatalf("got %v, %v, want mixed", got.Verdict, err)
	}
	if fleet := got.Fleet(); len(fleet[got.Release]) != 2 || len(fleet[got.Previous]) != 1 {
		t.Errorf("got %v, want a and b on the new, c on the old", fleet)
	}
}

func TestFirstReleaseThatFailsLeavesNoCurrent(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b", "c"), smallest(t, ""), time.Now()
	w.fail = func(host, step, _ string) error {
		if host == "b" && step == "restart" {
			return fault.New(fault.RestartFailed, "no")
		}
		return nil
	}
	got, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")})
	if err == nil || got.Verdict != WholeOld {
		t.Fatalf("got %v, %v, want everything undone", got.Verdict, err)
	}
	for _, h := range w.hosts {
		if h.state.Current != "" || h.running {
			t.Errorf("%s: current %q, running %v, want neither", h.name, h.state.Current, h.running)
		}
	}
}

func TestCancelledWhileSwitchingIsUndone(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b", "c"), smallest(t, ""), time.Now()
	if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	w.fail = func(host, step, _ string) error {
		if host == "b" && step == "switch" {
			cancel(fault.New(fault.Interrupted, "stopped"))
		}
		return nil
	}
	got, err := w.fleet(env, &clock).Release(ctx, Want{Scan: source(t, "v2")})
	if err == nil || got.Verdict != WholeOld {
		t.Fatalf("got %v, %v, want everything undone", got.Verdict, err)
	}
	for _, h := range w.hosts {
		if h.serving != got.Previous {
			t.Errorf("%s serves %s, want %s", h.name, h.serving, got.Previous)
		}
	}
}

// Whatever steps fail, in whatever order of releases and rollbacks: the result tells the truth about
// every host, "whole" means one release everywhere, and a plain release afterwards heals the fleet.
func TestAnyFailureLeavesAKnownFleet(t *testing.T) {
	t.Parallel()
	env := smallest(t, "[release]\nbatch = \"2\"")
	sources := make([]Want, 5)
	for i := range sources {
		sources[i] = Want{Scan: source(t, fmt.Sprint("v", i))}
	}
	rapid.Check(t, func(rt *rapid.T) {
		w, clock := newWorld("a", "b", "c"), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		for range rapid.IntRange(1, 6).Draw(rt, "runs") {
			broken := rapid.SampledFrom([]string{"", "state", "prepare", "stage", "check", "switch", "restart", "mark live", "mark healthy", "remove"}).Draw(rt, "step")
			victim := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "host")
			times := rapid.IntRange(1, 3).Draw(rt, "times")
			w.fail = func(host, step, _ string) error {
				if host != victim || step != broken || times == 0 {
					return nil
				}
				times--
				return fault.New(fault.SwitchFailed, "planted in %s", step)
			}
			var got *Result
			var err error
			if rapid.Bool().Draw(rt, "roll back") {
				got, err = w.fleet(env, &clock).Rollback(context.Background(), "", "")
			} else {
				got, err = w.fleet(env, &clock).Release(context.Background(), rapid.SampledFrom(sources).Draw(rt, "source"))
			}
			truthful(rt, w, got, err)
		}
		w.fail = nil
		want := sources[0]
		want.Again = true
		got, err := w.fleet(env, &clock).Release(context.Background(), want)
		if err != nil || got.Verdict != Done {
			rt.Fatalf("a plain release does not heal: %v, %v", got.Verdict, err)
		}
		truthful(rt, w, got, err)
	})
}

func truthful(rt *rapid.T, w *world, got *Result, err error) {
	for i, h := range w.hosts {
		if told := got.Hosts[i]; got.Verdict != Refused && told.Outcome != Unknown && told.Release != h.state.Current && told.Outcome != Broken && told.Outcome != Switched {
			rt.Fatalf("%s: told %s on %q, is on %q (%v, %v)", h.name, told.Outcome, told.Release, h.state.Current, got.Verdict, err)
		}
	}
	switch got.Verdict {
	case Done, Nothing:
		for _, h := range w.hosts {
			if h.serving != got.Release || h.state.Current != got.Release {
				rt.Fatalf("%v, but %s serves %q and has %q", got.Verdict, h.name, h.serving, h.state.Current)
			}
		}
	case WholeOld:
		for i, h := range w.hosts {
			old := got.Previous
			if got.Hosts[i].Previous == "" {
				old = "" // its first release
			}
			if h.state.Current != old || h.serving != old {
				rt.Fatalf("whole on %q, but %s has %q and serves %q", old, h.name, h.state.Current, h.serving)
			}
		}
	}
	if (err == nil) != (got.Verdict == Done || got.Verdict == Nothing) {
		rt.Fatalf("verdict %v with error %v", got.Verdict, err)
	}
}

// The process was there before godeploy came: a first release that fails must not take it down.
func TestFirstReleaseThatFailsLeavesWhatRanRunning(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b"), smallest(t, ""), time.Now()
	for _, h := range w.hosts {
		h.running = true
	}
	w.fail = func(host, step, id string) error {
		if host == "b" && step == "restart" && id != "" {
			return fault.New(fault.RestartFailed, "no")
		}
		return nil
	}
	got, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")})
	if err == nil || got.Verdict != WholeOld {
		t.Fatalf("got %v, %v, want everything undone", got.Verdict, err)
	}
	for _, h := range w.hosts {
		if h.state.Current != "" || !h.running {
			t.Errorf("%s: current %q, running %v, want no release and a service that runs", h.name, h.state.Current, h.running)
		}
	}
}

func TestNoHostSwitchesWhenTheCheckFailsAnywhere(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b", "c"), smallest(t, ""), time.Now()
	w.fail = func(host, step, _ string) error {
		if host == "c" && step == "check" {
			return fault.New(fault.CheckFailed, "no")
		}
		return nil
	}
	got, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")})
	if !fault.Is(err, fault.CheckFailed) || got.Verdict != WholeOld {
		t.Errorf("got %v, %v, want the failed check and nothing switched", got.Verdict, err)
	}
	if strings.Contains(strings.Join(w.log, ","), "switch") {
		t.Errorf("a host switched: %v", w.log)
	}
}

func TestAnInterruptionIsToldOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fault.New(fault.Interrupted, "stopped by Ctrl-C"))
	w, env, clock := newWorld("a", "b", "c"), smallest(t, ""), time.Now()
	got, err := w.fleet(env, &clock).Release(ctx, Want{Scan: source(t, "v1")})
	if all := fault.All(err); len(all) != 1 || all[0].Code != fault.Interrupted || got.Verdict != Refused {
		t.Errorf("got %v, %v, want one interruption and nothing changed", got.Verdict, err)
	}
}

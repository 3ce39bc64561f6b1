package deploy

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// again connects the world's hosts anew; each host's helper has seen its connection end when it is asked.
func (w *world) again(tries int) func(context.Context, inventory.Host) (Host, error) {
	return func(_ context.Context, h inventory.Host) (Host, error) {
		if tries--; tries >= 0 {
			return nil, fault.New(fault.SSHTimeout, "no answer")
		}
		for _, one := range w.hosts {
			if one.name == h.Name {
				one.lost = false
				return one, nil
			}
		}
		return nil, fault.New(fault.HostUnknown, "no host %s", h.Name)
	}
}

// Whether the switch was done before its answer was lost is not known: the host is asked again and goes
// back with the others.
func TestALostHostIsAskedAgain(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"switch", "restart", "mark live", "mark healthy"} {
		synctest.Test(t, func(t *testing.T) {
			w, clock, first := released(t, "", "a", "b", "c")
			f := w.fleet(smallest(t, ""), clock)
			f.Again = w.again(3)
			w.late = func(host, s, id string) error {
				if host == "b" && s == step && id != first.Release {
					return fault.New(fault.SSHLost, "gone")
				}
				return nil
			}
			got, err := f.Release(t.Context(), Want{Scan: source(t, "v2")})
			if err == nil || got.Verdict != WholeOld || got.Hosts[1].Outcome != RolledBack {
				t.Errorf("%s: got %v, %+v, %v, want it back", step, got.Verdict, got.Hosts[1], err)
			}
			for _, h := range w.hosts {
				if h.serving != first.Release || h.state.Current != first.Release {
					t.Errorf("%s: %s serves %s and has %s, want %s", step, h.name, h.serving, h.state.Current, first.Release)
				}
			}
		})
	}
}

func TestAHostThatStaysAwayIsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, clock, _ := released(t, "", "a", "b")
		f := w.fleet(smallest(t, ""), clock)
		f.Again = w.again(1 << 30)
		w.late = func(host, step, _ string) error {
			if host == "a" && step == "switch" {
				return fault.New(fault.SSHLost, "gone")
			}
			return nil
		}
		began := time.Now()
		got, err := f.Release(t.Context(), Want{Scan: source(t, "v2")})
		if err == nil || got.Verdict != Mixed || got.Hosts[0].Outcome != Unknown {
			t.Errorf("got %v, %+v, %v, want unknown", got.Verdict, got.Hosts, err)
		}
		if took := time.Since(began); took > againTime+time.Second {
			t.Errorf("it took %s to give up", took)
		}
	})
}

// Somebody else who has the lock by now is at work on the host: it is not ours to touch.
func TestALostHostIsNotTakenFromSomebodyElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, clock, _ := released(t, "", "a", "b")
		f := w.fleet(smallest(t, ""), clock)
		f.Again = w.again(0)
		w.late = func(host, step, _ string) error {
			if host == "a" && step == "switch" {
				w.hosts[0].locked = &wire.Holder{Who: "ci@runner", Run: "2", Command: "release"}
				return fault.New(fault.SSHLost, "gone")
			}
			return nil
		}
		got, err := f.Release(t.Context(), Want{Scan: source(t, "v2")})
		if err == nil || got.Hosts[0].Outcome != Unknown || w.count("restart") != 0 {
			t.Errorf("got %+v, %v, want it left alone", got.Hosts[0], err)
		}
	})
}

// slow is a service whose restart ends only when it is told to.
type slow struct {
	fakeService
	taking time.Duration
	not    string // release that takes no time
}

func (s slow) Restart(ctx context.Context, h Host, id string, graceful bool) error {
	if id != s.not {
		if err := Pause(ctx, s.taking); err != nil {
			return err
		}
	}
	return s.fakeService.Restart(ctx, h, id, graceful)
}

func TestASignalEndsARunWithinSeconds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		back time.Duration // that the old release takes to come up
		want Outcome
	}{{"back in time", time.Second, RolledBack}, {"too slow", time.Minute, Unknown}} {
		synctest.Test(t, func(t *testing.T) {
			w, clock, _ := released(t, "", "a", "b")
			f := w.fleet(smallest(t, ""), clock)
			f.Service = slow{fakeService{w}, tt.back, ""}
			ctx, cancel := context.WithCancelCause(t.Context())
			w.late = func(host, step, _ string) error {
				if host == "a" && step == "switch" {
					cancel(fault.New(fault.Interrupted, "stopped by Ctrl-C"))
				}
				return nil
			}
			began := time.Now()
			got, err := f.Release(ctx, Want{Scan: source(t, "v2")})
			if took := time.Since(began); took >= 6*time.Second || err == nil || got.Hosts[0].Outcome != tt.want {
				t.Errorf("%s: got %+v after %s, %v, want %s", tt.name, got.Hosts[0], took, err, tt.want)
			}
			if mark, _ := find(w.hosts[0].state, got.Release); tt.want == RolledBack && mark.Mark != wire.MarkStaged {
				t.Errorf("%s: a release that was only stopped is marked %s", tt.name, mark.Mark)
			}
		})
	}
}

// With a limit on the whole run nobody waits with a signal in hand: the fleet is put back in full.
func TestATimeLimitLeavesTimeToGoBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, clock, _ := released(t, "", "a", "b")
		f := w.fleet(smallest(t, ""), clock)
		f.Service = slow{fakeService{w}, 30 * time.Second, ""}
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, fault.New(fault.Interrupted, "too long"))
		defer cancel()
		got, err := f.Release(ctx, Want{Scan: source(t, "v2")})
		if err == nil || got.Verdict != WholeOld {
			t.Errorf("got %v, %v, want whole", got.Verdict, err)
		}
	})
}

func TestADanglingCurrentHasAWayBackOrIsRefused(t *testing.T) {
	t.Parallel()
	w, clock, first := released(t, "", "a", "b")
	env := smallest(t, "")
	for _, h := range w.hosts {
		h.state.Current, h.state.Dangling = "20261122-000000-abcdef0", true
	}
	w.fail = planted("b", "restart")
	got, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: source(t, "v2")})
	if err == nil || got.Verdict != WholeOld || w.hosts[0].serving != first.Release || w.hosts[1].serving != first.Release {
		t.Errorf("got %v, %v, want both on %s", got.Verdict, err, first.Release)
	}
	w, clock, _ = released(t, "", "a", "b")
	w.hosts[1].state.Current, w.hosts[1].state.Dangling, w.hosts[1].state.Releases = "20261122-000000-abcdef0", true, nil
	got, err = w.fleet(env, clock).Release(t.Context(), Want{Scan: source(t, "v2")})
	if !fault.Is(err, fault.LayoutRefused) || got.Verdict != Refused || w.count("stage") != 0 {
		t.Errorf("got %v, %v, want a refusal", got.Verdict, err)
	}
}

func TestACanaryIsWatched(t *testing.T) {
	t.Parallel()
	for _, goOn := range []bool{true, false} {
		more := "[release]\nstrategy = \"canary\"\ncanary = \"b\"\non_failure = \"stop\""
		w, clock, first := released(t, more, "a", "b", "c")
		f := w.fleet(smallest(t, more), clock)
		asked := 0
		f.Canary = func(ctx context.Context, wave []string, look func(context.Context) ([]HostStatus, error)) (bool, error) {
			asked++
			list, err := look(ctx)
			if strings.Join(wave, " ") != "b" || err != nil || len(list) != 3 || list[0].Release != first.Release || list[1].Release == first.Release {
				t.Errorf("asked after %v, with %+v, %v", wave, list, err)
			}
			return goOn, nil
		}
		got, err := f.Release(t.Context(), Want{Scan: source(t, "v2")})
		want, serves := Done, got.Release
		if !goOn {
			want, serves = WholeOld, first.Release
		}
		if got.Verdict != want || (err == nil) != goOn || asked != 1 || w.hosts[0].serving != serves || w.hosts[1].serving != serves {
			t.Errorf("go on %v: got %v, %v, asked %d times", goOn, got.Verdict, err, asked)
		}
	}
}

// A host that a run has left in the middle is put right by its own journal before anything else.
func TestWhatADeadRunLeftIsPutRightFirst(t *testing.T) {
	t.Parallel()
	w, clock, first := released(t, "", "a", "b")
	h := w.hosts[0]
	h.state.Releases = append(h.state.Releases, wire.Release{ID: "20261123-000200-abcdef0", Seq: 2, Mark: wire.MarkLive, Previous: first.Release})
	h.state.Current, h.serving = "20261123-000200-abcdef0", ""
	h.state.Journal = &wire.Journal{Step: wire.StepRestarting, From: first.Release, To: h.state.Current, Back: first.Release}
	if _, err := w.fleet(smallest(t, ""), clock).Restart(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if h.state.Current != first.Release || h.serving != first.Release || h.state.Journal.Open() {
		t.Errorf("%s has %s and serves %s, want %s", h.name, h.state.Current, h.serving, first.Release)
	}
}

package deploy

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// rack is a balancer in memory: what is out is out, and it notes what it was asked.
type rack struct {
	w   *world
	out map[string]wire.Drained
	// fail is asked before a change; what is then to be done is left out.
	fail func(verb string, servers []string) error
	log  []string
}

func newRack(w *world) *rack { return &rack{w: w, out: map[string]wire.Drained{}} }

func (k *rack) hear(verb string, servers []string) error {
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	k.log = append(k.log, verb+" "+strings.Join(servers, " "))
	if k.fail == nil {
		return nil
	}
	return k.fail(verb, servers)
}

func (k *rack) Ready(context.Context, []Host) error { return k.hear("ready", nil) }
func (k *rack) Stands(string) bool                  { return true }
func (k *rack) Drains(context.Context, []Host) (map[string]wire.Drained, error) {
	return maps.Clone(k.out), k.hear("drains", nil)
}
func (k *rack) Drain(ctx context.Context, _, servers []Host, why wire.Drained) error {
	var list []string
	for _, h := range servers {
		list = append(list, h.Inventory().Name)
	}
	if err := k.hear("drain", list); err != nil {
		return err
	}
	k.w.change(func() {
		for _, name := range list {
			k.out[name] = why
		}
	})
	return ctx.Err()
}
func (k *rack) Undrain(_ context.Context, _ []Host, servers []string) error {
	if err := k.hear("undrain", servers); err != nil {
		return err
	}
	k.w.change(func() {
		for _, name := range servers {
			delete(k.out, name)
		}
	})
	return nil
}

func (k *rack) changes() []string {
	return slices.DeleteFunc(slices.Clone(k.log), func(s string) bool { return strings.HasPrefix(s, "ready") || strings.HasPrefix(s, "drains") })
}

// racked is a fleet of a, b and c behind a balancer, on its first release.
func racked(t *testing.T, more string) (*world, *rack, func() *Fleet) {
	t.Helper()
	w, clock, _ := released(t, more, "a", "b", "c")
	k := newRack(w)
	env := smallest(t, more)
	return w, k, func() *Fleet {
		f := w.fleet(env, clock)
		f.Balancer = k
		return f
	}
}

// No server is restarted while it gets requests, and every one gets them again.
func TestEachWaveIsDrainedAndPutBack(t *testing.T) {
	t.Parallel()
	w, k, fleet := racked(t, "")
	w.fail = func(host, step, _ string) error {
		if _, out := k.out[host]; (step == "restart" || step == "switch") && !out {
			t.Errorf("%s comes to %s while it gets requests", host, step)
		}
		if step == "restart" && w.hosts[host[0]-'a'].state.Drained == nil {
			t.Errorf("%s does not know that it is drained", host)
		}
		return nil
	}
	for name, act := range map[string]func(*Fleet) (*Result, error){
		"release":  func(f *Fleet) (*Result, error) { return f.Release(t.Context(), Want{Scan: source(t, "v2")}) },
		"rollback": func(f *Fleet) (*Result, error) { return f.Rollback(t.Context(), "", "") },
		"restart":  func(f *Fleet) (*Result, error) { return f.Restart(t.Context(), true) },
	} {
		k.log = nil
		if name == "rollback" { // to be able to go back whatever came before
			if _, err := fleet().Release(t.Context(), Want{Scan: source(t, "v3")}); err != nil {
				t.Fatal(err)
			}
			k.log = nil
		}
		got, err := act(fleet())
		if err != nil || got.Verdict != Done || len(k.out) != 0 {
			t.Errorf("%s: got %v, %v, out %v", name, got.Verdict, err, k.out)
		}
		want := []string{"drain a", "undrain a", "drain b", "undrain b", "drain c", "undrain c"}
		if !slices.Equal(k.changes(), want) {
			t.Errorf("%s: got %q, want %q", name, k.changes(), want)
		}
	}
	for _, h := range w.hosts {
		if h.state.Drained != nil {
			t.Errorf("%s still notes %+v", h.name, h.state.Drained)
		}
	}
}

func TestTheLastServersAreNotDrained(t *testing.T) {
	t.Parallel()
	_, k, fleet := racked(t, "[release]\nstrategy = \"all\"")
	got, err := fleet().Release(t.Context(), Want{Scan: source(t, "v2")})
	if err != nil || got.Verdict != Done || len(k.changes()) != 0 {
		t.Errorf("got %v, %v and %q, want none drained", got.Verdict, err, k.changes())
	}
}

func TestWhatIsUndoneIsPutBack(t *testing.T) {
	t.Parallel()
	w, k, fleet := racked(t, "")
	w.fail = planted("b", "restart")
	got, err := fleet().Release(t.Context(), Want{Scan: source(t, "v2")})
	if err == nil || got.Verdict != WholeOld || len(k.out) != 0 {
		t.Errorf("got %v, %v, out %v, want all back", got.Verdict, err, k.out)
	}
	if want := []string{"drain a", "undrain a", "drain b", "undrain b"}; !slices.Equal(k.changes(), want) {
		t.Errorf("got %q, want %q", k.changes(), want)
	}
}

// A server that serves neither release stays out, and the result says so.
func TestABrokenServerStaysOut(t *testing.T) {
	t.Parallel()
	w, k, fleet := racked(t, "")
	w.fail = func(host, step, _ string) error {
		if host == "b" && step == "restart" {
			return fault.New(fault.RestartFailed, "dead")
		}
		return nil
	}
	got, err := fleet().Release(t.Context(), Want{Scan: source(t, "v2")})
	if err == nil || got.Verdict != Mixed || got.Hosts[1].Outcome != Broken || got.Hosts[1].Drained == nil || len(k.out) != 1 {
		t.Fatalf("got %v, %+v, %v, out %v", got.Verdict, got.Hosts[1], err, k.out)
	}
	w.fail = nil
	k.log = nil
	got, err = fleet().Release(t.Context(), Want{Scan: source(t, "v2"), Again: true})
	if err != nil || got.Verdict != Done || len(k.out) != 0 || !slices.Contains(k.changes(), "undrain b") {
		t.Errorf("a plain release: got %v, %v, out %v, %q", got.Verdict, err, k.out, k.changes())
	}
}

// A run that died has left b drained and well, and c drained and ill: b is put back first, c after its turn.
func TestDrainsOfADeadRunAreHealed(t *testing.T) {
	t.Parallel()
	w, k, fleet := racked(t, "[release]\nmax_unavailable = \"1\"")
	dead := wire.Drained{By: "ops@laptop", Run: "0", Since: time.Unix(1, 0), Reason: "release"}
	k.out["b"], k.out["c"] = dead, dead
	w.hosts[2].serving = "nothing"
	got, err := fleet().Release(t.Context(), Want{Scan: source(t, "v2")})
	if err != nil || got.Verdict != Done || len(k.out) != 0 {
		t.Fatalf("got %v, %v, out %v", got.Verdict, err, k.out)
	}
	if want := []string{"undrain b", "undrain c", "drain a", "undrain a", "drain b", "undrain b"}; !slices.Equal(k.changes(), want) {
		t.Errorf("got %q, want %q", k.changes(), want)
	}
}

// What somebody has drained by hand is released to and stays out, and counts.
func TestWhatIsDrainedByHandStaysOut(t *testing.T) {
	t.Parallel()
	for most, want := range map[string]Verdict{"1": Refused, "2": Done} {
		_, k, fleet := racked(t, "[release]\nmax_unavailable = \""+most+"\"")
		k.out["b"] = wire.Drained{By: "ops@laptop", Run: "0", Since: time.Unix(1, 0), Reason: "disk", Hand: true}
		got, err := fleet().Release(t.Context(), Want{Scan: source(t, "v2")})
		if (err == nil) != (want == Done) || got.Verdict != want || len(k.out) != 1 {
			t.Errorf("of %s: got %v, %v, out %v, want %v", most, got.Verdict, err, k.out, want)
		}
		if want == Refused && !fault.Is(err, fault.MaxUnavailable) {
			t.Errorf("got %v, want max-unavailable", err)
		}
		if want == Done && (got.Hosts[1].Drained == nil || slices.Contains(k.changes(), "drain b")) {
			t.Errorf("got %+v, %q", got.Hosts[1], k.changes())
		}
	}
}

// Drained outside of the run's hosts counts all the same.
func TestDrainsElsewhereCount(t *testing.T) {
	t.Parallel()
	_, k, fleet := racked(t, "")
	k.out["z"] = wire.Drained{By: "ops@laptop", Run: "0", Since: time.Unix(1, 0)}
	if got, err := fleet().Release(t.Context(), Want{Scan: source(t, "v2")}); !fault.Is(err, fault.MaxUnavailable) || got.Verdict != Refused {
		t.Errorf("got %v, %v, want a refusal", got.Verdict, err)
	}
}

func TestABalancerThatFails(t *testing.T) {
	t.Parallel()
	boom := fault.New(fault.SwitchFailed, "nginx does not reload")
	for verb, want := range map[string]Verdict{"ready": Refused, "drains": Refused, "drain": WholeOld, "undrain": Mixed} {
		w, k, fleet := racked(t, "")
		k.fail = func(v string, servers []string) error {
			if v == verb && (verb != "drain" || servers[0] == "b") {
				return boom
			}
			return nil
		}
		got, err := fleet().Release(t.Context(), Want{Scan: source(t, "v2")})
		if err == nil || got.Verdict != want {
			t.Errorf("%s: got %v, %v, want %v", verb, got.Verdict, err, want)
		}
		if verb == "undrain" { // it serves the new release, which is no reason to undo it
			if got.Hosts[0].Outcome != Healthy || got.Hosts[0].Drained == nil || len(k.out) != 1 {
				t.Errorf("undrain: got %+v, out %v", got.Hosts[0], k.out)
			}
		} else if len(k.out) != 0 {
			t.Errorf("%s: out %v", verb, k.out)
		}
		k.fail, w.fail = nil, nil
		if got, err := fleet().Release(t.Context(), Want{Scan: source(t, "v3")}); err != nil || got.Verdict != Done || len(k.out) != 0 {
			t.Errorf("%s: a plain release afterwards: %v, %v, out %v", verb, got.Verdict, err, k.out)
		}
	}
}

// A signal while requests are let end: nothing has switched, and the server gets requests again.
func TestAStopDuringADrainPutsTheServerBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, k, fleet := racked(t, "")
		ctx, stop := context.WithCancelCause(t.Context())
		k.fail = func(verb string, servers []string) error {
			if verb == "drain" && servers[0] == "b" {
				stop(fault.New(fault.Interrupted, "stopped"))
			}
			return nil
		}
		got, err := fleet().Release(ctx, Want{Scan: source(t, "v2")})
		if err == nil || got.Verdict != WholeOld || len(k.out) != 0 {
			t.Errorf("got %v, %v, out %v", got.Verdict, err, k.out)
		}
	})
}

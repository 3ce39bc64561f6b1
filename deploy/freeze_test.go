package deploy

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

func (h *fakeHost) Freeze(_ context.Context, f *wire.Freeze) error {
	if err := h.w.step(h, "freeze", ""); err != nil {
		return err
	}
	h.w.change(func() { h.state.Freeze = f })
	return nil
}

// changing are the steps that a freeze keeps away.
func changing() []string {
	return []string{"stage", "switch", "restart", "stop", "prepare", "mark", "remove"}
}

func (w *world) changed() []string {
	return slices.DeleteFunc(slices.Clone(w.log), func(line string) bool {
		return !slices.ContainsFunc(changing(), func(step string) bool { return strings.Contains(line, step) })
	})
}

func TestAFreezeStopsWhatChangesARelease(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b", "c"), smallest(t, ""), time.Now()
	for _, content := range []string{"v1", "v2"} {
		if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, content)}); err != nil {
			t.Fatal(err)
		}
	}
	why := wire.Freeze{By: "kim@desk", Since: clock, Until: clock.Add(time.Hour), Message: "audit"}
	on, err := w.fleet(env, &clock).Freeze(t.Context(), why)
	if err != nil || !slices.Equal(on, []string{"a", "b", "c"}) {
		t.Fatalf("frozen are %q, %v", on, err)
	}
	w.hosts[0].state.Freeze, w.hosts[2].state.Freeze = nil, nil // one host that knows is enough
	w.log = nil
	for name, command := range map[string]func(*Fleet) error{
		"release":  func(f *Fleet) error { _, err := f.Release(t.Context(), Want{Scan: source(t, "v3")}); return err },
		"rollback": func(f *Fleet) error { _, err := f.Rollback(t.Context(), "", ""); return err },
		"restart":  func(f *Fleet) error { _, err := f.Restart(t.Context(), true); return err },
		"stop":     func(f *Fleet) error { _, err := f.Stop(t.Context()); return err },
		"sync":     func(f *Fleet) error { _, err := f.Sync(t.Context(), SyncWant{Scan: source(t, "v3")}); return err },
	} {
		if err := command(w.fleet(env, &clock)); !fault.Is(err, fault.Frozen) || !strings.Contains(err.Error(), "kim@desk") || !strings.Contains(err.Error(), "audit") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if did := w.changed(); len(did) > 0 {
		t.Errorf("something was changed: %q", did)
	}
	if _, err := w.fleet(env, &clock).Start(t.Context()); err != nil {
		t.Errorf("start: %v", err)
	}
	if _, err := w.fleet(env, &clock).DryRun(t.Context(), Want{Scan: source(t, "v3")}); err != nil {
		t.Errorf("a dry run: %v", err)
	}
	clock = why.Until
	if _, err := w.fleet(env, &clock).Rollback(t.Context(), "", ""); err != nil {
		t.Errorf("after its time: %v", err)
	}
}

func TestAFreezeIsOnAllHostsOrNone(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b", "c"), smallest(t, ""), time.Now()
	w.fail = func(host, step, _ string) error {
		if host == "b" && step == "freeze" {
			return fault.New(fault.DiskFull, "no room left")
		}
		return nil
	}
	if _, err := w.fleet(env, &clock).Freeze(t.Context(), wire.Freeze{By: "kim@desk"}); !fault.Is(err, fault.DiskFull) {
		t.Errorf("got %v", err)
	}
	for _, h := range w.hosts {
		if h.state.Freeze != nil {
			t.Errorf("%s is frozen", h.name)
		}
	}
}

func TestAFreezeOfSomebodyElseIsKept(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b"), smallest(t, ""), time.Now()
	w.hosts[1].state.Exists = false // no folder to note it in
	if on, err := w.fleet(env, &clock).Freeze(t.Context(), wire.Freeze{By: "kim@desk"}); err != nil || !slices.Equal(on, []string{"a"}) {
		t.Fatalf("frozen are %q, %v", on, err)
	}
	if _, err := w.fleet(env, &clock).Freeze(t.Context(), wire.Freeze{By: "ops@laptop"}); !fault.Is(err, fault.Frozen) {
		t.Errorf("another's: %v", err)
	}
	if _, err := w.fleet(env, &clock).Freeze(t.Context(), wire.Freeze{By: "kim@desk", Message: "longer"}); err != nil || w.hosts[0].state.Freeze.Message != "longer" {
		t.Errorf("one's own: %v", err)
	}
	if err := w.fleet(env, &clock).Thaw(t.Context()); err != nil || w.hosts[0].state.Freeze != nil {
		t.Errorf("lifted: %v, %v", w.hosts[0].state.Freeze, err)
	}
	w.hosts[0].state.Exists = false
	if _, err := w.fleet(env, &clock).Freeze(t.Context(), wire.Freeze{By: "kim@desk"}); !fault.Is(err, fault.ReleaseUnknown) {
		t.Errorf("with no folder anywhere: %v", err)
	}
}

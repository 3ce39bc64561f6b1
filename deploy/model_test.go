package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// A story is a fleet and what happens to it: runs, each with its faults.
type tale struct {
	hosts   int
	release string // keys of [release]
	racked  bool   // there is a balancer
	runs    []act
}

type act struct {
	command string // release, rollback, resume, restart
	tree    int
	faults  []trouble
	away    bool // hosts whose connection was lost cannot be reached again in this run
}

// A trouble happens once, at the nth time that the host comes to the step.
type trouble struct {
	host, step, kind string
	nth              int
}

func tales() *rapid.Generator[tale] {
	steps := []string{"state", "lock", "recover", "prepare", "stage", "check", "arm", "switch", "restart", "mark live", "mark healthy", "mark bad",
		"reach done", "reach undoing", "remove", "audit", "exec once", "note drained", "drain", "drain", "undrain"}
	return rapid.Custom(func(t *rapid.T) tale {
		one := tale{hosts: rapid.IntRange(1, 5).Draw(t, "hosts")}
		keys := []string{
			"batch = " + rapid.SampledFrom([]string{`"1"`, `"2"`, `"50%"`, `[1, "50%", "100%"]`}).Draw(t, "batch"),
			"on_failure = " + rapid.SampledFrom([]string{`"rollback"`, `"rollback"`, `"stop"`, `"continue"`}).Draw(t, "on failure"),
			fmt.Sprint("max_failures = ", rapid.IntRange(0, 2).Draw(t, "failures")),
			"strategy = " + rapid.SampledFrom([]string{`"rolling"`, `"rolling"`, `"all"`, "\"canary\"\ncanary = \"a\""}).Draw(t, "strategy"),
		}
		if most := rapid.IntRange(0, one.hosts).Draw(t, "most"); most > 0 {
			keys = append(keys, fmt.Sprintf("max_unavailable = \"%d\"", most))
		}
		one.racked = rapid.Bool().Draw(t, "racked")
		one.release = strings.Join(keys, "\n")
		for range rapid.IntRange(1, 6).Draw(t, "runs") {
			a := act{
				command: rapid.SampledFrom([]string{"release", "release", "rollback", "resume", "restart"}).Draw(t, "command"),
				tree:    rapid.IntRange(0, 3).Draw(t, "tree"), away: rapid.Bool().Draw(t, "away"),
			}
			for range rapid.IntRange(0, 3).Draw(t, "faults") {
				a.faults = append(a.faults, trouble{
					host: string(rune('a' + rapid.IntRange(0, one.hosts-1).Draw(t, "host"))),
					step: rapid.SampledFrom(steps).Draw(t, "step"), nth: rapid.IntRange(1, 3).Draw(t, "nth"),
					kind: rapid.SampledFrom([]string{"fail", "fail", "crash", "lost", "late", "late fail", "stop"}).Draw(t, "kind"),
				})
			}
			one.runs = append(one.runs, a)
		}
		return one
	})
}

// model plays a tale and looks for what must never be.
type model struct {
	*world
	rack    *rack // nil without a balancer
	env     *inventory.Env
	clock   time.Time
	trees   []Want
	last    string // release that the last run was about
	most    int    // hosts that may be out of service
	undoing bool
	wrong   []string
}

func (m *model) fault(format string, args ...any) {
	m.wrong = append(m.wrong, fmt.Sprintf(format, args...))
}

// arrange plants the faults of a run.
func (m *model) arrange(a act, stop func()) {
	count := map[string]int{}
	hit := func(host, step string, late bool) string {
		if !late {
			count[host+step]++
		}
		for _, f := range a.faults {
			if f.host == host && f.step == step && f.nth == count[host+step] && late == strings.HasPrefix(f.kind, "late") {
				return f.kind
			}
		}
		return ""
	}
	m.fail = func(host, step, id string) error {
		if strings.HasPrefix(step, "switch") {
			m.barrier(id)
		}
		switch hit(host, step, false) {
		case "fail":
			return fault.New(fault.SwitchFailed, "planted in %s", step)
		case "crash":
			if step == "restart" && a.command != "restart" { // nobody notes what a plain restart took down
				m.host(host).serving, m.host(host).running = "", false
			}
			return fault.New(fault.RestartFailed, "planted in %s", step)
		case "lost":
			return fault.New(fault.SSHLost, "planted in %s", step)
		case "stop":
			stop()
		}
		return nil
	}
	if m.rack != nil {
		m.rack.fail = func(verb string, servers []string) error {
			for _, host := range servers {
				switch hit(host, verb, false) {
				case "fail", "crash", "lost":
					return fault.New(fault.SwitchFailed, "planted in %s", verb)
				case "stop":
					stop()
				}
			}
			return nil
		}
	}
	m.late = func(host, step, _ string) error {
		switch hit(host, step, true) {
		case "late":
			return fault.New(fault.SSHLost, "planted after %s", step)
		case "late fail":
			return fault.New(fault.SwitchFailed, "planted after %s", step)
		}
		return nil
	}
}

func (m *model) host(name string) *fakeHost { return m.hosts[name[0]-'a'] }

// barrier: no host switches to a release that is not on every host of the run, whole.
func (m *model) barrier(id string) {
	for _, h := range m.hosts {
		if _, ok := find(h.state, id); id != "" && id == m.last && !ok && !m.undoing {
			m.fault("a host switches to %s, which %s has not", id, h.name)
		}
	}
}

// watch holds at every moment: current leads somewhere, and not too many are out of service.
func (m *model) watch() {
	out := 0
	for _, h := range m.hosts {
		if _, ok := find(h.state, h.state.Current); h.state.Current != "" && !ok {
			m.fault("current of %s leads to %s, which is not there", h.name, h.state.Current)
		}
		drained := false
		if m.rack != nil {
			_, drained = m.rack.out[h.name]
		}
		if drained || h.serving != h.state.Current && (h.state.Current != "" || h.state.Journal != nil && h.state.Journal.From != "") {
			out++
		}
	}
	if m.most > 0 && out > m.most && !m.undoing {
		m.fault("%d hosts out of service, %d allowed", out, m.most)
	}
}

// Report follows the run: an undo takes back all hosts at once.
func (m *model) Report(e event.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Type == event.PhaseStart && e.Phase == "undo" {
		m.undoing = true
	}
	if e.Type == event.PhaseEnd && e.Phase == "undo" {
		m.undoing = false
	}
	if e.Type == event.Info && ValidID(e.Release) && e.Host == "" {
		m.last = e.Release
	}
}

func (m *model) fleetOf(a act) *Fleet {
	m.clock = m.clock.Add(time.Minute)
	now := m.clock
	f := &Fleet{Env: m.env, Service: fakeService{m.world}, Local: hooks.Local{}, Report: m, Parallel: 4,
		Holder: wire.Holder{Who: "ops@laptop", Run: "1"}, Now: func() time.Time { return now }, Dir: "."}
	for _, h := range m.hosts {
		f.Hosts = append(f.Hosts, h)
	}
	if m.rack != nil {
		f.Balancer = m.rack
	}
	f.Again = func(_ context.Context, h inventory.Host) (Host, error) {
		if a.away {
			return nil, fault.New(fault.SSHTimeout, "no answer")
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		one := m.host(h.Name)
		if one.lost { // its helper saw the connection end
			one.alone()
		}
		one.lost = false
		return one, nil
	}
	return f
}

// play is one run, and what must be true after it.
func (m *model) play(a act) (*Result, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	m.arrange(a, func() { cancel(fault.New(fault.Interrupted, "stopped")) })
	before := map[string]string{}
	for _, h := range m.hosts {
		before[h.name] = h.state.Current
	}
	f := m.fleetOf(a)
	var got *Result
	var err error
	switch a.command {
	case "release":
		got, err = f.Release(ctx, m.trees[a.tree])
	case "resume":
		want := m.trees[a.tree]
		want.Resume = m.last
		got, err = f.Release(ctx, want)
	case "rollback":
		got, err = f.Rollback(ctx, "", "")
	case "restart":
		got, err = f.Restart(ctx, true)
	}
	m.calm()
	m.judge(a, got, err, before)
	for _, h := range m.hosts { // connections end with the run
		if h.lost || slices.ContainsFunc(got.Hosts, func(r HostResult) bool { return r.Host == h.name && r.Outcome == Unknown }) {
			h.alone()
		}
		h.lost = false
	}
	return got, err
}

// judge: the result says what is true of each host, and of the fleet.
func (m *model) judge(a act, got *Result, err error, before map[string]string) {
	if (err == nil) != (got.Verdict == Done || got.Verdict == Nothing) {
		m.fault("%s: %s with error %v", a.command, got.Verdict, err)
	}
	for _, r := range got.Hosts {
		h := m.host(r.Host)
		bad := ""
		switch r.Outcome {
		case Healthy:
			if h.serving != h.state.Current || r.Release != h.state.Current {
				bad = "not healthy"
			}
		case RolledBack:
			if h.serving != h.state.Current || r.Release != h.state.Current || h.state.Current == got.Release && before[r.Host] != got.Release {
				bad = "not back"
			}
		case Unchanged, Staged:
			if h.state.Current != r.Release && got.Verdict != Refused {
				bad = "moved"
			}
		}
		if bad != "" {
			m.fault("%s: %s is told %s on %q, and is %s: has %q, serves %q", a.command, r.Host, r.Outcome, r.Release, bad, h.state.Current, h.serving)
		}
		switch {
		case got.Verdict == Done && r.Outcome != Healthy:
			m.fault("%s is done, but %s is %s", a.command, r.Host, r.Outcome)
		case got.Verdict == WholeOld && (r.Outcome == Unknown || r.Outcome == Broken || r.Outcome == Switched || r.Outcome == Healthy):
			m.fault("%s is whole, but %s is %s", a.command, r.Host, r.Outcome)
		}
	}
	m.kept()
}

// kept: what came before is there to go back to, and so is the last healthy release.
func (m *model) kept() {
	for _, h := range m.hosts {
		now, ok := find(h.state, h.state.Current)
		if !ok {
			continue
		}
		if _, has := find(h.state, now.Previous); now.Mark == wire.MarkHealthy && now.Previous != "" && !has {
			m.fault("%s has pruned %s, which came before %s", h.name, now.Previous, now.ID)
		}
	}
}

// calm takes all faults away.
func (m *model) calm() {
	m.fail, m.late = nil, nil
	if m.rack != nil {
		m.rack.fail = nil
	}
}

func (m *model) heal() {
	for range 2 { // the first may be refused while hosts that are out of service cannot be spared; status says so
		want := m.trees[0]
		want.Again = true
		m.calm()
		got, err := m.fleetOf(act{}).Release(context.Background(), want)
		if err != nil || got.Verdict != Done {
			m.fault("a plain release does not heal: %v, %v", got.Verdict, err)
			return
		}
		for _, h := range m.hosts {
			if h.serving != got.Release || h.state.Current != got.Release {
				m.fault("healed, but %s serves %q and has %q", h.name, h.serving, h.state.Current)
			}
			if m.rack != nil && len(m.rack.out) > 0 {
				m.fault("healed, but out are %v", m.rack.out)
			}
		}
	}
}

// Whatever goes wrong wherever: current always leads to a release that is there, no host switches before
// all are staged, never more are out of service than allowed, the result tells the truth, what came
// before is kept, and a plain release afterwards heals the fleet.
func TestNoFaultBreaksAPromise(t *testing.T) {
	t.Parallel()
	var trees []Want
	for i := range 4 {
		trees = append(trees, Want{Scan: source(t, fmt.Sprint("v", i))})
	}
	rapid.Check(t, func(rt *rapid.T) {
		one := tales().Draw(rt, "tale")
		env := fleetFile(rt, one)
		var wrong []string
		synctest.Test(t, func(*testing.T) {
			m := &model{world: newWorld(strings.Split("abcde"[:one.hosts], "")...), env: env, trees: trees,
				clock: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), most: RolloutOf(env.Release, one.hosts).Most}
			m.see = m.watch
			if one.racked {
				m.rack = newRack(m.world)
			}
			for i, a := range one.runs {
				if _, err := m.play(a); len(m.wrong) > 0 {
					wrong = append(wrong, fmt.Sprintf("run %d (%+v): %v", i+1, a, err))
					break
				}
			}
			if len(m.wrong) == 0 {
				m.heal()
			}
			wrong = append(wrong, m.wrong...)
		})
		if len(wrong) > 0 {
			rt.Fatalf("%s", strings.Join(wrong, "\n"))
		}
	})
}

func fleetFile(t interface{ Fatal(...any) }, one tale) *inventory.Env {
	var b strings.Builder
	b.WriteString("version = 1\n[app]\nname = \"swiper\"\npath = \"/opt/swiper\"\nkeep = 3\n[health]\nsettle = \"0s\"\n[hooks]\nonce = [\"once\"]\n")
	b.WriteString("[release]\n" + one.release + "\n[env.test.hosts]\n")
	for i := range one.hosts {
		fmt.Fprintf(&b, "%c = { role = \"app\", address = \"192.0.2.%d\" }\n", 'a'+i, i+1)
	}
	f, err := inventory.Parse("godeploy.toml", []byte(b.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := f.Env("test")
	if err != nil {
		t.Fatal(err)
	}
	return env
}

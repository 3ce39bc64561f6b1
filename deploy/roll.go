package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// waves switches the hosts, wave after wave, and undoes all of it on a breach.
func (r *run) waves(ctx context.Context) error {
	began := time.Now()
	todo := r.todo()
	planned, _ := r.rollout().Plan(r.standing())
	r.Report.Report(event.Event{Type: event.PhaseStart, Phase: "switch",
		Msg: fmt.Sprintf("switch: %s in %s", plural(len(todo), "host"), plural(len(planned), "wave")), Hosts: names(todo)})
	err := r.roll(ctx)
	if err != nil && !r.stuck {
		err = errors.Join(err, r.putBack(ctx, r.members))
	}
	done := event.Event{Type: event.PhaseEnd, Phase: "switch", Result: "ok", MS: time.Since(began).Milliseconds()}
	if err != nil {
		done.Result = "failed"
	}
	r.Report.Report(done)
	return err
}

func (r *run) roll(ctx context.Context) error {
	var tolerated []error
	plan := r.rollout()
	for first := true; ; first = false {
		wave := r.pick(plan.Next(r.standing()))
		if len(wave) == 0 {
			return r.rolled(tolerated)
		}
		err := r.through(ctx, wave, r.turn)
		if err == nil {
			if err := r.putBack(ctx, wave); err != nil { // they serve the release: there is nothing to undo
				return err
			}
		}
		if err == nil {
			err = r.bake(ctx)
		}
		if err == nil && first {
			err = r.pause(ctx, wave)
		}
		switch {
		case err == nil:
		case gated(err) || !r.tolerable(ctx):
			return r.breach(ctx, err)
		default:
			tolerated = append(tolerated, err)
			r.undo(ctx, failedOf(wave))
			if err := r.putBack(ctx, wave); err != nil {
				return errors.Join(append(tolerated, err)...)
			}
		}
	}
}

// tolerable reports whether the run goes on after the failures so far, counted over the fleet.
func (r *run) tolerable(ctx context.Context) bool {
	failed := len(failedOf(r.members))
	return ctx.Err() == nil && failed > 0 && (failed <= r.Env.Release.MaxFailures || r.Env.Release.OnFailure == "continue")
}

// rolled ends waves that were not undone.
func (r *run) rolled(tolerated []error) error {
	err := errors.Join(tolerated...)
	if left := r.standing().Pending; len(left) > 0 {
		return errors.Join(err, r.tooManyOut(left))
	}
	if err == nil {
		return nil
	}
	r.result.Verdict = Mixed
	return fault.New(fault.SwitchFailed, "%s failed and went back; the others have the release", plural(len(failedOf(r.members)), "host")).Wrap(err)
}

// rollout is how this run goes over its hosts.
func (r *run) rollout() Rollout {
	return RolloutOf(r.Env.Release, max(len(r.Env.ReleaseHosts()), len(r.members)))
}

// standing is how far the run has come.
func (r *run) standing() Standing {
	s := Standing{Out: slices.Clone(r.outside)}
	if r.Env.Release.MaxUnavailable.N > 0 { // a bound of the user's own counts hosts that are away too
		s.Out = append(s.Out, r.Absent...)
	}
	for _, m := range r.members {
		if !m.turned {
			s.Pending = append(s.Pending, m.name)
		}
		if m.outcome == Healthy {
			s.Done++
		}
		if m.out() || m.drained != nil {
			s.Out = append(s.Out, m.name)
		}
		if m.drained != nil && m.drained.Hand {
			s.Stay = append(s.Stay, m.name)
		}
	}
	return s
}

// out reports whether a host does not serve: this run could not bring it back, or an earlier one left
// it drained, or on a release that was never proven there.
func (m *member) out() bool {
	switch m.outcome {
	case Switched, Broken, Unknown:
		return true
	case Healthy, RolledBack:
		return false
	}
	now, ok := find(m.state, m.state.Current)
	j := m.state.Journal
	return m.state.Dangling || ok && doubted(now) || j.Open() || j != nil && j.Drained
}

// spare refuses a run, before it changes anything, that could not reach every host without taking more
// of them out of service than allowed.
func (r *run) spare() error {
	if _, stuck := r.rollout().Plan(r.standing()); len(stuck) > 0 {
		return r.tooManyOut(stuck)
	}
	return nil
}

func (r *run) tooManyOut(left []string) error {
	s := r.standing()
	f := fault.New(fault.MaxUnavailable, "%s cannot be spared: %s out of service already, and [release] allows %d at once",
		strings.Join(left, ", "), plural(len(s.Out), "host"), r.rollout().Most).
		Fact("out of service: %s", strings.Join(s.Out, ", ")).
		Hint("heal those first, or raise max_unavailable").
		Try("godeploy status %s", r.Env.Name)
	if len(s.Stay) > 0 {
		_ = f.Try("godeploy nginx undrain %s %s", r.Env.Name, strings.Join(s.Stay, " "))
	}
	return f
}

// turn takes one host from the old release to the new: switch, restart, prove, health, after.
func (r *run) turn(ctx context.Context, m *member) (err error) {
	m.began, m.turned = time.Now(), true
	r.Report.Report(event.Event{Type: event.HostStart, Host: m.name, Phase: "switch"})
	defer func() {
		m.took = time.Since(m.began)
		m.failed = err != nil
		if err != nil {
			r.Report.Report(event.Event{Type: event.HostEnd, Host: m.name, Phase: "switch", Result: "failed", MS: m.took.Milliseconds(), Release: m.now})
		}
	}()
	if m.previous == "" {
		state, err := r.Service.State(ctx, m.Host)
		m.ran = err == nil && state == "active"
	}
	if err := r.bring(ctx, m); err != nil {
		return err
	}
	m.outcome = Healthy
	r.Report.Report(event.Event{Type: event.HostEnd, Host: m.name, Phase: "switch", Result: "ok", Release: r.release.ID,
		MS: time.Since(m.began).Milliseconds(), Msg: fmt.Sprintf("switch: on %s, healthy, %.1fs", r.release.ID, time.Since(m.began).Seconds())})
	return nil
}

// bring does the steps of a turn. The journal is open from before current moves until the release is
// marked healthy: whoever finds it open knows what to do.
func (r *run) bring(ctx context.Context, m *member) error {
	if err := r.arm(ctx, m, r.release.ID, m.back); err != nil {
		return err
	}
	if err := r.switchTo(ctx, m, r.release.ID, m.previous); err != nil {
		return err
	}
	if err := r.serve(ctx, m, r.release.ID, r.Env.Release.Restart != "full"); err != nil {
		return err
	}
	if err := r.hostHooks(ctx, m, "after", "after", m.env.App.Path+"/current", r.Env.Hooks.After, false); err != nil {
		return err
	}
	return m.Mark(ctx, r.release.ID, wire.MarkHealthy, "") // which closes the journal's entry
}

// switchTo moves current. The member counts as touched before it is asked: when the answer is lost,
// the switch may have happened.
func (r *run) switchTo(ctx context.Context, m *member, id, expect string) error {
	m.touched = true
	m.outcome = Switched
	before, err := m.Switch(ctx, id, expect)
	if err != nil {
		return err
	}
	m.now = id
	if id != "" {
		r.note(m, "switch", "current is %s, was %s", id, orNone(before))
		if before == id { // it was there already: what came before it stays on record
			before = ""
		}
		return m.Mark(ctx, id, wire.MarkLive, before)
	}
	return nil
}

// serve makes the release at current serve, proven by its processes and by its health, and by its
// processes once more: a server whose workers end right after they began was seen to run, and not
// every environment has a health check that would notice.
func (r *run) serve(ctx context.Context, m *member, id string, graceful bool) error {
	if err := r.Service.Restart(ctx, m.Host, id, graceful); err != nil {
		return err
	}
	probe, err := r.probe(m, id)
	if err != nil {
		return err
	}
	if r.stopped { // the release it goes back to was proven before, and there is no time
		probe.Settle = 0
	}
	if err := probe.Await(ctx, m.Dial, r.Report); err != nil {
		return err
	}
	if probe.URL == "" {
		if err := Pause(ctx, probe.Settle); err != nil {
			return err
		}
	}
	return r.Service.Serves(ctx, m.Host, id)
}

func (r *run) probe(m *member, id string) (Probe, error) { return ProbeOf(r.Env, m.Inventory(), id) }

// ProbeOf renders the health check of one host for a release; an empty [health] url gives a Probe
// that asks nothing.
func ProbeOf(env *inventory.Env, h inventory.Host, id string) (Probe, error) {
	p := Probe{
		Host: h.Name, Status: env.Health.Status, Interval: env.Health.Interval, Timeout: env.Health.Timeout,
		Tries: env.Health.Tries, Settle: env.Health.Settle, Header: env.Health.ReleaseHeader, Release: id,
	}
	if env.Health.URL == "" {
		return p, nil
	}
	url, err := env.Render("health.url", env.Health.URL, h, id)
	p.URL = url
	return p, err
}

func (r *run) pick(names []string) []*member {
	var picked []*member
	for _, name := range names {
		for _, m := range r.members {
			if m.name == name {
				picked = append(picked, m)
			}
		}
	}
	return picked
}

func failedOf(members []*member) []*member {
	var failed []*member
	for _, m := range members {
		if m.failed {
			failed = append(failed, m)
		}
	}
	return failed
}

func orNone(id string) string {
	if id == "" {
		return "none"
	}
	return id
}

package deploy

import (
	"context"
	"fmt"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// cleanupTime bounds what a run still does for the fleet after it was stopped or has failed.
const cleanupTime = 10 * time.Minute

// cleanup gives a context for putting the fleet back: it outlives a cancelled run, but not for ever.
func (r *run) cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}

// waves switches the hosts, wave after wave, and undoes all of it on a breach.
func (r *run) waves(ctx context.Context) error {
	canary := ""
	if r.Env.Release.Strategy == "canary" {
		canary = r.Env.Release.Canary
	}
	groups := Waves(names(r.members), r.Env.Release.WaveSize(len(r.members)), canary)
	began := time.Now()
	r.Report.Report(event.Event{Type: event.PhaseStart, Phase: "switch",
		Msg: fmt.Sprintf("switch: %s in %s", plural(len(r.members), "host"), plural(len(groups), "wave")), Hosts: names(r.members)})
	err := r.roll(ctx, groups)
	done := event.Event{Type: event.PhaseEnd, Phase: "switch", Result: "ok", MS: time.Since(began).Milliseconds()}
	if err != nil {
		done.Result = "failed"
	}
	r.Report.Report(done)
	return err
}

func (r *run) roll(ctx context.Context, groups [][]string) error {
	var tolerated []error
	failures := 0
	for _, group := range groups {
		wave := r.pick(group)
		err := each(ctx, wave, len(wave), r.turn)
		if err == nil {
			continue
		}
		failures += countFailed(wave)
		if failures > r.Env.Release.MaxFailures || ctx.Err() != nil {
			return r.breach(ctx, err)
		}
		tolerated = append(tolerated, err)
		r.undo(ctx, failedOf(wave))
	}
	if len(tolerated) > 0 {
		r.result.Verdict = Mixed
		return fault.New(fault.SwitchFailed, "%s failed and went back, within max_failures", plural(failures, "host")).Wrap(tolerated[0])
	}
	return nil
}

// turn takes one host from the old release to the new: switch, restart, prove, health, after.
func (r *run) turn(ctx context.Context, m *member) (err error) {
	m.began = time.Now()
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
	if err := r.switchTo(ctx, m, r.release.ID, m.previous); err != nil {
		return err
	}
	if err := r.serve(ctx, m, r.release.ID, r.Env.Release.Restart != "full"); err != nil {
		return err
	}
	if err := r.hostHooks(ctx, m, "after", "after", m.env.App.Path+"/current", r.Env.Hooks.After, false); err != nil {
		return err
	}
	if err := m.Mark(ctx, r.release.ID, wire.MarkHealthy, m.previous); err != nil {
		return err
	}
	m.outcome = Healthy
	r.Report.Report(event.Event{Type: event.HostEnd, Host: m.name, Phase: "switch", Result: "ok", Release: r.release.ID,
		MS: time.Since(m.began).Milliseconds(), Msg: fmt.Sprintf("switch: on %s, healthy, %.1fs", r.release.ID, time.Since(m.began).Seconds())})
	return nil
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

// breach is what happens when a wave fails: undo everywhere, or stop where it is.
func (r *run) breach(ctx context.Context, cause error) error {
	if r.Env.Release.OnFailure == "stop" && ctx.Err() == nil {
		return cause
	}
	r.interrupted = ctx.Err() != nil
	var touched []*member
	for _, m := range r.members {
		if m.touched {
			touched = append(touched, m)
		}
	}
	r.undo(ctx, touched)
	r.dropStaged(ctx)
	return cause
}

// undo returns hosts to the release each had before. All at once: they are in trouble already, and
// each goes back by its own graceful restart.
func (r *run) undo(ctx context.Context, members []*member) {
	ctx, cancel := r.cleanup(ctx)
	defer cancel()
	r.Report.Report(event.Event{Type: event.PhaseStart, Phase: "undo", Msg: "undo: " + plural(len(members), "host"), Hosts: names(members)})
	err := each(ctx, members, r.Parallel, r.undoOne)
	end := event.Event{Type: event.PhaseEnd, Phase: "undo", Result: "ok"}
	if err != nil {
		end.Result, end.Error = "failed", err.Error()
	}
	r.Report.Report(end)
}

// undoOne puts one host back and proves it. What it finds is in the member's outcome.
func (r *run) undoOne(ctx context.Context, m *member) error {
	began := time.Now()
	err := r.goBack(ctx, m)
	result := string(RolledBack)
	switch {
	case err == nil:
		m.outcome = RolledBack
	case fault.Is(err, fault.SSHLost):
		m.outcome, result = Unknown, string(Unknown)
	default:
		m.outcome, result = Broken, string(Broken)
	}
	e := event.Event{Type: event.HostEnd, Host: m.name, Phase: "undo", Result: result, Release: m.now, MS: time.Since(began).Milliseconds()}
	if err != nil {
		e.Error, e.Msg = err.Error(), "undo: "+err.Error()
	} else {
		e.Msg = "undo: back on " + orNone(m.back)
	}
	r.Report.Report(e)
	return err
}

func (r *run) goBack(ctx context.Context, m *member) error {
	if m.back == "" {
		return r.takeAway(ctx, m)
	}
	if _, err := m.Switch(ctx, m.back, ""); err != nil {
		return err
	}
	m.now = m.back
	if err := r.serve(ctx, m, m.back, true); err != nil {
		r.note(m, "undo", "graceful restart did not do: %v; restarting in full", err)
		if err := r.serve(ctx, m, m.back, false); err != nil {
			return err
		}
	}
	r.markFailed(ctx, m)
	return nil
}

// takeAway undoes the first release of a host. Nothing served before it, and nothing does after; or a
// service that was there before godeploy came runs again as it did.
func (r *run) takeAway(ctx context.Context, m *member) error {
	if !m.ran {
		if err := r.Service.Stop(ctx, m.Host); err != nil {
			return err
		}
	}
	if _, err := m.Switch(ctx, "", ""); err != nil {
		return err
	}
	m.now = ""
	if !m.ran {
		return nil
	}
	if err := r.Service.Restart(ctx, m.Host, "", false); err != nil {
		return err
	}
	probe, err := r.probe(m, "")
	if err != nil {
		return err
	}
	probe.Header = "" // what ran before knows no release
	return probe.Await(ctx, m.Dial, r.Report)
}

// markFailed records that the release did not come out on a host that is back by now. A record that
// cannot be written, as on a full disk, takes nothing from that.
func (r *run) markFailed(ctx context.Context, m *member) {
	mark := wire.MarkBad
	if had, ok := find(m.state, r.release.ID); ok && (r.interrupted || !m.failed) {
		mark = had.Mark // a rollback's target: nothing was found against it here
	}
	if err := m.Mark(ctx, r.release.ID, mark, ""); err != nil {
		r.Report.Report(event.Event{Type: event.Warn, Host: m.name, Phase: "undo", Msg: "undo: " + err.Error(), Error: err.Error()})
	}
}

// dropStaged takes the failed release away from hosts that never switched to it.
func (r *run) dropStaged(ctx context.Context) {
	if r.result.Command != "release" {
		return
	}
	ctx, cancel := r.cleanup(ctx)
	defer cancel()
	_ = each(ctx, r.members, r.Parallel, func(ctx context.Context, m *member) error { // the next run removes what stays
		if m.outcome != Staged {
			return nil
		}
		_, err := m.Remove(ctx, []string{r.release.ID})
		return err
	})
}

// prune removes what is older than [app] keep. The new release is proven by now; what cannot be
// removed is told and tried again by the next run.
func (r *run) prune(ctx context.Context) {
	_ = each(ctx, r.members, r.Parallel, func(ctx context.Context, m *member) error { // told per host
		old := Prunable(m.state.Releases, r.Env.App.Keep-1, m.previous)
		if len(old) == 0 {
			return nil
		}
		kept, err := m.Remove(ctx, old)
		switch {
		case err != nil:
			r.Report.Report(event.Event{Type: event.Warn, Host: m.name, Phase: "after", Msg: "prune: " + err.Error(), Error: err.Error()})
		case len(kept) > 0:
			r.note(m, "after", "pruned %d, kept %d in use", len(old)-len(kept), len(kept))
		default:
			r.note(m, "after", "pruned %s", plural(len(old), "old release"))
		}
		return nil
	})
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

func countFailed(members []*member) int { return len(failedOf(members)) }

func orNone(id string) string {
	if id == "" {
		return "none"
	}
	return id
}

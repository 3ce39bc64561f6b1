package deploy

import (
	"context"
	"errors"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

const (
	// cleanupTime bounds what a run still does for the fleet after it has failed.
	cleanupTime = 10 * time.Minute
	// stopTime bounds it after a signal: a CI system kills what has not ended some seconds later, and a
	// person waits. What is not put back by then the hosts put back themselves.
	stopTime = 5 * time.Second
)

// cleanup gives a context for putting the fleet back: it outlives a cancelled run, but not for ever.
func (r *run) cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := cleanupTime
	if errors.Is(ctx.Err(), context.Canceled) { // by a signal; the run's own time limit ends it otherwise
		limit = stopTime
	}
	return context.WithTimeoutCause(context.WithoutCancel(ctx), limit,
		fault.New(fault.Interrupted, "the time to put the host back was up"))
}

// breach is what happens when a wave fails: undo everywhere, or stop where it is.
func (r *run) breach(ctx context.Context, cause error) error {
	if r.Env.Release.OnFailure != "rollback" && ctx.Err() == nil && !errors.Is(cause, errTakenBack) {
		r.leave(ctx)
		return cause
	}
	r.interrupted = ctx.Err() != nil || errors.Is(cause, errTakenBack)
	r.stopped = errors.Is(ctx.Err(), context.Canceled)
	var touched []*member
	for _, m := range r.members {
		if m.touched {
			touched = append(touched, m)
		}
	}
	r.undo(ctx, touched)
	return cause
}

// leave notes on the hosts that failed that they stay as they are, for a look: nobody is to put them back.
func (r *run) leave(ctx context.Context) {
	_ = each(ctx, failedOf(r.members), r.Parallel, func(ctx context.Context, m *member) error { // what is lost is told as unknown
		err := reach(ctx, m, wire.StepDone)
		if lost(err) && m.touched {
			m.outcome = Unknown
		}
		return err
	})
}

// undo returns hosts to the release each had before. All at once: they are in trouble already, and
// each goes back by its own graceful restart.
func (r *run) undo(ctx context.Context, members []*member) {
	if len(members) == 0 {
		return
	}
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

// undoOne puts one host back and proves it; a host whose connection is lost is connected and asked
// again. What it finds is in the member's outcome.
func (r *run) undoOne(ctx context.Context, m *member) error {
	began := time.Now()
	err := r.goBack(ctx, m)
	if fault.Is(err, fault.SSHLost) {
		if err = r.reconnect(ctx, m); err == nil {
			err = r.goBack(ctx, m)
		}
	}
	if err != nil && ctx.Err() == nil && !lost(err) {
		err = r.byItself(ctx, m, err)
	}
	result := RolledBack
	switch {
	case err == nil:
	case ctx.Err() != nil:
		result = Unknown
		if a, ok := m.Host.(Abandoner); ok { // the host goes on by itself
			_ = a.Abandon()
		}
	case lost(err):
		result = Unknown
	default:
		result = Broken
	}
	m.outcome = result
	e := event.Event{Type: event.HostEnd, Host: m.name, Phase: "undo", Result: string(result), Release: m.now, MS: time.Since(began).Milliseconds()}
	if err != nil {
		e.Error, e.Msg = err.Error(), "undo: "+err.Error()
	} else {
		e.Msg = "undo: back on " + orNone(m.back)
	}
	r.Report.Report(e)
	return err
}

// lost reports whether an error leaves open what a host has and serves.
func lost(err error) bool {
	for _, code := range []fault.Code{fault.SSHLost, fault.SSHRefused, fault.SSHTimeout, fault.SSHJump, fault.LockHeld, fault.LockLost} {
		if fault.Is(err, code) {
			return true
		}
	}
	return false
}

// byItself lets a host whose undo went wrong try it once more, in its own way: what went wrong may have
// been of a moment.
func (r *run) byItself(ctx context.Context, m *member, cause error) error {
	j, ok := m.Host.(Journaled)
	if !ok {
		return cause
	}
	got, err := j.Recover(ctx)
	if err != nil || got.Did != "undone" || got.Current != m.back {
		return cause
	}
	m.now = got.Current
	r.note(m, "undo", "%v; the host went back by itself", cause)
	return nil
}

func (r *run) goBack(ctx context.Context, m *member) error {
	if err := reach(ctx, m, wire.StepUndoing); err != nil {
		return err
	}
	var err error
	if m.back == "" {
		err = r.takeAway(ctx, m)
	} else {
		err = r.returnTo(ctx, m, m.back)
	}
	if err != nil {
		return err
	}
	r.markFailed(ctx, m)
	return reach(ctx, m, wire.StepDone)
}

func (r *run) returnTo(ctx context.Context, m *member, id string) error {
	if _, err := m.Switch(ctx, id, ""); err != nil {
		return err
	}
	m.now = id
	err := r.serve(ctx, m, id, true)
	if err == nil || ctx.Err() != nil || lost(err) {
		return err
	}
	r.note(m, "undo", "graceful restart did not do: %v; restarting in full", err)
	return r.serve(ctx, m, id, false)
}

// takeAway undoes the first release of a host. Nothing served before it, and nothing does after; or a
// service that was there before godeploy came runs again as it did.
func (r *run) takeAway(ctx context.Context, m *member) error {
	state, err := m.State(ctx, nil)
	if err != nil {
		return err
	}
	if state.Current == "" && !m.ran { // it was never switched, or is back already
		m.now = ""
		return nil
	}
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

// markFailed records what is known of the release on a host that is back by now: it is bad when it
// failed, on whichever host, and unfinished when it was only stopped. A record that cannot be written,
// as on a full disk, takes nothing from that.
func (r *run) markFailed(ctx context.Context, m *member) {
	mark := wire.MarkBad
	had, known := find(m.state, r.release.ID)
	switch {
	case known && had.Mark == wire.MarkHealthy && (r.interrupted || !m.failed):
		mark = had.Mark // a rollback's target: nothing was found against it here
	case r.interrupted:
		mark = wire.MarkStaged
	}
	if err := m.Mark(ctx, r.release.ID, mark, ""); err != nil {
		r.Report.Report(event.Event{Type: event.Warn, Host: m.name, Phase: "undo", Msg: "undo: " + err.Error(), Error: err.Error()})
	}
}

package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// Start starts the service on every host, Stop stops it, and Restart restarts it wave after wave as
// a release would. Each takes the lock and proves what it did; none moves current. A host on which
// it fails does not stop the others for Start and Stop; Restart stops at the first wave that fails,
// and hosts after it keep serving as they were. Result as of Release.
func (f *Fleet) Start(ctx context.Context) (*Result, error) {
	return f.command(ctx, "start", func(ctx context.Context, r *run) error {
		return r.phase(ctx, "switch", "start: "+plural(len(r.members), "host"), r.acting(func(ctx context.Context, m *member) error {
			if err := r.Service.Start(ctx, m.Host, m.previous); err != nil {
				return err
			}
			return r.healthy(ctx, m)
		}))
	})
}

// Stop stops the service on every host; see Start.
func (f *Fleet) Stop(ctx context.Context) (*Result, error) {
	return f.command(ctx, "stop", func(ctx context.Context, r *run) error {
		return r.phase(ctx, "switch", "stop: "+plural(len(r.members), "host"), r.acting(func(ctx context.Context, m *member) error {
			return r.Service.Stop(ctx, m.Host)
		}))
	})
}

// Restart restarts the service; see Start.
func (f *Fleet) Restart(ctx context.Context, graceful bool) (*Result, error) {
	return f.command(ctx, "restart", func(ctx context.Context, r *run) error {
		act := r.acting(func(ctx context.Context, m *member) error {
			return r.serve(ctx, m, m.previous, graceful)
		})
		for plan := r.rollout(); ; {
			wave := r.pick(plan.Next(r.standing()))
			if len(wave) == 0 {
				break
			}
			if err := r.through(ctx, wave, act); err != nil {
				return errors.Join(err, r.putBack(ctx, wave))
			}
			if err := r.putBack(ctx, wave); err != nil {
				return err
			}
		}
		if left := r.standing().Pending; len(left) > 0 {
			return r.tooManyOut(left)
		}
		return nil
	})
}

// command is the frame of the three: learn, lock, act, and say what is true.
func (f *Fleet) command(ctx context.Context, name string, act func(context.Context, *run) error) (*Result, error) {
	r := f.newRun(name)
	r.yields = name != "start" // what serves already may always be brought back
	err := r.prepareService(ctx)
	if err == nil {
		err = act(ctx, r)
		r.result.Verdict = Done
		if err != nil {
			r.result.Verdict = Mixed
		}
	}
	result := r.finish(err)
	r.audit(ctx)
	return result, err
}

func (r *run) prepareService(ctx context.Context) error {
	if err := r.learn(ctx); err != nil {
		return err
	}
	for _, m := range r.members {
		if m.state.Current == "" {
			return fault.New(fault.ReleaseUnknown, "no release yet").On(m.name).
				Try("godeploy release %s", r.Env.Name)
		}
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	if err := r.learn(ctx); err != nil { // what a run that died had left is put right by now
		return err
	}
	if err := r.readyAll(ctx); err != nil {
		return err
	}
	return r.heal(ctx)
}

// acting wraps what is done to one host's service with its events and its outcome.
func (r *run) acting(do func(context.Context, *member) error) func(context.Context, *member) error {
	return func(ctx context.Context, m *member) error {
		began := time.Now()
		r.Report.Report(event.Event{Type: event.HostStart, Host: m.name, Phase: "switch"})
		m.turned, m.touched = true, true
		err := do(ctx, m)
		if fault.Is(err, fault.SSHLost) {
			err = r.askAgain(ctx, m, err)
		}
		m.took = time.Since(began)
		e := event.Event{Type: event.HostEnd, Host: m.name, Phase: "switch", MS: m.took.Milliseconds(), Release: m.now}
		if err != nil {
			m.outcome, m.failed, e.Result, e.Error = Broken, true, "failed", err.Error()
			if lost(err) || ctx.Err() != nil {
				m.outcome = Unknown
			}
		} else {
			m.outcome, e.Result = Healthy, "ok"
			e.Msg = fmt.Sprintf("%s: ok, %.1fs", r.result.Command, m.took.Seconds())
		}
		r.Report.Report(e)
		return err
	}
}

func (r *run) healthy(ctx context.Context, m *member) error {
	probe, err := r.probe(m, m.previous)
	if err != nil {
		return err
	}
	return probe.Await(ctx, m.Dial, r.Report)
}

// askAgain finds out what became of a service when the connection was lost meanwhile: it counts as done
// only when the host, connected anew, proves it.
func (r *run) askAgain(ctx context.Context, m *member, cause error) error {
	if err := r.reconnect(ctx, m); err != nil {
		return errors.Join(cause, err)
	}
	if r.result.Command == "stop" {
		state, err := r.Service.State(ctx, m.Host)
		if err == nil && state == "active" {
			err = cause
		}
		return err
	}
	if err := r.Service.Serves(ctx, m.Host, m.previous); err != nil {
		return err
	}
	return r.healthy(ctx, m)
}

// BreakLocks removes the locks that dead runs left on the hosts; see Host.BreakLock.
func BreakLocks(ctx context.Context, f *Fleet) error {
	return each(ctx, newMembers(f.Env, f.Hosts), f.Parallel, func(ctx context.Context, m *member) error {
		state, err := m.State(ctx, nil)
		if err != nil || state.Holder == nil {
			return err
		}
		if err := m.BreakLock(ctx); err != nil {
			return err
		}
		if a, ok := m.Host.(Auditor); ok {
			return a.Audit(ctx, wire.AuditEntry{Time: f.Now().UTC(), Run: f.Holder.Run, By: f.Holder.Who, Command: "lock release",
				Now: state.Current, Outcome: "ok", Verdict: "ok", Message: "held by " + state.Holder.Who})
		}
		return nil
	})
}

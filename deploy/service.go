package deploy

import (
	"context"
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
		for _, group := range Waves(names(r.members), r.Env.Release.WaveSize(len(r.members)), "") {
			wave := r.pick(group)
			if err := each(ctx, wave, len(wave), act); err != nil {
				return err
			}
		}
		return nil
	})
}

// command is the frame of the three: learn, lock, act, and say what is true.
func (f *Fleet) command(ctx context.Context, name string, act func(context.Context, *run) error) (*Result, error) {
	r := f.newRun(name)
	err := r.prepareService(ctx)
	if err == nil {
		err = act(ctx, r)
		r.result.Verdict = Done
		if err != nil {
			r.result.Verdict = Mixed
		}
	}
	return r.finish(err), err
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
	if err := r.readyAll(ctx); err != nil {
		return err
	}
	return nil
}

// acting wraps what is done to one host's service with its events and its outcome.
func (r *run) acting(do func(context.Context, *member) error) func(context.Context, *member) error {
	return func(ctx context.Context, m *member) error {
		began := time.Now()
		r.Report.Report(event.Event{Type: event.HostStart, Host: m.name, Phase: "switch"})
		err := do(ctx, m)
		m.took = time.Since(began)
		e := event.Event{Type: event.HostEnd, Host: m.name, Phase: "switch", MS: m.took.Milliseconds(), Release: m.now}
		if err != nil {
			m.outcome, m.failed, e.Result, e.Error = Broken, true, "failed", err.Error()
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

// BreakLocks removes the locks that dead runs left on the hosts; see Host.BreakLock.
func BreakLocks(ctx context.Context, f *Fleet) error {
	return each(ctx, newMembers(f.Env, f.Hosts), f.Parallel, func(ctx context.Context, m *member) error {
		return m.BreakLock(ctx)
	})
}

// HostStatus is what one host has and does right now.
type HostStatus struct {
	Host     string
	Roles    []string
	Weight   int
	Release  string
	Mark     wire.Mark
	Created  time.Time
	By       string
	Service  string // active, inactive, failed, unknown
	Serving  bool   // the processes that serve are proven to run in Release
	Proof    string // why not, when they are not
	Health   int    // HTTP status, 0 when there was no answer
	Problem  string // why the health check failed
	Holder   *wire.Holder
	Releases []wire.Release
}

// Status asks every host, changes nothing and takes no lock. A host's own troubles stand in its
// HostStatus; the error is about hosts that could not be asked.
func (f *Fleet) Status(ctx context.Context) ([]HostStatus, error) {
	r := f.newRun("status")
	list := make([]HostStatus, len(r.members))
	index := map[string]int{}
	for i, m := range r.members {
		index[m.name] = i
	}
	err := each(ctx, r.members, r.Parallel, func(ctx context.Context, m *member) error {
		s, err := r.statusOf(ctx, m)
		list[index[m.name]] = s
		return err
	})
	return list, err
}

func (r *run) statusOf(ctx context.Context, m *member) (HostStatus, error) {
	host := m.Inventory()
	s := HostStatus{Host: m.name, Roles: host.Roles, Weight: host.Weight, Service: "unknown"}
	state, err := m.State(ctx, nil)
	if err != nil {
		return s, err
	}
	s.Release, s.Holder, s.Releases = state.Current, state.Holder, state.Releases
	if one, ok := find(state, state.Current); ok {
		s.Mark, s.Created, s.By = one.Mark, one.Created, one.By
	}
	if s.Service, err = r.Service.State(ctx, m.Host); err != nil {
		s.Service, s.Proof = "unknown", err.Error()
		return s, nil
	}
	if state.Current == "" {
		s.Proof = "no release yet"
		return s, nil
	}
	if err := r.Service.Serves(ctx, m.Host, state.Current); err != nil {
		s.Proof = err.Error()
	} else {
		s.Serving = true
	}
	if probe, err := r.probe(m, state.Current); err == nil && probe.URL != "" {
		if s.Health, err = probe.Ask(ctx, m.Dial); err != nil {
			s.Problem = err.Error()
		}
	}
	return s, nil
}

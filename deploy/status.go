package deploy

import (
	"context"
	"time"

	"godeploy/internal/wire"
)

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
	// Journal is what the host noted of the last run that moved its current; an open entry is of a run
	// that died there, and the next command that changes something finishes or undoes it.
	Journal  *wire.Journal
	Dangling bool // Release is not there
	// Out is why the host is out of its balancer, as far as was noted on it; nil when it is not.
	Out *wire.Drained
	// Freeze is the note of whoever wants no changes, nil when there is none; it may have run out.
	Freeze *wire.Freeze
}

// Drained reports whether the host was taken out of the balancer, by a run or by hand, and is still.
func (s HostStatus) Drained() bool { return s.Out != nil || s.Journal != nil && s.Journal.Drained }

// Status asks every host, changes nothing and takes no lock. A host's own troubles stand in its
// HostStatus; the error is about hosts that could not be asked.
func (f *Fleet) Status(ctx context.Context) ([]HostStatus, error) {
	return f.newRun("status").look(ctx)
}

// look is Status in the course of a run.
func (r *run) look(ctx context.Context) ([]HostStatus, error) {
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
	s.Journal, s.Dangling, s.Out = state.Journal, state.Dangling, state.Drained
	s.Freeze = state.Freeze
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

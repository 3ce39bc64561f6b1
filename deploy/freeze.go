package deploy

import (
	"context"
	"errors"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// Freezer is a Host that can keep a note of who wants no changes. nil lifts it.
type Freezer interface {
	Freeze(ctx context.Context, f *wire.Freeze) error
}

// Freezes tells, for each host of the fleet in its order, the freeze that is noted there, nil for none; one
// that has run out is told too. It changes nothing and takes no lock.
func (f *Fleet) Freezes(ctx context.Context) ([]*wire.Freeze, error) {
	members := newMembers(f.Env, f.Hosts)
	err := each(ctx, members, f.Parallel, func(ctx context.Context, m *member) error {
		var err error
		m.state, err = m.State(ctx, nil)
		return err
	})
	list := make([]*wire.Freeze, len(members))
	for i, m := range members {
		list[i] = m.state.Freeze
	}
	return list, err
}

// Freeze notes on every host that no release, rollback, restart, stop or sync is wanted, on all or on none. It
// waits for nobody: a run that is under way is LockHeld, and a freeze of somebody else that still holds is
// Frozen. One's own is replaced. A host without the app's folder has no place for it and is left out; the
// names of those that have it are given.
func (f *Fleet) Freeze(ctx context.Context, why wire.Freeze) ([]string, error) {
	r := f.newRun("lock acquire")
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	if err := r.learn(ctx); err != nil {
		return nil, err
	}
	var able []*member
	for _, m := range r.members {
		if old := m.state.Freeze; old.Holds(f.Now()) && old.By != why.By {
			return nil, fault.OnHost(m.name, frozenBy(f.Env.Name, *old))
		}
		if _, ok := m.Host.(Freezer); ok && m.state.Exists {
			able = append(able, m)
		}
	}
	if len(able) == 0 {
		return nil, fault.New(fault.ReleaseUnknown, "no server of %s has the app's folder yet", f.Env.Name).
			Hint("there is nothing to freeze before setup or the first release")
	}
	err := each(ctx, able, f.Parallel, func(ctx context.Context, m *member) error {
		return m.freeze(ctx, f, &why, why.Message)
	})
	if err != nil {
		return nil, errors.Join(err, r.unfreeze(ctx, able))
	}
	return names(able), nil
}

// unfreeze puts back what stood there before a freeze that did not come about.
func (r *run) unfreeze(ctx context.Context, members []*member) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return each(ctx, members, r.Parallel, func(ctx context.Context, m *member) error {
		return m.freeze(ctx, r.Fleet, m.state.Freeze, "undone: not every server could be frozen")
	})
}

// freeze writes the note of one host and a line in its log.
func (m *member) freeze(ctx context.Context, f *Fleet, why *wire.Freeze, message string) error {
	if err := m.Host.(Freezer).Freeze(ctx, why); err != nil {
		return err
	}
	command := "lock acquire"
	if why == nil {
		command = "lock release"
	}
	if a, ok := m.Host.(Auditor); ok {
		return a.Audit(ctx, wire.AuditEntry{Time: f.Now().UTC(), Run: f.Holder.Run, By: f.Holder.Who, Command: command,
			Now: m.state.Current, Outcome: "ok", Verdict: "ok", Message: message})
	}
	return nil
}

// Thaw lifts the freeze of every host that has one, whoever made it.
func (f *Fleet) Thaw(ctx context.Context) error {
	r := f.newRun("lock release")
	if err := r.lock(ctx); err != nil {
		return err
	}
	return each(ctx, r.members, f.Parallel, func(ctx context.Context, m *member) error {
		var err error
		if m.state, err = m.State(ctx, nil); err != nil || m.state.Freeze == nil {
			return err
		}
		if _, ok := m.Host.(Freezer); !ok {
			return nil
		}
		return m.freeze(ctx, f, nil, "freeze of "+m.state.Freeze.By)
	})
}

// obey refuses what a freeze on the host is meant to keep away.
func (r *run) obey(state wire.State) error {
	if r.yields && state.Freeze.Holds(r.Now()) {
		return frozenBy(r.Env.Name, *state.Freeze)
	}
	return nil
}

func frozenBy(env string, f wire.Freeze) error {
	text := "changes of " + env + " are frozen by " + f.By
	if !f.Since.IsZero() {
		text += " since " + f.Since.Local().Format("2006-01-02 15:04")
	}
	if !f.Until.IsZero() {
		text += " until " + f.Until.Local().Format("2006-01-02 15:04")
	}
	if f.Message != "" {
		text += ": " + f.Message
	}
	return fault.New(fault.Frozen, "%s", text).
		Hint("ask %s; what is made by somebody else is lifted with --steal", f.By).
		Try("godeploy lock status %s", env).
		Try("godeploy lock release %s", env)
}

package deploy

import (
	"context"
	"fmt"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// Rollback takes every host to an earlier release that is still there, by the waves and proofs of a
// release: ask is an id, "~N", or "" for the healthy release before the present one. Hosts that are
// there already and healthy stay as they are. once hooks are never run again. Result as of Release.
func (f *Fleet) Rollback(ctx context.Context, ask, reason string) (*Result, error) {
	r := f.newRun("rollback")
	r.yields = true
	r.release.Message = reason
	return r.conclude(ctx, r.goTo(ctx, ask))
}

func (r *run) goTo(ctx context.Context, ask string) error {
	if err := r.aim(ctx, ask); err != nil {
		return err
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	if err := r.aim(ctx, ask); err != nil { // again, now that nobody else can change it
		return err
	}
	if err := r.readyAll(ctx); err != nil {
		return err
	}
	if err := r.heal(ctx); err != nil {
		return err
	}
	if err := r.learnSecrets(ctx); err != nil {
		return err
	}
	if err := r.schemaFits(ctx); err != nil {
		return err
	}
	if err := r.spare(); err != nil {
		return err
	}
	r.begin()
	for _, m := range r.members {
		m.outcome = Staged
	}
	return r.waves(ctx)
}

// aim reads what every host has and finds the release to go to.
func (r *run) aim(ctx context.Context, ask string) error {
	if err := r.learn(ctx); err != nil {
		return err
	}
	states := make([]wire.State, len(r.members))
	for i, m := range r.members {
		states[i] = m.state
		if m.state.Refusal != "" {
			return fault.OnHost(m.name, refusal(r, m))
		}
	}
	target, err := Target(names(r.members), states, ask)
	if err != nil {
		return err
	}
	message := r.release.Message
	r.release = target
	r.release.Message = message
	r.result.Previous = latestCurrent(states).ID
	return nil
}

func (r *run) readyAll(ctx context.Context) error {
	err := r.phase(ctx, "check", fmt.Sprintf("check: %s", plural(len(r.members), "host")), func(ctx context.Context, m *member) error {
		return r.Service.Ready(ctx, m.Host)
	})
	if err != nil {
		return err
	}
	return r.frontReady(ctx)
}

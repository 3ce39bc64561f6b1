package deploy

import (
	"context"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// resume brings a release that an earlier run has begun out on the hosts that do not serve it yet. What
// lies on a host is not sent again, and a source is read only when a host lacks the release.
func (r *run) resume(ctx context.Context, want Want) error {
	if !ValidID(want.Resume) {
		return fault.New(fault.Usage, "%q is no release id", want.Resume).Try("godeploy releases %s", r.Env.Name)
	}
	r.release.ID = want.Resume
	if err := each(ctx, r.members, r.Parallel, r.readState); err != nil {
		return err
	}
	lacking, err := r.begun(want.Resume)
	if err != nil {
		return err
	}
	if len(lacking) > 0 {
		if err := r.sameTree(ctx, want, lacking); err != nil {
			return err
		}
	}
	if err := r.check(ctx); err != nil {
		return err
	}
	lacking, err = r.begun(want.Resume) // again, now that nobody else can change it
	if err == nil && len(lacking) > 0 && r.source == nil {
		err = r.sameTree(ctx, want, lacking)
	}
	if err != nil {
		return err
	}
	if r.settle(ctx); len(r.todo()) == 0 {
		r.result.Previous = r.release.ID
		return nil
	}
	r.begin()
	return r.carryOut(ctx)
}

// begun takes over the record of a release from the hosts that have it, and names those that do not.
func (r *run) begun(id string) (lacking []string, err error) {
	found := wire.Release{}
	for _, m := range r.members {
		if one, ok := find(m.state, id); ok {
			found = one
		} else {
			lacking = append(lacking, m.name)
		}
	}
	if found.ID == "" {
		return nil, fault.New(fault.ReleaseUnknown, "release %s is on none of the hosts", id).
			Hint("there is nothing to go on with").Try("godeploy release %s", r.Env.Name)
	}
	for _, m := range r.members {
		if now, ok := find(m.state, m.state.Current); ok && now.Seq > found.Seq && now.Mark == wire.MarkHealthy {
			return nil, fault.OnHost(m.name, errNewer(r.Env.Name, id, now.ID))
		}
	}
	if err := r.bringsSecrets(found); err != nil {
		return nil, err
	}
	found.Mark, found.Previous = wire.MarkStaged, ""
	r.release = found
	return lacking, nil
}

// sameTree reads the source for hosts that lack the release: it must be what the release was made from.
func (r *run) sameTree(ctx context.Context, want Want, lacking []string) error {
	if err := r.localHooks(ctx, "local_before", "", r.Env.Hooks.LocalBefore); err != nil {
		return err
	}
	if err := r.sameSecrets(ctx, lacking); err != nil {
		return err
	}
	source, err := want.Scan(ctx)
	if err != nil {
		return err
	}
	r.source = source
	root := source.Manifest.Root()
	if root.String() == r.release.Root && configHash(r.Env) == r.release.Config {
		return nil
	}
	f := fault.New(fault.SyncSourceChanged, "what is here is not what release %s was made from", r.release.ID).On(lacking...).
		Hint("it would have to be sent to hosts that lack it")
	if r.release.Commit != "" {
		f.Fact("it was made from commit %.12s", r.release.Commit)
	}
	return f.Try("godeploy release %s", r.Env.Name)
}

// settle finds the hosts that serve the release already, healthy and proven: they need no turn.
func (r *run) settle(ctx context.Context) {
	_ = each(ctx, r.members, r.Parallel, func(ctx context.Context, m *member) error { // a host that does not gets its turn
		now, ok := find(m.state, m.state.Current)
		if !ok || now.ID != r.release.ID || now.Mark != wire.MarkHealthy || r.serves(ctx, m, now.ID) != nil {
			return nil
		}
		m.turned, m.outcome = true, Healthy
		return nil
	})
}

// serves proves once, without waiting, that a host serves a release and is well.
func (r *run) serves(ctx context.Context, m *member, id string) error {
	if err := r.Service.Serves(ctx, m.Host, id); err != nil {
		return err
	}
	probe, err := r.probe(m, id)
	if err != nil {
		return err
	}
	_, err = probe.Ask(ctx, m.Dial)
	return err
}

package deploy

import (
	"context"
	"fmt"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// Want is what a release is asked to bring out.
type Want struct {
	// Scan reads the source. It is called at most once, after the local_before hooks, which may have
	// built part of it. The caller closes the Source when the run is over.
	Scan    func(ctx context.Context) (*filesync.Source, error)
	Commit  string
	Branch  string
	Message string
	Again   bool // release even when nothing has changed
	// Resume names a release that an earlier run has not brought out everywhere: this run does, on the
	// hosts that do not serve it yet. "" makes a new release.
	Resume string
}

// Release brings the source out on every host of the fleet: stage on all, barrier, switch in waves,
// undo every switched host on a breach. The Result is never nil and tells the truth about every host
// whether or not there is an error; while its verdict is Refused, nothing was changed.
func (f *Fleet) Release(ctx context.Context, want Want) (*Result, error) {
	r := f.newRun("release")
	r.yields = true
	bring := r.bringOut
	if want.Resume != "" {
		bring = r.resume
	}
	return r.conclude(ctx, bring(ctx, want))
}

// conclude ends a run: the result, the log on the hosts, and the hooks that are told of it.
func (r *run) conclude(ctx context.Context, err error) (*Result, error) {
	result := r.finish(err)
	if result.Verdict == Refused && err == nil {
		result.Verdict = Nothing
	}
	if result.Verdict != Refused && result.Verdict != Nothing {
		r.audit(ctx)
	}
	return result, r.localEnd(ctx, err)
}

// read runs the local_before hooks, gets the secrets, and scans what the hooks leave.
func (r *run) read(ctx context.Context, want Want) (err error) {
	if err := r.localHooks(ctx, "local_before", "", r.Env.Hooks.LocalBefore); err != nil {
		return err
	}
	if err := r.readSecrets(ctx); err != nil {
		return err
	}
	if r.source, err = want.Scan(ctx); err != nil {
		return err
	}
	r.describe(want)
	return nil
}

// describe names the release; its sequence number is known once the hosts are.
func (r *run) describe(want Want) {
	root := r.source.Manifest.Root()
	r.release = wire.Release{
		ID: NewID(r.began, root), Root: root.String(), Mark: wire.MarkStaged,
		Commit: want.Commit, Branch: want.Branch, Message: r.Mask.Hide(want.Message),
		By: r.Holder.Who, Created: r.began.UTC(), Config: configHash(r.Env), Secrets: r.release.Secrets,
	}
}

func (r *run) bringOut(ctx context.Context, want Want) error {
	if err := r.read(ctx, want); err != nil {
		return err
	}
	if err := r.check(ctx); err != nil {
		return err
	}
	if !want.Again && r.nothingNew(ctx) {
		return nil
	}
	r.begin()
	return r.carryOut(ctx)
}

// carryOut stages, builds, and switches.
func (r *run) carryOut(ctx context.Context) error {
	if err := r.stageAll(ctx); err != nil {
		return r.abandon(ctx, err)
	}
	if err := r.build(ctx); err != nil {
		return r.abandon(ctx, err)
	}
	if err := r.bringStatics(ctx); err != nil {
		return r.abandon(ctx, err)
	}
	// The barrier: from here on hosts switch, and before here none has.
	if err := r.waves(ctx); err != nil {
		return err
	}
	if r.Statics != nil {
		r.Statics.Prune(ctx)
	}
	r.prune(ctx)
	return nil
}

// check is everything that can be known before the first change, and the lock.
func (r *run) check(ctx context.Context) error {
	err := r.phase(ctx, "check", "check: "+plural(len(r.members), "host"), func(ctx context.Context, m *member) error {
		if err := r.readState(ctx, m); err != nil {
			return err
		}
		return r.ready(ctx, m)
	})
	if err != nil {
		return err
	}
	if err := r.sameKind(); err != nil {
		return err
	}
	if err := r.frontReady(ctx); err != nil {
		return err
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	if err := r.learn(ctx); err != nil { // what was seen before the lock may be another run's middle
		return err
	}
	if err := r.heal(ctx); err != nil {
		return err
	}
	if err := r.learnSecrets(ctx); err != nil {
		return err
	}
	if err := r.spare(); err != nil {
		return err
	}
	r.number()
	return nil
}

func (r *run) readState(ctx context.Context, m *member) error {
	state, err := m.State(ctx, r.Env.Shared.Files)
	if err != nil {
		return err
	}
	m.state, m.previous, m.now, m.back = state, state.Current, state.Current, Fallback(state)
	return r.obey(state)
}

// refusal turns what the host's layout forbids into a fault with its way out.
func refusal(r *run, m *member) error {
	path := m.env.App.Path
	switch {
	case m.state.Refusal != "":
		return fault.New(fault.LayoutRefused, "%s/current cannot be switched: %s", path, m.state.Refusal).
			Hint("godeploy switches current as a link and never touches a real folder").
			Try("godeploy exec %s -l %s -- mv %s/current %s/before-godeploy", r.Env.Name, m.name, path, path)
	case !m.state.Writable && m.state.Exists:
		user := m.Facts().User
		return fault.New(fault.SudoNeeded, "%s cannot write in %s", user, path).
			Hint("the login user needs to own the folder, with releases/, shared/ and .godeploy/ in it").
			Try("ssh root@%s chown -R %s %s", m.Inventory().Address, user, path)
	case !m.state.Writable:
		user := m.Facts().User
		return fault.New(fault.SudoNeeded, "%s cannot make %s", user, path).
			Hint("make the folder once, as root").
			Try("ssh root@%s install -d -o %s %s", m.Inventory().Address, user, path)
	case m.state.Dangling && Fallback(m.state) == "":
		return fault.New(fault.LayoutRefused, "%s/current leads to release %s, which is not there", path, m.state.Current).
			Hint("no healthy release is left that an undo could go back to; without the link this is a first release").
			Try("godeploy exec %s -l %s -- rm %s/current", r.Env.Name, m.name, path)
	case len(m.state.Missing) > 0:
		f := fault.New(fault.SharedMissing, "shared file %s is missing", m.state.Missing[0])
		for _, file := range m.state.Missing {
			f.Fact("%s/shared/%s", path, file)
		}
		return f.Hint("files of [shared] are yours: they are linked into every release, never made")
	}
	return nil
}

// number gives the release the next sequence number of the fleet and says what it replaces.
func (r *run) number() {
	counts := map[string]int{}
	last := 0
	for _, m := range r.members {
		counts[m.previous]++
		if n := len(m.state.Releases); n > 0 {
			last = max(last, m.state.Releases[n-1].Seq)
		}
	}
	if r.release.Seq == 0 { // a release that is resumed keeps its number
		r.release.Seq = last + 1
	}
	for _, m := range r.members {
		if counts[m.previous] > counts[r.result.Previous] || r.result.Previous == "" {
			r.result.Previous = m.previous
			had, _ := find(m.state, m.previous)
			r.result.Proven = had.Mark == wire.MarkHealthy
		}
	}
}

// nothingNew reports whether every host already serves this very tree, proven and healthy.
func (r *run) nothingNew(ctx context.Context) bool {
	for _, m := range r.members {
		now, ok := find(m.state, m.state.Current)
		same := ok && now.Root == r.release.Root && now.Config == r.release.Config && now.Secrets == r.release.Secrets && now.Mark == wire.MarkHealthy
		if !same || m.state.Current != r.members[0].state.Current {
			return false
		}
	}
	id := r.members[0].state.Current
	err := each(ctx, r.members, r.Parallel, func(ctx context.Context, m *member) error {
		return r.serves(ctx, m, id)
	})
	if err != nil {
		return false
	}
	r.release.ID, r.result.Previous = id, id
	for _, m := range r.members {
		m.outcome = Unchanged
	}
	r.Report.Report(event.Event{Type: event.Info, Msg: "nothing to release: every host serves " + id + ", healthy"})
	return true
}

// begin tells what the run is about, now that it is known that there is something to do.
func (r *run) begin() {
	msg := fmt.Sprintf("release %s to %s", r.release.ID, r.Env.Name)
	switch {
	case r.result.Command == "rollback":
		msg = fmt.Sprintf("roll %s back to %s, from %s", r.Env.Name, r.release.ID, orNone(r.result.Previous))
	case r.result.Previous != "":
		msg += ", replaces " + r.result.Previous
	}
	r.Report.Report(event.Event{
		Type: event.Info, Msg: msg, Release: r.release.ID, Previous: r.result.Previous, Hosts: names(r.members),
		Commit: r.release.Commit, Branch: r.release.Branch,
	})
}

func find(s wire.State, id string) (wire.Release, bool) {
	for _, one := range s.Releases {
		if one.ID == id && id != "" {
			return one, true
		}
	}
	return wire.Release{}, false
}

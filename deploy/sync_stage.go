package deploy

import (
	"context"
	"slices"

	"godeploy/internal/event"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// stage brings the tree to a host as a staged release, which nothing runs from.
func (s *syncRun) stage(ctx context.Context, m *member, line *Synced) error {
	req := s.stageAnew(m)
	req.Nearest, req.SkipUnchanged = true, true
	reply, stats, err := s.sendTree(ctx, m, req)
	if err != nil {
		return err
	}
	line.took(reply, stats, s.source.Manifest)
	line.Release = s.release.ID
	line.Outcome, m.outcome = Staged, Staged
	if reply.Unchanged {
		line.Release, line.Outcome, m.outcome = reply.Parent, Unchanged, Unchanged
	}
	if s.want.List && !reply.Unchanged {
		line.Changes, line.Listed = s.against(ctx, m, reply.Parent)
	}
	return nil
}

// sendTree stages with as few round trips as the host allows.
func (s *syncRun) sendTree(ctx context.Context, m *member, req wire.StageRequest) (wire.StageReply, filesync.Stats, error) {
	if early, ok := m.Host.(Early); ok {
		holder := s.holder()
		req.Holder = &holder
		waited := false
		defer func() {
			if waited {
				s.leave()
			}
		}()
		return early.StageWhen(ctx, req, s.source, func(ctx context.Context) (filesync.SendOptions, error) {
			err := s.ready(ctx)
			waited = err == nil
			return s.sendOptions(m), err
		})
	}
	if err := s.ready(ctx); err != nil {
		return wire.StageReply{}, filesync.Stats{}, err
	}
	defer s.leave()
	if err := m.Prepare(ctx, s.Env.Shared.Dirs); err != nil {
		return wire.StageReply{}, filesync.Stats{}, err
	}
	return m.Stage(ctx, req, s.source, s.sendOptions(m))
}

// preview tells what a sync would change on a host.
func (s *syncRun) preview(ctx context.Context, m *member) error {
	line := s.line(m)
	m.began = s.Now()
	if s.want.Place != nil {
		reply, stats, err := placeOn(ctx, m.Host, s.placeRequest(m), s.source, s.sendOptions(m))
		if err != nil {
			return err
		}
		line.placed(reply, stats, s.source.Manifest)
		line.Listed = true
	} else if err := s.previewStaged(ctx, m, line); err != nil {
		return err
	}
	line.Took = s.Now().Sub(m.began)
	s.tellHost(line)
	return nil
}

func (s *syncRun) previewStaged(ctx context.Context, m *member, line *Synced) error {
	state, err := m.State(ctx, s.Env.Shared.Files)
	if err != nil {
		return err
	}
	m.state, m.now = state, state.Current
	if err := s.fit(m); err != nil {
		return err
	}
	line.Files, line.Bytes = s.source.Manifest.Files(), s.source.Manifest.Bytes()
	line.Release = nearestTo(m.state, s.release)
	line.Changes, line.Listed = s.against(ctx, m, line.Release)
	line.count()
	return nil
}

// nearestTo picks the release that a staged one would be built from, as the host's end does.
func nearestTo(s wire.State, want wire.Release) string {
	for i := len(s.Releases) - 1; i >= 0; i-- {
		if r := s.Releases[i]; r.Root == want.Root && r.Config == want.Config && r.Mark != wire.MarkBad {
			return r.ID
		}
	}
	return parentOf(s)
}

// against itemises what the source has that a release on the host does not. listed is false when the
// host's manifest of that release cannot be had.
func (s *syncRun) against(ctx context.Context, m *member, id string) (changes []wire.PlaceChange, listed bool) {
	had, err := s.manifestOf(ctx, m, id)
	if err != nil {
		return nil, false
	}
	return Itemise(had, s.source.Manifest), true
}

// pruneStaged removes releases that were staged and never switched to, but for the newest. What cannot
// be removed is told and tried again by the next run.
func (s *syncRun) pruneStaged(ctx context.Context, m *member, line *Synced) {
	if s.want.Place != nil || line.Outcome != Staged {
		return
	}
	old := staleStaged(m.state, keptStaged-1)
	if len(old) == 0 {
		return
	}
	kept, err := retire(ctx, m, old)
	if err != nil {
		s.Report.Report(event.Event{Type: event.Warn, Host: m.name, Phase: "sync", Msg: "prune: " + err.Error(), Error: err.Error()})
		return
	}
	line.Pruned = len(old) - len(kept)
}

// staleStaged names the staged releases beyond the newest keep: never current, nor one in use.
// Releases are sorted by sequence number.
func staleStaged(s wire.State, keep int) []string {
	var old []string
	for i := len(s.Releases) - 1; i >= 0; i-- {
		r := s.Releases[i]
		switch {
		case r.Mark != wire.MarkStaged || r.ID == s.Current || slices.Contains(s.InUse, r.ID):
		case keep > 0:
			keep--
		default:
			old = append(old, r.ID)
		}
	}
	return old
}

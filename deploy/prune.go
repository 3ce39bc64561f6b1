package deploy

import (
	"context"
	"slices"

	"godeploy/internal/event"
	"godeploy/internal/wire"
)

// clearUnfinished removes staged and failed releases that nobody will go on with: all but the newest
// few. What was sent by a run that failed stays for the next one, which then sends less.
func (r *run) clearUnfinished(ctx context.Context, m *member) error {
	old := staleUnfinished(m.state, r.release.ID, keptStaged-1)
	if len(old) == 0 {
		return nil
	}
	_, err := retire(ctx, m, old)
	return err
}

// Retirer is a Host that can build a release from one that is not needed any more.
type Retirer interface {
	// Retire is Remove, but may leave the folder of the last release, under another name, for the next one
	// to be built from. It takes the room of what that one alone had; Remove frees it.
	Retire(ctx context.Context, ids []string) (kept []string, err error)
}

// retire removes releases that nobody needs, of which the next one may be built.
func retire(ctx context.Context, m *member, ids []string) (kept []string, err error) {
	if h, ok := m.Host.(Retirer); ok {
		return h.Retire(ctx, ids)
	}
	return m.Remove(ctx, ids)
}

// staleUnfinished names the releases that never served well, beyond the newest keep: never current, never
// what it may go back to, never one in use, and never wanted. Releases are sorted by sequence number.
func staleUnfinished(s wire.State, wanted string, keep int) []string {
	var old []string
	for _, one := range slices.Backward(s.Releases) {
		unfinished := one.Mark == wire.MarkStaged || one.Mark == wire.MarkBad
		switch {
		case !unfinished || one.ID == s.Current || one.ID == wanted || one.ID == Fallback(s) || slices.Contains(s.InUse, one.ID):
		case keep > 0:
			keep--
		default:
			old = append(old, one.ID)
		}
	}
	return old
}

// makeRoom removes, on a host that is short of room, what a release could prune afterwards; with what is
// free then, the host must do.
func (r *run) makeRoom(ctx context.Context, m *member) error {
	if r.source == nil || r.room(m) == nil {
		return nil
	}
	old := Prunable(m.state.Releases, 1, m.state.Current, append(m.state.InUse, m.back, r.release.ID)...)
	if _, err := m.Remove(ctx, old); err != nil { // without a name it frees what was left of earlier ones
		return err
	}
	if len(old) > 0 {
		r.note(m, "check", "short of room: removed %s", plural(len(old), "old release"))
	}
	state, err := m.State(ctx, nil)
	if err != nil {
		return err
	}
	m.state.Releases, m.state.FreeBytes, m.state.FreeNodes = state.Releases, state.FreeBytes, state.FreeNodes
	return r.room(m)
}

// prune removes what is older than [app] keep. The new release is proven by now; what cannot be
// removed is told and tried again by the next run.
func (r *run) prune(ctx context.Context) {
	_ = each(ctx, r.members, r.Parallel, func(ctx context.Context, m *member) error { // told per host
		others := slices.DeleteFunc(slices.Clone(m.state.Releases), func(one wire.Release) bool { return one.ID == r.release.ID })
		old := Prunable(others, r.Env.App.Keep-1, m.previous, m.state.InUse...)
		if len(old) == 0 {
			return nil
		}
		kept, err := retire(ctx, m, old)
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

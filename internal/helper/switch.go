package helper

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// Switch points current at a release in one step and makes that durable: a reader sees the release
// before or the one after, never none. It gives what current pointed to. With expect, current must
// point there, else nothing is changed. id "" removes current, the undo of a first release.
//
// An entry of the journal that is open is told of it: first when current moves back, afterwards when it
// moves on.
//
// The context is not looked at: a switch is too short to be stopped half way.
func (s *Site) Switch(_ context.Context, id, expect string) (previous string, err error) {
	_ = s.moving(id) // an entry that stays as it is leads to the same undo
	if previous, err = s.swap(id, expect); err == nil {
		_ = s.moved(id) // current itself tells that it has moved
	}
	return previous, err
}

// swap is Switch without the journal.
func (s *Site) swap(id, expect string) (previous string, err error) {
	previous, refusal, err := s.current()
	switch {
	case err != nil:
		return "", explain(err, "read current")
	case refusal != "":
		return "", s.refused(refusal)
	case expect != "" && previous != expect:
		return "", fault.New(fault.SwitchFailed, "current points to %s, not to %s as it should", orNone(previous), expect).
			Hint("somebody else switched this host meanwhile")
	case id == previous:
		return previous, nil
	}
	if err := s.adopt(previous); err != nil {
		return "", explain(err, "write the record of %s", previous)
	}
	if id == "" {
		err = s.FS.RemoveAll(currentLink)
	} else {
		err = s.point(id)
	}
	if err == nil {
		err = s.FS.SyncDir(".")
	}
	return previous, explain(err, "switch current")
}

// adopt gives the release that is switched away from a record when it has none that can be read: it
// was brought by other means, or its record was damaged. Without one it could not be gone back to, and
// the next sweep would take its tree for a dead run's. It says nothing of how the release did, and
// makes it older than every other.
func (s *Site) adopt(id string) error {
	if id == "" {
		return nil
	}
	_, err := s.record(id)
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errRecord) {
		return err
	}
	if there, err := s.isDir(releasesDir + "/" + id); err != nil || !there {
		return err
	}
	if _, err := filesync.MkdirAll(s.FS, recordsDir, 0o755); err != nil {
		return err
	}
	return s.write(wire.Release{ID: id})
}

func (s *Site) refused(refusal string) error {
	return fault.New(fault.LayoutRefused, "%s: %s", s.Path, refusal).
		Hint("godeploy only switches a link it made; move what is there away once").
		Try("mv %s/current %s/current.before-godeploy", s.Path, s.Path)
}

func orNone(id string) string {
	if id == "" {
		return "nothing"
	}
	return id
}

// point renames a new link over current.
func (s *Site) point(id string) error {
	r, err := s.record(id)
	if err != nil {
		return s.unknown(id, err)
	}
	if err := s.keepsSecrets(r); err != nil {
		return err
	}
	whole, err := s.isDir(releasesDir + "/" + id)
	if err != nil {
		return err
	}
	if !whole {
		return fault.New(fault.ReleaseUnknown, "release %s is not on this host", id)
	}
	if err := s.FS.RemoveAll(newLink); err != nil { // of a run that died
		return err
	}
	if err := s.FS.Symlink(releasesDir+"/"+id, newLink); err != nil {
		return err
	}
	if err := s.own(newLink); err != nil {
		return err
	}
	return s.FS.Rename(newLink, currentLink)
}

// Remove removes releases. It refuses them all when current is among them, and keeps and names
// those that a process stands in or runs from. Each is renamed away first, so a half removed one is
// never taken for a release. With retire the folder of the last one is left, under that other name, for
// the next release to be built from; without, one that was left earlier goes too.
func (s *Site) Remove(ctx context.Context, ids []string, retire bool) (kept []string, err error) {
	current, _, err := s.current()
	if err != nil {
		return nil, explain(err, "read current")
	}
	if current != "" && slices.Contains(ids, current) {
		return nil, fault.New(fault.LayoutRefused, "release %s is current and is not removed", current)
	}
	used, err := s.inUse(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if slices.Contains(used, id) {
			kept = append(kept, id)
			continue
		}
		if ctx.Err() != nil {
			return kept, context.Cause(ctx)
		}
		if err := s.remove(id); err != nil {
			return kept, explain(err, "remove release %s", id)
		}
	}
	return kept, s.clearGone(ctx, retire)
}

// clearGone removes the trees that nobody needs any more; with retire the latest stays.
func (s *Site) clearGone(ctx context.Context, retire bool) error {
	trees, err := s.names(releasesDir)
	if err != nil {
		return explain(err, "read releases")
	}
	left := ""
	if retire {
		left = spare(trees)
	}
	for _, t := range trees {
		id, gone := strings.CutPrefix(t, goneMark)
		if !gone || wire.CheckID(id) != nil || t == left {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.FS.RemoveAll(releasesDir + "/" + t); err != nil {
			return explain(err, "remove %s", t)
		}
	}
	return nil
}

// remove takes a release away by its name, and what is kept about it; its tree is left to clearGone.

func (s *Site) remove(id string) error {
	if err := wire.CheckID(id); err != nil {
		return err
	}
	gone := releasesDir + "/" + goneMark + id
	if s.has(releasesDir + "/" + id) {
		if err := s.FS.RemoveAll(gone); err != nil { // of a run that died
			return err
		}
		if err := s.FS.Rename(releasesDir+"/"+id, gone); err != nil {
			return err
		}
	}
	for _, p := range []string{recordPath(id), envPath(id), treesDir + "/" + id} {
		if err := s.FS.RemoveAll(p); err != nil {
			return err
		}
	}
	return nil
}

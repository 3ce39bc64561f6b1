package deploy

import (
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// Itemise gives what leads from one tree to another, sorted by path, with the reason for each. Times do
// not count: a new release has its own. A nil manifest is an empty tree.
func Itemise(have, want *filesync.Manifest) []wire.PlaceChange {
	if have == nil {
		have = &filesync.Manifest{}
	}
	var changes []wire.PlaceChange
	old, next := have.Entries, want.Entries
	for len(old) > 0 || len(next) > 0 {
		switch {
		case len(next) == 0 || len(old) > 0 && old[0].Path < next[0].Path:
			changes = append(changes, itemOf(&old[0], wire.PlaceDelete, wire.WhyDeleted))
			old = old[1:]
		case len(old) == 0 || next[0].Path < old[0].Path:
			changes = append(changes, itemOf(&next[0], wire.PlaceCreate, wire.WhyNew))
			next = next[1:]
		default:
			if op, why := differs(&old[0], &next[0]); why != 0 {
				changes = append(changes, itemOf(&next[0], op, why))
			}
			old, next = old[1:], next[1:]
		}
	}
	return changes
}

func itemOf(e *filesync.Entry, op wire.PlaceOp, why wire.PlaceWhy) wire.PlaceChange {
	kind := wire.PlaceFile
	switch e.Kind {
	case filesync.Dir:
		kind = wire.PlaceDir
	case filesync.Link:
		kind = wire.PlaceLink
	}
	return wire.PlaceChange{Path: e.Path, Op: op, Kind: kind, Why: why, Size: e.Size}
}

// differs says how b differs from a, which has the same path; no reason is no difference.
func differs(a, b *filesync.Entry) (wire.PlaceOp, wire.PlaceWhy) {
	op, why := wire.PlaceMeta, wire.PlaceWhy(0)
	switch {
	case a.Kind != b.Kind:
		return wire.PlaceUpdate, wire.WhyType
	case a.Size != b.Size:
		op, why = wire.PlaceUpdate, wire.WhySize
	case a.Hash != b.Hash || a.Link != b.Link:
		op, why = wire.PlaceUpdate, wire.WhyContent
	}
	if a.Mode != b.Mode {
		why |= wire.WhyMode
	}
	return op, why
}

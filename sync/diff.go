package filesync

// Op says how a path differs.
type Op string

// The ways to differ.
const (
	Create Op = "create"
	Update Op = "update" // content, link text or kind
	Delete Op = "delete"
	Meta   Op = "meta" // permission bits only
)

// Change is one difference between two trees.
type Change struct {
	Op   Op
	Path string
	Size int64 // of the file as wanted, or as it was when it is deleted
}

// Diff gives what leads from parent to want, sorted by path. A nil parent is an empty tree. Times do
// not count.
func Diff(parent, want *Manifest) []Change {
	var have, next []Entry
	if parent != nil {
		have = parent.Entries
	}
	if want != nil {
		next = want.Entries
	}
	var changes []Change
	for len(have) > 0 || len(next) > 0 {
		switch {
		case len(next) == 0 || len(have) > 0 && have[0].Path < next[0].Path:
			changes = append(changes, Change{Delete, have[0].Path, have[0].Size})
			have = have[1:]
		case len(have) == 0 || next[0].Path < have[0].Path:
			changes = append(changes, Change{Create, next[0].Path, next[0].Size})
			next = next[1:]
		default:
			if op, differ := compare(&have[0], &next[0]); differ {
				changes = append(changes, Change{op, next[0].Path, next[0].Size})
			}
			have, next = have[1:], next[1:]
		}
	}
	return changes
}

// compare says how b differs from a, which has the same path.
func compare(a, b *Entry) (Op, bool) {
	if a.Kind != b.Kind || a.Size != b.Size || a.Hash != b.Hash || a.Link != b.Link {
		return Update, true
	}
	return Meta, a.Mode != b.Mode
}

package filesync

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"godeploy/internal/fault"
)

// Fold says which names a file system takes for one. The zero value is the usual one on Linux: none.
type Fold struct {
	Case bool // A and a
	Form bool // an é that is one character and one that is an e with an accent
}

// Any reports whether any names are taken for one.
func (f Fold) Any() bool { return f.Case || f.Form }

// mostCollisions bounds what Collisions gives.
const mostCollisions = 100

// Collisions gives pairs of paths that lie in one folder and that a file system which folds like
// this would take for one, in order, 100 at most. What lies below two folders that collide is not
// told besides. It does no input or output.
func (m *Manifest) Collisions(fold Fold) [][2]string {
	if !fold.Any() {
		return nil
	}
	type place struct{ dir, key string }
	spelling := newSpelling(fold)
	seen := make(map[place]string)
	var pairs [][2]string
	for i := range m.Entries {
		path := m.Entries[i].Path
		dir, name := split(path)
		at := place{dir, spelling.key(name)}
		first, taken := seen[at]
		if !taken {
			seen[at] = path
			continue
		}
		if pairs = append(pairs, [2]string{first, path}); len(pairs) == mostCollisions {
			break
		}
	}
	return pairs
}

// spelling makes keys of names, equal for names that a file system takes for one.
type spelling struct {
	fold  Fold
	parts map[rune]string // what a character is made of
}

func newSpelling(fold Fold) *spelling {
	f := &spelling{fold: fold}
	if fold.Form {
		f.parts = make(map[rune]string)
		for made := range strings.FieldsSeq(decompositions) {
			r, size := utf8.DecodeRuneInString(made)
			f.parts[r] = made[size:]
		}
	}
	return f
}

func (f *spelling) key(name string) string {
	if !utf8.ValidString(name) {
		return name // such bytes are no characters to anybody
	}
	if f.fold.Form && !plainASCII(name) {
		name = f.decompose(name)
	}
	if f.fold.Case {
		name = strings.Map(foldRune, name)
	}
	return name
}

// decompose writes a name with every accent as a character of its own, and accents in one order.
// Accents that Unicode keeps apart by their order may come out the same: rather a pair too many.
func (f *spelling) decompose(name string) string {
	out := make([]rune, 0, 2*len(name))
	marks := 0 // how many accents stand at the end of out
	for _, whole := range name {
		for _, r := range f.decomposed(whole) {
			out = append(out, r)
			if !unicode.Is(unicode.M, r) {
				marks = 0
				continue
			}
			marks++
			slices.Sort(out[len(out)-marks:])
		}
	}
	return string(out)
}

// decomposed gives what a character is made of, itself when it is one.
func (f *spelling) decomposed(r rune) string {
	const first, last = 0xac00, 0xd7a3 // the Hangul syllables, laid out by their parts
	if r >= first && r <= last {
		n := r - first
		parts := []rune{0x1100 + n/588, 0x1161 + n%588/28, 0x11a7 + n%28}
		if n%28 == 0 {
			parts = parts[:2]
		}
		return string(parts)
	}
	if parts, ok := f.parts[r]; ok {
		return parts
	}
	return string(r)
}

func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// foldRune gives the same character for all that differ in case only.
func foldRune(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	return least
}

// ProbeFold finds out what the file system of a folder takes for one name. It makes a file there and
// takes it away again; the folder must be there and be ours to write in.
func ProbeFold(fsys FS, dir string) (Fold, error) {
	const probe, upper, form = ".godeploy-probe-\u00e9", ".GODEPLOY-probe-\u00e9", ".godeploy-probe-e\u0301"
	w, err := fsys.Create(join(dir, probe), 0o600)
	if err == nil {
		err = w.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) { // one is left of a run that was killed
		return Fold{}, err
	}
	noUpper, upperErr := missing(fsys, join(dir, upper))
	noForm, formErr := missing(fsys, join(dir, form))
	err = errors.Join(upperErr, formErr, fsys.RemoveAll(join(dir, probe)))
	return Fold{Case: !noUpper, Form: !noForm}, err
}

// checkFold refuses a tree of which the file system of dir would take two names for one. The folder is
// ours and empty.
func checkFold(fsys FS, dir string, want *Manifest) error {
	fold, err := ProbeFold(fsys, dir)
	if err != nil || !fold.Any() {
		return err
	}
	var errs []error
	for _, pair := range want.Collisions(fold) {
		errs = append(errs, fault.New(fault.SyncSource, "%s and %s are one name on the host's file system", showPath(pair[0]), showPath(pair[1])).
			Hint("rename one of them, or exclude it"))
	}
	return errors.Join(errs...)
}

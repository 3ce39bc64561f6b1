package access

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Change is what an edit came to. The zero value is an edit that changed nothing.
type Change struct {
	Added    int // lines that are new
	Replaced int // lines whose options became others, in their place
	Removed  int // lines that are gone
	// Notes are what a person should know of the file: keys that sshd overlooks, a key that stands twice,
	// options that were left as they are. At most ten.
	Notes []string
}

// Any reports whether the file is another one now.
func (c Change) Any() bool { return c.Added+c.Replaced+c.Removed > 0 }

const maxNotes = 10

func (c *Change) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); len(c.Notes) < maxNotes && !slices.Contains(c.Notes, text) {
		c.Notes = append(c.Notes, text)
	}
}

// Add puts a key into an authorized_keys file and gives the new file; file itself is not changed. Every
// byte that has nothing to do with the key stays as it is. A key is known by its blob: where it stands
// already, the first of its lines gets the options in its place, since sshd goes by the first one. A line with
// options that Add does not itself write, such as command="…", is left as it is, with a note.
func Add(file []byte, k Key, o Options) ([]byte, Change, error) {
	options, err := o.render()
	if err != nil {
		return file, Change{}, err
	}
	s, c := readSheet(file), Change{}
	s.look(&c)
	at := s.find(k.Blob)
	if len(at) == 0 {
		c.Added = 1
		return s.ended().with(k.line(options)).bytes(), c, nil
	}
	old := s[at[0]]
	switch {
	case sameOptions(old.options, options):
	case !ours(old.options):
		c.note("line %d has the key with options of its own, which were left as they are: %s", at[0]+1, quoted(old.options))
	default:
		c.Replaced = 1
		s = slices.Clone(s)
		s[at[0]].raw = old.withOptions(options)
	}
	return s.bytes(), c, nil
}

// Remove takes every line of the keys out and gives the new file. All other bytes stay as they are, also
// comments that hold a key and lines of certificate authorities. A line that sshd overlooks goes as well:
// what makes it do so may be mended one day.
func Remove(file []byte, blobs ...[]byte) ([]byte, Change) {
	s, c := readSheet(file), Change{}
	gone := func(l line) bool {
		return l.login() && slices.ContainsFunc(blobs, func(b []byte) bool { return bytes.Equal(b, l.blob) })
	}
	kept := slices.DeleteFunc(slices.Clone(s), gone)
	c.Removed = len(s) - len(kept)
	s.look(&c)
	return kept.bytes(), c
}

// Restore undoes an Add of the key to a file that others may have changed since: before is the file as Add
// found it, file what it is now.
func Restore(file, before []byte, k Key) []byte {
	was, is := readSheet(before), readSheet(file)
	had, has := was.find(k.Blob), is.find(k.Blob)
	switch {
	case len(has) == 0:
		return file
	case len(had) == 0:
		kept := slices.DeleteFunc(slices.Clone(is), func(l line) bool { return l.lets() && bytes.Equal(l.blob, k.Blob) })
		return kept.bytes()
	}
	is = slices.Clone(is)
	is[has[0]].raw = is[has[0]].withOptions(was[had[0]].options)
	return is.bytes()
}

// Recover puts the keys back that were removed from before and are in file no more, behind what others have
// written since.
func Recover(file, before []byte) []byte {
	s := readSheet(file)
	for _, l := range readSheet(before) {
		if l.login() && !slices.ContainsFunc(s, func(o line) bool { return o.login() && bytes.Equal(o.blob, l.blob) }) {
			s = append(s.ended(), sheet{l}.ended()...)
		}
	}
	return s.bytes()
}

// look notes what is wrong with the file as it is.
func (s sheet) look(c *Change) {
	seen := map[string]int{}
	for i, l := range s {
		switch {
		case l.dead != "":
			c.note("line %d lets nobody in: %s", i+1, l.dead)
		case l.lets() && seen[string(l.blob)] > 0:
			c.note("line %d has the key of line %d once more; sshd goes by the first", i+1, seen[string(l.blob)])
		case l.lets():
			seen[string(l.blob)] = i + 1
		}
	}
}

// ended gives the sheet with an end on its last line, so that what follows does not become part of it.
func (s sheet) ended() sheet {
	if len(s) == 0 || bytes.HasSuffix(s[len(s)-1].raw, []byte("\n")) {
		return s
	}
	s = slices.Clone(s)
	last := &s[len(s)-1]
	last.raw = append(slices.Clone(last.raw), '\n')
	return s
}

func (s sheet) with(text string) sheet { return append(slices.Clone(s), readLine([]byte(text), false)) }

// withOptions is the line with other options; blanks in front, the key, its comment and the line's end stay.
func (l line) withOptions(options string) []byte {
	text := string(l.raw)
	rest := strings.TrimLeft(text, " \t")
	out := text[:len(text)-len(rest)]
	if l.options != "" {
		rest = strings.TrimLeft(rest[len(l.options):], " \t")
	}
	if options != "" {
		out += options + " "
	}
	return []byte(out + rest)
}

// ours reports whether options are only such as Add writes, or none.
func ours(options string) bool {
	for _, option := range splitOptions(options) {
		switch optionName(option) {
		case "restrict", "pty", "port-forwarding", "permitopen", "from", "expiry-time":
		default:
			return false
		}
	}
	return true
}

// sameOptions compares without regard to order.
func sameOptions(a, b string) bool {
	x, y := splitOptions(a), splitOptions(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

package filesync

import (
	"bufio"
	"encoding/binary"
	"io"
)

// encodeChanges writes what leads from parent to m: the parent's entries that go, by place, the
// entries that are new or different, and the root of m. Times alone make no difference: a file
// whose content stays keeps the time it has.
func (m *Manifest) encodeChanges(w io.Writer, parent *Manifest) error {
	var gone []int
	var news []Entry
	i := 0
	for _, c := range Diff(parent, m) {
		if c.Op == Delete {
			for parent.Entries[i].Path != c.Path {
				i++
			}
			gone = append(gone, i)
			continue
		}
		news = append(news, *m.Find(c.Path))
	}
	b := bufio.NewWriterSize(w, 64<<10)
	buf := binary.AppendUvarint(nil, uint64(len(gone)))
	last := 0
	for _, i := range gone {
		buf = binary.AppendUvarint(buf, uint64(i-last))
		last = i
	}
	if _, err := b.Write(buf); err != nil {
		return err
	}
	if err := encodeEntries(b, news); err != nil {
		return err
	}
	root := m.Root()
	if _, err := b.Write(root[:]); err != nil {
		return err
	}
	return b.Flush()
}

// decodeChanges reads what encodeChanges wrote against the same parent and checks the outcome.
func decodeChanges(r io.Reader, parent *Manifest) (*Manifest, error) {
	p := newPlainReader(r)
	size := uint64(len(parent.Entries))
	gone := make([]bool, size)
	at := uint64(0)
	for i := range p.uvarint("removals", size) {
		step := p.uvarint("removal", size)
		if at += step; p.err == nil && (at >= size || step == 0 && i > 0) {
			p.fail("removal: there is no entry %d, or it is gone already", at)
		}
		if p.err != nil {
			return nil, p.err
		}
		gone[at] = true
	}
	m := &Manifest{Entries: mergeEntries(parent.Entries, gone, p.entries())}
	if p.err != nil {
		return nil, p.err
	}
	return m, p.finish(m)
}

// mergeEntries puts news into old, in order; those at the same path replace it.
func mergeEntries(old []Entry, gone []bool, news []Entry) []Entry {
	merged := make([]Entry, 0, len(old)+len(news))
	for i := range old {
		for len(news) > 0 && news[0].Path < old[i].Path {
			merged, news = append(merged, news[0]), news[1:]
		}
		switch {
		case len(news) > 0 && news[0].Path == old[i].Path:
			merged, news = append(merged, news[0]), news[1:]
		case !gone[i]:
			merged = append(merged, old[i])
		}
	}
	return append(merged, news...)
}

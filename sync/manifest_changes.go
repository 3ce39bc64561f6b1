package filesync

import (
	"bufio"
	"encoding/binary"
	"io"
	"strings"
)

// The changes form tells a tree to somebody who knows another one, the parent: which of the parent's
// entries go, and a record for each entry that is new or different. A record names what it can by the
// place of the parent's entry that has it. docs/wire-sync.md is the specification.

// op says what a record is.
type op byte

const (
	opEnd   op = iota // there are no more
	opTold            // an entry in whole
	opEdit            // a file of the parent with another content
	opMeta            // an entry of the parent with another mode, time, or both
	opLike            // an entry with the content of a file of the parent
	opMoved           // entries of the parent, one after the other, below another folder
)

// What an opMeta tells.
const (
	metaMode = 1 << iota
	metaTime
)

// run is a run of places in a list, from first up to end.
type run struct{ first, end int }

// encodeChanges writes what leads from parent to m and the root of m. Times alone make no difference:
// an entry whose content stays keeps the time that the parent has, moved or not.
func (m *Manifest) encodeChanges(w io.Writer, parent *Manifest) error {
	return m.tellChanges(w, parent, false)
}

// tellChanges is encodeChanges; when times count, what is decoded equals m in every field.
func (m *Manifest) tellChanges(w io.Writer, parent *Manifest, times bool) error {
	c := changeWriter{b: bufio.NewWriterSize(w, 64<<10), parent: parent, m: m, times: times, rows: newRows()}
	c.compare()
	c.learn()
	c.writeGone()
	for _, n := range c.news {
		c.record(n)
	}
	c.endMove()
	c.buf = append(c.buf, byte(opEnd))
	c.flush()
	for _, t := range c.told {
		c.writeSums(t)
	}
	root := m.Root()
	c.buf = append(c.buf, root[:]...)
	c.flush()
	if c.err != nil {
		return c.err
	}
	return c.b.Flush()
}

// changeWriter is one tellChanges under way.
type changeWriter struct {
	b      *bufio.Writer
	buf    []byte // of the record under way
	err    error
	parent *Manifest
	m      *Manifest
	times  bool

	gone []run // of the parent's places
	news []newEntry
	from map[Hash]int // places in the parent of contents that are wanted
	old  chunkIndex
	move move
	next int // place behind the one told last
	rows rows
	told []toldContent // whose hashes follow the records
}

// newEntry is an entry to be told: its place in the tree, and that of the parent's entry with the
// same path, or -1.
type newEntry struct{ at, old int }

// compare finds what goes and what is new or different.
func (c *changeWriter) compare() {
	i, old := 0, c.parent.Entries
	for at := range c.m.Entries {
		e := &c.m.Entries[at]
		for i < len(old) && old[i].Path < e.Path {
			c.drop(i)
			i++
		}
		if i == len(old) || old[i].Path != e.Path {
			c.news = append(c.news, newEntry{at, -1})
			continue
		}
		if !c.same(&old[i], e) {
			c.news = append(c.news, newEntry{at, i})
		}
		i++
	}
	for ; i < len(old); i++ {
		c.drop(i)
	}
}

func (c *changeWriter) drop(i int) {
	if last := len(c.gone) - 1; last >= 0 && c.gone[last].end == i {
		c.gone[last].end++
		return
	}
	c.gone = append(c.gone, run{i, i + 1})
}

// same reports whether an entry is as the parent has it, but for its path.
func (c *changeWriter) same(old, e *Entry) bool {
	_, differ := compare(old, e)
	return !differ && (!c.times || old.MTime == e.MTime)
}

// learn looks in the parent for the contents of what is new.
func (c *changeWriter) learn() {
	c.from = make(map[Hash]int)
	c.old = newChunkIndex(c.parent)
	for _, n := range c.news {
		if e := &c.m.Entries[n.at]; e.Kind == File && e.Size > 0 && (n.old < 0 || c.parent.Entries[n.old].Hash != e.Hash) {
			c.from[e.Hash] = -1
		}
	}
	if len(c.from) == 0 {
		return
	}
	for i := range c.parent.Entries {
		e := &c.parent.Entries[i]
		if e.Kind != File {
			continue
		}
		if at, wanted := c.from[e.Hash]; wanted && at < 0 {
			c.from[e.Hash] = i
		}
	}
	for _, n := range c.news {
		if e := &c.m.Entries[n.at]; c.from[e.Hash] < 0 {
			c.old.want(e.Chunks)
		}
	}
	c.old.find()
}

func (c *changeWriter) writeGone() {
	c.buf = binary.AppendUvarint(c.buf, uint64(len(c.gone)))
	at := 0
	for _, g := range c.gone {
		c.buf = binary.AppendUvarint(c.buf, uint64(g.first-at))
		c.buf = binary.AppendUvarint(c.buf, uint64(g.end-g.first))
		at = g.end
	}
	c.flush()
}

// flush hands over what buf holds.
func (c *changeWriter) flush() {
	if c.err == nil {
		_, c.err = c.b.Write(c.buf)
	}
	c.buf = c.buf[:0]
}

// record tells one entry in the shortest way there is.
func (c *changeWriter) record(n newEntry) {
	e := &c.m.Entries[n.at]
	if n.old < 0 && c.moves(e) {
		return
	}
	c.endMove()
	content, known := c.from[e.Hash]
	switch {
	case n.old >= 0 && sameBut(&c.parent.Entries[n.old], e):
		c.meta(n.old, e)
	case e.Kind == File && e.Size > 0 && known && content >= 0:
		c.place(opLike, content)
		c.buf = c.rows.appendHead(c.buf, e)
	case e.Kind == File && n.old >= 0 && c.parent.Entries[n.old].Kind == File && c.parent.Entries[n.old].Mode == e.Mode:
		c.place(opEdit, n.old)
		c.buf = c.rows.appendTime(c.buf, e.MTime)
		c.content(e, n.old)
	default:
		c.buf = append(c.buf, byte(opTold))
		c.buf = c.rows.appendHead(c.buf, e)
		c.content(e, n.old)
	}
	c.flush()
}

// sameBut reports whether two entries differ in path, mode and time at most.
func sameBut(a, b *Entry) bool {
	return a.Kind == b.Kind && a.Size == b.Size && a.Hash == b.Hash && a.Link == b.Link
}

// place begins a record about the parent's entry at i.
func (c *changeWriter) place(o op, i int) {
	c.buf = append(c.buf, byte(o))
	c.buf = binary.AppendVarint(c.buf, int64(i-c.next))
	c.next = i + 1
}

func (c *changeWriter) meta(i int, e *Entry) {
	old := &c.parent.Entries[i]
	c.place(opMeta, i)
	flags := len(c.buf)
	c.buf = append(c.buf, 0)
	if e.Mode != old.Mode {
		c.buf[flags] |= metaMode
		c.buf = binary.AppendUvarint(c.buf, uint64(e.Mode))
	}
	if c.times && e.MTime != old.MTime {
		c.buf[flags] |= metaTime
		c.buf = c.rows.appendTime(c.buf, e.MTime)
	}
}

// content tells what an entry holds; old is the place of the parent's entry with its path, or -1.
func (c *changeWriter) content(e *Entry, old int) {
	switch e.Kind {
	case Link:
		c.buf = binary.AppendUvarint(c.buf, uint64(len(e.Link)))
		c.buf = append(c.buf, e.Link...)
	case File:
		c.buf = binary.AppendUvarint(c.buf, uint64(e.Size))
		t := toldContent{entry: e}
		if e.Size >= ChunkedFrom {
			t.pieces = c.old.pieces(e.Chunks, old)
			c.buf = c.old.append(c.buf, e.Chunks, t.pieces, old)
		}
		if e.Size > 0 {
			c.told = append(c.told, t)
		}
	}
}

// toldContent is a content whose hashes follow the records.
type toldContent struct {
	entry  *Entry
	pieces []piece
}

func (c *changeWriter) writeSums(t toldContent) {
	if t.entry.Size < ChunkedFrom {
		c.buf = append(c.buf, t.entry.Hash[:]...)
	}
	chunks := t.entry.Chunks
	for _, p := range t.pieces {
		if p.from < 0 {
			for i := range chunks[:p.count] {
				c.buf = append(c.buf, chunks[i].Sum[:]...)
			}
			c.flush()
		}
		chunks = chunks[p.count:]
	}
	c.flush()
}

// move is a run of the parent's entries that are found again below another folder.
type move struct {
	first, count int
	old, folder  string // what each of their paths begins with: before and after
}

// moves takes e in as moved, if the parent has it elsewhere: as the next of the run that goes on, as
// another one below the same folder, or where a file of its content is.
func (c *changeWriter) moves(e *Entry) bool {
	v := &c.move
	if v.count > 0 && c.isMoved(v.first+v.count, e) {
		v.count++
		return true
	}
	c.endMove()
	if rest, below := strings.CutPrefix(e.Path, v.folder); below && v.folder != "" {
		if i := c.parent.index(v.old + rest); i >= 0 && c.isMoved(i, e) {
			v.first, v.count = i, 1
			return true
		}
	}
	i, known := c.from[e.Hash]
	if !known || i < 0 || e.Kind != File || e.Mode != c.parent.Entries[i].Mode || !c.same(&c.parent.Entries[i], e) {
		return false
	}
	rest := commonRest(c.parent.Entries[i].Path, e.Path)
	*v = move{i, 1, strings.TrimSuffix(c.parent.Entries[i].Path, rest), strings.TrimSuffix(e.Path, rest)}
	return true
}

// isMoved reports whether e is the parent's entry at i below the folder that others have moved to.
func (c *changeWriter) isMoved(i int, e *Entry) bool {
	if i >= len(c.parent.Entries) {
		return false
	}
	rest, was := strings.CutPrefix(c.parent.Entries[i].Path, c.move.old)
	return was && len(e.Path) == len(c.move.folder)+len(rest) && strings.HasPrefix(e.Path, c.move.folder) &&
		strings.HasSuffix(e.Path, rest) && c.same(&c.parent.Entries[i], e)
}

// commonRest gives the components that two paths have in common at their ends, with the slash in
// front of them.
func commonRest(a, b string) string {
	rest := ""
	for i := 1; i <= min(len(a), len(b)) && a[len(a)-i] == b[len(b)-i]; i++ {
		if a[len(a)-i] == '/' {
			rest = a[len(a)-i:]
		}
	}
	return rest
}

// endMove tells the run of moved entries, if there is one. Its folders stay in mind.
func (c *changeWriter) endMove() {
	v := &c.move
	if v.count == 0 {
		return
	}
	c.place(opMoved, v.first)
	c.buf = binary.AppendUvarint(c.buf, uint64(v.count))
	c.buf = binary.AppendUvarint(c.buf, uint64(len(v.old)))
	c.buf = c.rows.appendPath(c.buf, v.folder)
	c.next = v.first + v.count
	v.count = 0
	c.flush()
}

package filesync

import (
	"io"

	"godeploy/sync/delta"
)

// decodeChanges reads what encodeChanges wrote against the same parent and checks the outcome.
func decodeChanges(r io.Reader, parent *Manifest) (*Manifest, error) {
	return newChangeReader(r, parent).read()
}

// changeReader is one decodeChanges under way.
type changeReader struct {
	*plainReader
	parent *Manifest
	old    chunkIndex
	next   int // place behind the one told last
	rows   rows
	news   []Entry
	told   []readContent // whose hashes follow the records
}

func newChangeReader(r io.Reader, parent *Manifest) *changeReader {
	return &changeReader{plainReader: newPlainReader(r), parent: parent, old: newChunkIndex(parent), rows: newRows()}
}

func (c *changeReader) read() (*Manifest, error) {
	gone := c.readGone()
	for c.record() {
	}
	for _, t := range c.told {
		c.readSums(t)
	}
	root := c.root()
	if c.err != nil {
		return nil, c.err
	}
	m := &Manifest{Entries: mergeEntries(c.parent, gone, c.news)}
	return m, c.finish(m, root)
}

// readContent is a content that is told.
type readContent struct {
	entry  int // its place among the news
	pieces []piece
}

func (c *changeReader) readGone() []run {
	size := len(c.parent.Entries)
	var gone []run
	for at := range c.uvarint("removals", uint64(size)) {
		first := 0
		if at > 0 {
			first = gone[at-1].end
		}
		first += int(c.uvarint("removal", uint64(size-first)))
		end := first + int(c.uvarint("removal", uint64(size-first)))
		if end == first {
			c.fail("removal of nothing at %d", first)
		}
		if c.err != nil {
			return nil
		}
		gone = append(gone, run{first, end})
	}
	return gone
}

// record reads one record and reports whether there may be another.
func (c *changeReader) record() bool {
	switch o := op(c.byte("record")); {
	case c.err != nil || o == opEnd:
		return false
	case o == opTold:
		c.readTold()
	case o == opEdit:
		c.readEdit()
	case o == opMeta:
		c.readMeta()
	case o == opLike:
		c.readLike()
	case o == opMoved:
		c.readMoved()
	default:
		c.fail("record of type %d", o)
	}
	return c.err == nil
}

// step reads a place below end that is told by its distance from expected.
func (p *plainReader) step(what string, expected, end int) int {
	n := p.varint(what)
	at := int64(expected) + n
	if p.err == nil && (n < -1<<32 || n > 1<<32 || at < 0 || at >= int64(end)) {
		p.fail("%s: there is no place %d steps from %d below %d", what, n, expected, end)
	}
	if p.err != nil {
		return 0
	}
	return int(at)
}

// place reads which of the parent's entries a record is about.
func (c *changeReader) place() (int, Entry) {
	i := c.step("place", c.next, len(c.parent.Entries))
	if c.err != nil {
		return 0, Entry{}
	}
	c.next = i + 1
	return i, c.parent.Entries[i]
}

// add takes in an entry; they come in order.
func (c *changeReader) add(e Entry) {
	last := len(c.news) - 1
	if c.err == nil && last >= 0 && e.Path <= c.news[last].Path {
		c.fail("entry %q: is there twice or out of order", e.Path)
	}
	if c.err == nil && last+1 == MaxEntries {
		c.fail("entries: %w", errTooLarge)
	}
	if c.err == nil {
		c.news = append(c.news, e)
	}
}

func (c *changeReader) readTold() {
	var e Entry
	c.head(&c.rows, &e)
	c.content(&e, c.parent.index(e.Path))
}

func (c *changeReader) readEdit() {
	i, e := c.place()
	if c.err == nil && e.Kind != File {
		c.fail("entry %q: is no file", e.Path)
	}
	e.MTime = c.time(&c.rows)
	e.Hash, e.Chunks = Hash{}, nil
	c.content(&e, i)
}

func (c *changeReader) readMeta() {
	_, e := c.place()
	flags := c.byte("what")
	if flags == 0 || flags > metaMode|metaTime {
		c.fail("change of nothing, or of more than mode and time")
	}
	if flags&metaMode != 0 {
		e.Mode = uint32(c.uvarint("mode", 0o777))
	}
	if flags&metaTime != 0 {
		e.MTime = c.time(&c.rows)
	}
	c.countChunks(len(e.Chunks))
	c.add(e)
}

func (c *changeReader) readLike() {
	_, like := c.place()
	var e Entry
	c.head(&c.rows, &e)
	if c.err == nil && (e.Kind != File || like.Kind != File) {
		c.fail("entry %q: has no content to share", e.Path)
	}
	e.Size, e.Hash, e.Chunks = like.Size, like.Hash, like.Chunks
	c.countChunks(len(e.Chunks))
	c.add(e)
}

func (c *changeReader) readMoved() {
	i, _ := c.place()
	n := int(c.uvarint("moved", uint64(len(c.parent.Entries)-i)))
	cutOff := int(c.uvarint("moved", MaxPath))
	folder := c.path(&c.rows)
	if n == 0 {
		c.fail("move of nothing")
	}
	for ; n > 0 && c.err == nil; n-- {
		e := c.parent.Entries[i]
		if len(e.Path) < cutOff {
			c.fail("entry %q: is no %d bytes long", e.Path, cutOff)
			return
		}
		if c.countText("path", len(folder)+len(e.Path)-cutOff); c.err != nil {
			return
		}
		e.Path = c.texts.join(folder, []byte(e.Path[cutOff:]))
		c.countChunks(len(e.Chunks))
		c.add(e)
		i++
	}
	c.next = i
}

// content reads what an entry holds and takes it in.
func (c *changeReader) content(e *Entry, place int) {
	var pieces []piece
	switch e.Kind {
	case Link:
		e.Link = c.textOf("link", "", c.uvarint("link", MaxLink))
	case File:
		e.Size = int64(c.uvarint("size", 1<<63-1))
		if e.Size >= ChunkedFrom {
			e.Chunks, pieces = c.pieces(&c.old, e.Size, place)
		}
		c.told = append(c.told, readContent{len(c.news), pieces})
	}
	c.add(*e)
}

// readSums reads the hashes of a content that is told.
func (c *changeReader) readSums(t readContent) {
	if c.err != nil {
		return
	}
	e := &c.news[t.entry]
	if e.Size < ChunkedFrom {
		c.sums(e)
		return
	}
	rest := e.Chunks
	for _, p := range t.pieces {
		for i := range rest[:p.count] {
			if p.from < 0 {
				c.bytes("chunk", rest[i].Sum[:])
			}
		}
		rest = rest[p.count:]
	}
	e.Hash = delta.Sum(e.Chunks)
}

// mergeEntries puts news into the parent's entries, in order; those at the same path replace them.
func mergeEntries(parent *Manifest, gone []run, news []Entry) []Entry {
	old := parent.Entries
	merged := make([]Entry, 0, len(old)+len(news))
	at := 0
	keep := func(to int) {
		for len(gone) > 0 && gone[0].first < to {
			merged = append(merged, old[at:max(at, gone[0].first)]...)
			at = max(at, min(gone[0].end, to))
			if gone[0].end > to {
				return
			}
			gone = gone[1:]
		}
		merged = append(merged, old[at:max(at, to)]...)
		at = max(at, to)
	}
	for i := range news {
		to := parent.search(at, news[i].Path)
		keep(to)
		merged = append(merged, news[i])
		if to < len(old) && old[to].Path == news[i].Path {
			at = to + 1
		}
	}
	keep(len(old))
	return merged
}

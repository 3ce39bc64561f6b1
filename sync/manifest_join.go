package filesync

import (
	"bufio"
	"encoding/binary"
	"io"
)

// encodeSegmentEntries writes the entries of m that are needed; segs are m's segments.
func encodeSegmentEntries(w io.Writer, m *Manifest, segs []segment, root Hash, need *segmentNeed) error {
	s := segmentWriter{b: bufio.NewWriterSize(w, 64<<10), m: m, root: root, offers: make(map[uint64]int, len(need.offers)), rows: newRows()}
	for i, sum := range need.offers {
		s.offers[sum] = i
	}
	for i := range segs {
		if need.missing.has(i) {
			s.segment(segs[i])
		}
	}
	for _, t := range s.told {
		for i := t.first; i < t.end && s.err == nil; i++ {
			s.err = m.Entries[i].writeSums(s.b)
		}
	}
	if s.err != nil {
		return s.err
	}
	return s.b.Flush()
}

// segmentWriter is one encodeSegmentEntries under way.
type segmentWriter struct {
	b       *bufio.Writer
	buf     []byte
	scratch []byte
	err     error
	m       *Manifest
	root    Hash
	offers  map[uint64]int
	next    int // offer behind the one named last
	rows    rows
	told    []run // entries whose hashes follow
}

// segment writes how many entries there are, then by turns runs that are offered and runs that are told.
func (s *segmentWriter) segment(g segment) {
	s.buf = binary.AppendUvarint(s.buf, uint64(g.end-g.first))
	for at := g.first; at < g.end; {
		from, end := s.run(at, g.end)
		if from >= 0 {
			s.buf = binary.AppendUvarint(s.buf, uint64(end-at)<<1|1)
			s.buf = binary.AppendVarint(s.buf, int64(from-s.next))
			s.next = from + end - at
			s.rows.path = s.m.Entries[end-1].Path
		} else {
			s.tell(run{at, end})
		}
		at = end
	}
	if s.err == nil {
		_, s.err = s.b.Write(s.buf)
	}
	s.buf = s.buf[:0]
}

func (s *segmentWriter) tell(t run) {
	s.buf = binary.AppendUvarint(s.buf, uint64(t.end-t.first)<<1)
	for i := t.first; i < t.end; i++ {
		s.buf = s.rows.append(s.buf, &s.m.Entries[i])
	}
	s.told = append(s.told, t)
}

// run finds how many entries from at on are offered one behind the other, beginning with the offer
// from, or, with from -1, are not offered.
func (s *segmentWriter) run(at, end int) (from, to int) {
	from = s.offer(at)
	for to = at + 1; to < end; to++ {
		next := s.offer(to)
		if from < 0 && next >= 0 || from >= 0 && next != from+to-at {
			break
		}
	}
	return from, to
}

// offer is the number of the offer that equals an entry, or -1.
func (s *segmentWriter) offer(i int) int {
	if len(s.offers) == 0 {
		return -1
	}
	var sum uint64
	sum, s.scratch = keyedSum(s.scratch, &s.root, s.m.Entries[i].appendIdentity)
	if n, known := s.offers[sum]; known {
		return n
	}
	return -1
}

// joinSegments reads what encodeSegmentEntries wrote in answer to need, to the end of r, and makes the
// sender's tree of it and of what need kept. It checks the tree and that its root is the one told.
func joinSegments(r io.Reader, told segmentSums, need *segmentNeed) (*Manifest, error) {
	j := segmentReader{plainReader: newPlainReader(r), need: need, rows: newRows()}
	j.entries = make([]Entry, 0, len(need.have.Entries)+maxSegment) // most of it is what the receiver has
	for i := range told.sums {
		if need.missing.has(i) {
			j.segment()
		} else {
			j.keep(need.kept[i])
		}
		if j.err != nil {
			return nil, j.err
		}
	}
	for _, t := range j.told {
		for i := t.first; i < t.end; i++ {
			j.sums(&j.entries[i])
		}
	}
	m := &Manifest{Entries: j.entries}
	return m, j.finish(m, told.root)
}

// segmentReader is one joinSegments under way.
type segmentReader struct {
	*plainReader
	need    *segmentNeed
	entries []Entry
	next    int // offer behind the one named last
	rows    rows
	told    []run // entries whose hashes follow
}

func (j *segmentReader) segment() {
	left := int(j.uvarint("segment", maxSegment))
	if left == 0 {
		j.fail("segment of nothing")
	}
	for left > 0 && j.err == nil {
		head := j.uvarint("run", uint64(left)<<1|1)
		n := int(head >> 1)
		if n == 0 {
			j.fail("run of nothing")
		}
		if head&1 == 1 {
			j.take(n)
		} else {
			j.tell(n)
		}
		left -= n
	}
}

// take adds entries that were offered.
func (j *segmentReader) take(n int) {
	from := j.step("offer", j.next, len(j.need.offered)-n+1)
	for ; n > 0 && j.err == nil; n-- {
		at := j.need.offered[from]
		j.keep(run{at, at + 1})
		from++
	}
	j.next = from
	if j.err == nil {
		j.rows.path = j.entries[len(j.entries)-1].Path
	}
}

// tell adds entries that are told.
func (j *segmentReader) tell(n int) {
	first := len(j.entries)
	for ; n > 0 && j.err == nil; n-- {
		var e Entry
		j.row(&j.rows, &e)
		j.add([]Entry{e})
	}
	j.told = append(j.told, run{first, len(j.entries)})
}

// keep adds entries that the receiver has.
func (j *segmentReader) keep(r run) {
	have := j.need.have.Entries[r.first:r.end]
	for i := range have {
		j.countChunks(len(have[i].Chunks))
	}
	j.add(have)
}

// add takes in entries that are in order themselves.
func (j *segmentReader) add(more []Entry) {
	last := len(j.entries) - 1
	switch {
	case j.err != nil:
	case last >= 0 && more[0].Path <= j.entries[last].Path:
		j.fail("entry %q: is there twice or out of order", more[0].Path)
	case len(j.entries)+len(more) > MaxEntries:
		j.fail("entries: %w", errTooLarge)
	default:
		j.entries = append(j.entries, more...)
	}
}

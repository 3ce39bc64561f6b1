package filesync

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// A sender that does not know the tree the receiver has tells by a sum for each segment of its own
// tree what that is; the receiver says which of them it has not, and offers, by sums too, the entries
// that it has in their place. The sender then tells the entries that are none of those. What it takes
// besides the sums is in proportion to what differs. docs/wire-sync.md is the specification.

// The bounds of a segment, in entries; its mean is minSegment plus borderEvery.
const (
	minSegment  = 16
	borderEvery = 64 // a power of two
	maxSegment  = 1024
)

// maxOffers is how many entries a receiver offers at most: where more differ than that, to say so
// costs as much as it saves.
const maxOffers = 1 << 14

// segment is a run of a manifest's entries, from first up to end.
type segment struct {
	first, end int
	sum        Hash // over what Root covers of the entries
}

// segmentSums is what a sender tells first: a sum for every segment of its tree, and its root.
type segmentSums struct {
	sums []uint64
	root Hash
}

// segmentNeed is the receiver's answer: which segments it has not, and sums of entries it has that
// are in none of the others.
type segmentNeed struct {
	missing *unitSet // of the sender's segments
	offers  []uint64

	// Not told: what the receiver has.
	have *Manifest
	kept []run // for each of the sender's segments that is not missing, where it lies in have
	// offered tells for each offer which of have's entries it is.
	offered []int
}

// segments cuts the manifest. Where a segment ends depends on the paths and kinds of entries near by
// alone, so that an edit moves no border, and a new file few.
func (m *Manifest) segments() []segment {
	var segs []segment
	h := sha256.New()
	buf := make([]byte, 0, identityBatch+4096)
	first := 0
	for i := range m.Entries {
		e := &m.Entries[i]
		buf = e.appendIdentity(buf)
		n := i + 1 - first
		ends := i+1 == len(m.Entries) || n == maxSegment || n >= minSegment && e.isBorder()
		if ends || len(buf) >= identityBatch {
			h.Write(buf)
			buf = buf[:0]
		}
		if ends {
			s := segment{first: first, end: i + 1}
			h.Sum(s.sum[:0])
			h.Reset()
			segs = append(segs, s)
			first = i + 1
		}
	}
	return segs
}

// isBorder decides by FNV-1a over kind and path whether a segment may end behind the entry.
func (e *Entry) isBorder() bool {
	const offset, prime = 0xcbf29ce484222325, 0x100000001b3
	h := (offset ^ uint64(e.Kind)) * prime
	for i := range len(e.Path) {
		h = (h ^ uint64(e.Path[i])) * prime
	}
	return (h^h>>32)&(borderEvery-1) == 0
}

// keyedSum is what is told of a sum, or of an entry, in a conversation about the tree of this root.
// Nobody can prepare two that agree for a root that depends on them.
func keyedSum(buf []byte, root *Hash, identity func([]byte) []byte) (uint64, []byte) {
	buf = identity(append(buf[:0], root[:]...))
	h := sha256.Sum256(buf)
	return binary.BigEndian.Uint64(h[:]), buf
}

func (s *segment) keyed(root *Hash) uint64 {
	told, _ := keyedSum(nil, root, func(buf []byte) []byte { return append(buf, s.sum[:]...) })
	return told
}

// encodeSegments writes what decodeSegments reads.
func encodeSegments(w io.Writer, segs []segment, root Hash) error {
	buf := binary.AppendUvarint(nil, uint64(len(segs)))
	buf = append(buf, root[:]...)
	for i := range segs {
		buf = binary.BigEndian.AppendUint64(buf, segs[i].keyed(&root))
	}
	_, err := w.Write(buf)
	return err
}

// decodeSegments reads the sums of a tree's segments to the end of r; never more than a tree can have.
func decodeSegments(r io.Reader) (segmentSums, error) {
	p := newPlainReader(r)
	n := p.uvarint("segments", MaxEntries/minSegment+1)
	told := segmentSums{root: p.root()}
	told.sums = p.sumList("segment", n)
	return told, p.end()
}

// sumList reads n sums.
func (p *plainReader) sumList(what string, n uint64) []uint64 {
	sums := make([]uint64, 0, min(n, 1024)) // a promise is not yet content
	var sum [8]byte
	for range n {
		p.bytes(what, sum[:])
		if p.err != nil {
			return nil
		}
		sums = append(sums, binary.BigEndian.Uint64(sum[:]))
	}
	return sums
}

// missingSegments says what of the sender's tree is not in have.
func missingSegments(have *Manifest, told segmentSums) *segmentNeed {
	segs := have.segments()
	at := make(map[uint64]int, len(segs))
	for i := range segs {
		at[segs[i].keyed(&told.root)] = i
	}
	need := &segmentNeed{missing: newUnitSet(len(told.sums)), have: have, kept: make([]run, len(told.sums))}
	common := make([]bool, len(segs))
	for i, sum := range told.sums {
		if s, known := at[sum]; known {
			need.kept[i] = run{segs[s].first, segs[s].end}
			common[s] = true
		} else {
			need.missing.add(i)
		}
	}
	for i := range segs {
		if !common[i] {
			need.offer(segs[i], &told.root)
		}
	}
	return need
}

// offer takes in that a segment of have is none of the sender's: some of its entries may be.
func (n *segmentNeed) offer(s segment, root *Hash) {
	var buf []byte
	var sum uint64
	for i := s.first; i < s.end && len(n.offers) < maxOffers; i++ {
		sum, buf = keyedSum(buf, root, n.have.Entries[i].appendIdentity)
		n.offers = append(n.offers, sum)
		n.offered = append(n.offered, i)
	}
}

// encode writes what decodeNeed reads.
func (n *segmentNeed) encode(w io.Writer) error {
	b := bufio.NewWriter(w)
	if err := n.missing.encode(b); err != nil {
		return err
	}
	buf := binary.AppendUvarint(nil, uint64(len(n.offers)))
	for _, sum := range n.offers {
		buf = binary.BigEndian.AppendUint64(buf, sum)
	}
	if _, err := b.Write(buf); err != nil {
		return err
	}
	return b.Flush()
}

// decodeNeed reads the receiver's answer about a tree of so many segments, to the end of r.
func decodeNeed(r io.Reader, segments int) (*segmentNeed, error) {
	b := bufio.NewReader(r)
	missing, err := readUnits(b, segments)
	if err != nil {
		return nil, fmt.Errorf("segments: %w", err)
	}
	p := newPlainReader(b)
	need := &segmentNeed{missing: missing, offers: p.sumList("offer", p.uvarint("offers", maxOffers))}
	return need, p.end()
}

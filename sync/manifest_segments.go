package filesync

import (
	"errors"
	"io"
)

// A sender that does not know the tree the receiver has tells by a sum for each segment of its own
// tree what that is; the receiver says which of them it has not, and what it has in their place.

// segment is a run of a manifest's entries, from first up to end.
type segment struct {
	first, end int
	sum        [16]byte // over what Root covers of the entries
}

// segmentSums is what a sender tells first: the sum of every segment of its tree, and its root.
type segmentSums struct {
	sums [][16]byte
	root Hash
}

// segmentNeed is the receiver's answer: which segments it has not, and sums of the entries it has
// that are in none of the others.
type segmentNeed struct {
	missing *unitSet // of the sender's segments
	offers  []uint64
	// the receiver's alone
	have  *Manifest
	kept  []segment // for each of the sender's segments that is not missing: where it lies in have
	spare []int     // the entries of have that offers stands for
}

// segments cuts the manifest. Where a segment ends depends on the paths and kinds of entries near by
// alone, so that an edit moves no border.
func (m *Manifest) segments() []segment { return nil }

// encodeSegments writes what decodeSegments reads.
func encodeSegments(w io.Writer, segs []segment, root Hash) error { return errors.ErrUnsupported }

// decodeSegments reads the sums of a tree's segments to the end of r; never more than a tree can have.
func decodeSegments(r io.Reader) (segmentSums, error) {
	return segmentSums{}, errors.ErrUnsupported
}

// missingSegments says what of the sender's tree is not in have.
func missingSegments(have *Manifest, told segmentSums) *segmentNeed { return nil }

// encode writes what decodeNeed reads.
func (n *segmentNeed) encode(w io.Writer) error { return errors.ErrUnsupported }

// decodeNeed reads the receiver's answer about a tree of so many segments, to the end of r.
func decodeNeed(r io.Reader, segments int) (*segmentNeed, error) {
	return nil, errors.ErrUnsupported
}

// encodeSegmentEntries writes the entries of m that are needed; segs are m's segments.
func encodeSegmentEntries(w io.Writer, m *Manifest, segs []segment, root Hash, need *segmentNeed) error {
	return errors.ErrUnsupported
}

// joinSegments reads what encodeSegmentEntries wrote in answer to need, to the end of r, and makes the
// sender's tree of it and of what need kept. It checks the tree and that its root is the one told.
func joinSegments(r io.Reader, told segmentSums, need *segmentNeed) (*Manifest, error) {
	return nil, errors.ErrUnsupported
}

package delta

import (
	"encoding/binary"
	"errors"
	"math"
)

// MaxSigned is how many bytes of a content a Signature describes at most, and the size up to which
// ApplyPatch makes one. What is larger is known by its chunks.
const MaxSigned = 256 << 10

// sumBytes is the length of a block's sum on the wire. Of all pairs of a block and a place in a
// content of MaxSigned bytes, 2^26, one in 2^40 agrees by chance.
const sumBytes = 5

// Signature describes an old content so closely that whoever holds a new version of it can say what
// of the old one is still in there, without having the old one: a sum for every block. A sum proves
// nothing. What ApplyPatch makes is right only when its hash says so.
//
// The zero value describes an empty content. A Signature never changes; it is safe for concurrent use.
type Signature struct {
	size int      // of the old content in bytes; block length and number of sums follow from it
	sums []uint64 // of sumBytes each
}

// blockLength gives the length of the blocks that a content of so many bytes is cut into; the last
// one may be shorter. It is part of the format.
//
// A longer block costs more of the new content around each change, a shorter one more sums. Measured
// on source files of 2 to 60 KB with one or two changed lines, three times the square root costs
// least: about 330 and 490 bytes both ways, where the whole file takes 3,100 compressed.
func blockLength(size int) int {
	return min(max(3*int(math.Sqrt(float64(size))), 64), 1024) &^ 15
}

// blocks is the number of blocks of a content, a short one at the end included.
func blocks(size int) int {
	b := blockLength(size)
	return (size + b - 1) / b
}

// Sign makes the signature of a content. Of one that is larger than MaxSigned it describes the
// first MaxSigned bytes.
func Sign(old []byte) Signature {
	old = old[:min(len(old), MaxSigned)]
	s := Signature{size: len(old), sums: make([]uint64, 0, blocks(len(old)))}
	for b := blockLength(s.size); len(old) > 0; {
		n := min(b, len(old))
		s.sums = append(s.sums, blockSum(rolled(old[:n])))
		old = old[n:]
	}
	return s
}

// Size is the length in bytes of what Append adds.
func (s Signature) Size() int {
	var buf [binary.MaxVarintLen64]byte
	return binary.PutUvarint(buf[:], uint64(s.size)) + sumBytes*len(s.sums)
}

// Append adds the form that ReadSignature reads: the size of the old content, then the sums.
func (s Signature) Append(buf []byte) []byte {
	buf = binary.AppendUvarint(buf, uint64(s.size))
	var sum [8]byte
	for _, v := range s.sums {
		binary.BigEndian.PutUint64(sum[:], v)
		buf = append(buf, sum[8-sumBytes:]...)
	}
	return buf
}

// ReadSignature reads what Append wrote from the start of p and gives the rest of p. It refuses one
// of a content of more than most bytes, or of more than MaxSigned. The signature shares nothing with p.
func ReadSignature(p []byte, most int) (s Signature, rest []byte, err error) {
	size, n := binary.Uvarint(p)
	if n <= 0 {
		return Signature{}, nil, errors.New("signature: its size is cut off")
	}
	if most = min(most, MaxSigned); most < 0 || size > uint64(most) {
		return Signature{}, nil, errors.New("signature: of too large a content")
	}
	p = p[n:]
	count := blocks(int(size))
	if len(p) < count*sumBytes {
		return Signature{}, nil, errors.New("signature: its sums are cut off")
	}
	s = Signature{size: int(size), sums: make([]uint64, count)}
	var sum [8]byte
	for i := range s.sums {
		copy(sum[8-sumBytes:], p[i*sumBytes:])
		s.sums[i] = binary.BigEndian.Uint64(sum[:])
	}
	return s, p[count*sumBytes:], nil
}

// The sum of a block is the polynomial of its bytes at factor, modulo 2^64, of which the top bits
// of a multiple are kept: the lowest bits of a polynomial depend on the lowest bits of the bytes alone.
const (
	factor  = 0x9e3779b97f4a7c15
	scatter = 0xd6e8feb86659fd93
)

// rolled is the polynomial of b.
func rolled(b []byte) uint64 {
	var h uint64
	for _, c := range b {
		h = h*factor + uint64(c) + 1
	}
	return h
}

// blockSum is what is told of a polynomial.
func blockSum(h uint64) uint64 { return h * scatter >> (64 - 8*sumBytes) }

// leaving gives for each byte what takes it out of the polynomial of a block of n bytes once the
// next byte has come in.
func leaving(n int) *[256]uint64 {
	power := uint64(1)
	for range n {
		power *= factor
	}
	var out [256]uint64
	for c := range out {
		out[c] = (uint64(c) + 1) * power
	}
	return &out
}

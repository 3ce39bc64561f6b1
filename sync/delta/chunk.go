// Package delta cuts content into chunks whose borders depend on the content alone, so that an
// insertion changes the chunks around it and no others, and builds a new content out of chunks of
// old ones. It does no input or output of its own and knows no files.
package delta

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
)

// The sizes of a chunk in bytes. Only the last chunk of a content may be smaller than MinChunk.
const (
	MinChunk = 8 << 10
	AvgChunk = 32 << 10
	MaxChunk = 128 << 10
)

// Chunk is one piece of a content.
type Chunk struct {
	Len uint32
	Sum [sha256.Size]byte // SHA-256 of its bytes
}

// Sum is the identity of a content that is known by its chunks: a SHA-256 over their lengths and sums.
func Sum(chunks []Chunk) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte("godeploy chunks 1\n"))
	var n [4]byte
	for i := range chunks {
		binary.BigEndian.PutUint32(n[:], chunks[i].Len)
		h.Write(n[:])
		h.Write(chunks[i].Sum[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Size is the length in bytes of the content the chunks make up.
func Size(chunks []Chunk) int64 {
	var n int64
	for i := range chunks {
		n += int64(chunks[i].Len)
	}
	return n
}

// Splitter cuts contents into chunks. It holds a buffer of a few hundred KiB and serves one
// content at a time; the zero value is not usable, NewSplitter makes one.
type Splitter struct {
	gear [256]uint64
	pair [256]uint64 // gear, shifted by the byte that follows
	buf  []byte
}

// NewSplitter makes a Splitter. All Splitters cut alike: the borders are part of a manifest's format.
func NewSplitter() *Splitter {
	s := &Splitter{buf: make([]byte, 4*MaxChunk)}
	// splitmix64 from a fixed seed: a table that needs no listing and never changes.
	state := uint64(0x676f6465706c6f79)
	for i := range s.gear {
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		s.gear[i] = z ^ z>>31
		s.pair[i] = s.gear[i] << 1
	}
	return s
}

// Split reads r to its end and gives every chunk with its bytes, which are valid during the call
// only. It stops at the first error, of r or of emit, and returns it.
func (s *Splitter) Split(r io.Reader, emit func(c Chunk, data []byte) error) error {
	start, end, atEOF := 0, 0, false
	for {
		if end-start < MaxChunk && !atEOF {
			end = copy(s.buf, s.buf[start:end])
			start = 0
			n, err := io.ReadFull(r, s.buf[end:])
			end += n
			atEOF = err == io.EOF || err == io.ErrUnexpectedEOF
			if err != nil && !atEOF {
				return err
			}
		}
		if start == end {
			return nil
		}
		n := s.Cut(s.buf[start:end])
		data := s.buf[start : start+n]
		if err := emit(Chunk{Len: uint32(n), Sum: sha256.Sum256(data)}, data); err != nil {
			return err
		}
		start += n
	}
}

// The masks of FastCDC's normalised chunking: harder to meet before the average size, easier after.
const (
	maskBefore = 0xffff800000000000 // 17 bits
	maskAfter  = 0xfff8000000000000 // 13 bits
)

// Cut gives the length of the first chunk of p, which must not be empty: at most MaxChunk. Fewer bytes
// than MaxChunk must be all that is left of the content. The top bits of the rolling sum decide: they
// alone depend on the last 64 bytes.
func (s *Splitter) Cut(p []byte) int {
	if len(p) <= MinChunk {
		return len(p)
	}
	p = p[:min(len(p), MaxChunk)]
	middle := min(len(p), AvgChunk)
	n, sum := s.find(p[MinChunk:middle], 0, maskBefore)
	if n >= 0 {
		return MinChunk + n
	}
	if n, _ = s.find(p[middle:], sum, maskAfter); n >= 0 {
		return middle + n
	}
	return len(p)
}

// find rolls over p until the sum fits the mask and gives how many bytes that took, or -1, and the
// sum. It takes two bytes in one step: each step waits for the one before.
func (s *Splitter) find(p []byte, sum, mask uint64) (int, uint64) {
	i := 0
	for ; i+1 < len(p); i += 2 {
		first, both := s.gear[p[i]], s.pair[p[i]]+s.gear[p[i+1]]
		if (sum<<1+first)&mask == 0 {
			return i + 1, 0
		}
		if sum = sum<<2 + both; sum&mask == 0 {
			return i + 2, 0
		}
	}
	if i < len(p) {
		if sum = sum<<1 + s.gear[p[i]]; sum&mask == 0 {
			return i + 1, 0
		}
	}
	return -1, sum
}

package filesync

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A tree's content is numbered in units, so that neither end ever names a path or an offset: in the
// order of the entries a file of less than ChunkedFrom bytes is one unit, an empty one none, and a
// larger one has a unit for each chunk.

// units is how many an entry has.
func (e *Entry) units() int {
	switch {
	case e.Kind != File || e.Size == 0:
		return 0
	case e.Size < ChunkedFrom:
		return 1
	}
	return len(e.Chunks)
}

// unitSize is the length in bytes of an entry's unit.
func (e *Entry) unitSize(n int) int {
	if len(e.Chunks) > 0 {
		return int(e.Chunks[n].Len)
	}
	return int(e.Size)
}

// unitHash is the SHA-256 of an entry's unit.
func (e *Entry) unitHash(n int) Hash {
	if len(e.Chunks) > 0 {
		return e.Chunks[n].Sum
	}
	return e.Hash
}

func (m *Manifest) units() int {
	n := 0
	for i := range m.Entries {
		n += m.Entries[i].units()
	}
	return n
}

// unitSet is a set of units.
type unitSet struct {
	bits []uint64
	size int
}

func newUnitSet(size int) *unitSet { return &unitSet{make([]uint64, (size+63)/64), size} }

func (s *unitSet) add(n int)      { s.bits[n/64] |= 1 << (n % 64) }
func (s *unitSet) has(n int) bool { return s.bits[n/64]>>(n%64)&1 == 1 }

// encode writes the lengths of runs, by turns of units outside and inside the set.
func (s *unitSet) encode(w io.Writer) error {
	inside := false
	var buf [binary.MaxVarintLen64]byte
	for at := 0; at < s.size; inside = !inside {
		from := at
		for at < s.size && s.has(at) == inside {
			at++
		}
		if _, err := w.Write(binary.AppendUvarint(buf[:0], uint64(at-from))); err != nil {
			return err
		}
	}
	return nil
}

// decodeUnits reads a set of units below size, to the end of r.
func decodeUnits(r io.Reader, size int) (*unitSet, error) {
	b := bufio.NewReader(r)
	s, err := readUnits(b, size)
	if err != nil {
		return nil, err
	}
	if _, err := b.ReadByte(); err != io.EOF {
		return nil, errors.New("run of units after the last")
	}
	return s, nil
}

// readUnits reads a set of units below size and nothing behind it.
func readUnits(b io.ByteReader, size int) (*unitSet, error) {
	s := newUnitSet(size)
	inside := false
	for at := 0; at < size; inside = !inside {
		n, err := binary.ReadUvarint(b)
		if err != nil {
			return nil, cut(err)
		}
		if n > uint64(size-at) || n == 0 && at > 0 {
			return nil, fmt.Errorf("run of %d units at %d of %d", n, at, size)
		}
		for end := at + int(n); at < end; at++ {
			if inside {
				s.add(at)
			}
		}
	}
	return s, nil
}

// each calls f for every unit of the set in order, with its number, its entry and its number in that.
func (s *unitSet) each(m *Manifest, f func(unit int, e *Entry, n int) error) error {
	at := 0
	for i := range m.Entries {
		e := &m.Entries[i]
		for n := range e.units() {
			if s.has(at) {
				if err := f(at, e, n); err != nil {
					return err
				}
			}
			at++
		}
	}
	return nil
}

// any reports whether a unit from first up to end is in the set.
func (s *unitSet) any(first, end int) bool {
	for ; first < end; first++ {
		if s.has(first) {
			return true
		}
	}
	return false
}

package delta

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// ErrMismatch says that the bytes of a chunk were not what its sum says.
var ErrMismatch = errors.New("chunk is not what its sum says")

// Index knows where chunks of old contents lie. Each content has a number its owner gives it. The
// zero value is empty and ready; once filled it is safe for concurrent use.
type Index struct {
	at map[[sha256.Size]byte]place
}

type place struct {
	source int
	off    int64
	len    uint32
}

// Add takes in the chunks of one content, in order. Of equal chunks the first stays.
func (x *Index) Add(source int, chunks []Chunk) {
	if x.at == nil {
		x.at = make(map[[sha256.Size]byte]place)
	}
	var off int64
	for i := range chunks {
		if _, known := x.at[chunks[i].Sum]; !known {
			x.at[chunks[i].Sum] = place{source, off, chunks[i].Len}
		}
		off += int64(chunks[i].Len)
	}
}

// Op is a run of neighbouring chunks of a new content: to be copied, or to be had as data.
type Op struct {
	Chunks int   // how many
	Copy   bool  // false: data
	Source int   // of a copy: number of the old content
	Off    int64 // of a copy: where the run begins in it
}

// Diff says how a content of these chunks is made: what the index knows is copied, the rest is
// data. Copies that lie one behind the other are one Op. It does no input or output.
func Diff(x *Index, want []Chunk) []Op {
	var ops []Op
	var end place // where the last copy ended
	for i := range want {
		from, known := x.at[want[i].Sum]
		known = known && from.len == want[i].Len
		last := len(ops) - 1
		switch {
		case !known && last >= 0 && !ops[last].Copy:
			ops[last].Chunks++
		case !known:
			ops = append(ops, Op{Chunks: 1})
		case last >= 0 && ops[last].Copy && end.source == from.source && end.off == from.off:
			ops[last].Chunks++
		default:
			ops = append(ops, Op{Chunks: 1, Copy: true, Source: from.source, Off: from.off})
		}
		if known {
			end = place{source: from.source, off: from.off + int64(from.len)}
		}
	}
	return ops
}

// Patch writes the content that want describes to w, following ops. basis gives an old content by
// its number; data gives the next chunk that is not copied, of n bytes, valid until the next call.
//
// Every chunk is verified. One that is wrong ends the writing but not the taking of data, so that
// whoever sends it stays in step; Patch then returns ErrMismatch, or what basis or reading it
// returned. An error of data or w, or ops that do not fit want, end it at once.
func Patch(w io.Writer, want []Chunk, ops []Op, basis func(source int) (io.ReaderAt, error), data func(n int) ([]byte, error)) error {
	p := patch{w: w, basis: basis, data: data, buf: make([]byte, MaxChunk)}
	for _, op := range ops {
		if op.Chunks < 1 || op.Chunks > len(want) {
			return fmt.Errorf("op of %d chunks where %d are left", op.Chunks, len(want))
		}
		run := p.take
		if op.Copy {
			run = p.copy
		}
		if err := run(op, want[:op.Chunks]); err != nil {
			return err
		}
		want = want[op.Chunks:]
	}
	if len(want) > 0 {
		return fmt.Errorf("ops leave %d chunks out", len(want))
	}
	return p.broken
}

// patch is one Patch under way.
type patch struct {
	w      io.Writer
	basis  func(int) (io.ReaderAt, error)
	data   func(int) ([]byte, error)
	buf    []byte
	broken error // the first chunk that could not be had; nothing is written any more
}

// take writes a run of data.
func (p *patch) take(_ Op, run []Chunk) error {
	for i := range run {
		b, err := p.data(int(run[i].Len))
		if err != nil {
			return err
		}
		if err := p.emit(&run[i], b); err != nil {
			return err
		}
	}
	return nil
}

// copy writes a run out of an old content.
func (p *patch) copy(op Op, run []Chunk) error {
	if p.broken != nil {
		return nil
	}
	from, err := p.basis(op.Source)
	if err != nil {
		p.broken = err
		return nil
	}
	off := op.Off
	for i := range run {
		if run[i].Len > MaxChunk {
			return fmt.Errorf("chunk of %d bytes", run[i].Len)
		}
		b := p.buf[:run[i].Len]
		if _, err := io.ReadFull(io.NewSectionReader(from, off, int64(len(b))), b); err != nil {
			p.broken = errors.Join(ErrMismatch, err)
			return nil
		}
		if err := p.emit(&run[i], b); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// emit writes one chunk, if it is what it should be and all before it were.
func (p *patch) emit(c *Chunk, b []byte) error {
	if p.broken == nil && (len(b) != int(c.Len) || sha256.Sum256(b) != c.Sum) {
		p.broken = ErrMismatch
	}
	if p.broken != nil {
		return nil
	}
	_, err := p.w.Write(b)
	return err
}

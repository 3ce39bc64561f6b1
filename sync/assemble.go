package filesync

import (
	"bytes"
	"crypto/sha256"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"godeploy/sync/delta"
)

// assemble makes a large file out of old chunks and of what data gives. What is written is verified
// beside the writing; nobody sees the file before all of it was.
func (r *receiver) assemble(i int32, data func(n int) ([]byte, bool, error)) error {
	a := assembly{r: r, chunks: r.file(i).Chunks, data: data}
	a.checks.SetLimit(r.o.workers())
	defer a.close()
	err := r.make(i, func(w io.Writer) error {
		for _, op := range r.ops[i] {
			if err := a.run(w, op); err != nil {
				return err
			}
		}
		return nil
	})
	_ = a.checks.Wait() // what they found is in bad
	var bad error
	if a.bad.Load() {
		bad = delta.ErrMismatch
	}
	return r.settle(i, err, bad)
}

// assembly is one large file being made.
type assembly struct {
	r      *receiver
	chunks []delta.Chunk
	data   func(n int) ([]byte, bool, error)
	at     int // chunk
	source int
	file   FileReader
	checks errgroup.Group
	bad    atomic.Bool // a chunk was not what its sum says: nothing more is written
}

// copyBlock is how many bytes of an old file are read and written at once, where its chunks lie one behind the other.
const copyBlock = 256 << 10

// run writes one run of chunks.
func (a *assembly) run(w io.Writer, op delta.Op) error {
	off := op.Off
	for end := a.at + op.Chunks; a.at < end; {
		n, size := 1, int(a.chunks[a.at].Len)
		for op.Copy && a.at+n < end && size+int(a.chunks[a.at+n].Len) <= copyBlock {
			size += int(a.chunks[a.at+n].Len)
			n++
		}
		if err := a.write(w, op, n, off, size); err != nil {
			return err
		}
		a.at += n
		off += int64(size)
	}
	return nil
}

// write writes the next n chunks, of size bytes together; off is where they begin in an old file. Of
// data that is sent n is 1.
func (a *assembly) write(w io.Writer, op delta.Op, n int, off int64, size int) (err error) {
	var b []byte
	switch {
	case !op.Copy:
		b, _, err = a.data(a.at)
	case !a.bad.Load():
		b = a.old(op.Source, off, size)
	}
	if err != nil || a.bad.Load() {
		return err // after a wrong chunk the sender's units are read on, so that the next file finds its own
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	if !op.Copy {
		b = bytes.Clone(b) // of which the reader makes use again
	}
	chunks := a.chunks[a.at : a.at+n]
	a.checks.Go(func() error {
		if !holds(b, chunks) {
			a.bad.Store(true)
		}
		return nil
	})
	return nil
}

// holds reports whether b is these chunks, one behind the other.
func holds(b []byte, chunks []delta.Chunk) bool {
	for i := range chunks {
		n := int(chunks[i].Len)
		if len(b) < n || sha256.Sum256(b[:n]) != chunks[i].Sum {
			return false
		}
		b = b[n:]
	}
	return len(b) == 0
}

// old reads chunks of an old file; what cannot be read shows as a wrong chunk.
func (a *assembly) old(source int, off int64, n int) []byte {
	if a.file == nil || a.source != source {
		a.close()
		p := a.r.places[source]
		f, err := a.r.o.FS.Open(a.r.source(&item{basis: p.basis, source: p.entry}))
		if err != nil {
			a.bad.Store(true)
			return nil
		}
		a.file, a.source = f, source
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(a.file, off, int64(n)), b); err != nil {
		a.bad.Store(true)
	}
	return b
}

func (a *assembly) close() {
	if a.file != nil {
		_ = a.file.Close() // it was only read
		a.file = nil
	}
}

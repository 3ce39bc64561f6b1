package filesync

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"godeploy/internal/fault"
	"godeploy/sync/delta"
)

// tries is how often a file that changes is read before it is given up.
const tries = 3

// hash reads every file of m and fills in what is known by its content.
func (s *scanner) hash(ctx context.Context, m *Manifest) error {
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(s.workers(), len(m.Entries)) {
		g.Go(func() error {
			w := hasher{fs: s.fs, faults: s.faults, splitter: delta.NewSplitter()}
			for {
				i := int(next.Add(1)) - 1
				if i >= len(m.Entries) {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if m.Entries[i].Kind == File {
					w.entry(&m.Entries[i])
				}
			}
		})
	}
	return g.Wait()
}

// hasher hashes one file at a time.
type hasher struct {
	fs       FS
	faults   *faults
	splitter *delta.Splitter
}

// entry reads a file until it holds still while it is read.
func (w *hasher) entry(e *Entry) {
	for range tries {
		changed, err := w.read(e)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			w.faults.add(fault.SyncSourceChanged, e.Path, "vanished while the source was read")
			return
		case err != nil:
			w.faults.add(fault.SyncSource, e.Path, "cannot be read").Wrap(plain(err))
			return
		case !changed:
			return
		}
	}
	w.faults.add(fault.SyncSourceChanged, e.Path, "kept changing while it was read").
		Hint("something writes into the source; stop it, or exclude the file")
}

// read reads a file once and reports whether it changed meanwhile.
func (w *hasher) read(e *Entry) (changed bool, err error) {
	f, err := w.fs.Open(e.Path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return false, err
	}
	// One byte past the size it had is enough to see it grow; a file that never ends is no trap.
	n, err := w.content(e, io.LimitReader(f, before.Size+1), before.Size)
	if err != nil {
		return false, err
	}
	after, err := f.Stat()
	if err != nil {
		return false, err
	}
	e.Size, e.MTime, e.Mode = after.Size, after.MTime, after.Mode
	return n != after.Size || before != after, nil
}

// content hashes what r gives, as a file of this size is hashed, and counts it.
func (w *hasher) content(e *Entry, r io.Reader, size int64) (n int64, err error) {
	e.Chunks = nil
	if size < ChunkedFrom {
		h := sha256.New()
		n, err = io.Copy(h, r)
		e.Hash = Hash(h.Sum(nil))
		return n, err
	}
	err = w.splitter.Split(r, func(c delta.Chunk, _ []byte) error {
		e.Chunks = append(e.Chunks, c)
		n += int64(c.Len)
		return nil
	})
	e.Hash = delta.Sum(e.Chunks)
	return n, err
}

// unitReader reads the units of a Source in order, for one host.
type unitReader struct {
	src  *Source
	buf  []byte
	path string // of the file that is open
	file FileReader
	next int   // number of the unit at off
	off  int64 // where it begins
}

func (u *unitReader) close() {
	if u.file != nil {
		_ = u.file.Close() // it was only read
		u.file = nil
	}
}

// read gives a unit's content, which is exactly what was scanned; it is valid until the next read.
// A file that is being written is read again.
func (u *unitReader) read(e *Entry, n int) ([]byte, error) {
	if u.path != e.Path || n < u.next {
		u.close()
		u.path, u.next, u.off = e.Path, 0, 0
	}
	for ; u.next < n; u.next++ {
		u.off += int64(e.unitSize(u.next))
	}
	var err error
	for range tries {
		var ok bool
		if ok, err = u.try(e, n); ok {
			return u.buf, nil
		}
		u.close()
	}
	return nil, fault.New(fault.SyncSourceChanged, "%s is no longer what was scanned", showPath(e.Path)).Wrap(plain(err)).
		Hint("something writes into the source; stop it, or exclude the file")
}

// try reads the unit once and reports whether it is what was scanned.
func (u *unitReader) try(e *Entry, n int) (ok bool, err error) {
	if u.file == nil {
		if u.file, err = u.src.fs.Open(e.Path); err != nil {
			return false, err
		}
	}
	size := e.unitSize(n)
	if cap(u.buf) < size {
		u.buf = make([]byte, max(size, ChunkedFrom))
	}
	u.buf = u.buf[:size]
	if _, err := io.ReadFull(io.NewSectionReader(u.file, u.off, int64(size)), u.buf); err != nil {
		return false, nil // shorter than it was
	}
	want, got := e.unitHash(n), sha256.Sum256(u.buf)
	return bytes.Equal(want[:], got[:]), nil
}

package filesync

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"godeploy/internal/fault"
	"godeploy/sync/delta"
)

// tries is how often a file that changes is read before it is given up.
const tries = 3

// hash reads every file of m whose content is not known and fills in what is known by it.
func (s *scanner) hash(ctx context.Context, m *Manifest) error {
	todo := unhashed(m)
	s.hashed = len(todo)
	sums := startSums(s.workers())
	defer sums.stop()
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(s.workers(), len(todo)) {
		g.Go(func() error {
			w := hasher{s: s, m: m, sums: sums, splitter: delta.NewSplitter(), buf: make([]byte, ChunkedFrom)}
			for {
				i := int(next.Add(1)) - 1
				if i >= len(todo) {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				w.file(ctx, todo[i])
			}
		})
	}
	return g.Wait()
}

// unhashed gives the places of the files that are to be read: the large ones first, so that no long
// one is left for the end.
func unhashed(m *Manifest) []int {
	var large, small []int
	for i := range m.Entries {
		e := &m.Entries[i]
		switch {
		case e.Kind != File || !e.Hash.IsZero():
		case e.Size >= ChunkedFrom:
			large = append(large, i)
		default:
			small = append(small, i)
		}
	}
	return append(large, small...)
}

// hasher hashes one file at a time.
type hasher struct {
	s        *scanner
	m        *Manifest
	sums     *sums
	splitter *delta.Splitter
	buf      []byte
}

// file reads a file until it holds still while it is read.
func (w *hasher) file(ctx context.Context, i int) {
	path := w.m.Entries[i].Path
	for range tries {
		changed, err := w.read(ctx, i)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			w.s.faults.add(fault.SyncSourceChanged, path, "vanished while the source was read")
			return
		case err != nil:
			w.s.faults.add(fault.SyncSource, path, "cannot be read").Wrap(plain(err))
			return
		case !changed:
			return
		}
	}
	w.s.faults.add(fault.SyncSourceChanged, path, "kept changing while it was read").
		Hint("something writes into the source; stop it, or exclude the file")
}

// knownOpener is an FS that opens what was just seen to be a regular file in fewer calls than Open
// takes, and says what it is by now.
type knownOpener interface {
	openKnown(path string) (FileReader, Info, error)
}

func openKnown(fsys FS, path string) (FileReader, Info, error) {
	if o, ok := fsys.(knownOpener); ok {
		return o.openKnown(path)
	}
	f, err := fsys.Open(path)
	if err != nil {
		return nil, Info{}, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close() // it was only looked at
		return nil, Info{}, err
	}
	return f, info, nil
}

// read reads a file once and reports whether it changed meanwhile.
func (w *hasher) read(ctx context.Context, i int) (changed bool, err error) {
	e, began := &w.m.Entries[i], time.Now()
	f, before, err := openKnown(w.s.fs, e.Path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	same, after, err := w.pass(ctx, e, f, before)
	if err != nil {
		return false, err
	}
	if same && len(e.Chunks) > 0 && racy(&stamp{ctime: before.CTime}, began) {
		// What changes twice between two ticks of the clock shows once. A small file that was torn by that is found
		// out when it is sent, but of a large one the host may have all chunks that would show it.
		first := e.Hash
		if same, after, err = w.pass(ctx, e, f, before); err != nil {
			return false, err
		}
		same = same && e.Hash == first
	}
	w.s.seen.at[i] = sighting{after.Dev, after.Ino, after.CTime}
	if c, ok := f.(interface{ hasCapability() bool }); ok && e.Mode&0o111 != 0 && c.hasCapability() {
		w.s.noteCapability(i, e.Path)
	}
	return !same, nil
}

// pass hashes an open file from one end to the other and reports whether it still is what it was before.
func (w *hasher) pass(ctx context.Context, e *Entry, f FileReader, before Info) (same bool, after Info, err error) {
	n, err := w.content(ctx, e, f, before.Size)
	if err != nil {
		return false, Info{}, err
	}
	if after, err = f.Stat(); err != nil {
		return false, Info{}, err
	}
	e.Size, e.MTime, e.Mode = after.Size, after.MTime, after.Mode
	return n == after.Size && before == after, after, nil
}

// content hashes a file of this size and counts what it read, which is a byte more than that at
// most: enough to see it grow, and a file that never ends is no trap.
func (w *hasher) content(ctx context.Context, e *Entry, f FileReader, size int64) (int64, error) {
	e.Chunks = nil
	if size >= ChunkedFrom {
		return w.chunked(ctx, e, f, size)
	}
	n := 0
	for n == 0 || int64(n) < size { // what is behind shows by the size that it has afterwards
		got, err := f.Read(w.buf[n : size+1])
		if n += got; err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	e.Hash = sha256.Sum256(w.buf[:n])
	return int64(n), nil
}

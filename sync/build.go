package filesync

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/sync/errgroup"

	"godeploy/internal/fault"
	"godeploy/sync/delta"
)

// makeFolders makes all folders, writable for us until they are filled, level by level.
func (r *receiver) makeFolders(ctx context.Context) error {
	var levels [][]*Entry
	for i := range r.want.Entries {
		e := &r.want.Entries[i]
		if e.Kind != Dir {
			continue
		}
		depth := strings.Count(e.Path, "/")
		for len(levels) <= depth {
			levels = append(levels, nil)
		}
		levels[depth] = append(levels[depth], e)
	}
	for _, level := range levels {
		err := r.parallel(ctx, len(level), func(i int) error {
			return r.o.FS.Mkdir(join(r.stage, level[i].Path), level[i].Mode|0o700)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// parallel runs f for 0 to n-1, some at once, and makes a fault of the first error.
func (r *receiver) parallel(ctx context.Context, n int, f func(i int) error) error {
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(r.o.workers())
	for i := 0; i < n && running.Err() == nil; i++ {
		g.Go(func() error { return f(i) })
	}
	if err := g.Wait(); err != nil {
		return r.diskFault(err)
	}
	return ctx.Err()
}

// round makes the files whose units are asked for out of what comes, and in the first round, beside
// it, those that need nothing from the sender.
func (r *receiver) round(ctx context.Context, units *unitSet, first bool) error {
	g, ctx := errgroup.WithContext(ctx)
	if first {
		g.Go(func() error {
			return r.parallel(ctx, len(r.items), func(i int) error { return r.ours(ctx, i) })
		})
	}
	g.Go(func() error { return r.theirs(ctx, units) })
	return g.Wait()
}

// ours makes a file that needs nothing from the sender.
func (r *receiver) ours(ctx context.Context, i int) error {
	it := &r.items[i]
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch it.from {
	case fromLink:
		return r.link(i)
	case fromCopy:
		return r.copyFrom(i, join(r.parent.dir, r.parent.manifest.Entries[it.source].Path))
	case fromNone:
		return r.write(it.entry, func(io.Writer) error { return nil })
	case fromChunks:
		if !it.needsData() {
			return r.assemble(i, nil)
		}
	}
	return nil
}

// needsData reports whether any unit of the item comes from the sender.
func (it *item) needsData() bool {
	if it.from != fromChunks {
		return it.from == fromWire
	}
	for _, op := range it.ops {
		if !op.Copy {
			return true
		}
	}
	return false
}

// link makes a file another name of the parent's, and copies it where that cannot be done.
func (r *receiver) link(i int) error {
	it := &r.items[i]
	old := &r.parent.manifest.Entries[it.source]
	err := r.o.FS.Link(join(r.parent.dir, old.Path), join(r.stage, it.entry.Path))
	switch {
	case err == nil:
		// The inode keeps the time it has: that is what must be recorded.
		it.entry.MTime = old.MTime
		return nil
	case r.o.Links == "hard" || errors.Is(err, fs.ErrExist) || isFull(err):
		return err
	}
	it.from = fromCopy
	return r.copyFrom(i, join(r.parent.dir, old.Path))
}

// copyFrom makes a file out of the whole content of another on this host, verified.
func (r *receiver) copyFrom(i int, from string) error {
	e := r.items[i].entry
	f, err := r.o.FS.Open(from)
	if err != nil {
		return r.retry(i, err)
	}
	defer f.Close()
	var bad error
	err = r.write(e, func(w io.Writer) error {
		if len(e.Chunks) > 0 {
			bad = delta.Patch(w, e.Chunks, []delta.Op{{Chunks: len(e.Chunks), Copy: true}},
				func(int) (io.ReaderAt, error) { return f, nil }, nil)
			return notMismatch(bad)
		}
		content, err := io.ReadAll(io.LimitReader(f, ChunkedFrom))
		if err != nil || sha256.Sum256(content) != e.Hash {
			bad = errors.Join(delta.ErrMismatch, err)
			return nil
		}
		_, err = w.Write(content)
		return err
	})
	return r.settle(i, err, bad)
}

// notMismatch drops the error that settle deals with.
func notMismatch(err error) error {
	if errors.Is(err, delta.ErrMismatch) {
		return nil
	}
	return err
}

// settle takes away a file whose content turned out wrong and notes it for the next round.
func (r *receiver) settle(i int, err, bad error) error {
	if err != nil || bad == nil {
		return err
	}
	if err := r.o.FS.RemoveAll(join(r.stage, r.items[i].entry.Path)); err != nil {
		return err
	}
	return r.retry(i, bad)
}

// retry notes that an item must come whole from the sender. A full disk is no reason to.
func (r *receiver) retry(i int, err error) error {
	if isFull(err) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, i)
	return nil
}

// write makes a file in the stage with the entry's permission bits, time and owner; content writes
// what is in it.
func (r *receiver) write(e *Entry, content func(io.Writer) error) error {
	path := join(r.stage, e.Path)
	f, err := r.o.FS.Create(path, e.Mode)
	if err != nil {
		return err
	}
	if err := errors.Join(content(f), f.Close()); err != nil {
		return err
	}
	if err := r.o.FS.Chtimes(path, e.MTime); err != nil {
		return err
	}
	return r.own(path)
}

// own gives what was made to its owner.
func (r *receiver) own(path string) error {
	if r.o.UID < 0 && r.o.GID < 0 {
		return nil
	}
	return r.o.FS.Lchown(path, r.o.UID, r.o.GID)
}

// theirs reads one round of units and makes their files. Small ones are written beside the reading;
// as many wait in memory as there are workers.
func (r *receiver) theirs(ctx context.Context, units *unitSet) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.o.workers())
	err := r.readUnits(ctx, g, units)
	if writeErr := g.Wait(); writeErr != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = writeErr
	}
	return r.diskFault(err)
}

func (r *receiver) readUnits(ctx context.Context, g *errgroup.Group, units *unitSet) error {
	at, i := 0, -1
	for k := range r.want.Entries {
		e := &r.want.Entries[k]
		if e.Kind != File {
			continue
		}
		i++
		first := at
		at += e.units()
		if !units.any(first, at) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if len(e.Chunks) > 0 {
			if err := r.assemble(i, func(int) ([]byte, error) { return r.readUnit() }); err != nil {
				return err
			}
			continue
		}
		if err := r.small(g, i); err != nil {
			return err
		}
	}
	if _, err := r.in.expect(frameEnd); err != nil {
		return lost(err)
	}
	return nil
}

func (r *receiver) readUnit() ([]byte, error) {
	data, err := r.in.expect(frameUnit)
	if err != nil {
		return nil, lost(err)
	}
	return data, nil
}

// small reads a small file and has it written.
func (r *receiver) small(g *errgroup.Group, i int) error {
	e := r.items[i].entry
	data, err := r.readUnit()
	if err != nil {
		return err
	}
	if int64(len(data)) != e.Size || sha256.Sum256(data) != e.Hash {
		return r.retry(i, delta.ErrMismatch)
	}
	data = bytes.Clone(data)
	g.Go(func() error {
		return r.write(e, func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		})
	})
	return nil
}

// assemble makes a large file out of old chunks and of what data gives.
func (r *receiver) assemble(i int, data func(n int) ([]byte, error)) error {
	it := &r.items[i]
	old := basis{r: r}
	defer old.close()
	var bad error
	err := r.write(it.entry, func(w io.Writer) error {
		bad = delta.Patch(w, it.entry.Chunks, it.ops, old.open, data)
		return notMismatch(bad)
	})
	return r.settle(i, err, bad)
}

// basis opens files of the parent, the last one kept open.
type basis struct {
	r      *receiver
	source int
	file   FileReader
}

func (b *basis) open(source int) (io.ReaderAt, error) {
	if b.file != nil && b.source == source {
		return b.file, nil
	}
	b.close()
	f, err := b.r.o.FS.Open(join(b.r.parent.dir, b.r.parent.manifest.Entries[source].Path))
	if err != nil {
		return nil, errors.Join(delta.ErrMismatch, err)
	}
	b.file, b.source = f, source
	return f, nil
}

func (b *basis) close() {
	if b.file != nil {
		_ = b.file.Close() // it was only read
		b.file = nil
	}
}

// lostTwin says that a file was not there when its twin was to be made of it.
func lostTwin(path string) error {
	return fault.New(fault.SyncVerify, "%s changed while the release was built", showPath(path))
}

package filesync

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sync/errgroup"

	"godeploy/internal/fault"
	"godeploy/sync/delta"
)

// round makes the files whose units are sent in this round, and in the first one, beside it, those
// that need nothing from the sender. signed are the units for which a signature was sent.
func (r *receiver) round(ctx context.Context, units *unitSet, signed []signedUnit, first bool) error {
	g, ctx := errgroup.WithContext(ctx)
	if first {
		g.Go(func() error {
			err := parallel(ctx, r.o.workers(), len(r.items), func(i int) error { return r.ours(int32(i)) })
			return r.diskFault(err)
		})
	}
	if units != nil {
		g.Go(func() error { return r.theirs(ctx, units, signed) })
	}
	err := g.Wait()
	r.retryFailed()
	return err
}

// retryFailed has the files that went wrong sent whole.
func (r *receiver) retryFailed() {
	for _, i := range r.failed {
		r.again(i)
	}
	r.failed = nil
}

// ours makes a file that needs nothing from the sender.
func (r *receiver) ours(i int32) error {
	it := &r.items[i]
	switch it.from {
	case fromLink:
		if it.made { // it stood in the tree that was recycled
			return nil
		}
		return r.link(i)
	case fromCopy:
		return r.copy(i)
	case fromNone:
		return r.make(i, func(io.Writer) error { return nil })
	case fromChunks:
		if !r.needsAny(i) {
			return r.assemble(i, nil)
		}
	}
	return nil
}

// source is where the old file lies that an item is made of.
func (r *receiver) source(it *item) string {
	b := r.bases[it.basis]
	return join(b.dir, b.manifest.Entries[it.source].Path)
}

// link makes a file another name of an old one, and copies it where that cannot be done.
func (r *receiver) link(i int32) error {
	it, e := &r.items[i], r.file(i)
	b := r.bases[it.basis]
	if b.doubted && !it.sure && !verified(r.o.FS, e, r.source(it)) {
		return r.retry(i, nil)
	}
	err := r.o.FS.Link(r.source(it), r.layout.path(e))
	switch {
	case err == nil:
		// The inode keeps the time it has: that is what must be recorded.
		e.MTime = b.manifest.Entries[it.source].MTime
		it.made = true
		return nil
	case r.o.Links == "hard" || errors.Is(err, fs.ErrExist) || isFull(err):
		return err
	}
	if _, far := r.o.FS.(Far); far {
		return r.retry(i, nil)
	}
	it.from = fromCopy
	return r.copy(i)
}

// cloneFrom is the size in bytes from which a copy is worth a try to share blocks instead.
const cloneFrom = 1 << 20

// copy makes a file out of an old one. Where the file system can share blocks, large files do, and
// all of them when that is what the options ask for; as with a link what the host recorded is trusted.
func (r *receiver) copy(i int32) error {
	it, e := &r.items[i], r.file(i)
	from, path := r.source(it), r.layout.path(e)
	if r.o.Links != "reflink" && (r.o.Links == "copy" || e.Size < cloneFrom) || r.bases[it.basis].doubted {
		return r.copyFrom(i, from)
	}
	err := r.o.FS.Clone(from, path, e.Mode)
	if errors.Is(err, errors.ErrUnsupported) {
		return r.copyFrom(i, from)
	}
	if err == nil {
		err = r.o.FS.Chtimes(path, e.MTime)
	}
	if err == nil {
		err = r.own(path)
	}
	it.made = err == nil
	return err
}

// verified reports whether a file holds what the entry says.
func verified(fsys FS, e *Entry, path string) bool {
	f, err := fsys.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return copyVerified(io.Discard, f, e) == nil
}

// copyVerified copies the content that e tells of, which f should hold; delta.ErrMismatch says that
// it does not.
func copyVerified(w io.Writer, f io.Reader, e *Entry) error {
	if len(e.Chunks) == 0 {
		content, err := io.ReadAll(io.LimitReader(f, ChunkedFrom))
		if err != nil || sha256.Sum256(content) != e.Hash {
			return errors.Join(delta.ErrMismatch, err)
		}
		_, err = w.Write(content)
		return err
	}
	buf := make([]byte, delta.MaxChunk)
	for _, c := range e.Chunks {
		b := buf[:min(int(c.Len), len(buf))]
		if _, err := io.ReadFull(f, b); err != nil {
			return errors.Join(delta.ErrMismatch, err)
		}
		if sha256.Sum256(b) != c.Sum {
			return delta.ErrMismatch
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// copyFrom makes a file out of the whole content of another on this host, verified.
func (r *receiver) copyFrom(i int32, from string) error {
	e := r.file(i)
	f, err := r.o.FS.Open(from)
	if err != nil {
		return r.retry(i, err)
	}
	defer f.Close()
	var bad error
	err = r.make(i, func(w io.Writer) error {
		err := copyVerified(w, f, e)
		if errors.Is(err, delta.ErrMismatch) {
			bad, err = err, nil
		}
		return err
	})
	return r.settle(i, err, bad)
}

// settle takes away a file whose content turned out wrong and notes it for the next round.
func (r *receiver) settle(i int32, err, bad error) error {
	if bad != nil && errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // it was not written to its end
	}
	if err != nil || bad == nil {
		return err
	}
	if err := r.o.FS.RemoveAll(r.layout.path(r.file(i))); err != nil {
		return err
	}
	return r.retry(i, bad)
}

// retry notes that an item must come whole from the sender. A full disk is no reason to.
func (r *receiver) retry(i int32, err error) error {
	if isFull(err) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.items[i].made = false
	r.failed = append(r.failed, i)
	return nil
}

// make makes an item's file; content writes what is in it.
func (r *receiver) make(i int32, content func(io.Writer) error) error {
	e := r.file(i)
	var err error
	if m, ok := r.o.FS.(Maker); ok {
		err = r.writeTold(m, r.layout.path(e), e, content)
	} else {
		err = r.write(r.layout.path(e), e, content)
	}
	if err != nil {
		return err
	}
	r.items[i].made = true
	return nil
}

// writeTold is write for an FS that wants to know all about a file beforehand.
func (r *receiver) writeTold(m Maker, path string, e *Entry, content func(io.Writer) error) error {
	f, err := m.Make(path, e.Mode, e.MTime, e.Size)
	if err != nil {
		return err
	}
	if err := errors.Join(content(f), f.Close()); err != nil {
		return err
	}
	return r.own(path)
}

// write makes a file with the entry's permission bits, time and owner.
func (r *receiver) write(path string, e *Entry, content func(io.Writer) error) error {
	f, err := r.o.FS.Create(path, e.Mode)
	if err != nil {
		return err
	}
	err = content(f)
	if err == nil {
		err = f.Chtimes(e.MTime)
	}
	if err := errors.Join(err, f.Close()); err != nil {
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

// theirs reads one round of units and makes their files. Small ones are verified and written beside
// the reading; as many wait in memory as there are workers.
func (r *receiver) theirs(ctx context.Context, units *unitSet, signed []signedUnit) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.o.workers())
	in := &incoming{r: r, g: g, units: units, signed: signed, records: &batchReader{in: r.in}}
	defer in.records.close()
	err := in.read(ctx)
	if writeErr := g.Wait(); writeErr != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = writeErr
	}
	return r.diskFault(err)
}

// incoming is one round of units under way.
type incoming struct {
	r       *receiver
	g       *errgroup.Group
	units   *unitSet
	signed  []signedUnit // those still to come
	records *batchReader
}

func (in *incoming) read(ctx context.Context) (err error) {
	in.r.eachFile(func(i int32, first int) {
		if err == nil && in.units.any(first, first+in.r.file(i).units()) {
			err = errors.Join(ctx.Err(), in.file(i, first))
		}
	})
	if err != nil {
		return err
	}
	if err := in.records.end(); err != nil {
		return lost(err)
	}
	return nil
}

// file reads the units of one file. Those that were not asked for, or not all of them, are passed over.
func (in *incoming) file(i int32, first int) error {
	r, e := in.r, in.r.file(i)
	at, end := first, first+e.units()
	// next gives the file's next unit up to one, dropping those before it.
	next := func(n int) (data []byte, patch bool, err error) {
		for ; at <= first+n; at++ {
			if in.units.has(at) {
				if data, patch, err = in.unit(e, at-first); err != nil {
					return nil, false, err
				}
			}
		}
		return data, patch, nil
	}
	complete := !r.items[i].made
	r.needed(i, func(n int) { complete = complete && in.units.has(first+n) })
	var err error
	switch {
	case !complete || !r.needsAny(i):
	case len(e.Chunks) > 0:
		err = r.assemble(i, next)
	default:
		err = in.small(i, first, next)
	}
	if err == nil && at < end {
		_, _, err = next(end - 1 - first)
	}
	return err
}

// unit reads one record.
func (in *incoming) unit(e *Entry, n int) ([]byte, bool, error) {
	data, patch, err := in.records.record(e.unitSize(n), ChunkedFrom)
	if err == nil && patch && len(e.Chunks) > 0 {
		err = errors.New("patch of a chunk")
	}
	if err != nil {
		return nil, false, lost(err)
	}
	return data, patch, nil
}

// small takes in a file of one unit and has it written.
func (in *incoming) small(i int32, unit int, next func(int) ([]byte, bool, error)) error {
	data, patch, err := next(0)
	if err != nil {
		return err
	}
	for len(in.signed) > 0 && in.signed[0].unit < unit {
		in.signed = in.signed[1:]
	}
	if patch && (len(in.signed) == 0 || in.signed[0].unit != unit) {
		return lost(errors.New("patch of what has no signature"))
	}
	r, e := in.r, in.r.file(i)
	data = bytes.Clone(data)
	in.g.Go(func() error {
		var err error
		if patch {
			data, err = r.patched(i, data)
		}
		if err != nil || int64(len(data)) != e.Size || sha256.Sum256(data) != e.Hash {
			return r.retry(i, err)
		}
		return r.make(i, func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		})
	})
	return nil
}

// patched makes a file's content out of its old version and a patch.
func (r *receiver) patched(i int32, patch []byte) ([]byte, error) {
	old, err := r.oldVersion(&r.items[i])
	if err != nil {
		return nil, err
	}
	return delta.ApplyPatch(old, patch, int(r.file(i).Size))
}

// oldVersion reads the parent's version of a small file.
func (r *receiver) oldVersion(it *item) ([]byte, error) {
	b := r.bases[0]
	f, err := r.o.FS.Open(join(b.dir, b.manifest.Entries[it.source].Path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, ChunkedFrom))
}

// lostTwin says that a file was not there when its twin was to be made of it.
func lostTwin(path string) error {
	return fault.New(fault.SyncVerify, "%s changed while the release was built", showPath(path))
}

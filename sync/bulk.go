package filesync

import (
	"context"
	"errors"
)

// Far is an FS of another machine: every call costs a wait, and to read a content there costs as much as
// to have it sent. Receive then takes from old trees only what it can link.
type Far interface {
	// InFlight is how many calls at once are worth making.
	InFlight() int
}

// Maker is an FS that can be told all about a file before its content comes. It may also do things in
// folders that it has made itself, new ones, behind its caller's back: in the order of the calls, and
// before anything that reads there. What goes wrong then shows in a later call there, at the latest in
// Sync or Rename.
type Maker interface {
	// Make is Create for a file of which time and size are known; perm, mtime and path are as for Create
	// and Chtimes. Writing more than size is an error, and Close after less is one that satisfies errors.Is
	// with io.ErrUnexpectedEOF: the file is there then, and good for nothing but RemoveAll. The caller makes
	// no other call on this FS below the same new folder, from the same goroutine, before it closes the file.
	Make(path string, perm uint32, mtime, size int64) (FileWriter, error)
}

// Summer is an FS whose host can hash files itself, so that they need not be read back.
type Summer interface {
	// Sums gives the SHA-256 of the regular files at these paths, in their order; the zero Hash where
	// nothing is there or it cannot be read. An error that is errors.ErrUnsupported says that this host
	// cannot hash.
	Sums(ctx context.Context, paths []string) ([]Hash, error)
}

// TreeReader is an FS that lists a whole tree faster than folder by folder.
type TreeReader interface {
	// ReadTree calls each for everything below path, which is no part of it, in no order: Info.Name is the
	// path relative to path. A folder that cannot be read is left empty. An error that is
	// errors.ErrUnsupported, before the first call of each, says that this host cannot.
	ReadTree(ctx context.Context, path string, each func(in Info) error) error
}

// TreeCopier is an FS whose host copies a tree itself.
type TreeCopier interface {
	// CopyTree makes path a copy of what is at old: kinds, permission bits, times and contents, links as
	// links. Nothing may be at path yet. An error that is errors.ErrUnsupported says that this host
	// cannot, and that nothing was made.
	CopyTree(ctx context.Context, old, path string) error
}

// inspectTree is inspect by one listing. What cannot be read has nothing to offer.
func (b *basis) inspectTree(ctx context.Context, o *ReceiveOptions, t TreeReader) error {
	good := 0
	err := t.ReadTree(ctx, b.dir, func(in Info) error {
		i := b.manifest.index(in.Name)
		if i < 0 {
			return nil
		}
		b.states[i] = b.stateOf(&b.manifest.Entries[i], &in, o)
		if b.states[i] == sameContent|sameMeta {
			good++
		}
		return nil
	})
	b.intact = err == nil && good == len(b.states)
	if errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return ctx.Err()
}

// bringNear has everything sent that a far host would have to read, and verifies there what an unfinished
// tree has to offer.
func (r *receiver) bringNear(ctx context.Context) error {
	if _, far := r.o.FS.(Far); !far {
		return nil
	}
	var doubted []int32
	for i := range r.items {
		it := &r.items[i]
		switch {
		case it.from == fromCopy || it.from == fromTwin || it.from == fromChunks:
			r.again(int32(i))
		case it.from == fromWire:
			it.source = -1 // its old version is no help
		case it.from == fromLink && r.bases[it.basis].doubted:
			doubted = append(doubted, int32(i))
		}
	}
	return r.verifyFar(ctx, doubted)
}

// verifyFar has the host hash files that were made by a transfer that did not end. Large ones are known by
// their chunks, which it cannot make.
func (r *receiver) verifyFar(ctx context.Context, doubted []int32) error {
	var small []int32
	var paths []string
	for _, i := range doubted {
		if len(r.file(i).Chunks) > 0 {
			r.again(i)
			continue
		}
		small, paths = append(small, i), append(paths, r.source(&r.items[i]))
	}
	sums := make([]Hash, len(small))
	if s, ok := r.o.FS.(Summer); ok && len(small) > 0 {
		told, err := s.Sums(ctx, paths)
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		copy(sums, told)
	}
	for k, i := range small {
		if sums[k] == r.file(i).Hash {
			r.items[i].sure = true
		} else {
			r.again(i)
		}
	}
	return nil
}

package filesync

import (
	"context"
	"io"
)

// Bulker is an FS that makes many things faster at once than one after the other. Receive uses it where
// an FS offers it.
type Bulker interface {
	// Bulk starts making things below the root. An error that is errors.ErrUnsupported says that this
	// host cannot: everything is then made one by one. The caller closes the writer, once, also after
	// an error of one of its methods. ctx bounds all of it.
	Bulk(ctx context.Context) (BulkWriter, error)
}

// BulkWriter makes things in the order given: folders before what is in them, names that are linked to
// before the new ones. Paths are those of FS. Nothing is promised to be there before Close, and times may
// be rounded down to whole seconds. It is for one goroutine.
//
// After an error of any method nothing but Close is of use, and what was made so far stays: the caller
// removes it, or looks at what is there.
type BulkWriter interface {
	// Mkdir makes a folder with these permission bits. One that is there gets these bits and this time:
	// folders are first made open, and named again, inner ones first, when all is in them.
	Mkdir(path string, perm uint32, mtime int64) error
	// File makes a regular file of exactly size bytes of content; fewer are an error.
	File(path string, perm uint32, mtime, size int64, content io.Reader) error
	// Link makes path another name of the regular file at old.
	Link(old, path string) error
	// Symlink makes a symbolic link; target is kept verbatim.
	Symlink(target, path string, mtime int64) error
	// Close says that this was all and waits for it: nil when the host has made everything, else what it
	// said. It cannot tell which of the things are there: Summer can.
	Close() error
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

// Queued is an FS where every call costs a wait, so that many at once are worth more than there are
// processors.
type Queued interface {
	// InFlight is how many calls at once are worth it.
	InFlight() int
}

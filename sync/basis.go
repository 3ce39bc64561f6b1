package filesync

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
)

// basis is a tree on this host whose contents may be used, as far as they are still what was
// recorded.
type basis struct {
	dir      string // where it lies, below the root of the FS
	manifest *Manifest
	// states tell for each entry what became of it on disk. Without them each file is looked at
	// when it is asked for.
	states []state
	intact bool // every file, folder and link is as recorded
	known  Hash // its identity, when that was found already
	timed  bool // times are part of what the tree is
	// doubted trees were not finished: contents are read and verified before they are used.
	doubted bool
	// inodes are those of the entries that are as recorded, on the file system dev; nil where that is not known.
	inodes []uint64
	dev    uint64
	begun  map[int]int64 // how much there is of files that have some of their content
}

// state is what a file of a basis is good for.
type state uint8

const (
	sameContent state = 1 << iota // size and time are as recorded
	sameMeta                      // and so are permission bits and owner: it can be linked
	someContent                   // the beginning of what is recorded
)

// root is the identity of the tree, zero when nothing is recorded.
func (b *basis) root() Hash {
	if len(b.manifest.Entries) == 0 || !b.known.IsZero() {
		return b.known
	}
	return b.manifest.identity(b.timed)
}

// state tells what became of one entry.
func (b *basis) state(o *ReceiveOptions, i int) state {
	if b.states != nil {
		return b.states[i]
	}
	e := &b.manifest.Entries[i]
	info, err := o.FS.Lstat(join(b.dir, e.Path))
	if err != nil {
		return 0
	}
	s := b.stateOf(e, &info, o)
	if s&someContent != 0 {
		if b.begun == nil {
			b.begun = map[int]int64{}
		}
		b.begun[i] = info.Size
	}
	return s
}

// inspect compares what is on disk with what is recorded, folder by folder.
func (b *basis) inspect(ctx context.Context, o *ReceiveOptions) error {
	b.states = make([]state, len(b.manifest.Entries))
	if t, ok := o.FS.(TreeReader); ok {
		if err := b.inspectTree(ctx, o, t); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	if info, err := o.FS.Lstat(b.dir); err == nil && info.Ino != 0 {
		b.inodes, b.dev = make([]uint64, len(b.manifest.Entries)), info.Dev
	}
	folders := byFolder(b.manifest)
	var changed atomic.Bool
	err := parallel(ctx, o.workers(), len(folders), func(i int) error {
		if !b.inspectDir(o, &folders[i]) {
			changed.Store(true)
		}
		return nil
	})
	b.intact = !changed.Load()
	return err
}

// is reports whether info tells of the very file that an entry is.
func (b *basis) is(i int, info *Info) bool {
	return b.inodes[i] != 0 && b.inodes[i] == info.Ino && info.Dev == b.dev
}

// verify reads every file that is taken to be what was recorded.
func (b *basis) verify(ctx context.Context, o *ReceiveOptions) error {
	var changed atomic.Bool
	err := parallel(ctx, o.workers(), len(b.manifest.Entries), func(i int) error {
		e := &b.manifest.Entries[i]
		if e.Kind == File && b.states[i]&sameContent != 0 && !verified(o.FS, e, join(b.dir, e.Path)) {
			b.states[i] = 0
			changed.Store(true)
		}
		return nil
	})
	b.intact = b.intact && !changed.Load()
	return err
}

// listing is where the entries of one folder stand in a manifest, in its order.
type listing struct {
	path    string
	entries []int32
}

// byFolder sorts a manifest's entries by the folder they are in.
func byFolder(m *Manifest) []listing {
	at := map[string]int32{".": 0}
	folders := []listing{{path: "."}}
	dir, last := int32(0), "."
	for i := range m.Entries {
		path, _ := split(m.Entries[i].Path)
		if path != last {
			dir, last = at[path], path
		}
		folders[dir].entries = append(folders[dir].entries, int32(i))
		if m.Entries[i].Kind == Dir {
			at[m.Entries[i].Path] = int32(len(folders))
			folders = append(folders, listing{path: m.Entries[i].Path})
		}
	}
	return folders
}

// inspectDir fills in the states of one folder's entries and reports whether all is as recorded. A
// folder that cannot be read has nothing to offer.
func (b *basis) inspectDir(o *ReceiveOptions, d *listing) bool {
	if len(d.entries) == 0 {
		return true
	}
	infos, err := o.FS.ReadDir(join(b.dir, d.path))
	if err != nil {
		return false
	}
	all := true
	at := 0
	for _, i := range d.entries {
		e := &b.manifest.Entries[i]
		name := e.Path[len(e.Path)-len(lastOf(e.Path)):]
		// Both are sorted; a folder's entries only nearly, because "a-b" comes between "a" and "a/c".
		for at < len(infos) && infos[at].Name < name {
			at++
		}
		if at == len(infos) || infos[at].Name != name {
			var found bool
			at, found = slices.BinarySearchFunc(infos, name, func(in Info, name string) int {
				return strings.Compare(in.Name, name)
			})
			if !found {
				all = false
				continue
			}
		}
		if infos[at].Kind != e.Kind {
			all = false
			continue
		}
		b.states[i] = b.stateOf(e, &infos[at], o)
		if b.inodes != nil && infos[at].Dev == b.dev {
			b.inodes[i] = infos[at].Ino
		}
		all = all && b.states[i] == sameContent|sameMeta
	}
	return all
}

func lastOf(path string) string {
	return path[strings.LastIndexByte(path, '/')+1:]
}

// stateOf compares one entry with what is on disk. The recorded time is what makes a file that an
// app changed in place show.
func (b *basis) stateOf(e *Entry, info *Info, o *ReceiveOptions) state {
	var s state
	switch {
	case info.Kind != e.Kind:
		return 0
	case e.Kind == File && info.Size == e.Size && sameTime(info.MTime, e.MTime):
		s |= sameContent
	case e.Kind == File && b.doubted && info.Size < e.Size && len(e.Chunks) > 0:
		return someContent
	case e.Kind == Link && info.Size == int64(len(e.Link)), e.Kind == Dir:
		s |= sameContent
	}
	sameOwner := (o.UID < 0 || info.UID == o.UID) && (o.GID < 0 || info.GID == o.GID)
	if sameOwner && (e.Kind == Link || info.Mode == e.Mode) {
		s |= sameMeta
	}
	return s
}

// sameTime compares a time on disk with a recorded one. Some file systems, and SFTP, know whole
// seconds only.
func sameTime(disk, recorded int64) bool {
	sec, _ := floorDiv(recorded)
	return disk == recorded || disk == sec*1_000_000_000
}

package filesync

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"godeploy/internal/fault"
	"godeploy/sync/delta"
)

// found is a target folder as it is. Entries are sorted by path; a file whose content is not known has a
// zero Hash. Unlike a source it may hold devices and the like.
type found struct {
	tree   Manifest
	stamps []stamp  // of each entry
	guards []guard  // what the rules say about deleting the entry
	closed []string // folders that were not entered, because the rules leave them out
	litter []string // temporary files of runs that died
	hashed int      // files that were read
	last   *record  // what the last run left
	was    []int32  // place in last of what is still as it was left, else -1
}

// guard says when a rule protects an entry from Delete.
type guard uint8

const (
	guarded guard = 1 << iota // where the folder it is in stays
	tied                      // where that is deleted, too
)

// stamp is what a file's inode shows: while it is the same, so is the content.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64
	uid, gid     int32
}

func stampOf(in *Info) stamp {
	return stamp{in.Dev, in.Ino, in.Size, in.MTime, in.CTime, int32(in.UID), int32(in.GID)}
}

// sameInode compares all but the owner, which the content does not depend on.
func (s stamp) sameInode(t stamp) bool {
	s.uid, s.gid, t.uid, t.gid = 0, 0, 0, 0
	return s == t
}

// timeIs reports whether the time of entry j is the one wanted, as far as the host can keep one.
func (f *found) timeIs(j int, want int64) bool {
	e := &f.tree.Entries[j]
	if e.MTime == want || f.was[j] >= 0 && f.last.tree.Entries[f.was[j]].MTime == want {
		return true
	}
	coarse := f.stamps[j].ino == 0 // a transport that tells no inode numbers tells whole seconds, and none of links
	return coarse && (e.Kind == Link || sameTime(e.MTime, want))
}

// look lists the target without following a link and without reading any file.
func look(ctx context.Context, o *PlaceOptions, n *notes) (*found, error) {
	l := &looker{o: o, notes: n}
	if err := l.walk(ctx, []string{"."}); err != nil {
		return nil, err
	}
	return l.found(), nil
}

// sight is one thing that was seen.
type sight struct {
	entry  Entry
	stamp  stamp
	guard  guard
	closed bool // it is a folder that is not entered
}

type looker struct {
	o      *PlaceOptions
	notes  *notes
	mu     sync.Mutex
	seen   []sight
	litter []string
}

// walk lists folders, level by level: no recursion, so no depth exhausts it.
func (l *looker) walk(ctx context.Context, level []string) error {
	for len(level) > 0 {
		var mu sync.Mutex
		var next []string
		err := l.o.each(ctx, len(level), func(i int) error {
			below, err := l.list(level[i])
			mu.Lock()
			next = append(next, below...)
			mu.Unlock()
			return err
		})
		if err != nil {
			return err
		}
		level = next
	}
	return nil
}

// list takes in one folder and gives those to go on with.
func (l *looker) list(dir string) (below []string, err error) {
	infos, err := l.o.FS.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look at what is there: %w", err)
	}
	rules := l.o.Rules.In(dir)
	doomed := rules.Doomed()
	var seen []sight
	var litter []string
	for i := range infos {
		in := &infos[i]
		path := join(dir, in.Name)
		switch {
		case path == ".godeploy":
			continue
		case strings.HasPrefix(in.Name, placeTemp):
			litter = append(litter, path)
			continue
		case len(path) > MaxPath:
			return nil, fault.New(fault.LayoutRefused, "%s… is a path of more than %d bytes", showPath(path[:64]), MaxPath)
		}
		s, err := l.see(path, in, rules, doomed)
		if err != nil {
			return nil, err
		}
		seen = append(seen, s)
		if in.Kind == Dir && !s.closed {
			below = append(below, path)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.litter = append(l.litter, litter...)
	if l.seen = append(l.seen, seen...); len(l.seen) > MaxEntries {
		return nil, fault.New(fault.LayoutRefused, "the folder on the host has more than %d files and folders", MaxEntries)
	}
	return below, nil
}

func (l *looker) see(path string, in *Info, rules, doomed *Rules) (sight, error) {
	dir := in.Kind == Dir
	s := sight{entry: Entry{Path: path, Kind: in.Kind, Mode: in.Mode, MTime: in.MTime}, stamp: stampOf(in)}
	if rules.Protected(path, dir) {
		s.guard = guarded
		if doomed.Protected(path, dir) {
			s.guard |= tied
		}
	}
	s.closed = dir && s.guard&tied != 0 && rules.Excluded(path, dir)
	switch in.Kind {
	case Dir:
		if avoid := l.o.Avoid; avoid != (Identity{}) && avoid == (Identity{in.Dev, in.Ino}) {
			return s, fault.New(fault.LayoutRefused, "the source itself lies in the folder, at %s", showPath(path)).
				Hint("a sync must not write into its own source")
		}
	case File:
		s.entry.Size = in.Size
	case Link:
		s.entry.Mode = 0
		text, err := l.o.FS.Readlink(path)
		if err != nil {
			return s, err
		}
		s.entry.Link = text
	case Special:
		l.notes.add("%s is a device, FIFO or socket", showPath(path))
	}
	return s, nil
}

// found puts what was seen in order.
func (l *looker) found() *found {
	slices.SortFunc(l.seen, func(a, b sight) int { return cmp.Compare(a.entry.Path, b.entry.Path) })
	f := &found{
		tree: Manifest{Entries: make([]Entry, len(l.seen))}, stamps: make([]stamp, len(l.seen)),
		guards: make([]guard, len(l.seen)), was: make([]int32, len(l.seen)), litter: l.litter, last: &record{},
	}
	for j := range l.seen {
		s := &l.seen[j]
		f.tree.Entries[j], f.stamps[j], f.guards[j] = s.entry, s.stamp, s.guard
		f.was[j] = -1
		if s.closed {
			f.closed = append(f.closed, s.entry.Path)
		}
	}
	return f
}

// reveal enters the folders that were left out and that the source has all the same: it may have been
// scanned by other rules. It gives the target anew when there are any.
func (f *found) reveal(ctx context.Context, o *PlaceOptions, want *Manifest, n *notes) (*found, error) {
	var level []string
	closed := make(map[string]bool)
	for _, dir := range f.closed {
		if e := want.Find(dir); e != nil && e.Kind == Dir {
			level = append(level, dir)
		} else {
			closed[dir] = true
		}
	}
	if len(level) == 0 {
		return f, nil
	}
	l := &looker{o: o, notes: n, litter: f.litter}
	if err := l.walk(ctx, level); err != nil {
		return nil, err
	}
	for j := range f.tree.Entries {
		e := f.tree.Entries[j]
		l.seen = append(l.seen, sight{entry: e, stamp: f.stamps[j], guard: f.guards[j], closed: closed[e.Path]})
	}
	next := l.found()
	next.recall(f.last)
	return next, nil
}

// recall takes over what the last run knew of what is still as it left it.
func (f *found) recall(last *record) {
	f.last = last
	i := 0
	for j := range f.tree.Entries {
		e := &f.tree.Entries[j]
		for i < len(last.stamps) && last.tree.Entries[i].Path < e.Path {
			i++
		}
		if i == len(last.stamps) || last.tree.Entries[i].Path != e.Path {
			continue
		}
		old := &last.tree.Entries[i]
		if old.Kind == e.Kind && last.stamps[i].sameInode(f.stamps[j]) {
			f.was[j] = int32(i)
			e.Hash, e.Chunks = old.Hash, old.Chunks
		}
	}
}

// learn reads what must be known to compare with want: files at a wanted path whose content is not known
// from the last run, if their size is the wanted one; with VerifyAll, those that are known too. Large
// ones are read whatever their size, since most of such a file can mostly be used.
func (f *found) learn(ctx context.Context, o *PlaceOptions, want *Manifest) error {
	var todo []int
	for j := range f.tree.Entries {
		h := &f.tree.Entries[j]
		if h.Kind != File || !h.Hash.IsZero() && !o.VerifyAll {
			continue
		}
		w := want.Find(h.Path)
		if w != nil && w.Kind == File && (w.Size == h.Size || min(w.Size, h.Size) >= ChunkedFrom) {
			todo = append(todo, j)
		}
	}
	f.hashed += len(todo)
	todo, err := f.sums(ctx, o, todo)
	if err != nil {
		return err
	}
	var next atomic.Int64
	return o.each(ctx, min(o.workers(), len(todo)), func(int) error {
		splitter := delta.NewSplitter()
		for {
			i := int(next.Add(1)) - 1
			if i >= len(todo) {
				return nil
			}
			if err := errors.Join(ctx.Err(), f.read(o.FS, splitter, todo[i])); err != nil {
				return err
			}
		}
	})
}

// sums has a host that can hash the small ones itself, and gives those that are left to be read.
func (f *found) sums(ctx context.Context, o *PlaceOptions, todo []int) ([]int, error) {
	summer, ok := o.FS.(Summer)
	if !ok {
		return todo, nil
	}
	var small, rest []int
	var paths []string
	for _, j := range todo {
		if e := &f.tree.Entries[j]; e.Size < ChunkedFrom {
			small, paths = append(small, j), append(paths, e.Path)
		} else {
			rest = append(rest, j)
		}
	}
	sums, err := summer.Sums(ctx, paths)
	if errors.Is(err, errors.ErrUnsupported) || err == nil && len(sums) != len(paths) {
		return todo, nil
	}
	for i := range sums {
		f.tree.Entries[small[i]].Hash = sums[i]
	}
	return rest, err
}

// read hashes one file of the target. One that changes meanwhile, or is gone, has no known content: it
// is replaced. So has one that may not be read, which a replacement mends.
func (f *found) read(fsys FS, splitter *delta.Splitter, j int) error {
	e := &f.tree.Entries[j]
	hash, chunks, err := hashOnce(fsys, splitter, e.Path, e.Size)
	e.Hash, e.Chunks = hash, chunks
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return fmt.Errorf("read what is there: %w", err)
}

// hashOnce gives the identity of a file's content, zero when it has not this size or changes meanwhile.
func hashOnce(fsys FS, splitter *delta.Splitter, path string, size int64) (hash Hash, chunks []delta.Chunk, err error) {
	file, err := fsys.Open(path)
	if err != nil {
		return hash, nil, err
	}
	defer file.Close()
	before, err := file.Stat()
	if err != nil || before.Size != size {
		return hash, nil, err
	}
	n := int64(0)
	from := io.LimitReader(file, size+1) // one byte more is enough to see it grow
	if size < ChunkedFrom {
		sum := sha256.New()
		n, err = io.Copy(sum, from)
		hash = Hash(sum.Sum(nil))
	} else {
		err = splitter.Split(from, func(c delta.Chunk, _ []byte) error {
			chunks = append(chunks, c)
			n += int64(c.Len)
			return nil
		})
		hash = delta.Sum(chunks)
	}
	after, statErr := file.Stat()
	if err = errors.Join(err, statErr); err != nil || n != size || before != after {
		return Hash{}, nil, err
	}
	return hash, chunks, nil
}

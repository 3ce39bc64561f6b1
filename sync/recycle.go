package filesync

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// recycle makes the stage out of a retired tree: what is there the very inode that would be linked stays,
// all else goes. It reports whether there is a stage now; without one, nothing has changed but that the
// retired tree may be gone.
func (l *releaseFolder) recycle(ctx context.Context, r *receiver) (bool, error) {
	if l.o.Spare == "" {
		return false, nil
	}
	spare := releasesDir + "/" + l.o.Spare
	if r.parent.inodes == nil || l.o.Links == "copy" || l.o.Links == "reflink" {
		return false, l.o.FS.RemoveAll(spare)
	}
	err := l.o.FS.Rename(spare, l.stage())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	l.staged = true
	err = l.o.FS.Chmod(l.stage(), 0o755)
	if err == nil {
		err = newRecycler(l, r).run(ctx)
	}
	if err == nil || ctx.Err() != nil || isFull(err) {
		return true, err
	}
	// What cannot be taken apart, say for a file that nobody may remove, must not stand in the way.
	for i := range r.items {
		r.items[i].made = false
	}
	l.staged = false
	return false, l.o.FS.Rename(l.stage(), spare)
}

// recycler makes the folders of a stage that was another tree.
type recycler struct {
	l       *releaseFolder
	r       *receiver
	folders []listing
	at      map[string]int // place in folders by path
	items   map[int32]int32
	stood   []bool // by folder: it was there before
}

func newRecycler(l *releaseFolder, r *receiver) *recycler {
	c := &recycler{l: l, r: r, folders: byFolder(r.want), at: map[string]int{}, items: make(map[int32]int32, len(r.items))}
	for i := range c.folders {
		c.at[c.folders[i].path] = i
	}
	for i := range r.items {
		c.items[r.items[i].entry] = int32(i)
	}
	c.stood = make([]bool, len(c.folders))
	c.stood[0] = true
	return c
}

// run goes from the outer folders to the inner ones: a folder is there when its turn comes.
func (c *recycler) run(ctx context.Context) error {
	for level := c.folders[:1]; len(level) > 0; {
		var next []listing
		for i := range level {
			for _, k := range level[i].entries {
				if e := &c.r.want.Entries[k]; e.Kind == Dir {
					next = append(next, c.folders[c.at[e.Path]])
				}
			}
		}
		err := parallel(ctx, c.l.o.workers(), len(level), func(i int) error { return c.folder(&level[i]) })
		if err != nil {
			return err
		}
		level = next
	}
	return nil
}

// folder leaves in one folder what stays, removes what does not, and makes the folders it lacks.
func (c *recycler) folder(d *listing) error {
	var infos []Info
	if c.stood[c.at[d.path]] {
		var err error
		if infos, err = c.l.o.FS.ReadDir(join(c.l.stage(), d.path)); err != nil {
			return err
		}
	}
	stay := make([]bool, len(infos))
	for _, k := range d.entries {
		e := &c.r.want.Entries[k]
		n, found := slices.BinarySearchFunc(infos, lastOf(e.Path), func(in Info, name string) int { return strings.Compare(in.Name, name) })
		if found {
			stay[n] = c.stays(k, e, &infos[n])
		}
	}
	for n := range infos {
		if stay[n] {
			continue
		}
		if err := c.l.o.FS.RemoveAll(join(c.l.stage(), join(d.path, infos[n].Name))); err != nil {
			return err
		}
	}
	return c.subfolders(d)
}

// stays reports whether what lies there is what the tree has, and settles the item if so. A file must be
// the inode that would be linked: then it is as if it had been.
func (c *recycler) stays(k int32, e *Entry, info *Info) bool {
	if info.Kind != e.Kind {
		return false
	}
	switch e.Kind {
	case Dir:
		c.stood[c.at[e.Path]] = true
		return true
	case File:
		it := &c.r.items[c.items[k]]
		if it.from != fromLink || it.basis != 0 || !c.r.parent.is(int(it.source), info) {
			return false
		}
		e.MTime = c.r.parent.manifest.Entries[it.source].MTime
		it.made = true
		return true
	}
	return false
}

// subfolders makes the folders that are in d, and those that stood writable for us.
func (c *recycler) subfolders(d *listing) error {
	for _, k := range d.entries {
		e := &c.r.want.Entries[k]
		if e.Kind != Dir {
			continue
		}
		change := c.l.o.FS.Mkdir
		if c.stood[c.at[e.Path]] {
			change = c.l.o.FS.Chmod
		}
		if err := change(c.l.path(e), e.Mode|0o700); err != nil {
			return err
		}
	}
	return nil
}

package filesync

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// mostFolders is how many folders stay open: what is done in a tree is done in a few at a time.
	mostFolders = 48
	// folderAge is how long one does. Somebody else may move a folder and put another in its place:
	// for so long what is done there is done as if it had been a moment earlier.
	folderAge = 250 * time.Millisecond
)

// folders keeps the folders that are worked in open, so that work in one costs one call and not the
// way to it besides. It is safe for concurrent use.
type folders struct {
	mu   sync.Mutex
	open map[string]*folder
	shut bool // nothing is kept any more
}

// folder is an open folder.
type folder struct {
	fd    int
	until time.Time
	users int  // that have it now; guarded by folders.mu
	kept  bool // it is in the map; the last user of one that is not closes it
	// files and folders are the bits that what is made here gets as they were asked for.
	files, folders exactBits
}

// exactBits remembers the permission bits, with 1<<16 set besides, that something new was last seen
// to have got just so: umask and default ACL of the folder leave these alone.
type exactBits struct{ seen atomic.Uint32 }

// settle sees to it that what was just made has exactly these bits: by a look at it, or by knowing
// what came of the last such thing.
func (b *exactBits) settle(perm uint32, look func(*unix.Stat_t) error, chmod func() error) error {
	if b.seen.Load() == perm|1<<16 {
		return nil
	}
	var st unix.Stat_t
	if _, err := retry(func() (struct{}, error) { return struct{}{}, look(&st) }); err != nil {
		return err
	}
	if st.Mode&0o777 == perm {
		b.seen.Store(perm | 1<<16)
		return nil
	}
	_, err := retry(func() (struct{}, error) { return struct{}{}, chmod() })
	return err
}

// take gives the folder kept under path, or nil. The caller gives it back.
func (c *folders) take(path string) *folder {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.open[path]
	if d == nil {
		return nil
	}
	if now.After(d.until) {
		c.forget(path, d)
		return nil
	}
	d.users++
	return d
}

// put keeps a folder that was opened just now and gives it to the caller, who gives it back.
func (c *folders) put(path string, fd int) *folder {
	d := &folder{fd: fd, users: 1, until: time.Now().Add(folderAge)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut || c.open[path] != nil {
		return d
	}
	if len(c.open) >= mostFolders {
		c.forgetOldest()
	}
	if c.open == nil {
		c.open = make(map[string]*folder, mostFolders)
	}
	c.open[path], d.kept = d, true
	return d
}

func (c *folders) forgetOldest() {
	var path string
	var oldest *folder
	for p, d := range c.open {
		if oldest == nil || d.until.Before(oldest.until) {
			path, oldest = p, d
		}
	}
	c.forget(path, oldest)
}

// give gives back what take or put gave.
func (c *folders) give(d *folder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.users--; d.users == 0 && !d.kept {
		_ = unix.Close(d.fd) // opened for a path only: nothing to lose
	}
}

// forget takes a folder out of the map; c.mu is held.
func (c *folders) forget(path string, d *folder) {
	delete(c.open, path)
	if d.kept = false; d.users == 0 {
		_ = unix.Close(d.fd) // see give
	}
}

// drop forgets path and what is below it: it is moved or taken away.
func (c *folders) drop(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p, d := range c.open {
		if p == path || len(p) > len(path) && p[len(path)] == '/' && p[:len(path)] == path {
			c.forget(p, d)
		}
	}
}

// close forgets all and keeps nothing from then on.
func (c *folders) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shut = true
	for p, d := range c.open {
		c.forget(p, d)
	}
}

// in runs f with the folder path lies in and the last component, and names path in the error. What
// a folder that was kept does not know is looked for once more by the way to it: it may be another.
func (l *local) in(op, path string, f func(dir *folder, name string) error) error {
	if err := checkPath(path); err != nil {
		return wrap(op, path, err)
	}
	parent, name := split(path)
	if parent == "." {
		return do(op, path, func() error { return f(&l.top, name) })
	}
	if d := l.folders.take(parent); d != nil {
		err := do(op, path, func() error { return f(d, name) })
		l.folders.give(d)
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESTALE) {
			return err
		}
		l.folders.drop(parent)
	}
	fd, err := l.openBelow(parent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return wrap(op, path, err)
	}
	d := l.folders.put(parent, fd)
	defer l.folders.give(d)
	return do(op, path, func() error { return f(d, name) })
}

// at is in for what needs the descriptor only.
func (l *local) at(op, path string, f func(dir int, name string) error) error {
	return l.in(op, path, func(dir *folder, name string) error { return f(dir.fd, name) })
}

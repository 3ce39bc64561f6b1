package overssh

import (
	"context"
	"errors"
	"io/fs"
	"path"

	filesync "godeploy/sync"
)

// What follows is done by calls of their own. Where it touches what is made behind the caller's back it
// waits for that first.

func (b behindFS) Lstat(p string) (filesync.Info, error) {
	if err := b.see(p); err != nil {
		return filesync.Info{}, err
	}
	info, err := b.shellFS.Lstat(p)
	if err == nil {
		b.owner(p, &info)
	}
	return info, err
}

// owner notes files that are another user's.
func (b behindFS) owner(p string, info *filesync.Info) {
	if b.uid <= 0 || info.UID < 0 || info.UID == b.uid || info.Kind != filesync.File {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.other[p] = true
}

func (b behindFS) Readlink(p string) (string, error) {
	if err := b.see(p); err != nil {
		return "", err
	}
	return b.shellFS.Readlink(p)
}

func (b behindFS) ReadDir(p string) ([]filesync.Info, error) {
	if err := b.see(p); err != nil {
		return nil, err
	}
	infos, err := b.shellFS.ReadDir(p)
	for i := range infos {
		b.owner(below(p, infos[i].Name), &infos[i])
	}
	return infos, err
}

// below puts a name below a folder, which may be the root.
func below(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

func (b behindFS) ReadTree(ctx context.Context, p string, each func(in filesync.Info) error) error {
	if err := b.see(p); err != nil {
		return err
	}
	return b.shellFS.ReadTree(ctx, p, func(in filesync.Info) error {
		b.owner(below(p, in.Name), &in)
		return each(in)
	})
}

func (b behindFS) CopyTree(ctx context.Context, old, p string) error {
	if err := errors.Join(b.see(old), b.change(p)); err != nil {
		return err
	}
	return b.shellFS.CopyTree(ctx, old, p)
}

func (b behindFS) Sums(ctx context.Context, paths []string) ([]filesync.Hash, error) {
	for _, p := range paths {
		if err := b.see(p); err != nil {
			return nil, err
		}
	}
	return b.shellFS.Sums(ctx, paths)
}

func (b behindFS) Open(p string) (filesync.FileReader, error) {
	if err := b.see(p); err != nil {
		return nil, err
	}
	return b.shellFS.Open(p)
}

func (b behindFS) Create(p string, perm uint32) (filesync.FileWriter, error) {
	if err := b.change(p); err != nil {
		return nil, err
	}
	return b.shellFS.Create(p, perm)
}

// Rename has what is moved hashed first: its names will be others.
func (b behindFS) Rename(old, p string) error {
	if err := errors.Join(b.change(old), b.change(p)); err != nil {
		return err
	}
	if err := b.checkAt(old, p); err != nil {
		return err
	}
	if err := b.shellFS.Rename(old, p); err != nil {
		return err
	}
	b.drop(old)
	b.drop(p)
	return nil
}

func (b behindFS) checkAt(paths ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range paths {
		if b.touches(p) {
			return b.check()
		}
	}
	return nil
}

// RemoveAll needs no success of what is under way: it goes.
func (b behindFS) RemoveAll(p string) error {
	if b.nothing(p) {
		return nil
	}
	_ = b.change(p) // an error shows at whatever else is asked for there
	if err := b.shellFS.RemoveAll(p); err != nil {
		return err
	}
	b.drop(p)
	return nil
}

// nothing reports whether nothing is at p for sure.
func (b behindFS) nothing(p string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	dir := b.nodes[path.Dir(p)]
	return checkPath("remove", p) == nil && dir != nil && dir.new && b.nodes[p] == nil
}

// Sync makes all of it durable, once the host has hashed it. Folders are no longer new after that.
func (b behindFS) Sync() error {
	b.mu.Lock()
	err := b.check()
	if err == nil {
		b.tops, b.nodes = nil, map[string]*node{}
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
	return b.shellFS.Sync()
}

// Close breaks off what is under way.
func (b behindFS) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tar != nil {
		b.tar.bad = errors.Join(b.tar.bad, context.Canceled)
		_ = b.tar.Close() // it was broken off
		b.tar, b.bad = nil, fs.ErrClosed
	}
	return b.shellFS.Close()
}

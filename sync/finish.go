package filesync

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
)

// finish makes the rest, once all content is there: twins, links, what is carried over, then the
// folders' own bits and times; then all of it becomes durable and takes its name.
func (r *receiver) finish(ctx context.Context) error {
	for _, step := range []func(context.Context) error{r.makeTwins, r.makeLinks, r.carryAll, r.closeFolders} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	fsys := r.o.FS
	if err := r.own(r.stage); err != nil {
		return r.diskFault(err)
	}
	if err := writeManifest(fsys, r.o.ID, r.want); err != nil {
		return r.diskFault(err)
	}
	if err := fsys.Sync(); err != nil {
		return r.diskFault(err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := fsys.Rename(r.stage, releasesDir+"/"+r.o.ID); err != nil {
		return r.diskFault(err)
	}
	r.staged = false
	return r.diskFault(fsys.SyncDir(releasesDir))
}

// makeTwins copies files that another file of the tree equals.
func (r *receiver) makeTwins(ctx context.Context) error {
	err := r.parallel(ctx, len(r.items), func(i int) error {
		it := &r.items[i]
		if it.from != fromTwin {
			return nil
		}
		return r.copyFrom(i, join(r.stage, r.items[it.source].entry.Path))
	})
	if err == nil && len(r.failed) > 0 {
		return lostTwin(r.items[r.failed[0]].entry.Path)
	}
	return err
}

// makeLinks makes the tree's links, after everything that is written by path.
func (r *receiver) makeLinks(ctx context.Context) error {
	return r.parallel(ctx, len(r.want.Entries), func(i int) error {
		e := &r.want.Entries[i]
		if e.Kind != Link {
			return nil
		}
		path := join(r.stage, e.Path)
		if err := r.o.FS.Symlink(e.Link, path); err != nil {
			return err
		}
		return r.own(path)
	})
}

// closeFolders gives every folder its bits, time and owner, the inner ones first: none is changed
// any more after its turn.
func (r *receiver) closeFolders(ctx context.Context) error {
	for i := len(r.want.Entries) - 1; i >= 0; i-- {
		e := &r.want.Entries[i]
		if e.Kind != Dir {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		path := join(r.stage, e.Path)
		err := r.own(path)
		if err == nil && e.Mode&0o700 != 0o700 {
			err = r.o.FS.Chmod(path, e.Mode)
		}
		if err == nil {
			err = r.o.FS.Chtimes(path, e.MTime)
		}
		if err != nil {
			return r.diskFault(err)
		}
	}
	return nil
}

// carryAll copies what the options name from the parent. What the parent does not have, or the tree
// has itself, is passed over.
func (r *receiver) carryAll(ctx context.Context) error {
	for _, path := range r.o.Carry {
		if r.o.Parent == "" || r.want.Find(path) != nil {
			continue
		}
		if err := r.carry(ctx, path); err != nil {
			return r.diskFault(err)
		}
	}
	return nil
}

func (r *receiver) carry(ctx context.Context, path string) error {
	from := releasesDir + "/" + r.o.Parent
	info, err := r.o.FS.Lstat(join(from, path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	dir, _ := split(path)
	made, err := MkdirAll(r.o.FS, join(r.stage, dir), 0o755)
	for _, p := range made {
		err = errors.Join(err, r.own(p))
	}
	if err != nil {
		return err
	}
	var folders []Info // with the whole path as name, outer ones first
	info.Name = path
	for todo := []Info{info}; len(todo) > 0; {
		next := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if err := errors.Join(ctx.Err(), r.carryOne(from, &next)); err != nil {
			return err
		}
		if next.Kind != Dir {
			continue
		}
		folders = append(folders, next)
		below, err := r.o.FS.ReadDir(join(from, next.Name))
		if err != nil {
			return err
		}
		for _, in := range below {
			in.Name = join(next.Name, in.Name)
			todo = append(todo, in)
		}
	}
	slices.Reverse(folders)
	for i := range folders {
		if err := r.closeCarried(&folders[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *receiver) closeCarried(info *Info) error {
	path := join(r.stage, info.Name)
	if err := r.o.FS.Chmod(path, info.Mode); err != nil {
		return err
	}
	return r.o.FS.Chtimes(path, info.MTime)
}

// carryOne copies one file, link or empty folder; a socket or the like stays behind.
func (r *receiver) carryOne(from string, info *Info) error {
	fsys, path := r.o.FS, join(r.stage, info.Name)
	switch info.Kind {
	case Dir:
		if err := fsys.Mkdir(path, 0o700); err != nil {
			return err
		}
	case Link:
		text, err := fsys.Readlink(join(from, info.Name))
		if err != nil {
			return err
		}
		if err := fsys.Symlink(text, path); err != nil {
			return err
		}
	case File:
		e := Entry{Path: info.Name, Mode: info.Mode, MTime: info.MTime}
		f, err := fsys.Open(join(from, info.Name))
		if err != nil {
			return err
		}
		defer f.Close()
		return r.write(&e, func(w io.Writer) error {
			_, err := io.Copy(w, f)
			return err
		})
	default:
		return nil
	}
	return r.own(path)
}

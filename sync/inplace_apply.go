package filesync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"godeploy/internal/fault"
)

// applier carries out a placePlan. New contents are complete and verified in placePartial before it
// begins, each with the bits and the time it is to have.
type applier struct {
	*placePlan
	o      *PlaceOptions
	notes  *notes
	staged func(i int) string // where the content of want's entry i lies

	mu      sync.Mutex
	moved   []int           // of aside: those that are out of the way
	changed []bool          // of want: entries that were made or touched
	dirty   map[string]bool // folders in which names came or went
	opened  map[string]uint32
}

// applyPlace changes the target. A file that is replaced is the old or the new one to every reader,
// never none and never half; deletions come last, and only when all before went well. Whatever
// interrupts it, every file is whole, and the next run goes on from what is there.
func applyPlace(ctx context.Context, p *placePlan, o *PlaceOptions, n *notes, staged func(i int) string) error {
	a := &applier{
		placePlan: p, o: o, notes: n, staged: staged, changed: make([]bool, len(p.want.Entries)),
		dirty: make(map[string]bool), opened: make(map[string]uint32),
	}
	err := a.run(ctx)
	if err == nil {
		return nil
	}
	return errors.Join(placeFault(err), a.retreat())
}

// idle reports whether nothing at all is to be done, the record included.
func (p *placePlan) idle() bool {
	return len(p.folders)+len(p.puts)+len(p.links)+len(p.touch)+len(p.remove)+len(p.have.litter) == 0 &&
		p.have.last.knows(p.want) && p.have.hashed == 0
}

func (a *applier) run(ctx context.Context) error {
	if len(a.puts) > 0 {
		// Before the first name changes: after a power cut no name may lead to a content that is not there.
		if err := a.o.FS.Sync(); err != nil {
			return err
		}
	}
	for _, step := range []func(context.Context) error{
		a.open, a.giveWay, a.makeFolders, a.putAll, a.linkAll, a.touchAll, a.removeAll, a.closeFolders, a.finish,
	} {
		if err := errors.Join(ctx.Err(), step(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// open makes the folders writable in which something is made, replaced or removed.
func (a *applier) open(ctx context.Context) error {
	for _, list := range [][]int{a.folders, a.puts, a.links} {
		for _, i := range list {
			a.soil(a.want.Entries[i].Path)
		}
	}
	for _, list := range [][]int{a.aside, a.remove} {
		for _, j := range list {
			a.soil(a.have.tree.Entries[j].Path)
		}
	}
	for j := range a.have.tree.Entries {
		h := &a.have.tree.Entries[j]
		if h.Kind != Dir || h.Mode&0o700 == 0o700 || !a.dirty[h.Path] {
			continue
		}
		if err := a.o.FS.Chmod(h.Path, h.Mode|0o700); err != nil {
			return err
		}
		a.opened[h.Path] = h.Mode
	}
	return ctx.Err()
}

// soil notes that names come or go in the folder of path.
func (a *applier) soil(path string) {
	dir, _ := split(path)
	a.dirty[dir] = true
}

// giveWay moves out of the way what a rename cannot replace.
func (a *applier) giveWay(context.Context) error {
	if len(a.aside) == 0 {
		return nil
	}
	if _, err := MkdirAll(a.o.FS, placePartial, 0o700); err != nil {
		return err
	}
	for n, j := range a.aside {
		path, mode := a.have.tree.Entries[j].Path, a.have.tree.Entries[j].Mode
		if err := a.o.FS.RemoveAll(asideName(n)); err != nil {
			return err
		}
		// To move a folder is to change what ".." in it says.
		if a.have.tree.Entries[j].Kind == Dir && mode&0o700 != 0o700 {
			if err := a.o.FS.Chmod(path, mode|0o700); err != nil {
				return err
			}
			delete(a.opened, path)
		}
		err := a.o.FS.Rename(path, asideName(n))
		switch {
		case errors.Is(err, syscall.EXDEV) && a.have.tree.Entries[j].Kind != Dir:
			err = a.o.FS.RemoveAll(path)
		case errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EBUSY):
			return fault.New(fault.LayoutRefused, "%s is a folder on a file system of its own on the host and none in the source", showPath(path)).
				Hint("remove it there, or leave it out").Wrap(plain(err))
		case err == nil:
			a.moved = append(a.moved, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func asideName(n int) string { return placePartial + "/aside-" + strconv.Itoa(n) }

// retreat makes the best of what an error has left: what was moved out of the way goes back where nothing
// has taken its place, and folders get their bits back.
func (a *applier) retreat() error {
	var errs []error
	for _, n := range a.moved {
		path := a.have.tree.Entries[a.aside[n]].Path
		if free, err := missing(a.o.FS, path); err == nil && free {
			errs = append(errs, a.o.FS.Rename(asideName(n), path))
			if h := &a.have.tree.Entries[a.aside[n]]; h.Kind == Dir && h.Mode&0o700 != 0o700 {
				errs = append(errs, a.o.FS.Chmod(path, h.Mode))
			}
		}
	}
	for path, mode := range a.opened {
		if err := a.o.FS.Chmod(path, mode); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// makeFolders makes all folders, writable for us until they are filled.
func (a *applier) makeFolders(ctx context.Context) error {
	for _, group := range byDepth(a.want.Entries, a.folders) {
		err := a.o.each(ctx, len(group), func(k int) error {
			e := &a.want.Entries[group[k]]
			a.changed[group[k]] = true
			if err := a.o.FS.Mkdir(e.Path, e.Mode|0o700); err != nil {
				return err
			}
			return a.own(e.Path)
		})
		if err != nil {
			return err
		}
		for _, i := range group {
			a.dirty[a.want.Entries[i].Path] = true
		}
	}
	return nil
}

// own gives what was made to its owner.
func (a *applier) own(path string) error {
	if a.o.UID < 0 && a.o.GID < 0 {
		return nil
	}
	return a.o.FS.Lchown(path, a.o.UID, a.o.GID)
}

// inherit gives what replaces entry j to the owner of that, where no owner is set.
func (a *applier) inherit(path string, j int) error {
	if !a.o.KeepOwner || a.o.UID >= 0 || a.o.GID >= 0 || j < 0 || a.have.stamps[j].uid < 0 {
		return a.own(path)
	}
	return a.o.FS.Lchown(path, int(a.have.stamps[j].uid), int(a.have.stamps[j].gid))
}

func (a *applier) putAll(ctx context.Context) error {
	return a.o.each(ctx, len(a.puts), func(k int) error {
		i := a.puts[k]
		a.changed[i] = true
		return a.put(i)
	})
}

// put moves a new content to its name.
func (a *applier) put(i int) error {
	e, from := &a.want.Entries[i], a.staged(i)
	if err := a.inherit(from, a.have.tree.index(e.Path)); err != nil {
		return err
	}
	err := a.o.FS.Rename(from, e.Path)
	switch {
	case errors.Is(err, syscall.EXDEV):
		return a.across(i, from)
	case errors.Is(err, syscall.EBUSY):
		return fault.New(fault.LayoutRefused, "%s is mounted on the host and cannot be replaced", showPath(e.Path)).Wrap(plain(err))
	}
	return err
}

// across is put for a target that lies on another file system: the content is made complete beside it.
func (a *applier) across(i int, from string) error {
	e := &a.want.Entries[i]
	temp := tempBeside(e.Path, i)
	in, err := a.o.FS.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := a.o.FS.RemoveAll(temp); err != nil {
		return err
	}
	out, err := a.o.FS.Create(temp, e.Mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err == nil {
		err = a.o.FS.Chtimes(temp, e.MTime)
	}
	if err == nil {
		err = a.inherit(temp, a.have.tree.index(e.Path))
	}
	if err == nil {
		err = a.o.FS.Rename(temp, e.Path)
	}
	if err != nil {
		return errors.Join(err, a.o.FS.RemoveAll(temp))
	}
	return a.o.FS.RemoveAll(from)
}

// tempBeside is a name in the folder of path that look knows as one of ours.
func tempBeside(path string, i int) string {
	dir, _ := split(path)
	return join(dir, placeTemp+strconv.Itoa(i))
}

func (a *applier) linkAll(ctx context.Context) error {
	if len(a.links) == 0 {
		return nil
	}
	if _, err := MkdirAll(a.o.FS, placePartial, 0o700); err != nil {
		return err
	}
	return a.o.each(ctx, len(a.links), func(k int) error {
		i := a.links[k]
		a.changed[i] = true
		err := a.link(i, placePartial+"/link-"+strconv.Itoa(i))
		if errors.Is(err, syscall.EXDEV) {
			err = a.link(i, tempBeside(a.want.Entries[i].Path, i))
		}
		return err
	})
}

// link makes a link under another name and moves it to its own.
func (a *applier) link(i int, temp string) error {
	e := &a.want.Entries[i]
	if err := a.o.FS.RemoveAll(temp); err != nil {
		return err
	}
	if err := a.o.FS.Symlink(e.Link, temp); err != nil {
		return err
	}
	err := a.inherit(temp, a.have.tree.index(e.Path))
	_ = a.o.FS.Chtimes(temp, e.MTime) // not every transport can; it is of no use but to look at
	if err == nil {
		err = a.o.FS.Rename(temp, e.Path)
	}
	if err != nil {
		return errors.Join(err, a.o.FS.RemoveAll(temp))
	}
	return nil
}

// touchAll sets bits, times and owners of what stays otherwise as it is. Folders have their turn later.
func (a *applier) touchAll(ctx context.Context) error {
	return a.o.each(ctx, len(a.touch), func(k int) error {
		t := a.touch[k]
		e := &a.want.Entries[t.want]
		a.changed[t.want] = true
		if e.Kind == Dir {
			return nil
		}
		return a.dress(e, t.why)
	})
}

// dress sets what why names of e, the owner first: that could take bits away.
func (a *applier) dress(e *Entry, why Why) error {
	if why&WhyOwner != 0 {
		if err := a.own(e.Path); err != nil {
			return err
		}
	}
	if why&WhyMode != 0 {
		if err := a.o.FS.Chmod(e.Path, e.Mode); err != nil {
			return err
		}
	}
	if why&WhyTime == 0 {
		return nil
	}
	err := a.o.FS.Chtimes(e.Path, e.MTime)
	if e.Kind == Link {
		return nil // see link
	}
	return err
}

// removeAll removes what the source does not have, the innermost first, and what dead runs left.
func (a *applier) removeAll(ctx context.Context) error {
	groups := byDepth(a.have.tree.Entries, a.remove)
	for _, group := range slices.Backward(groups) {
		err := a.o.each(ctx, len(group), func(k int) error { return a.removeOne(group[k]) })
		if err != nil {
			return err
		}
	}
	return a.o.each(ctx, len(a.have.litter), func(k int) error { return a.o.FS.RemoveAll(a.have.litter[k]) })
}

// removeOne removes one thing. A folder into which somebody has put something since it was looked at
// stays, as that has not been weighed.
func (a *applier) removeOne(j int) error {
	h := &a.have.tree.Entries[j]
	if h.Kind == Dir {
		infos, err := a.o.FS.ReadDir(h.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(infos) > 0 {
			a.mu.Lock()
			a.deleted--
			a.mu.Unlock()
			a.notes.add("%s is kept: something has come into it meanwhile", showPath(h.Path))
			return nil
		}
	}
	return a.o.FS.RemoveAll(h.Path)
}

// closeFolders gives folders their bits, times and owners, the inner ones first: none is changed any
// more after its turn. One the source does not have, and that stays, gets its bits back.
func (a *applier) closeFolders(ctx context.Context) error {
	why := make(map[int]Why)
	var todo []int
	for _, t := range a.touch {
		if a.want.Entries[t.want].Kind == Dir {
			why[t.want] = t.why
		}
	}
	for i := range a.want.Entries {
		e := &a.want.Entries[i]
		if e.Kind != Dir {
			continue
		}
		if _, open := a.opened[e.Path]; open || a.dirty[e.Path] {
			why[i] |= WhyMode | WhyTime
			a.changed[i] = true
			delete(a.opened, e.Path)
		}
		if why[i] != 0 {
			todo = append(todo, i)
		}
	}
	for path, mode := range a.opened {
		if err := a.o.FS.Chmod(path, mode); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	clear(a.opened)
	for _, group := range slices.Backward(byDepth(a.want.Entries, todo)) {
		err := a.o.each(ctx, len(group), func(k int) error { return a.dress(&a.want.Entries[group[k]], why[group[k]]) })
		if err != nil {
			return err
		}
	}
	return nil
}

// finish records what is there now and makes all of it durable.
func (a *applier) finish(ctx context.Context) error {
	stamps, err := a.stamps(ctx, a.o, a.changed)
	if err != nil {
		return fmt.Errorf("look at what was made: %w", err)
	}
	if err := writeRecord(a.o.FS, a.want, stamps); err != nil {
		return err
	}
	if err := clearPlace(a.o.FS); err != nil {
		return err
	}
	a.moved = nil
	return a.o.FS.Sync()
}

package filesync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"godeploy/internal/fault"
)

// releaseFolder is the layout of a release folder beside others.
type releaseFolder struct {
	o      *ReceiveOptions
	staged bool     // the stage is there and is ours
	noted  bool     // and so is its manifest
	old    []string // names of stages that were not finished
}

func (l *releaseFolder) stage() string { return releasesDir + "/" + partialName(l.o.ID) }

func (l *releaseFolder) path(e *Entry) string { return join(l.stage(), e.Path) }

func (l *releaseFolder) check() error { return l.o.check() }

// parent reads what is recorded of the release to build on. A manifest that is missing or damaged is
// like none: all is sent then, which mends it.
func (l *releaseFolder) parent(context.Context) (*basis, error) {
	return l.basis(l.o.Parent, l.o.Parent), nil
}

func (l *releaseFolder) inspect(ctx context.Context, parent *basis) error {
	if err := parent.inspect(ctx, l.o); err != nil || !l.o.VerifyAll {
		return err
	}
	return parent.verify(ctx, l.o)
}

func (l *releaseFolder) basis(dir, manifest string) *basis {
	b := &basis{dir: releasesDir + "/" + dir, manifest: &Manifest{}}
	if manifest != "" {
		if m, root, err := readRooted(l.o.FS, manifest); err == nil {
			b.manifest, b.known = m, root
		}
	}
	return b
}

// maxBases is how many trees are searched for what the parent lacks.
const maxBases = 16

// others gives what was not finished, then the other releases, the latest first.
func (l *releaseFolder) others(context.Context, int64) []*basis {
	infos, err := l.o.FS.ReadDir(manifestsDir)
	if err != nil {
		return nil
	}
	var more []*basis
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(b.Name, a.Name) })
	slices.SortStableFunc(infos, func(a, b Info) int { return isPartial(b.Name) - isPartial(a.Name) })
	for _, in := range infos {
		if in.Name == l.o.Parent || len(more) == maxBases || in.Kind != File {
			continue
		}
		if isPartial(in.Name) == 0 && checkRelease(in.Name) != nil {
			continue
		}
		if b := l.basis(in.Name, in.Name); len(b.manifest.Entries) > 0 {
			b.doubted = isPartial(in.Name) == 1
			more = append(more, b)
		}
	}
	return more
}

func isPartial(name string) int {
	if strings.HasPrefix(name, ".") && strings.HasSuffix(name, partialMark) {
		return 1
	}
	return 0
}

func (l *releaseFolder) done(_ context.Context, parent *basis, want *Manifest) (bool, error) {
	return l.o.SkipUnchanged && parent.intact && parent.root() == want.Root(), nil
}

// prepare makes sure that there is room and that the release is not there yet, and makes its stage.
func (l *releaseFolder) prepare(ctx context.Context, r *receiver) error {
	fsys := l.o.FS
	free, err := missing(fsys, releasesDir+"/"+l.o.ID)
	if err != nil {
		return err
	}
	if !free {
		return fault.New(fault.LayoutRefused, "release %s is there already", l.o.ID)
	}
	if err := l.clear(r); err != nil {
		return err
	}
	if err := l.fits(r); err != nil {
		return err
	}
	if _, err := MkdirAll(fsys, releasesDir, 0o755); err != nil {
		return err
	}
	recycled, err := l.recycle(ctx, r)
	if err != nil {
		return err
	}
	if !recycled {
		if err := fsys.Mkdir(l.stage(), 0o755); err != nil {
			return err
		}
		l.staged = true
	}
	if err := checkFold(fsys, l.stage(), r.want); err != nil {
		return err
	}
	if _, lacking := r.units(); lacking > worthResuming {
		l.noted = true
		if err := notePartial(fsys, l.o.ID, r.want); err != nil {
			return err
		}
	}
	if recycled {
		return nil
	}
	return l.makeFolders(ctx, r)
}

// fits is room, at the cost of the spare tree where that must go for it.
func (l *releaseFolder) fits(r *receiver) error {
	err := r.room()
	if err == nil || l.o.Spare == "" {
		return err
	}
	if err := l.o.FS.RemoveAll(releasesDir + "/" + l.o.Spare); err != nil {
		return err
	}
	l.o.Spare = ""
	return r.room()
}

// worthResuming is from how many bytes on what has come is kept when the rest does not.
const worthResuming = 4 << 20

// clear makes way for the stage. One of the same ID that was not finished steps aside as long as its
// files are of use.
func (l *releaseFolder) clear(r *receiver) error {
	for i, b := range r.bases {
		if i == 0 || !b.doubted {
			continue
		}
		name := b.dir[len(releasesDir)+1:]
		if name == partialName(l.o.ID) {
			aside, err := l.stepAside(name)
			if err != nil {
				return err
			}
			name, b.dir = aside, releasesDir+"/"+aside
		}
		l.old = append(l.old, name)
	}
	return l.o.FS.RemoveAll(l.stage())
}

// stepAside gives a stage and its manifest another name.
func (l *releaseFolder) stepAside(name string) (aside string, err error) {
	for n := 1; ; n++ {
		aside = partialName(fmt.Sprintf("%s.%d", l.o.ID, n))
		free, err := missing(l.o.FS, releasesDir+"/"+aside)
		if err != nil {
			return "", err
		}
		if free {
			break
		}
	}
	if err := l.o.FS.Rename(manifestsDir+"/"+name, manifestsDir+"/"+aside); err != nil {
		return "", err
	}
	return aside, l.o.FS.Rename(releasesDir+"/"+name, releasesDir+"/"+aside)
}

// makeFolders makes all folders, writable for us until they are filled, level by level.
func (l *releaseFolder) makeFolders(ctx context.Context, r *receiver) error {
	for _, level := range r.want.levels() {
		err := parallel(ctx, l.o.workers(), len(level), func(i int) error {
			return l.o.FS.Mkdir(l.path(level[i]), level[i].Mode|0o700)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// abandon removes the stage, or leaves it with its manifest for a later transfer.
func (l *releaseFolder) abandon(keep bool) error {
	if !l.staged || keep && l.noted {
		return nil
	}
	return errors.Join(l.o.FS.RemoveAll(l.stage()), l.o.FS.RemoveAll(manifestsDir+"/"+partialName(l.o.ID)))
}

// finish makes the rest, once all content is there: twins, links, what is carried over, then the
// folders' own bits and times; then all of it becomes durable and takes its name.
func (l *releaseFolder) finish(ctx context.Context, r *receiver) error {
	for _, step := range []func(context.Context) error{r.makeTwins, r.makeLinks, r.carryAll, r.closeFolders} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	fsys := l.o.FS
	if err := r.own(l.stage()); err != nil {
		return err
	}
	if err := writeManifest(fsys, l.o.ID, r.want); err != nil {
		return err
	}
	if err := fsys.Sync(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := fsys.Rename(l.stage(), releasesDir+"/"+l.o.ID); err != nil {
		return err
	}
	l.staged = false
	if err := fsys.SyncDir(releasesDir); err != nil {
		return err
	}
	return l.tidy()
}

// tidy removes what was kept of transfers that were not finished: all of it is here now.
func (l *releaseFolder) tidy() error {
	var errs []error
	for _, name := range append(l.old, partialName(l.o.ID)) {
		if l.noted || len(l.old) > 0 {
			errs = append(errs, l.o.FS.RemoveAll(releasesDir+"/"+name), l.o.FS.RemoveAll(manifestsDir+"/"+name))
		}
	}
	return errors.Join(errs...)
}

// room refuses a tree that would fill the disk before anything of it is written.
func (r *receiver) room() error {
	space, err := r.o.FS.Free()
	if err != nil {
		return err
	}
	var bytes int64
	nodes := int64(len(r.want.Entries))
	for i := range r.items {
		switch r.items[i].from {
		case fromLink, fromPlace:
			nodes--
		default:
			bytes += r.file(int32(i)).Size
		}
	}
	if space.Bytes >= 0 && bytes > space.Bytes {
		return fault.New(fault.DiskFull, "disk has room for %d bytes and the release needs %d", space.Bytes, bytes).
			Hint("keep fewer releases, or make room")
	}
	if space.Nodes >= 0 && nodes > space.Nodes {
		return fault.New(fault.InodeFull, "disk has room for %d files and the release needs %d", space.Nodes, nodes).
			Hint("keep fewer releases, or make room")
	}
	return nil
}

// makeTwins copies files that another file of the tree equals.
func (r *receiver) makeTwins(ctx context.Context) error {
	err := parallel(ctx, r.o.workers(), len(r.items), func(i int) error {
		it := &r.items[i]
		if it.from != fromTwin {
			return nil
		}
		return r.copyFrom(int32(i), r.layout.path(r.file(it.source)))
	})
	if err == nil && len(r.failed) > 0 {
		return lostTwin(r.file(r.failed[0]).Path)
	}
	return err
}

// makeLinks makes the tree's links, after everything that is written by path.
func (r *receiver) makeLinks(ctx context.Context) error {
	return parallel(ctx, r.o.workers(), len(r.want.Entries), func(i int) error {
		e := &r.want.Entries[i]
		if e.Kind != Link {
			return nil
		}
		path := r.layout.path(e)
		if err := r.o.FS.Symlink(e.Link, path); err != nil {
			return err
		}
		return r.own(path)
	})
}

// closeFolders gives every folder its bits, time and owner, the inner ones first: none is changed
// any more after its turn.
func (r *receiver) closeFolders(ctx context.Context) error {
	for _, level := range slices.Backward(r.want.levels()) {
		err := parallel(ctx, r.o.workers(), len(level), func(i int) error { return r.closeFolder(level[i]) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *receiver) closeFolder(e *Entry) error {
	path := r.layout.path(e)
	if err := r.own(path); err != nil {
		return err
	}
	if e.Mode&0o700 != 0o700 {
		if err := r.o.FS.Chmod(path, e.Mode); err != nil {
			return err
		}
	}
	return r.o.FS.Chtimes(path, e.MTime)
}

// levels gives the folders of a tree by how deep they lie, the outer ones first.
func (m *Manifest) levels() [][]*Entry {
	var levels [][]*Entry
	for i := range m.Entries {
		e := &m.Entries[i]
		if e.Kind != Dir {
			continue
		}
		depth := strings.Count(e.Path, "/")
		for len(levels) <= depth {
			levels = append(levels, nil)
		}
		levels[depth] = append(levels[depth], e)
	}
	return levels
}

// carryAll copies what the options name from the parent. What the parent does not have, or the tree
// has itself, is passed over.
func (r *receiver) carryAll(ctx context.Context) error {
	for _, path := range r.o.Carry {
		if r.o.Parent == "" || r.want.Find(path) != nil {
			continue
		}
		if err := r.carry(ctx, path); err != nil {
			return err
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
	made, err := MkdirAll(r.o.FS, r.layout.path(&Entry{Path: dir}), 0o755)
	for _, p := range made {
		err = errors.Join(err, r.own(p))
	}
	if err != nil {
		return err
	}
	if c, ok := r.o.FS.(TreeCopier); ok {
		if err := c.CopyTree(ctx, join(from, path), r.layout.path(&Entry{Path: path})); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	info.Name = path
	return r.carryTree(ctx, from, info)
}

// carryTree copies one by one.
func (r *receiver) carryTree(ctx context.Context, from string, top Info) error {
	var folders []Info // with the whole path as name, outer ones first
	for todo := []Info{top}; len(todo) > 0; {
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
	path := r.layout.path(&Entry{Path: info.Name})
	if err := r.o.FS.Chmod(path, info.Mode); err != nil {
		return err
	}
	return r.o.FS.Chtimes(path, info.MTime)
}

// carryOne copies one file, link or empty folder; a socket or the like stays behind.
func (r *receiver) carryOne(from string, info *Info) error {
	fsys, path := r.o.FS, r.layout.path(&Entry{Path: info.Name})
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
		return r.write(path, &e, func(w io.Writer) error {
			_, err := io.Copy(w, f)
			return err
		})
	default:
		return nil
	}
	return r.own(path)
}

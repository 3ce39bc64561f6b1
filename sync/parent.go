package filesync

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Where things lie below the app's path. internal/helper's layout uses the same names.
const (
	releasesDir  = "releases"
	manifestsDir = ".godeploy/manifests"
)

// maxManifestFile bounds a stored manifest; the largest tree within the limits stays below it.
const maxManifestFile = 1 << 30

// ReadManifest reads the manifest that Receive stored for a release. An error that satisfies
// errors.Is with fs.ErrNotExist says that there is none.
func ReadManifest(fsys FS, id string) (*Manifest, error) {
	f, err := fsys.Open(manifestsDir + "/" + id)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Decode(io.LimitReader(f, maxManifestFile))
}

// writeManifest stores a manifest under a temporary name and moves it into place.
func writeManifest(fsys FS, id string, m *Manifest) error {
	if _, err := MkdirAll(fsys, manifestsDir, 0o755); err != nil {
		return err
	}
	temp := manifestsDir + "/." + id + ".partial"
	if err := fsys.RemoveAll(temp); err != nil {
		return err
	}
	// Hashes of secrets could be guessed from: nobody else reads it.
	f, err := fsys.Create(temp, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(m.Encode(f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, fsys.RemoveAll(temp))
	}
	return fsys.Rename(temp, manifestsDir+"/"+id)
}

// parentTree is the release whose files are used, as far as they are still what was recorded.
type parentTree struct {
	dir      string
	manifest *Manifest
	states   []state
	intact   bool // every file, folder and link is as recorded
}

// openParent reads what is recorded of a release. A manifest that is missing or damaged is like
// none: all is sent then, which mends it.
func openParent(fsys FS, id string) *parentTree {
	t := &parentTree{dir: releasesDir + "/" + id, manifest: &Manifest{}}
	if id == "" {
		return t
	}
	if m, err := ReadManifest(fsys, id); err == nil {
		t.manifest = m
	}
	t.states = make([]state, len(t.manifest.Entries))
	return t
}

// root is the identity of the parent's tree, zero without a parent.
func (t *parentTree) root() Hash {
	if len(t.manifest.Entries) == 0 {
		return Hash{}
	}
	return t.manifest.Root()
}

// inspect compares what is on disk with what is recorded, folder by folder.
func (t *parentTree) inspect(ctx context.Context, o *ReceiveOptions) error {
	below := make(map[string][]int)
	for i := range t.manifest.Entries {
		dir, _ := split(t.manifest.Entries[i].Path)
		below[dir] = append(below[dir], i)
	}
	var mu sync.Mutex
	t.intact = true
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(o.workers())
	for dir, entries := range below {
		g.Go(func() error {
			same := t.inspectDir(o, dir, entries)
			mu.Lock()
			t.intact = t.intact && same
			mu.Unlock()
			return ctx.Err()
		})
	}
	return g.Wait()
}

// inspectDir fills in the states of one folder's entries and reports whether all is as recorded. A
// folder that cannot be read has nothing to offer.
func (t *parentTree) inspectDir(o *ReceiveOptions, dir string, entries []int) bool {
	infos, err := o.FS.ReadDir(join(t.dir, dir))
	if err != nil {
		return false
	}
	all := true
	for _, i := range entries {
		e := &t.manifest.Entries[i]
		_, name := split(e.Path)
		at, found := slices.BinarySearchFunc(infos, name, func(in Info, name string) int {
			return strings.Compare(in.Name, name)
		})
		if !found || infos[at].Kind != e.Kind {
			all = false
			continue
		}
		t.states[i] = stateOf(e, &infos[at], o)
		all = all && t.states[i] == sameContent|sameMeta
	}
	return all
}

// stateOf compares one entry with what is on disk. The recorded time is what makes a file that an
// app changed in place show.
func stateOf(e *Entry, info *Info, o *ReceiveOptions) state {
	var s state
	switch e.Kind {
	case File:
		if info.Size == e.Size && sameTime(info.MTime, e.MTime) {
			s |= sameContent
		}
	case Link:
		if info.Size == int64(len(e.Link)) {
			s |= sameContent
		}
	default:
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

// missing reports whether nothing is at path.
func missing(fsys FS, path string) (bool, error) {
	_, err := fsys.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

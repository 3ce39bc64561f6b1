package cmd

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"

	filesync "godeploy/sync"
)

// known keeps the manifests of trees that were sent, by their roots, so that a host that has one of them
// need only be told what differs. It is a cache: what is damaged or gone is as if it had never been.
type known struct{ dir string } // godeploy's cache folder, "" for none

const (
	keptManifests    = 32        // on this machine, the latest
	maxKnownManifest = 256 << 20 // bytes of one
)

func (k known) path(root filesync.Hash) string {
	return filepath.Join(k.dir, "manifests", root.String())
}

// manifest gives the tree with this root, nil when it is not known.
func (k known) manifest(root filesync.Hash) *filesync.Manifest {
	if k.dir == "" {
		return nil
	}
	f, err := os.Open(k.path(root))
	if err != nil {
		return nil
	}
	defer f.Close()
	m, err := filesync.Decode(io.LimitReader(f, maxKnownManifest))
	if err != nil || m.Root() != root {
		return nil
	}
	return m
}

// keep stores a manifest under a temporary name and moves it into place: a run beside this one reads
// the whole of it or nothing.
func (k known) keep(m *filesync.Manifest) error {
	root := m.Root()
	if k.dir == "" {
		return nil
	}
	if _, err := os.Stat(k.path(root)); err == nil {
		return nil
	}
	dir := filepath.Dir(k.path(root))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return err
	}
	if err := errors.Join(m.Encode(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return errors.Join(os.Rename(f.Name(), k.path(root)), k.prune(dir))
}

// prune removes the manifests that were stored longest ago.
func (k known) prune(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) <= keptManifests {
		return err
	}
	var infos []os.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // one that has gone meanwhile is pruned already
			infos = append(infos, info)
		}
	}
	slices.SortFunc(infos, func(a, b os.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	var errs []error
	for _, info := range infos[min(len(infos), keptManifests):] {
		errs = append(errs, os.Remove(filepath.Join(dir, info.Name())))
	}
	return errors.Join(errs...)
}

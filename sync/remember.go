package filesync

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Trees that were sent are remembered in the cache folder, by root, so that only what differs need be
// told the next time. Nothing depends on them: what is lost is told again.

// maxRemembered is how many trees are kept; those that were not used the longest go first.
const maxRemembered = 24

func rememberedDir(cache string) string { return filepath.Join(cache, "manifests") }

// Recall gives the tree with this root when one was sent from a Source with this cache folder, else nil.
// Any number of calls may run at once.
func Recall(cache string, root Hash) *Manifest { return recall(cache, root, false) }

func recall(cache string, root Hash, timed bool) *Manifest {
	if cache == "" || root.IsZero() {
		return nil
	}
	path := filepath.Join(rememberedDir(cache), root.String())
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	m, err := Decode(io.LimitReader(f, maxManifestFile))
	if err != nil || m.identity(timed) != root {
		return nil
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now) // it is still of use; that it is forgotten sooner does no harm
	return m
}

// remember keeps a tree under its identity, unless it is there already, and forgets what is too old.
func remember(cache string, m *Manifest, root Hash) error {
	if cache == "" {
		return nil
	}
	dir := rememberedDir(cache)
	path := filepath.Join(dir, root.String())
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*") // 0600: hashes of secrets could be guessed from
	if err != nil {
		return err
	}
	if err := errors.Join(m.Encode(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return forget(dir)
}

// forget removes what was not used the longest.
func forget(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil || len(names) <= maxRemembered {
		return err
	}
	var infos []fs.FileInfo
	for _, n := range names {
		if info, err := n.Info(); err == nil {
			infos = append(infos, info)
		}
	}
	slices.SortFunc(infos, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	var errs []error
	for _, info := range infos[min(maxRemembered, len(infos)):] {
		if err := os.Remove(filepath.Join(dir, info.Name())); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Of each peer the root of what it was sent last is remembered.

func peerPath(cache, peer string) string {
	return filepath.Join(cache, "peers", sum([]byte(peer)).String())
}

// lastSent gives the root of what a peer was sent last, zero when that is not known.
func lastSent(cache, peer string) (root Hash) {
	if cache == "" || peer == "" {
		return Hash{}
	}
	f, err := os.Open(peerPath(cache, peer))
	if err != nil {
		return Hash{}
	}
	defer f.Close()
	if _, err := io.ReadFull(f, root[:]); err != nil {
		return Hash{}
	}
	return root
}

// noteSent remembers what a peer was sent.
func noteSent(cache, peer string, root Hash) error {
	if cache == "" || peer == "" || lastSent(cache, peer) == root {
		return nil
	}
	path := peerPath(cache, peer)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(root[:])
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

package helper

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// place makes a folder what a source is.
func (h *host) place(ctx context.Context, r *wire.Request) (any, error) {
	var req wire.PlaceRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	physical, err := CheckTarget(req.Site, self().home, resolve, kindAt)
	if err != nil {
		return nil, err
	}
	placed := Placed{KeepOwner: os.Geteuid() == 0}
	if req.Source.BootID != "" && req.Source.BootID == bootID() {
		placed.Avoid = filesync.Identity{Dev: req.Source.Dev, Ino: req.Source.Ino}
		if err := outside(physical, placed.Avoid); err != nil {
			return nil, err
		}
	}
	do := func(s *Site) (any, error) { return s.Place(ctx, req, r.Stream(), placed) }
	if req.DryRun {
		return h.preview(ctx, req.Site, do)
	}
	if req.Holder != nil {
		err = h.admit(ctx, req.Site, *req.Holder)
	} else if h.locks.has(req.Site) {
		err = h.ground(ctx, req.Site)
	}
	if err != nil {
		return nil, err
	}
	return h.locked(ctx, req.Site, do)
}

// preview is locked for what changes nothing and needs no lock. A path that is not there is an empty
// folder.
func (h *host) preview(ctx context.Context, s wire.Site, do func(*Site) (any, error)) (any, error) {
	tree, err := h.site(ctx, s)
	if errors.Is(err, fs.ErrNotExist) {
		tree, err = &Site{FS: Nothing(), Path: s.Path, UID: -1, GID: -1}, nil
	}
	if err != nil {
		return nil, explain(err, "open %s", s.Path)
	}
	reply, err := do(tree)
	return reply, errors.Join(err, tree.FS.Close())
}

// bootID tells this run of this machine from all others, "" where it is not known.
func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // where there is none, nothing can be compared
	return strings.TrimSpace(string(id))
}

// resolve gives a path without links, of as much of it as is there.
func resolve(p string) (string, error) {
	var rest []string
	for at := p; ; at = filepath.Dir(at) {
		physical, err := filepath.EvalSymlinks(at)
		if err == nil {
			return filepath.Join(append([]string{physical}, rest...)...), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || at == "/" {
			return "", err
		}
		if info, lerr := os.Lstat(at); lerr == nil && info.Mode()&fs.ModeSymlink != 0 {
			return "", fault.New(fault.LayoutRefused, "%s is a link that leads nowhere", at)
		}
		rest = append([]string{filepath.Base(at)}, rest...)
	}
}

func kindAt(p string) (filesync.Kind, error) {
	info, err := os.Lstat(p)
	if err != nil {
		return 0, err
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		return filesync.Dir, nil
	case fs.ModeSymlink:
		return filesync.Link, nil
	case 0:
		return filesync.File, nil
	}
	return filesync.Special, nil
}

// outside refuses a target that is the source itself or lies in it.
func outside(physical string, source filesync.Identity) error {
	for at := physical; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok && source == (filesync.Identity{Dev: uint64(st.Dev), Ino: st.Ino}) {
				return fault.New(fault.LayoutRefused, "%s is the source itself or a folder in it", physical).
					Hint("a sync must not write into its own source")
			}
		}
		if at == "/" {
			return nil
		}
	}
}

package helper

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// Stage receives a release over rw, links its shared paths and records it. The record is written
// last and makes it a release: what has none is removed by the next Prepare or Stage. When Stage
// fails, nothing of the release stays.
func (s *Site) Stage(ctx context.Context, req wire.StageRequest, rw io.ReadWriter) (wire.StageReply, error) {
	if err := s.beforeStage(ctx, req); err != nil {
		return wire.StageReply{}, err
	}
	parent, same, err := s.parentOf(req)
	if err != nil {
		return wire.StageReply{}, err
	}
	// Asked for twice within a second the same tree has the same id: it is there, or cannot be made.
	there := s.has(releasesDir + "/" + req.Release.ID)
	if there && !(same && req.SkipUnchanged && parent == req.Release.ID) {
		return wire.StageReply{}, fault.New(fault.LayoutRefused, "release %s is already on this host", req.Release.ID)
	}
	trees, err := s.names(releasesDir)
	if err != nil {
		return wire.StageReply{}, explain(err, "read releases")
	}
	stats, err := filesync.Receive(ctx, filesync.ReceiveOptions{
		FS: s.FS, ID: req.Release.ID, Parent: parent, SkipUnchanged: same && req.SkipUnchanged,
		Spare: spare(trees), Links: req.Links, Carry: req.Carry, UID: s.UID, GID: s.GID, VerifyAll: req.Verify == "all",
	}, rw)
	skipped := err == nil && stats.Unchanged && (there || !s.has(releasesDir+"/"+req.Release.ID))
	if err == nil && !skipped {
		err = s.complete(ctx, req)
	}
	if err != nil && there {
		return wire.StageReply{}, explain(err, "stage %s", req.Release.ID)
	}
	if err != nil {
		return wire.StageReply{}, errors.Join(explain(err, "stage %s", req.Release.ID), s.discard(req.Release.ID))
	}
	return wire.StageReply{
		Files: stats.Files, Linked: stats.Linked, Written: stats.Written,
		Received: stats.Received, Bytes: stats.Bytes, Parent: parent, Unchanged: skipped,
	}, nil
}

// parentOf picks the release to build from, and says whether it was brought by the same tree under the
// same config.
func (s *Site) parentOf(req wire.StageRequest) (id string, same bool, err error) {
	if !req.Nearest || req.Parent != "" {
		return req.Parent, false, nil
	}
	releases, err := s.releases()
	if err != nil {
		return "", false, explain(err, "read the releases")
	}
	current, _, err := s.current()
	if err != nil {
		return "", false, explain(err, "read current")
	}
	id, same = nearest(releases, current, req.Release)
	return id, same, nil
}

// nearest picks from releases, which are sorted by sequence number. One that was marked bad may have
// been spoiled by what ran in it: it is no twin, but its files are as good as any.
func nearest(releases []wire.Release, current string, want wire.Release) (id string, same bool) {
	for _, r := range slices.Backward(releases) {
		if r.Root == want.Root && r.Config == want.Config && r.Mark != wire.MarkBad {
			return r.ID, true
		}
	}
	for _, r := range releases {
		if r.ID == current {
			return current, false
		}
		id = r.ID
	}
	return id, false
}

func (s *Site) beforeStage(ctx context.Context, req wire.StageRequest) error {
	if err := s.Prepare(ctx, req.SharedDirs); err != nil {
		return err
	}
	var missing []string
	for _, f := range req.SharedFiles {
		if !s.has(path.Join(sharedDir, f)) {
			missing = append(missing, path.Join(s.Path, sharedDir, f))
		}
	}
	if missing != nil {
		return fault.New(fault.SharedMissing, "%s is missing", strings.Join(missing, ", ")).
			Hint("put it there once; every release links to it")
	}
	return nil
}

// complete makes a received tree a release.
func (s *Site) complete(ctx context.Context, req wire.StageRequest) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	touched, err := s.share(req.Release.ID, append(slices.Clone(req.SharedDirs), req.SharedFiles...))
	if err != nil {
		return err
	}
	more, err := s.secrets(req.Release.ID, req.Env)
	if err != nil {
		return err
	}
	for _, d := range append(touched, more...) {
		if err := s.FS.SyncDir(d); err != nil {
			return err
		}
	}
	r := req.Release
	if r.Seq, err = s.next(); err != nil {
		return err
	}
	r.Mark, r.Previous = wire.MarkStaged, ""
	return s.write(r)
}

// discard removes what a failed Stage leaves, but what Receive keeps of a transfer that was cut.
func (s *Site) discard(id string) error {
	for _, p := range []string{recordPath(id), envPath(id), treesDir + "/" + id, releasesDir + "/" + id} {
		if err := s.FS.RemoveAll(p); err != nil {
			return explain(err, "remove %s", p)
		}
	}
	return nil
}

// share puts the links into shared/ in place and names the folders it changed. Where the tree has
// something at a shared path, the link wins.
func (s *Site) share(id string, paths []string) (touched []string, err error) {
	return s.links(id, paths, func(p string) string { return sharedDir + "/" + p })
}

// links puts links in place, each to where target says, and names the folders it changed.
func (s *Site) links(id string, paths []string, target func(p string) string) (touched []string, err error) {
	root := releasesDir + "/" + id
	for _, p := range outermost(paths) {
		dir := path.Join(root, path.Dir(p))
		made, err := filesync.MkdirAll(s.FS, dir, 0o755)
		if err != nil {
			return nil, inTheWay(err, p)
		}
		for _, m := range made {
			if err := s.own(m); err != nil {
				return nil, err
			}
			touched = append(touched, path.Dir(m))
		}
		if err := s.open(dir, func() error { return s.linkTo(root, p, target(p)) }); err != nil {
			return nil, inTheWay(err, p)
		}
		touched = append(touched, dir)
	}
	slices.Sort(touched)
	return slices.Compact(touched), nil
}

func inTheWay(err error, p string) error {
	return explain(err, "link %s into the release", p)
}

// open lets change work in a folder that the tree has as read-only.
func (s *Site) open(dir string, change func() error) error {
	err := change()
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	info, statErr := s.FS.Lstat(dir)
	if statErr != nil || info.Mode&0o200 != 0 {
		return err
	}
	if err := s.FS.Chmod(dir, info.Mode|0o300); err != nil {
		return err
	}
	return errors.Join(change(), s.FS.Chmod(dir, info.Mode))
}

// outermost sorts paths and leaves out those below another: the outer link brings them along.
func outermost(paths []string) []string {
	sorted := slices.Clone(paths)
	slices.Sort(sorted)
	var out []string
	for _, p := range slices.Compact(sorted) {
		covered := slices.ContainsFunc(out, func(o string) bool { return strings.HasPrefix(p, o+"/") })
		if !covered {
			out = append(out, p)
		}
	}
	return out
}

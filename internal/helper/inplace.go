package helper

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// Placed is what a Place takes from whoever knows the host.
type Placed struct {
	KeepOwner bool              // this user may give files to others: what replaces a file gets its owner
	Avoid     filesync.Identity // the source's own folder, if it is on this host
}

// Place makes the folder what the source is, in place, and writes the changes after the sync stream when
// they are asked for. Nothing is changed before every refusal had its turn.
func (s *Site) Place(ctx context.Context, req wire.PlaceRequest, rw io.ReadWriter, p Placed) (wire.PlaceReply, error) {
	if err := s.noReleases(); err != nil {
		return wire.PlaceReply{}, err
	}
	rules, err := placeRules(req)
	if err != nil {
		return wire.PlaceReply{}, err
	}
	result, err := filesync.Place(ctx, filesync.PlaceOptions{
		FS: s.FS, Rules: rules, Delete: req.Delete, Limit: filesync.MaxDelete(req.Limit), DryRun: req.DryRun,
		VerifyAll: req.Verify == "all", List: req.List, UID: s.UID, GID: s.GID, KeepOwner: p.KeepOwner, Avoid: p.Avoid,
	}, rw)
	if err != nil {
		return wire.PlaceReply{}, explain(err, "change %s", s.Path)
	}
	if req.List {
		if err := wire.WritePlaceChanges(rw, changesOf(result.Changes)); err != nil {
			return wire.PlaceReply{}, err
		}
	}
	return wire.PlaceReply{
		Files: result.Stats.Files, Same: result.Same, Written: result.Written, Touched: result.Touched, Made: result.Made,
		Deleted: result.Deleted, Kept: result.Kept, Hashed: result.Hashed,
		Received: result.Stats.Received, Bytes: result.Stats.Bytes, Notes: result.Notes,
	}, nil
}

func placeRules(req wire.PlaceRequest) (*filesync.FolderRules, error) {
	if len(req.Rules) == 0 {
		return nil, nil
	}
	rules, err := filesync.ReadFolderRules(req.Rules)
	if err != nil {
		return nil, fault.New(fault.Protocol, "the rules of the source make no sense").Wrap(err)
	}
	return rules, nil
}

// changesOf puts changes into the words of the protocol.
func changesOf(changes []filesync.PlaceChange) []wire.PlaceChange {
	ops := map[filesync.Op]wire.PlaceOp{
		filesync.Create: wire.PlaceCreate, filesync.Update: wire.PlaceUpdate, filesync.Meta: wire.PlaceMeta,
		filesync.Delete: wire.PlaceDelete, filesync.Keep: wire.PlaceKept,
	}
	told := make([]wire.PlaceChange, len(changes))
	for i, c := range changes {
		told[i] = wire.PlaceChange{Path: c.Path, Op: ops[c.Op], Kind: wire.PlaceKind(c.Kind), Why: wire.PlaceWhy(c.Why), Size: c.Size}
	}
	return told
}

// noReleases refuses a folder that has releases: they would be overwritten and deleted.
func (s *Site) noReleases() error {
	if has, err := hasReleases(func(name string) (filesync.Kind, error) {
		info, err := s.FS.Lstat(name)
		return info.Kind, err
	}); err != nil {
		return explain(err, "look at %s", s.Path)
	} else if has {
		return isReleases(s.Path, s.Path)
	}
	return nil
}

// hasReleases reports whether a folder has the release layout: releases that were recorded, or that one of
// is current. look tells what is at a name in it.
func hasReleases(look func(name string) (filesync.Kind, error)) (bool, error) {
	is := func(name string, want filesync.Kind) (bool, error) {
		kind, err := look(name)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return kind == want, err
	}
	has, err := is(releasesDir, filesync.Dir)
	if err != nil || !has {
		return false, err
	}
	if has, err = is(currentLink, filesync.Link); err != nil || has {
		return has, err
	}
	return is(recordsDir, filesync.Dir)
}

// isReleases refuses a path at or below the app at root.
func isReleases(at, root string) error {
	where := "has releases in it"
	if at != root {
		where = "is inside " + root + ", which has releases in it"
	}
	return fault.New(fault.LayoutRefused, "%s %s", at, where).
		Hint("what is served there is a release: use layout releases, without --to")
}

// insideReleases refuses a path that is part of the release layout above it. What is below shared/ is
// nobody's release.
func insideReleases(at string, look func(p string) (filesync.Kind, error)) error {
	for root := at; root != "/"; root = path.Dir(root) {
		has, err := hasReleases(func(name string) (filesync.Kind, error) { return look(path.Join(root, name)) })
		if err != nil {
			return explain(err, "look at %s", root)
		}
		if has && !strings.HasPrefix(at, path.Join(root, sharedDir)+"/") {
			return isReleases(at, root)
		}
	}
	return nil
}

// badTarget refuses folders that hold more than an app.
func badTarget(at, home string) error {
	if dir := path.Dir(at); at == home || dir == "/home" || dir == "/root" && path.Base(at) == stateDir {
		return fault.New(fault.LayoutRefused, "%s is somebody's home", at).Hint("name a folder in it")
	}
	if strings.Contains(at+"/", "/"+stateDir+"/") {
		return fault.New(fault.LayoutRefused, "%s is godeploy's own folder", at)
	}
	return nil
}

// CheckTarget refuses a folder that is not to be changed in place: a link, a home, what holds releases or
// is part of one, a system folder by another name. resolve gives the path without links, of as much of it
// as is there; look tells what is at a path and follows no link.
func CheckTarget(site wire.Site, home string, resolve func(p string) (string, error), look func(p string) (filesync.Kind, error)) (physical string, err error) {
	kind, err := look(site.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", explain(err, "look at %s", site.Path)
	}
	if physical, err = resolve(site.Path); err != nil {
		return "", explain(err, "resolve %s", site.Path)
	}
	switch {
	case kind == filesync.Link:
		return "", fault.New(fault.LayoutRefused, "%s is a link to %s", site.Path, physical).Hint("name the folder itself: --to %s", physical)
	case kind != filesync.Dir && kind != 0:
		return "", fault.New(fault.LayoutRefused, "%s is no folder", site.Path)
	}
	real := wire.Site{App: site.App, Path: physical}
	if err := real.Check(); err != nil {
		return "", fault.New(fault.LayoutRefused, "%s leads to %s, which is no folder for an app", site.Path, physical).Wrap(err)
	}
	if err := errors.Join(badTarget(site.Path, home), badTarget(physical, home)); err != nil {
		return "", err
	}
	return physical, insideReleases(physical, look)
}

// Nothing is the FS of a folder that is not there: good for a dry run.
func Nothing() filesync.FS { return nothing{} }

type nothing struct{ filesync.FS } // the rest is never asked for

func (nothing) ReadDir(string) ([]filesync.Info, error) { return nil, nil }

func (nothing) Lstat(p string) (filesync.Info, error) {
	return filesync.Info{}, &fs.PathError{Op: "lstat", Path: p, Err: fs.ErrNotExist}
}

func (nothing) Open(p string) (filesync.FileReader, error) {
	return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
}

func (nothing) Close() error { return nil }

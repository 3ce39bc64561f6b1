package helper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// The names below an app's path.
const (
	releasesDir = "releases"
	sharedDir   = "shared"
	currentLink = "current"
	stateDir    = ".godeploy"
	recordsDir  = stateDir + "/releases"
	treesDir    = stateDir + "/manifests"
	newLink     = stateDir + "/current.new"

	partialMark = ".partial" // .ID.partial: a release being received
	goneMark    = ".gone-"   // .gone-ID: one being removed, or kept to build the next one from
)

// Site is the release layout of one app on one host: releases/ID, the link current, shared/ and the
// records in .godeploy/. The caller holds the host's lock for all but State; then no two methods
// that change something run at once. FS is rooted at Path, which exists, and stays the caller's.
type Site struct {
	FS   filesync.FS
	Path string // the app's path, absolute; an absolute link in current is compared with it
	// Physical is Path with its links resolved, as /proc shows folders; "" means the same as Path.
	Physical string
	UID      int // owner of releases and shared folders that are made; -1 leaves it
	GID      int // their group; -1 leaves it
	// WorkingDirs gives the physical folders that live processes stand in or run from, as far as
	// this user may know. Nil: none are known.
	WorkingDirs func(ctx context.Context) ([]string, error)
}

// State tells what the host has: Writable and Holder are left to the caller, who knows the user and
// the lock.
func (s *Site) State(ctx context.Context, sharedFiles []string) (wire.State, error) {
	state := wire.State{Exists: true}
	var err error
	if state.Current, state.Refusal, err = s.current(); err != nil {
		return state, explain(err, "read current")
	}
	if state.Current != "" {
		there, err := s.isDir(releasesDir + "/" + state.Current)
		if err != nil {
			return state, explain(err, "look at release %s", state.Current)
		}
		state.Dangling = !there
	}
	if state.Releases, err = s.releases(); err != nil {
		return state, explain(err, "read the releases")
	}
	if state.Journal, err = s.shown(); err != nil {
		return state, explain(err, "read the journal")
	}
	if state.Drained, err = s.drained(); err != nil {
		return state, explain(err, "read why the host is drained")
	}
	if state.Freeze, err = s.frozen(); err != nil {
		return state, explain(err, "read whether the host is frozen")
	}
	if state.InUse, err = s.inUse(ctx); err != nil {
		return state, err
	}
	for _, f := range sharedFiles {
		if !s.has(path.Join(sharedDir, f)) {
			state.Missing = append(state.Missing, f)
		}
	}
	room, err := s.FS.Free()
	if err != nil {
		return state, explain(err, "ask for the free room")
	}
	state.FreeBytes, state.FreeNodes = room.Bytes, room.Nodes
	return state, nil
}

// has reports whether something is at p. What cannot be looked at is there.
func (s *Site) has(p string) bool {
	_, err := s.FS.Lstat(p)
	return !errors.Is(err, fs.ErrNotExist)
}

// current reads the link. refusal says why it may not be switched: it is no link, or leads
// elsewhere.
func (s *Site) current() (id, refusal string, err error) {
	info, err := s.FS.Lstat(currentLink)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", "", nil
	case err != nil:
		return "", "", err
	case info.Kind == filesync.Dir:
		return "", "current is a real folder, not a link to a release", nil
	case info.Kind != filesync.Link:
		return "", "current is not a link to a release", nil
	}
	target, err := s.FS.Readlink(currentLink)
	if err != nil {
		return "", "", err
	}
	rel := strings.TrimPrefix(path.Clean(target), s.Path+"/")
	if id, ok := strings.CutPrefix(rel, releasesDir+"/"); ok && wire.CheckID(id) == nil {
		return id, "", nil
	}
	return "", fmt.Sprintf("current leads to %.200q, which godeploy did not make", target), nil
}

// inUse names the releases some process stands in or runs from.
func (s *Site) inUse(ctx context.Context) ([]string, error) {
	if s.WorkingDirs == nil {
		return nil, nil
	}
	dirs, err := s.WorkingDirs(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the processes: %w", err)
	}
	root := cmp.Or(s.Physical, s.Path)
	var ids []string
	for _, d := range dirs {
		rest, below := strings.CutPrefix(d, root+"/"+releasesDir+"/")
		id, _, _ := strings.Cut(rest, "/")
		// The kernel adds a note to the path of what was unlinked.
		id = strings.TrimSuffix(id, " (deleted)")
		if below && wire.CheckID(id) == nil && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Prepare makes releases/, shared/, .godeploy/ and the shared folders where they are missing, and
// removes what runs that died have left: half releases, half removals. sharedDirs are paths below
// shared/.
func (s *Site) Prepare(ctx context.Context, sharedDirs []string) error {
	if err := s.layout(sharedDirs); err != nil {
		return err
	}
	return s.sweep(ctx)
}

func (s *Site) layout(sharedDirs []string) error {
	anew := false
	for _, d := range []string{recordsDir, treesDir} {
		made, err := filesync.MkdirAll(s.FS, d, 0o755)
		if err != nil {
			return explain(err, "make %s", d)
		}
		anew = anew || len(made) > 0
	}
	owned := []string{releasesDir, sharedDir}
	for _, d := range sharedDirs {
		owned = append(owned, path.Join(sharedDir, d))
	}
	for _, d := range owned {
		made, err := s.mkdir(d)
		if err != nil {
			return explain(err, "make %s", d)
		}
		anew = anew || made
	}
	if !anew {
		return nil // to flush what nobody wrote can still take long on a busy disk
	}
	return explain(s.FS.SyncDir("."), "make the layout durable")
}

// mkdir makes a folder and the way to it, owned as the app's. A link in its place is somebody's own
// arrangement and left alone.
func (s *Site) mkdir(d string) (anew bool, err error) {
	info, err := s.FS.Lstat(d)
	if err == nil {
		if info.Kind == filesync.Dir || info.Kind == filesync.Link && d != releasesDir {
			return false, nil
		}
		return false, fault.New(fault.LayoutRefused, "%s is no folder", path.Join(s.Path, d)).
			Hint("move it away; godeploy keeps its layout there")
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	made, err := filesync.MkdirAll(s.FS, d, 0o755)
	for _, m := range made {
		if err := s.own(m); err != nil {
			return true, err
		}
	}
	return true, err
}

// own gives what was made to the app's owner.
func (s *Site) own(p string) error {
	if s.UID < 0 && s.GID < 0 {
		return nil
	}
	return s.FS.Lchown(p, s.UID, s.GID)
}

// sweep removes what dead runs left: trees half received or half removed, whole trees that never
// got their record, records and manifests whose tree is gone, and a link never put in place.
func (s *Site) sweep(ctx context.Context) error {
	trees, err := s.names(releasesDir)
	if err != nil {
		return explain(err, "read releases")
	}
	recorded, err := s.names(recordsDir)
	if err != nil {
		return explain(err, "read the records")
	}
	manifests, err := s.names(treesDir)
	if err != nil {
		return explain(err, "read the manifests")
	}
	secrets, err := s.names(envDir)
	if err != nil {
		return explain(err, "read the secrets' names")
	}
	keep, err := s.untouchable(ctx)
	if err != nil {
		return err
	}
	for _, p := range append(litter(trees, recorded, manifests, keep), envLitter(secrets, trees)...) {
		if err := s.FS.RemoveAll(p); err != nil {
			return explain(err, "remove the leftover %s", p)
		}
	}
	return nil
}

// maxUnfinished is how many transfers that were cut are kept for the next one to use; each may fill
// the disk by what is new in it.
const maxUnfinished = 2

// unfinished gives the release that a half tree, or its manifest, was to become.
func unfinished(name string) (id string, ok bool) {
	id, ok = strings.CutSuffix(name, partialMark)
	if id, dotted := strings.CutPrefix(id, "."); ok && dotted {
		id, _, _ = strings.Cut(id, ".") // a second try of the same release put the first aside under a number
		return id, wire.CheckID(id) == nil
	}
	return "", false
}

// litter decides what to remove, given the names that are there and the releases to keep whatever
// their records say. What looks like nothing of ours is never named.
func litter(trees, records, manifests, keep []string) []string {
	out := []string{newLink}
	kept, retired := 0, spare(trees)
	for _, t := range slices.Backward(trees) {
		if _, ok := unfinished(t); ok {
			// Only what has a manifest is of use; the names sort by time.
			if kept < maxUnfinished && slices.Contains(manifests, t) {
				kept++
			} else {
				out = append(out, releasesDir+"/"+t)
			}
			continue
		}
		id := strings.TrimPrefix(t, goneMark)
		if wire.CheckID(id) != nil || t == retired {
			continue
		}
		if t != id || !slices.Contains(records, id+".json") && !slices.Contains(keep, id) {
			out = append(out, releasesDir+"/"+t)
		}
	}
	for _, r := range records {
		id := strings.TrimSuffix(strings.TrimSuffix(r, ".new"), ".json")
		if wire.CheckID(id) == nil && (r != id+".json" || !slices.Contains(trees, id)) {
			out = append(out, recordsDir+"/"+r)
		}
	}
	for _, m := range manifests {
		_, half := unfinished(m)
		if temp, ok := strings.CutSuffix(m, ".new"); ok && strings.HasPrefix(temp, ".") { // never put in place
			out = append(out, treesDir+"/"+m)
			continue
		}
		if (wire.CheckID(m) == nil || half) && (!slices.Contains(trees, m) || slices.Contains(out, releasesDir+"/"+m)) {
			out = append(out, treesDir+"/"+m)
		}
	}
	return out
}

// spare gives the one tree, of those that nobody needs any more, that the next release may be built from.
func spare(trees []string) string {
	last := ""
	for _, t := range trees {
		if id, gone := strings.CutPrefix(t, goneMark); gone && wire.CheckID(id) == nil && t > last {
			last = t
		}
	}
	return last
}

// untouchable names the releases that must not be removed: current, and those in use.
func (s *Site) untouchable(ctx context.Context) ([]string, error) {
	ids, err := s.inUse(ctx)
	if err != nil {
		return nil, err
	}
	current, _, err := s.current()
	if err != nil {
		return nil, explain(err, "read current")
	}
	return append(ids, current), nil
}

// names lists a folder; one that is missing is empty.
func (s *Site) names(dir string) ([]string, error) {
	infos, err := s.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := make([]string, len(infos))
	for i := range infos {
		names[i] = infos[i].Name
	}
	return names, err
}

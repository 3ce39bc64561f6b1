package filesync

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const spareName = ".gone-r0"

// TestReleaseFromASpareTreeIsNoOther: whatever lies in a retired tree, and whatever was done to it, what is
// built from it is the source as rsync sees it, changes nothing of the parent, and has no file twice.
func TestReleaseFromASpareTreeIsNoOther(t *testing.T) {
	t.Parallel()
	need(t, "rsync")
	rapid.Check(t, func(rt *rapid.T) {
		base, err := os.MkdirTemp(t.TempDir(), "tree")
		ok(t, err)
		dir, app := filepath.Join(base, "src"), filepath.Join(base, "app")
		ok(t, errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(app, 0o755), os.WriteFile(filepath.Join(dir, "one"), nil, 0o644)))
		fsys, err := OpenLocal(app)
		ok(t, err)
		defer fsys.Close()
		releases := filepath.Join(app, "releases")
		for n, rounds := 1, rapid.IntRange(2, 4).Draw(rt, "rounds"); n <= rounds; n++ {
			grow(rt, dir)
			o := ReceiveOptions{FS: noSync{fsys}, ID: fmt.Sprintf("r%d", n), UID: -1, GID: -1}
			if n > 1 {
				o.Parent = fmt.Sprintf("r%d", n-1)
			}
			if n > 2 {
				o.Spare = spareName
				ok(t, os.Rename(filepath.Join(releases, fmt.Sprintf("r%d", n-2)), filepath.Join(releases, spareName)))
				grow(rt, filepath.Join(releases, spareName))
			}
			before := ""
			if n > 1 {
				before = seen(rt, filepath.Join(releases, o.Parent))
			}
			src, err := Scan(t.Context(), dir, ScanOptions{})
			ok(t, err)
			e := transfer(t, src, SendOptions{}, o)
			ok(t, errors.Join(e.sendErr, e.receiveErr, src.Close()))
			if n > 1 && seen(rt, filepath.Join(releases, o.Parent)) != before {
				rt.Fatalf("%s changed while %s was made", o.Parent, o.ID)
			}
			same(rt, dir, filepath.Join(releases, o.ID))
			if _, err := os.Lstat(filepath.Join(releases, spareName)); !errors.Is(err, fs.ErrNotExist) {
				rt.Fatalf("the spare tree is still there: %v", err)
			}
		}
	})
}

// same compares a release with its source as rsync does, and sees that no inode is in it twice.
func same(rt *rapid.T, dir, release string) {
	out, err := exec.Command("rsync", "-anci", "--no-times", "--no-owner", "--no-group", "--delete", dir+"/", release+"/").CombinedOutput()
	if text := strings.ReplaceAll(string(out), ".d..t...... ./\n", ""); err != nil || text != "" {
		rt.Fatalf("%s differs from the source as rsync sees it: %v\n%s", release, err, text)
	}
	out, err = exec.Command("sh", "-c", `find "$1" -type f -printf '%i\n' | sort | uniq -d`, "sh", release).CombinedOutput()
	if err != nil || len(out) > 0 {
		rt.Fatalf("%s has inodes twice: %v %s", release, err, out)
	}
}

// seen tells all that is to be seen of a tree but the link counts.
func seen(rt *rapid.T, dir string) string {
	out, err := exec.Command("find", dir, "-printf", `%P %y %m %s %T@ %l\n`).CombinedOutput()
	if err != nil {
		rt.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// spareAndParent gives a folder with a release, the spare tree that it was made from, and the source, changed since.
func spareAndParent(t *testing.T) (app string, fsys FS, src *Source) {
	t.Helper()
	dir := put(t, map[string]string{"a": "one", "d/b": "two", "d/c": "three", "l": "->a", "closed/x": "1"})
	app = t.TempDir()
	fsys = openDir(t, app)
	release(t, scanDir(t, dir), fsys, "r0", "")
	release(t, scanDir(t, dir), fsys, "r1", "r0")
	ok(t, errors.Join(os.Rename(app+"/releases/r0", app+"/releases/"+spareName), os.Remove(app+"/.godeploy/manifests/r0"),
		os.WriteFile(dir+"/d/b", []byte("changed"), 0o644)))
	return app, fsys, scanDir(t, dir)
}

// linkless counts the links and folders that are made.
type linkless struct {
	FS
	links, folders int
	refuse         string // a path below the stage that cannot be removed
}

func (l *linkless) Link(from, to string) error { l.links++; return l.FS.Link(from, to) }

func (l *linkless) Mkdir(path string, mode uint32) error {
	l.folders++
	return l.FS.Mkdir(path, mode)
}

func (l *linkless) RemoveAll(path string) error {
	if l.refuse != "" && strings.HasSuffix(path, l.refuse) {
		return &fs.PathError{Op: "unlink", Path: path, Err: fs.ErrPermission}
	}
	return l.FS.RemoveAll(path)
}

func TestSpareTreeIsUsed(t *testing.T) {
	t.Parallel()
	app, fsys, src := spareAndParent(t)
	l := &linkless{FS: fsys}
	e := transfer(t, src, SendOptions{}, ReceiveOptions{FS: l, ID: "r2", Parent: "r1", Spare: spareName, UID: -1, GID: -1, Workers: 1})
	ok(t, errors.Join(e.sendErr, e.receiveErr))
	if l.links != 0 || l.folders != 0 || e.received.Linked != 3 || e.received.Written != 1 {
		t.Errorf("%d links and %d folders made, want none; %+v", l.links, l.folders, e.received)
	}
	if b, err := os.ReadFile(app + "/releases/r1/d/b"); string(b) != "two" {
		t.Errorf("the parent has %q, %v", b, err)
	}
	if b, err := os.ReadFile(app + "/releases/r2/d/b"); string(b) != "changed" {
		t.Errorf("the release has %q, %v", b, err)
	}
}

// A retired tree that cannot be taken apart stays where it is, and the release is made without it.
func TestStubbornSpareTreeIsLeftAlone(t *testing.T) {
	t.Parallel()
	app, fsys, src := spareAndParent(t)
	ok(t, os.WriteFile(app+"/releases/"+spareName+"/stubborn", nil, 0o644))
	l := &linkless{FS: fsys, refuse: "/stubborn"}
	e := transfer(t, src, SendOptions{}, ReceiveOptions{FS: l, ID: "r2", Parent: "r1", Spare: spareName, UID: -1, GID: -1, Workers: 1})
	ok(t, errors.Join(e.sendErr, e.receiveErr))
	if _, err := os.Lstat(app + "/releases/" + spareName + "/stubborn"); err != nil || l.links == 0 {
		t.Errorf("%d links made; %v", l.links, err)
	}
	if _, err := os.Lstat(app + "/releases/r2/stubborn"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the release has what the spare tree had: %v", err)
	}
}

// Copies are the release's own: nothing of another tree may become part of it.
func TestSpareTreeIsNotUsedForCopies(t *testing.T) {
	t.Parallel()
	app, fsys, src := spareAndParent(t)
	e := transfer(t, src, SendOptions{}, ReceiveOptions{FS: fsys, ID: "r2", Parent: "r1", Spare: spareName, Links: "copy", UID: -1, GID: -1})
	ok(t, errors.Join(e.sendErr, e.receiveErr))
	one, err1 := os.Stat(app + "/releases/r1/a")
	two, err2 := os.Stat(app + "/releases/r2/a")
	if err := errors.Join(err1, err2); err != nil || os.SameFile(one, two) {
		t.Errorf("a is shared, %v", err)
	}
}

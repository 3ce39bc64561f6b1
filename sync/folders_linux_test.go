package filesync

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// made creates an empty file through the FS and fails the test when that fails.
func made(t *testing.T, fsys FS, path string) {
	t.Helper()
	w, err := fsys.Create(path, 0o644)
	ok(t, err)
	ok(t, w.Close())
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestAFolderThatWasMovedIsLookedForAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fsys := openDir(t, dir)
	ok(t, errors.Join(fsys.Mkdir("a", 0o755), fsys.Mkdir("a/b", 0o755)))
	made(t, fsys, "a/b/1")
	ok(t, fsys.Rename("a", "c"))
	if _, err := fsys.Lstat("a/b/1"); err == nil {
		t.Error("a folder that was moved is still under its old name")
	}
	ok(t, errors.Join(fsys.Mkdir("a", 0o755), fsys.Mkdir("a/b", 0o755)))
	made(t, fsys, "a/b/2")
	ok(t, fsys.RemoveAll("a/b"))
	ok(t, fsys.Mkdir("a/b", 0o755))
	made(t, fsys, "a/b/3")
	for path, want := range map[string]bool{"a/b/1": false, "a/b/2": false, "a/b/3": true, "c/b/1": true, "c/b/2": false} {
		if there(filepath.Join(dir, path)) != want {
			t.Errorf("%s is there: %v, want %v", path, !want, want)
		}
	}
}

func TestAFolderThatSomebodyElseMadeAnewIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fsys := openDir(t, dir)
	ok(t, errors.Join(fsys.Mkdir("a", 0o755), fsys.Mkdir("a/b", 0o755)))
	made(t, fsys, "a/b/1")
	ok(t, errors.Join(os.RemoveAll(filepath.Join(dir, "a")), os.MkdirAll(filepath.Join(dir, "a/b"), 0o755)))
	made(t, fsys, "a/b/1")
	if !there(filepath.Join(dir, "a/b/1")) {
		t.Error("the file is not in the new folder")
	}
}

func TestALinkInTheStepsOfAFolderIsNotFollowed(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	fsys := openDir(t, dir)
	ok(t, fsys.Mkdir("d", 0o755))
	made(t, fsys, "d/1")
	ok(t, errors.Join(os.Rename(dir+"/d", dir+"/e"), os.Symlink(outside, dir+"/d")))
	for i := range 10 {
		w, err := fsys.Create(fmt.Sprintf("d/new%d", i), 0o644)
		if err == nil {
			ok(t, w.Close())
		}
		fsys.(*local).folders.drop("d")
	}
	if in, err := os.ReadDir(outside); err != nil || len(in) > 0 {
		t.Errorf("outside holds %v (%v)", in, err)
	}
	if _, err := fsys.Create("d/last", 0o644); err == nil {
		t.Error("a file was made below a link")
	}
}

func TestOpenFoldersAreFew(t *testing.T) {
	t.Parallel()
	fsys := openDir(t, t.TempDir())
	l := fsys.(*local)
	for i := range 3 * mostFolders {
		ok(t, fsys.Mkdir(fmt.Sprint(i), 0o755))
		made(t, fsys, fmt.Sprintf("%d/f", i))
		if n := len(l.folders.open); n > mostFolders {
			t.Fatalf("%d folders are open", n)
		}
	}
	if last := fmt.Sprint(3*mostFolders - 1); l.folders.open[last] == nil || l.folders.open["0"] != nil {
		t.Error("the latest folder is not kept, or the first is")
	}
	l.folders.close()
	if made(t, fsys, "1/g"); len(l.folders.open) != 0 {
		t.Error("a folder is kept after the end")
	}
}

func TestFoldersAreSharedByManyAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fsys := openDir(t, dir)
	const workers, each = 8, 60
	for i := range 2 * mostFolders {
		ok(t, fsys.Mkdir(fmt.Sprint(i), 0o755))
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			own := fmt.Sprintf("own%d", w)
			for i := range each {
				at := fmt.Sprintf("%d/w%d-%d", i*7%(2*mostFolders), w, i)
				f, err := fsys.Create(at, 0o600)
				if err == nil {
					err = errors.Join(f.Chtimes(5e9), f.Close(), fsys.Link(at, at+"x"), fsys.Rename(at, at+"y"))
				}
				err = errors.Join(err, fsys.Mkdir(own, 0o700), fsys.Symlink("x", own+"/l"), fsys.RemoveAll(own))
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for w := range workers {
		for i := range each {
			at := filepath.Join(dir, fmt.Sprintf("%d/w%d-%d", i*7%(2*mostFolders), w, i))
			info, err := os.Lstat(at + "y")
			ok(t, err)
			if !there(at+"x") || there(at) || info.ModTime().UnixNano() != 5e9 {
				t.Fatalf("%s is not what was made", at)
			}
		}
	}
}

// TestDefaultACLDoesNotDecideBits: a folder's default ACL takes the umask's place and would take
// all away from the group and others.
func TestDefaultACLDoesNotDecideBits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fsys := openDir(t, dir)
	ok(t, fsys.Mkdir("d", 0o755))
	acl := binary.LittleEndian.AppendUint32(nil, 2) // version; then tag, bits and no id of each
	for _, entry := range [][2]uint16{{1, 7}, {4, 0}, {32, 0}} {
		acl = binary.LittleEndian.AppendUint16(acl, entry[0])
		acl = binary.LittleEndian.AppendUint16(acl, entry[1])
		acl = binary.LittleEndian.AppendUint32(acl, 1<<32-1)
	}
	if err := unix.Setxattr(filepath.Join(dir, "d"), "system.posix_acl_default", acl, 0); err != nil {
		t.Logf("this file system has no ACLs (%v): bits are as without", err)
	}
	for i, perm := range []uint32{0o644, 0o644, 0o600, 0o666, 0o755, 0o444, 0o000, 0o777} {
		path := fmt.Sprintf("d/%d", i)
		w, err := fsys.Create(path, perm)
		ok(t, err)
		ok(t, w.Close())
		if info, err := fsys.Lstat(path); err != nil || info.Mode != perm {
			t.Errorf("%d: got %o (%v), want %o", i, info.Mode, err, perm)
		}
		ok(t, fsys.Mkdir(path+"d", perm))
		if info, err := fsys.Lstat(path + "d"); err != nil || info.Mode != perm {
			t.Errorf("folder %d: got %o (%v), want %o", i, info.Mode, err, perm)
		}
	}
}

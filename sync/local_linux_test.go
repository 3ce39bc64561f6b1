package filesync

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestPathsLongerThanTheSystemTakes: 30 names of 200 bytes are one path too long for a single call,
// on the way in as on the way out; so is every path where openat2 is missing.
func TestPathsLongerThanTheSystemTakes(t *testing.T) {
	t.Parallel()
	for name, walk := range map[string]bool{"openat2": false, "by component": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := openDir(t, t.TempDir()), openDir(t, t.TempDir())
			from.(*local).walk.Store(walk)
			to.(*local).walk.Store(walk)
			path := strings.Repeat("n", 200)
			for range 29 {
				ok(t, from.Mkdir(path, 0o755))
				path += "/" + strings.Repeat("n", 200)
			}
			f, err := from.Create(path, 0o644)
			ok(t, err)
			_, err = io.WriteString(f, "deep")
			ok(t, errors.Join(err, f.Close(), from.Symlink("n", "link")))
			s := scanner{fs: from, faults: &faults{}}
			m, err := s.scan(t.Context())
			ok(t, err)
			src := &Source{Manifest: m, fs: from}
			release(t, src, to, "r1", "")
			release(t, src, to, "r2", "r1")
			g, err := to.Open("releases/r2/" + path)
			ok(t, err)
			defer g.Close()
			if got, err := io.ReadAll(g); err != nil || string(got) != "deep" {
				t.Errorf("got %q (%v)", got, err)
			}
			if _, err := to.Open("releases/r2/link/x"); err == nil {
				t.Error("a link was followed")
			}
			ok(t, to.RemoveAll("releases"))
			ok(t, from.RemoveAll(path[:200]))
		})
	}
}

// TestOwnerIsTheOneAskedFor also shows that a file of another owner is never linked.
func TestOwnerIsTheOneAskedFor(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatal("only root can give files away and GODEPLOY_TEST_MUST_RUN is set")
		}
		t.Skip("only root can give files away")
	}
	src := scanDir(t, put(t, map[string]string{"d/f": "x", "l": "->d", "e/": "", "big": noise(1, 300_000), "twin": "x"}))
	app := t.TempDir()
	fsys := openDir(t, app)
	for i, c := range []struct{ uid, linked int }{{-1, 0}, {12345, 0}, {12345, 3}} {
		id := string(rune('a' + i))
		e := transfer(t, src, SendOptions{}, ReceiveOptions{FS: fsys, ID: id, Parent: string(rune('a' + i - 1)), UID: c.uid, GID: c.uid})
		ok(t, errors.Join(e.sendErr, e.receiveErr))
		if e.received.Linked != c.linked {
			t.Errorf("%s: linked %d, want %d", id, e.received.Linked, c.linked)
		}
		ok(t, filepath.WalkDir(filepath.Join(app, "releases", id), func(path string, _ os.DirEntry, walkErr error) error {
			info, err := os.Lstat(path)
			if err := errors.Join(walkErr, err); err != nil {
				return err
			}
			if st := info.Sys().(*syscall.Stat_t); c.uid >= 0 && (int(st.Uid) != c.uid || int(st.Gid) != c.uid) {
				t.Errorf("%s belongs to %d:%d", path, st.Uid, st.Gid)
			}
			return nil
		}))
	}
}

// full is a disk that takes so many bytes more.
type full struct {
	FS
	left atomic.Int64
}

type fullFile struct {
	FileWriter
	disk *full
}

func (f *full) Create(path string, perm uint32) (FileWriter, error) {
	w, err := f.FS.Create(path, perm)
	return &fullFile{w, f}, err
}

func (f *fullFile) Write(p []byte) (int, error) {
	if f.disk.left.Add(-int64(len(p))) < 0 {
		return 0, syscall.ENOSPC
	}
	return f.FileWriter.Write(p)
}

func TestAFullDiskIsSaidAndLeavesNothing(t *testing.T) {
	t.Parallel()
	src := scanDir(t, put(t, map[string]string{"a": noise(1, 100_000), "b": noise(2, 400_000), "c": noise(3, 100_000)}))
	for _, left := range []int64{0, 150_000, 550_000, 600_050} {
		app := t.TempDir()
		disk := &full{FS: openDir(t, app)}
		disk.left.Store(left)
		e := transfer(t, src, SendOptions{}, ReceiveOptions{FS: disk, ID: "r1", UID: -1, GID: -1, Workers: 1})
		for _, err := range []error{e.sendErr, e.receiveErr} {
			if err == nil || !strings.Contains(err.Error(), "disk is full") {
				t.Errorf("room for %d: got %v", left, err)
			}
		}
		if left, _ := os.ReadDir(filepath.Join(app, "releases")); len(left) != 0 {
			t.Errorf("left %v", left)
		}
	}
}

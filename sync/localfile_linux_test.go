package filesync

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFilesByDescriptor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fsys := openDir(t, dir)
	w, err := fsys.Create("f", 0o640)
	ok(t, err)
	_, err = io.WriteString(w, "hello world")
	ok(t, errors.Join(err, w.Sync()))
	ok(t, os.Rename(filepath.Join(dir, "f"), filepath.Join(dir, "g")))
	ok(t, w.Chtimes(-1_500_000_000)) // of what is open, wherever it is by now
	ok(t, w.Close())
	for name, err := range map[string]error{"close": w.Close(), "sync": w.Sync(), "chtimes": w.Chtimes(0)} {
		if err == nil {
			t.Errorf("%s of a closed file is no error", name)
		}
	}
	if info, err := fsys.Lstat("g"); err != nil || info.MTime != -1_500_000_000 || info.Mode != 0o640 {
		t.Errorf("got %+v (%v)", info, err)
	}
	r, err := fsys.Open("g")
	ok(t, err)
	defer r.Close()
	buf := make([]byte, 5)
	if n, err := r.ReadAt(buf, 6); n != 5 || err != nil || string(buf) != "world" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	if n, err := r.ReadAt(buf, 8); n != 3 || err != io.EOF {
		t.Errorf("past the end: got %d bytes, %v", n, err)
	}
	if all, err := io.ReadAll(r); err != nil || string(all) != "hello world" {
		t.Errorf("got %q, %v", all, err)
	}
	if _, err := fsys.Open("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestCloneSharesOrSaysThatItCannot(t *testing.T) {
	t.Parallel()
	fsys := openDir(t, t.TempDir())
	ok(t, cloned(t, fsys, true))
}

// cloned clones a file and a few things that are none; unsupported is fine where that may be.
func cloned(t *testing.T, fsys FS, mayLack bool) error {
	t.Helper()
	content := []byte(noise(1, 1<<20))
	w, err := fsys.Create("old", 0o644)
	ok(t, err)
	_, err = w.Write(content)
	ok(t, errors.Join(err, w.Close(), fsys.Symlink("old", "link"), fsys.Mkdir("d", 0o755)))
	for _, bad := range []string{"link", "d", "none"} {
		if err := fsys.Clone(bad, "bad", 0o644); err == nil {
			t.Errorf("%s was cloned", bad)
		}
	}
	if err := fsys.Clone("old", "link", 0o644); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over something: got %v", err)
	}
	err = fsys.Clone("old", "d/new", 0o750)
	if errors.Is(err, errors.ErrUnsupported) && mayLack {
		if _, err := fsys.Lstat("d/new"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what could not be cloned is there (%v)", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	info, err := fsys.Lstat("d/new")
	ok(t, err)
	r, err := fsys.Open("d/new")
	ok(t, err)
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) || info.Mode != 0o750 {
		t.Errorf("got %d bytes of mode %o (%v)", len(got), info.Mode, err)
	}
	return nil
}

// TestCloneSharesBlocks mounts a file system that can share, and sees that nothing is copied.
func TestCloneSharesBlocks(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root mounts a file system")
	}
	mkfs, err := exec.LookPath("mkfs.btrfs")
	if err != nil {
		if mkfs, err = exec.LookPath("mkfs.xfs"); err != nil {
			t.Skip("neither mkfs.btrfs nor mkfs.xfs is there")
		}
	}
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "at")
	ok(t, errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 512<<20), os.Mkdir(at, 0o700)))
	for _, args := range [][]string{{mkfs, "-q", image}, {"mount", "-o", "loop", image, at}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%q: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() { ok(t, unix.Unmount(at, 0)) })
	fsys := openDir(t, at)
	ok(t, cloned(t, fsys, false))
	ok(t, fsys.Sync())
	before, err := fsys.Free()
	ok(t, err)
	for _, name := range []string{"c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"} {
		ok(t, fsys.Clone("old", name, 0o644))
	}
	ok(t, fsys.Sync())
	if after, err := fsys.Free(); err != nil || before.Bytes-after.Bytes > 2<<20 {
		t.Errorf("eight clones of 1 MiB took %d bytes (%v)", before.Bytes-after.Bytes, err)
	}
}

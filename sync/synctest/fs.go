package synctest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	filesync "godeploy/sync"
)

// names: a path that is not clean, relative and within bounds is refused by every method.
func names(t *testing.T, fsys filesync.FS) {
	must(t, fsys.Mkdir("d", 0o755))
	write(t, fsys, "f", "x", 0o644)
	for _, bad := range []string{"", "/", "/f", "..", "../f", "d/..", "d/../f", "./f", "d//f", "d/", "d/.", "a\x00b", strings.Repeat("n", 256)} {
		_, lstat := fsys.Lstat(bad)
		_, readDir := fsys.ReadDir(bad)
		_, open := fsys.Open(bad)
		_, create := fsys.Create(bad, 0o644)
		for name, err := range map[string]error{
			"Lstat": lstat, "ReadDir": readDir, "Open": open, "Create": create, "Mkdir": fsys.Mkdir(bad, 0o755),
			"Symlink": fsys.Symlink("x", bad), "Link": fsys.Link("f", bad), "Rename": fsys.Rename("f", bad),
			"Rename from": fsys.Rename(bad, "g"), "Chmod": fsys.Chmod(bad, 0o600), "RemoveAll": fsys.RemoveAll(bad),
		} {
			if err == nil {
				t.Errorf("%s took the path %q", name, bad)
			}
		}
	}
	if err := fsys.RemoveAll("."); err == nil {
		t.Error("RemoveAll took the root away")
	}
	if got := list(t, fsys, "."); !slices.Equal(got, []string{"d", "f"}) {
		t.Errorf("root holds %q", got)
	}
}

func kindsOfErrors(t *testing.T, fsys filesync.FS) {
	must(t, fsys.Mkdir("d", 0o755))
	write(t, fsys, "f", "x", 0o644)
	_, lstat := fsys.Lstat("none")
	_, open := fsys.Open("none")
	_, readDir := fsys.ReadDir("none")
	_, below := fsys.Create("none/f", 0o644)
	for name, err := range map[string]error{"Lstat": lstat, "Open": open, "ReadDir": readDir, "Create": below,
		"Mkdir": fsys.Mkdir("none/d", 0o755), "Rename": fsys.Rename("none", "x"), "Chmod": fsys.Chmod("none", 0o600)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of nothing: got %v, want ErrNotExist", name, err)
		}
	}
	_, create := fsys.Create("f", 0o644)
	for name, err := range map[string]error{"Create": create, "Mkdir": fsys.Mkdir("d", 0o755), "Symlink": fsys.Symlink("x", "f"), "Link": fsys.Link("f", "d")} {
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s over something: got %v, want ErrExist", name, err)
		}
	}
	if read(t, fsys, "f") != "x" {
		t.Error("Create touched the file that was there")
	}
	if err := fsys.RemoveAll("none"); err != nil {
		t.Errorf("RemoveAll of nothing: %v", err)
	}
	if _, err := fsys.Open("d"); err == nil {
		t.Error("Open took a folder")
	}
	if err := fsys.Symlink("", "empty"); err == nil {
		t.Error("Symlink took an empty text")
	}
}

// noFollow: a link is never gone through, neither on the way nor at the end.
func noFollow(t *testing.T, fsys filesync.FS) {
	must(t, fsys.Mkdir("real", 0o755))
	write(t, fsys, "real/f", "x", 0o644)
	must(t, fsys.Symlink("real", "dir"))
	must(t, fsys.Symlink("real/f", "file"))
	must(t, fsys.Symlink("nowhere", "dangling"))
	_, open := fsys.Open("file")
	_, through := fsys.Open("dir/f")
	_, readDir := fsys.ReadDir("dir")
	_, lstat := fsys.Lstat("dir/f")
	_, create := fsys.Create("dangling", 0o644)
	_, inside := fsys.Create("dir/g", 0o644)
	for name, err := range map[string]error{"Open": open, "Open below": through, "ReadDir": readDir, "Lstat below": lstat,
		"Create": create, "Create below": inside, "Mkdir below": fsys.Mkdir("dir/d", 0o755), "Chmod": fsys.Chmod("file", 0o600),
		"Rename below": fsys.Rename("dir/f", "g"), "Link below": fsys.Link("dir/f", "g"), "RemoveAll below": fsys.RemoveAll("dir/f")} {
		if err == nil {
			t.Errorf("%s went through a link", name)
		}
	}
	must(t, fsys.RemoveAll("dir"))
	if read(t, fsys, "real/f") != "x" {
		t.Error("RemoveAll of a link removed what it points to")
	}
	info, err := fsys.Lstat("file")
	must(t, err)
	text, err := fsys.Readlink("file")
	must(t, err)
	if info.Kind != filesync.Link || text != "real/f" {
		t.Errorf("got kind %d, text %q", info.Kind, text)
	}
}

// permissions are those asked for, whatever the umask.
func permissions(t *testing.T, fsys filesync.FS) {
	for _, perm := range []uint32{0o777, 0o640, 0o400, 0o755, 0o666} {
		name := fmt.Sprintf("%o", perm)
		must(t, fsys.Mkdir("d"+name, perm))
		write(t, fsys, "f"+name, "x", perm)
		for _, path := range []string{"d" + name, "f" + name} {
			info, err := fsys.Lstat(path)
			must(t, err)
			if info.Mode != perm {
				t.Errorf("%s: got mode %o, want %o", path, info.Mode, perm)
			}
			must(t, fsys.Chmod(path, 0o505))
			if info, err = fsys.Lstat(path); err != nil || info.Mode != 0o505 {
				t.Errorf("%s: got mode %o after Chmod, want 505 (%v)", path, info.Mode, err)
			}
		}
	}
	write(t, fsys, "special", "x", 0o6755)
	if info, err := fsys.Lstat("special"); err != nil || info.Mode != 0o755 {
		t.Errorf("got mode %o, want 755 (%v)", info.Mode, err)
	}
}

func times(t *testing.T, fsys filesync.FS) {
	write(t, fsys, "f", "x", 0o644)
	must(t, fsys.Mkdir("d", 0o755))
	for _, path := range []string{"f", "d"} {
		for _, want := range []int64{0, 1_000_000_000, 1_700_000_000_123_456_789, 2_147_483_647_999_999_999} {
			must(t, fsys.Chtimes(path, want))
			info, err := fsys.Lstat(path)
			must(t, err)
			if info.MTime != want && info.MTime != want/1e9*1e9 {
				t.Errorf("%s: got time %d, want %d", path, info.MTime, want)
			}
		}
	}
}

// rename replaces files and links in one step and leaves full folders alone.
func rename(t *testing.T, fsys filesync.FS) {
	must(t, fsys.Mkdir("d", 0o755))
	write(t, fsys, "d/f", "x", 0o644)
	must(t, fsys.Symlink("one", "current"))
	must(t, fsys.Symlink("two", "next"))
	must(t, fsys.Rename("next", "current"))
	if text, err := fsys.Readlink("current"); err != nil || text != "two" {
		t.Errorf("got link to %q (%v), want two", text, err)
	}
	write(t, fsys, "a", "new", 0o644)
	write(t, fsys, "b", "old", 0o644)
	must(t, fsys.Rename("a", "b"))
	if got := read(t, fsys, "b"); got != "new" {
		t.Errorf("got %q, want new", got)
	}
	must(t, fsys.Mkdir("e", 0o755))
	if err := fsys.Rename("e", "d"); err == nil {
		t.Error("Rename replaced a folder with something in it")
	}
	must(t, fsys.Rename("d", "moved"))
	if got := list(t, fsys, "."); !slices.Equal(got, []string{"b", "current", "e", "moved"}) {
		t.Errorf("root holds %q", got)
	}
}

// removeAll removes folders that forbid it, deep ones, and links but not what they point to.
func removeAll(t *testing.T, fsys filesync.FS) {
	must(t, fsys.Mkdir("out", 0o755))
	write(t, fsys, "out/f", "x", 0o644)
	must(t, fsys.Mkdir("tree", 0o755))
	must(t, fsys.Symlink("../out", "tree/link"))
	path := "tree"
	for range 60 {
		path += "/d"
		must(t, fsys.Mkdir(path, 0o755))
		write(t, fsys, path+"/f", "x", 0o400)
	}
	must(t, fsys.Chmod(path, 0o555))
	must(t, fsys.Chmod("tree/d", 0))
	must(t, fsys.RemoveAll("tree"))
	must(t, fsys.RemoveAll("out/f"))
	if got := list(t, fsys, "."); !slices.Equal(got, []string{"out"}) {
		t.Errorf("root holds %q", got)
	}
}

func room(t *testing.T, fsys filesync.FS) {
	space, err := fsys.Free()
	must(t, err)
	if space.Bytes == 0 || space.Bytes < -1 || space.Nodes < -1 {
		t.Errorf("got %+v", space)
	}
	must(t, fsys.Sync())
	must(t, fsys.SyncDir("."))
	if info, err := fsys.Lstat("."); err != nil || info.Kind != filesync.Dir {
		t.Errorf("the root is %+v (%v)", info, err)
	}
}

// files are read from anywhere in them and describe themselves, not what took their name.
func files(t *testing.T, fsys filesync.FS) {
	content := noise(1, 300_000)
	write(t, fsys, "f", content, 0o644)
	f, err := fsys.Open("f")
	must(t, err)
	defer f.Close()
	must(t, fsys.Link("f", "g"))
	must(t, fsys.RemoveAll("f"))
	write(t, fsys, "f", "other", 0o600)
	info, err := f.Stat()
	must(t, err)
	if info.Size != int64(len(content)) || info.Kind != filesync.File || info.Mode != 0o644 {
		t.Errorf("got %+v of the open file", info)
	}
	part := make([]byte, 1000)
	if _, err := f.ReadAt(part, 200_000); err != nil || string(part) != content[200_000:201_000] {
		t.Errorf("ReadAt gave something else (%v)", err)
	}
	if n, err := f.ReadAt(part, 299_500); n != 500 || err != io.EOF {
		t.Errorf("ReadAt past the end: %d, %v", n, err)
	}
	if read(t, fsys, "g") != content {
		t.Error("the second name holds something else")
	}
}

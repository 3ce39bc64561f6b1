package helper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"godeploy/internal/wire"
)

// keyHome is a home with a file of keys, or without .ssh where content is "".
func keyHome(t *testing.T, content string) (home, file string) {
	t.Helper()
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(home, ".ssh", "authorized_keys")
	if content == "" {
		return home, file
	}
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	return home, file
}

func editOf(home, file, before, after string, step func(string) error) *keyEdit {
	req := wire.KeyFileRequest{Path: file, Write: true, Content: []byte(after)}
	if before != "" {
		sum := sha256.Sum256([]byte(before))
		req.Expect = hex.EncodeToString(sum[:])
	}
	return &keyEdit{ctx: context.Background(), path: file, home: home, req: req, step: step}
}

func contentOf(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// Killed before any one call, the edit leaves the old file or the new one, whole; and the same edit, made again,
// is then done. The last round is one that is not killed.
func TestKeyEditKilledAnywhere(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"", "old keys\n"} {
		const after = "old keys\nnew key\n"
		for n := 1; ; n++ {
			home, file := keyHome(t, before)
			calls, killed := 0, errors.New("killed")
			edit := editOf(home, file, before, after, func(string) error {
				if calls++; calls >= n {
					return killed
				}
				return nil
			})
			_, err := edit.run()
			got := contentOf(t, file)
			if got != before && got != after {
				t.Fatalf("killed before call %d: the file is %q", n, got)
			}
			if err == nil {
				if got != after || calls < 7 {
					t.Fatalf("not killed: the file is %q after %d calls", got, calls)
				}
				break
			}
			if _, err := editOf(home, file, got, after, nil).run(); err != nil || contentOf(t, file) != after {
				t.Fatalf("after a kill before call %d: %v, the file is %q", n, err, contentOf(t, file))
			}
		}
	}
}

// A call that fails leaves the original and nothing beside it, and the edit says so. Only the copy of the old
// file may fail without a word; after the rename the new file is there, and the error is told.
func TestKeyEditWhenACallFails(t *testing.T) {
	t.Parallel()
	const before, after = "old keys\n", "old keys\nnew key\n"
	for _, no := range []error{unix.ENOSPC, unix.EIO, unix.EDQUOT, unix.EROFS, unix.EACCES} {
		for _, failing := range []string{"open lock", "create", "write", "dress", "sync", "link", "rename prev", "rename", "sync folder"} {
			home, file := keyHome(t, before)
			seen := false
			_, err := editOf(home, file, before, after, func(call string) error {
				if call == failing {
					seen = true
					return no
				}
				return nil
			}).run()
			want := before
			if failing == "link" || failing == "rename prev" || failing == "sync folder" {
				want = after
			}
			silent := failing == "link" || failing == "rename prev"
			if !seen || silent != (err == nil) || !silent && !errors.Is(err, no) {
				t.Errorf("%s in %s: seen %v, got %v", no, failing, seen, err)
			}
			if got := contentOf(t, file); got != want {
				t.Errorf("%s in %s: the file is %q, want %q", no, failing, got, want)
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*godeploy-[A-Z0-9]*")); len(left) > 0 {
				t.Errorf("%s in %s: left %q", no, failing, left)
			}
		}
	}
}

func TestKeyEditKeepsModeAndTheFileBefore(t *testing.T) {
	t.Parallel()
	home, file := keyHome(t, "one\n")
	for _, step := range [][2]string{{"one\n", "two\n"}, {"two\n", "three\n"}} {
		if reply, err := editOf(home, file, step[0], step[1], nil).run(); err != nil || reply.Stale {
			t.Fatalf("got %+v, %v", reply, err)
		}
		if got := contentOf(t, file+keysPrev); got != step[0] {
			t.Errorf("the file before is %q, want %q", got, step[0])
		}
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("got mode %v, %v", info.Mode(), err)
	}
	if reply, err := editOf(home, file, "one\n", "four\n", nil).run(); err != nil || !reply.Stale || contentOf(t, file) != "three\n" {
		t.Errorf("an edit of what is there no more: %+v, %v", reply, err)
	}
}

// A person with an editor heeds no lock: what they save while the edit is under way stays.
func TestKeyEditSeesAnEditorWithoutALock(t *testing.T) {
	t.Parallel()
	for _, save := range map[string]func(file string) error{
		"in place": func(file string) error { return os.WriteFile(file, []byte("by hand, longer\n"), 0o600) },
		"by rename": func(file string) error {
			return errors.Join(os.WriteFile(file+"~", []byte("by hand, longer\n"), 0o600), os.Rename(file+"~", file))
		},
	} {
		home, file := keyHome(t, "old\n")
		reply, err := editOf(home, file, "old\n", "new\n", func(call string) error {
			if call == "link" {
				return save(file)
			}
			return nil
		}).run()
		if got := contentOf(t, file); err != nil || !reply.Stale || got != "by hand, longer\n" {
			t.Errorf("got %+v, %v, the file is %q", reply, err, got)
		}
	}
}

func TestKeyFileOfOddKinds(t *testing.T) {
	t.Parallel()
	home, file := keyHome(t, "x\n")
	who := self()
	who.home = home
	if err := errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)); err != nil {
		t.Fatal(err)
	}
	reply, err := readKeys(who, "")
	if err != nil || !reply.Exists || len(reply.Content) > 0 || reply.Way[len(reply.Way)-1].Mode&unix.S_IFMT != unix.S_IFIFO {
		t.Errorf("a FIFO: got %+v, %v", reply, err)
	}
	if _, err := editOf(home, file, "", "new\n", nil).run(); err == nil || !strings.Contains(err.Error(), "no plain file") {
		t.Errorf("writing over a FIFO: got %v", err)
	}
	if err := errors.Join(os.Remove(file), os.Symlink("nowhere", file)); err != nil {
		t.Fatal(err)
	}
	if _, err := readKeys(who, ""); err == nil || !strings.Contains(err.Error(), "link to nothing") {
		t.Errorf("a dangling link: got %v", err)
	}
	if _, err := editOf(home, file, "", "new\n", nil).run(); err == nil {
		t.Error("a link was written over")
	}
	who.home = "/nonexistent"
	if reply, err := readKeys(who, ""); err != nil || reply.Home != "" || reply.Exists {
		t.Errorf("no home: got %+v, %v", reply, err)
	}
}

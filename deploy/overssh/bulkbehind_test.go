package overssh

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	"godeploy/internal/fault"
	filesync "godeploy/sync"
)

// newFolder gives a tree with one new folder, d, in which all goes through tar.
func newFolder(t *testing.T) behindFS {
	t.Helper()
	b := shell(t, "gnu").behind(t.Context()).(behindFS)
	if err := b.Mkdir("d", 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

func put(b behindFS, p, content string, size int64) error {
	f, err := b.Make(p, 0o644, someTime, size)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, content)
	return errors.Join(err, f.Close())
}

func TestWhatTheHostHashesOtherwiseDoesNotCount(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	if err := put(b, "d/f", "content", 7); err != nil {
		t.Fatal(err)
	}
	b.sum = func(paths []string) ([]filesync.Hash, error) { return make([]filesync.Hash, len(paths)), nil }
	if err := b.Rename("d", "e"); !fault.Is(err, fault.SyncVerify) {
		t.Errorf("rename: got %v, want %s", err, fault.SyncVerify)
	}
	if err := b.Sync(); !fault.Is(err, fault.SyncVerify) {
		t.Errorf("sync: got %v, want %s", err, fault.SyncVerify)
	}
}

func TestWhatTarCannotMakeShowsInSync(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	if err := errors.Join(os.Remove(b.root+"/d"), os.WriteFile(b.root+"/d", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	err := put(b, "d/f", "content", 7)
	if err = errors.Join(err, b.Sync()); err == nil {
		t.Fatal("a file below a file was made")
	}
	if _, err := b.Lstat("d/f"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lstat: got %v, want what tar said", err)
	}
	if err := b.RemoveAll("d"); err != nil {
		t.Errorf("remove: %v", err)
	}
}

func TestSizesThatWereToldAreKept(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) filesync.Maker{
		"tar":  func(t *testing.T) filesync.Maker { return newFolder(t) },
		"sftp": func(t *testing.T) filesync.Maker { return newFolder(t).sftpFS },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := open(t)
			for path, size := range map[string]int64{"d/small": 10, "d/large": smallFile + 10} {
				f, err := m.Make(path, 0o644, 0, size)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Write(make([]byte, 5)); err != nil {
					t.Fatal(err)
				}
				if _, err := f.Write(make([]byte, size)); err == nil {
					t.Errorf("%s: more was taken than was told", path)
				}
				if err := f.Close(); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%s: got %v for a file that is too short", path, err)
				}
			}
			if err := errors.Join(m.(filesync.FS).RemoveAll("d/small"), m.(filesync.FS).RemoveAll("d/large"), m.(filesync.FS).Sync()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnothersFileIsNotLinkedByTar(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	for _, name := range []string{"mine", "theirs"} {
		if err := os.WriteFile(b.root+"/"+name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.other["theirs"] = true
	if err := b.Link("theirs", "d/theirs"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v, want ErrPermission", err)
	}
	if err := b.Link("none", "d/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
	if err := errors.Join(b.Link("mine", "d/mine"), b.Sync()); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(b.root + "/d"); err != nil || len(list) != 1 {
		t.Errorf("d holds %v, %v, want the link alone", list, err)
	}
}

func TestCloseBreaksOffWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	if err := put(b, "d/f", "content", 7); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Sync(); err == nil {
		t.Error("a stream that was broken off counts as whole")
	}
}

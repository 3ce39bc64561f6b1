package filesync

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"godeploy/internal/fault"
)

// readAll reads all that a source has and says which files were hashed once more.
func readAll(src *Source) (doubted []string, err error) {
	u := unitReader{src: src}
	defer u.close()
	for i := range src.Manifest.Entries {
		e := &src.Manifest.Entries[i]
		for n := range e.units() {
			data, err := u.read(e, n)
			if err != nil {
				return nil, err
			}
			if sum(data) != e.unitHash(n) {
				return nil, errors.New("another content was given")
			}
		}
		if e.units() > 0 && !u.same {
			doubted = append(doubted, e.Path)
		}
	}
	return doubted, nil
}

// ticked waits until the clock of the file system has gone on: two changes between two of its ticks
// look like one.
func ticked(t *testing.T, dir string) {
	t.Helper()
	now := func() int64 {
		probe := dir + "/.git" // is never sent
		ok(t, os.WriteFile(probe, nil, 0o600))
		info, err := os.Stat(probe)
		ok(t, err)
		return info.ModTime().UnixNano()
	}
	for was, deadline := now(), time.Now().Add(10*time.Second); now() == was; {
		if time.Now().After(deadline) {
			t.Fatal("the clock of the file system stands still")
		}
	}
}

// TestWhatIsAtRestIsNotHashedAgain, and what is not is: nothing but what was scanned is ever given.
func TestWhatIsAtRestIsNotHashedAgain(t *testing.T) {
	t.Parallel()
	big := noise(1, 600_000)
	write := func(path, content string) func(string) error {
		return func(dir string) error { return os.WriteFile(dir+path, []byte(content), 0o644) }
	}
	for name, c := range map[string]struct {
		change  func(dir string) error
		doubted []string
		fails   bool
	}{
		"nothing":     {change: func(string) error { return nil }},
		"bits":        {change: func(dir string) error { return os.Chmod(dir+"/a", 0o600) }, doubted: []string{"a"}},
		"copied over": {change: write("/big", big), doubted: []string{"big"}},
		"grown":       {change: write("/a", "abcdefg"), doubted: []string{"a"}},
		"other inode": {change: func(dir string) error {
			return errors.Join(write("/.git", "abcde")(dir), os.Rename(dir+"/.git", dir+"/a"))
		}, doubted: []string{"a"}},
		"other":        {change: write("/a", "abcdf"), fails: true},
		"big changed":  {change: write("/big", big[:599_999]+"\x00"), fails: true},
		"gone":         {change: func(dir string) error { return os.Remove(dir + "/d/b") }, fails: true},
		"link instead": {change: func(dir string) error { return errors.Join(os.Remove(dir+"/a"), os.Symlink("/etc/hostname", dir+"/a")) }, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := put(t, map[string]string{"a": "abcde", "d/b": "x", "big": big, "none": ""})
			src, err := scanAt(t.Context(), dir, ScanOptions{}, later())
			ok(t, err)
			defer src.Close()
			ticked(t, dir)
			ok(t, c.change(dir))
			doubted, err := readAll(src)
			if (err != nil) != c.fails || err != nil && !fault.Is(err, fault.SyncSourceChanged) {
				t.Errorf("got %v", err)
			}
			if !slices.Equal(doubted, c.doubted) {
				t.Errorf("hashed again: %q, want %q", doubted, c.doubted)
			}
		})
	}
}

// TestWhatWasNotAtRestIsHashedAgain: its sighting proves nothing.
func TestWhatWasNotAtRestIsHashedAgain(t *testing.T) {
	t.Parallel()
	src := scanDir(t, put(t, map[string]string{"a": "abcde", "big": noise(1, 600_000)}))
	if doubted, err := readAll(src); err != nil || !slices.Equal(doubted, []string{"a", "big"}) {
		t.Errorf("hashed again: %q (%v)", doubted, err)
	}
}

// TestAFileThatChangesWhileItIsRead is noticed though it was the right one when it was opened.
func TestAFileThatChangesWhileItIsRead(t *testing.T) {
	t.Parallel()
	big := noise(1, 600_000)
	dir := put(t, map[string]string{"big": big})
	src, err := scanAt(t.Context(), dir, ScanOptions{}, later())
	ok(t, err)
	defer src.Close()
	u := unitReader{src: src}
	defer u.close()
	e := src.Manifest.Find("big")
	if _, err := u.read(e, 0); err != nil || !u.same {
		t.Fatalf("the first unit: %v", err)
	}
	ticked(t, dir)
	f, err := os.OpenFile(dir+"/big", os.O_WRONLY, 0)
	ok(t, err)
	_, err = f.WriteAt([]byte("torn"), 599_000)
	ok(t, errors.Join(err, f.Close()))
	for n := 1; n < e.units(); n++ {
		_, err = u.read(e, n)
		if (err != nil) != (n == e.units()-1) {
			t.Errorf("unit %d of %d: %v", n, e.units(), err)
		}
	}
}

package filesync

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestEntriesAreSortedByPath: names that begin alike and go on with what sorts before and behind the
// slash.
func TestEntriesAreSortedByPath(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	letters := []string{"a", "a-", "a.", "a!", "aa", "a0", "b", "\x01", "\xff", "a\n", "-", "a--"}
	for round := range 8 {
		dir := t.TempDir()
		want := map[string]bool{}
		for range 60 {
			path := letters[rng.IntN(len(letters))]
			for range rng.IntN(4) {
				path += "/" + letters[rng.IntN(len(letters))]
			}
			if os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o755) != nil || os.WriteFile(filepath.Join(dir, path), nil, 0o644) != nil {
				continue // a file and a folder of one name
			}
			for p := path; p != "."; p = filepath.Dir(p) {
				want[p] = true
			}
		}
		got := paths(scanDir(t, dir).Manifest)
		if !slices.IsSorted(got) || len(got) != len(want) {
			t.Fatalf("round %d: got %q, want %d of them", round, got, len(want))
		}
		for _, path := range got {
			if !want[path] {
				t.Errorf("round %d: %q is not there", round, path)
			}
		}
	}
}

// madeUpTree is a source that is on no disk: so many folders with 100 files of a few bytes each.
type madeUpTree struct {
	FS
	folders int
	mounted string // a folder that lies on another file system
	odd     []Info // what is in the top folder besides
}

func (m *madeUpTree) Lstat(string) (Info, error) { return Info{Kind: Dir, Dev: 1, Ino: 1}, nil }

func (m *madeUpTree) Close() error { return nil }

func (m *madeUpTree) ReadDir(path string) ([]Info, error) {
	dev := uint64(1)
	if m.mounted != "" && strings.HasPrefix(path+"/", m.mounted+"/") {
		dev = 2
	}
	if path != "." {
		infos := make([]Info, 100)
		for i := range infos {
			infos[i] = Info{Name: fmt.Sprintf("some_file_%03d.py", i), Kind: File, Size: 5, Mode: 0o644, MTime: 5, CTime: 5, Dev: dev, Ino: uint64(i) + 9}
		}
		return infos, nil
	}
	infos := slices.Clone(m.odd)
	for i := range m.folders {
		in := Info{Name: fmt.Sprintf("package_%05d", i), Kind: Dir, Mode: 0o755, Dev: dev}
		if in.Name == m.mounted {
			in.Dev = 2
		}
		infos = append(infos, in)
	}
	return infos, nil
}

func (m *madeUpTree) Open(path string) (FileReader, error) {
	if strings.HasPrefix(path, "gone") {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return &madeUpFile{r: strings.NewReader("hello")}, nil
}

type madeUpFile struct{ r *strings.Reader }

func (f *madeUpFile) Read(p []byte) (int, error)              { return f.r.Read(p) }
func (f *madeUpFile) ReadAt(p []byte, off int64) (int, error) { return f.r.ReadAt(p, off) }
func (f *madeUpFile) Close() error                            { return nil }
func (f *madeUpFile) Stat() (Info, error) {
	return Info{Kind: File, Size: 5, Mode: 0o644, MTime: 5, CTime: 5, Dev: 1, Ino: 9}, nil
}

// TestMemoryOfAScan runs beside no other test: it measures the whole process.
func TestMemoryOfAScan(t *testing.T) {
	const folders = 1000
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what finalizers held is free now
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	s := &scanner{fs: &madeUpTree{folders: folders}, faults: &faults{}}
	m, err := s.scan(t.Context())
	ok(t, err)
	src := &Source{Manifest: m, seen: s.seen}
	if each := float64(int64(used())-int64(before)) / folders / 100; each > 350 {
		t.Errorf("a file takes %.0f bytes", each)
	} else {
		t.Logf("a file takes %.0f bytes", each)
	}
	runtime.KeepAlive(src)
}

func TestFileSystemsBelowAreNamed(t *testing.T) {
	t.Parallel()
	for _, one := range []bool{false, true} {
		s := &scanner{fs: &madeUpTree{folders: 3, mounted: "package_00001"}, o: ScanOptions{OneFileSystem: one}, faults: &faults{}}
		m, err := s.scan(t.Context())
		ok(t, err)
		if got, want := len(m.Entries), map[bool]int{false: 303, true: 203}[one]; got != want {
			t.Errorf("got %d entries, want %d", got, want)
		}
		if len(s.notes.all) != 1 || !strings.HasPrefix(s.notes.all[0], "package_00001 is another file system") {
			t.Errorf("got notes %q", s.notes.all)
		}
	}
}

// TestWhatNoFileSystemShouldSay: names that a broken or evil one gives end in an error.
func TestWhatNoFileSystemShouldSay(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", ".", "..", "a/b", "a\x00b", strings.Repeat("n", 256), "package_00000"} {
		s := &scanner{fs: &madeUpTree{folders: 1, odd: []Info{{Name: name, Kind: Dir, Dev: 1}}}, faults: &faults{}}
		if _, err := s.scan(t.Context()); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	s := &scanner{fs: &madeUpTree{odd: []Info{{Name: "gone", Kind: File}, {Name: "huge", Kind: File, Size: 1 << 62}}}, faults: &faults{}}
	_, err := s.scan(t.Context())
	if err == nil || !strings.Contains(err.Error(), "gone vanished") || !strings.Contains(err.Error(), "huge has 4611686018427387904 bytes") {
		t.Errorf("got %v", err)
	}
}

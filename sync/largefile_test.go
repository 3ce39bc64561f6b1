package filesync

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"godeploy/internal/fault"
	"godeploy/sync/delta"
)

// sparse makes a file of this size with some content here and there.
func sparse(t *testing.T, path string, size int64, content map[int64]string) {
	t.Helper()
	f, err := os.Create(path)
	ok(t, err)
	ok(t, f.Truncate(size))
	for off, text := range content {
		_, err := f.WriteAt([]byte(text), off)
		ok(t, err)
	}
	ok(t, f.Close())
}

// TestLargeFilesAreCutAlike: by blocks and by processors, with holes and without, the chunks are
// those of a Splitter that reads from one end to the other.
func TestLargeFilesAreCutAlike(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	dir := t.TempDir()
	for name, size := range map[string]int{
		"least": ChunkedFrom, "block": blockSize, "block+1": blockSize + 1, "block-1": blockSize - 1, "with tail": blockSize + delta.MaxChunk,
		"many": 3*mib + 12345,
	} {
		ok(t, os.WriteFile(filepath.Join(dir, name), []byte(noise(7, size)), 0o644))
	}
	ok(t, os.WriteFile(filepath.Join(dir, "zeros"), make([]byte, 2*mib+77), 0o644))
	sparse(t, filepath.Join(dir, "all hole"), 9*mib+5, nil)
	sparse(t, filepath.Join(dir, "hole first"), 5*mib, map[int64]string{4 * mib: noise(1, mib)})
	sparse(t, filepath.Join(dir, "hole last"), 5*mib, map[int64]string{0: noise(1, mib+3)})
	sparse(t, filepath.Join(dir, "holes"), 16*mib+1, map[int64]string{3 * mib: noise(1, 100), 5*mib + 5: noise(2, 700_000), 12 * mib: "x", 16 * mib: "y"})
	src := scanDir(t, dir)
	for i := range src.Manifest.Entries {
		e := &src.Manifest.Entries[i]
		f, err := os.Open(filepath.Join(dir, e.Path))
		ok(t, err)
		var want []delta.Chunk
		ok(t, delta.NewSplitter().Split(f, func(c delta.Chunk, _ []byte) error { want = append(want, c); return nil }))
		ok(t, f.Close())
		if !slices.Equal(e.Chunks, want) || e.Hash != delta.Sum(want) {
			t.Errorf("%s: got %d chunks, want %d", e.Path, len(e.Chunks), len(want))
		}
	}
}

// reading counts the bytes that are read.
type reading struct {
	FS
	bytes atomic.Int64
}

type readingFile struct {
	FileReader
	holeFinder
	r *reading
}

func (r *reading) Open(path string) (FileReader, error) {
	f, err := r.FS.Open(path)
	if err != nil {
		return nil, err
	}
	finder, _ := f.(holeFinder)
	return &readingFile{f, finder, r}, nil
}

func (f *readingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.FileReader.ReadAt(p, off)
	f.r.bytes.Add(int64(n))
	return n, err
}

func TestHolesAreNotRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const gib = 1 << 30
	sparse(t, filepath.Join(dir, "disk.img"), 30*gib, map[int64]string{5 * gib: "x", 20 * gib: noise(1, 100_000)})
	fsys := &reading{FS: openDir(t, dir)}
	if f, err := fsys.Open("disk.img"); err != nil || f.(*readingFile).holeFinder == nil {
		t.Skip("this system cannot tell where holes are")
	} else if start, _ := f.(*readingFile).nextHole(0, 30*gib); start != 0 {
		ok(t, f.Close())
		t.Skip("this file system has no holes")
	}
	s := scanner{fs: fsys, faults: &faults{}}
	m, err := s.scan(t.Context())
	ok(t, err)
	if read := fsys.bytes.Load(); read > 16<<20 || delta.Size(m.Entries[0].Chunks) != 30*gib {
		t.Errorf("%d bytes were read of %d", read, delta.Size(m.Entries[0].Chunks))
	}
}

func TestAFileThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"a": "x"})
	sparse(t, filepath.Join(dir, "vm.img"), 1<<40, map[int64]string{1 << 39: "x"})
	_, err := Scan(t.Context(), dir, ScanOptions{})
	if all := fault.All(err); len(all) != 1 || all[0].Code != fault.SyncSource || !strings.HasPrefix(all[0].Msg, "vm.img has 1099511627776 bytes, more than") || all[0].Cause == "" {
		t.Errorf("got %v", err)
	}
	if _, err := Scan(t.Context(), dir, ScanOptions{MaxFile: 1 << 41}); err == nil {
		t.Error("more chunks than a tree may have were taken")
	}
	ok(t, os.Truncate(filepath.Join(dir, "vm.img"), 3))
	if _, err := Scan(t.Context(), dir, ScanOptions{MaxFile: 2}); err == nil {
		t.Error("MaxFile has no say")
	}
	src, err := Scan(t.Context(), dir, ScanOptions{MaxFile: 3})
	ok(t, errors.Join(err, src.Close()))
}

// growing is a file that has more than its size says.
type growing struct{ FS }

type growingFile struct {
	FileReader
	size int64
}

func (g growing) Open(path string) (FileReader, error) {
	f, err := g.FS.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	return &growingFile{f, info.Size - 1}, err
}

func (f *growingFile) Stat() (Info, error) {
	info, err := f.FileReader.Stat()
	info.Size = f.size
	return info, err
}

func (f *growingFile) ReadAt(p []byte, off int64) (int, error) {
	if off > f.size+1 {
		return 0, errors.New("read on and on")
	}
	n, err := f.FileReader.ReadAt(p, off)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

func TestAFileThatNeverEndsIsNoTrap(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 100, ChunkedFrom, ChunkedFrom + 1, 3 << 20} {
		fsys := openDir(t, put(t, map[string]string{"f": noise(1, size)}))
		s := scanner{fs: growing{fsys}, faults: &faults{}}
		if _, err := s.scan(t.Context()); !fault.Is(err, fault.SyncSourceChanged) {
			t.Errorf("%d bytes: got %v", size, err)
		}
	}
}

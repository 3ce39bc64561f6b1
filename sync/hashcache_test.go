package filesync

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// later is when a scan begins for which files written just now have long been at rest.
func later() time.Time { return time.Now().Add(time.Hour) }

// scanLater scans with a cache and closes, so that the cache is written.
func scanLater(t *testing.T, dir string, o ScanOptions) *Source {
	t.Helper()
	src, err := scanAt(t.Context(), dir, o, later())
	ok(t, err)
	ok(t, src.Close())
	return src
}

// sameSecond writes a content of the same length and puts the time of modification back, until the
// file system's clock has gone on: only ctime tells the difference.
func sameSecond(t *testing.T, path, content string) {
	t.Helper()
	before, err := os.Stat(path)
	ok(t, err)
	fsys := openDir(t, filepath.Dir(path))
	was, err := fsys.Lstat(filepath.Base(path))
	ok(t, err)
	for deadline := time.Now().Add(10 * time.Second); ; {
		ok(t, os.WriteFile(path, []byte(content), before.Mode()))
		ok(t, os.Chtimes(path, before.ModTime(), before.ModTime()))
		is, err := fsys.Lstat(filepath.Base(path))
		ok(t, err)
		if is.CTime != was.CTime {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the clock of the file system stands still")
		}
	}
}

func TestCacheKnowsWhatDidNotChange(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{
		"a": "one", "d/b": "two", "d/e/c": "three", "d-x": "", "d/e/none": "", "l": "->a", "big": noise(1, 3<<20), "z/f": "x", "z/g": "y",
	})
	o := ScanOptions{Cache: filepath.Join(t.TempDir(), "not", "there")}
	first := scanLater(t, dir, o)
	if first.Hashed != 8 || first.Trusted != 0 {
		t.Errorf("first: %d hashed, %d trusted", first.Hashed, first.Trusted)
	}
	second := scanLater(t, dir, o)
	if second.Hashed != 0 || second.Trusted != 8 || second.Manifest.Root() != first.Manifest.Root() {
		t.Errorf("second: %d hashed, %d trusted", second.Hashed, second.Trusted)
	}
	if got, want := second.Manifest.Find("big"), first.Manifest.Find("big"); !slices.Equal(got.Chunks, want.Chunks) {
		t.Error("the chunks are others")
	}
	sameSecond(t, filepath.Join(dir, "a"), "two") // same size, same time of modification
	ok(t, os.Rename(filepath.Join(dir, "z/g"), filepath.Join(dir, "z/f")))
	ok(t, os.Remove(filepath.Join(dir, "d/b")))
	putIn(t, dir, map[string]string{"d/e/new": "four"})
	third := scanLater(t, dir, o)
	if third.Manifest.Root() != scanLater(t, dir, ScanOptions{}).Manifest.Root() {
		t.Error("the cache gave another tree than the files")
	}
	if third.Hashed != 3 || third.Trusted != 4 {
		t.Errorf("third: %d hashed, %d trusted", third.Hashed, third.Trusted)
	}
	if last := scanLater(t, dir, ScanOptions{Cache: o.Cache, Rehash: true}); last.Hashed != 7 {
		t.Errorf("rehash: %d hashed", last.Hashed)
	}
	if other := scanLater(t, filepath.Join(dir, "d"), o); other.Trusted != 0 {
		t.Error("another source used this one's hashes")
	}
}

// TestCacheNeverTrustsWhatWasNotAtRest: a file that was written when the scan that read it was about
// to begin can be written again without a sign.
func TestCacheNeverTrustsWhatWasNotAtRest(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"a": "one", "b": "two", "old": "x"})
	o := ScanOptions{Cache: t.TempDir()}
	written := time.Now()
	ok(t, os.Chtimes(filepath.Join(dir, "b"), written, written.Add(24*time.Hour)))
	for name, c := range map[string]struct {
		began   time.Time
		trusted int
	}{
		"at once": {written, 0}, "a second later": {written.Add(time.Second), 0}, "an hour later": {written.Add(time.Hour), 2},
		"a second after b says": {written.Add(24*time.Hour + time.Second), 2}, "two days later": {written.Add(48 * time.Hour), 3},
	} {
		src, err := scanAt(t.Context(), dir, ScanOptions{Cache: o.Cache, Rehash: true}, c.began)
		ok(t, errors.Join(err, src.Close()))
		if again := scanLater(t, dir, o); again.Trusted != c.trusted {
			t.Errorf("%s: %d trusted, want %d", name, again.Trusted, c.trusted)
		}
	}
}

func TestCacheIsOursAloneAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"a": "one"})
	cache := filepath.Join(t.TempDir(), "c")
	ok(t, os.MkdirAll(filepath.Join(cache, "hashes"), 0o700))
	old := time.Now().Add(-2 * cacheLifetime)
	day := time.Now().Add(-2 * tempLifetime)
	for name, at := range map[string]time.Time{"forgotten": old, ".temp-killed": day, "in-use": day, ".temp-now": time.Now()} {
		file := filepath.Join(cache, "hashes", name)
		ok(t, errors.Join(os.WriteFile(file, nil, 0o600), os.Chtimes(file, at, at)))
	}
	scanLater(t, dir, ScanOptions{Cache: cache})
	file := cacheFile(cache, dir)
	in, err := os.ReadDir(filepath.Dir(file))
	ok(t, err)
	var names []string
	for _, e := range in {
		names = append(names, e.Name())
	}
	if want := []string{".temp-now", filepath.Base(file), "in-use"}; !slices.Equal(names, want) {
		t.Errorf("holds %q, want %q", names, want)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the cache is readable for others: %v (%v)", info.Mode(), err)
	}
	ok(t, os.Chtimes(file, day, day))
	scanLater(t, dir, ScanOptions{Cache: cache})
	if info, err := os.Stat(file); err != nil || time.Since(info.ModTime()) > time.Hour {
		t.Error("a cache that is in use will be swept away")
	}
}

func TestCacheThatCannotBeWrittenIsNoError(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"a": "one", "file": "x"})
	for range 2 {
		if src := scanLater(t, dir, ScanOptions{Cache: filepath.Join(dir, "file")}); src.Hashed != 2 {
			t.Errorf("%d hashed", src.Hashed)
		}
	}
}

func TestScansAtOnceShareACache(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 300 {
		files[fmt.Sprintf("d%d/f%d", i%17, i)] = fmt.Sprint(i)
	}
	dir, o := put(t, files), ScanOptions{Cache: t.TempDir()}
	want := scanLater(t, dir, ScanOptions{}).Manifest.Root()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 3 {
				src, err := scanAt(t.Context(), dir, o, later())
				if err = errors.Join(err, src.Close()); err != nil || src.Manifest.Root() != want {
					t.Errorf("got another tree (%v)", err)
				}
			}
		})
	}
	wg.Wait()
	if src := scanLater(t, dir, o); src.Hashed != 0 {
		t.Errorf("%d hashed", src.Hashed)
	}
}

// cacheOf makes a cache by hand and gives its bytes.
func cacheOf(t testing.TB, m *Manifest, capable map[int]bool) (string, []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hashes", "x")
	seen := sightings{began: 1e15, at: make([]sighting, len(m.Entries))}
	for i := range seen.at {
		seen.at[i] = sighting{dev: 7, ino: uint64(i) + 1, ctime: 5}
	}
	if err := saveHashes(file, m, seen, capable); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return file, data
}

// madeUp is a tree that was never on a disk.
func madeUp() *Manifest {
	m := tree("a", "d", "d-f", "d/e", "d/e/f", "d/g", "z")
	for i := range m.Entries {
		if e := &m.Entries[i]; e.Path != "d" && e.Path != "d/e" {
			e.Kind, e.Size, e.Hash = File, int64(i), sum([]byte(e.Path))
		}
	}
	return m
}

func TestCacheHoldsWhatWasPutIn(t *testing.T) {
	t.Parallel()
	m := madeUp()
	_, data := cacheOf(t, m, map[int]bool{4: true})
	c := parseHashes(data)
	if c == nil {
		t.Fatal("what was written cannot be read")
	}
	for dir, names := range map[string][]string{".": {"a", "b", "d-f", "z", "zz"}, "d": {"d/e", "d/g"}, "d/e": {"d/e/e", "d/e/f"}, "none": {"none/a"}, "": {"a"}} {
		var infos []Info
		for _, name := range names {
			i := m.index(name)
			infos = append(infos, Info{Name: name, Kind: File, Size: int64(i), Dev: 7, Ino: uint64(i) + 1, CTime: 5})
		}
		known := c.find(dir, infos)
		for k, name := range names {
			want := m.Find(name)
			hit := known != nil && known[k] != 0
			if hit != (want != nil && want.Kind == File && dir != "") {
				t.Errorf("%q in %q: known %v", name, dir, hit)
			}
			var got Entry
			if hit && (c.content(&got, known[k]) != (name == "d/e/f") || got.Hash != want.Hash) {
				t.Errorf("%q: got %+v", name, got)
			}
		}
	}
	for name, change := range map[string]func(*Info){
		"dev": func(in *Info) { in.Dev++ }, "ino": func(in *Info) { in.Ino++ }, "size": func(in *Info) { in.Size++ },
		"mtime": func(in *Info) { in.MTime++ }, "ctime": func(in *Info) { in.CTime++ }, "kind": func(in *Info) { in.Kind = Link },
	} {
		info := []Info{{Name: "a", Kind: File, Dev: 7, Ino: 1, CTime: 5}}
		if c.find(".", info)[0] == 0 {
			t.Fatal("a is not known")
		}
		if change(&info[0]); c.find(".", info)[0] != 0 {
			t.Errorf("another %s and yet known", name)
		}
	}
}

// TestDamagedCacheIsNone: whatever byte is another, whatever is missing, all is hashed anew.
func TestDamagedCacheIsNone(t *testing.T) {
	t.Parallel()
	file, data := cacheOf(t, madeUp(), nil)
	for i := range data {
		bad := slices.Clone(data)
		bad[i] ^= 1 << (i % 8)
		if parseHashes(bad) != nil {
			t.Errorf("byte %d of %d is another and yet it was taken", i, len(data))
		}
		if parseHashes(data[:i]) != nil {
			t.Errorf("the first %d bytes were taken", i)
		}
	}
	ok(t, os.WriteFile(file, append(slices.Clone(data), 0), 0o600))
	if loadHashes(file) != nil || loadHashes(filepath.Dir(file)) != nil || loadHashes(file+"x") != nil {
		t.Error("something else was taken")
	}
	ok(t, os.Truncate(file, maxCacheFile+1))
	if loadHashes(file) != nil {
		t.Error("a huge cache was taken")
	}
}

// FuzzHashCache: a cache whose checksum is right may still say anything.
func FuzzHashCache(f *testing.F) {
	_, data := cacheOf(f, madeUp(), map[int]bool{2: true})
	f.Add(data)
	f.Add(data[:len(data)-20])
	infos := []Info{{Name: "a", Kind: File, Dev: 7, Ino: 1, CTime: 5}, {Name: "d", Kind: Dir}, {Name: "z", Kind: File, Size: 6, Dev: 7, Ino: 7, CTime: 5}}
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > len(cacheMagic)+cacheFooter {
			copy(p, cacheMagic)
			end := len(p) - 4
			binary.LittleEndian.PutUint32(p[end:], checksum(0, p[:end]))
		}
		c := parseHashes(p)
		for _, at := range c.find(".", infos) {
			if at != 0 {
				c.content(&Entry{}, at)
			}
		}
		if c != nil {
			for at := range p {
				c.content(&Entry{}, uint32(at))
			}
		}
		c.find("d/e", nil)
	})
}

func TestCacheFileIsOfOneSource(t *testing.T) {
	t.Parallel()
	files := map[string]bool{}
	for _, dir := range []string{"/a", "/a/b", "/b", "/a/../c", "rel", "."} {
		files[cacheFile("/cache", dir)] = true
	}
	if len(files) != 6 || cacheFile("/cache", "/a/b/..") != cacheFile("/cache", "/a/") || cacheFile("", "/a") != "" {
		t.Errorf("got %q", slices.Collect(maps.Keys(files)))
	}
	for file := range files {
		if !strings.HasPrefix(file, filepath.FromSlash("/cache/hashes/")) {
			t.Errorf("%s is elsewhere", file)
		}
	}
}

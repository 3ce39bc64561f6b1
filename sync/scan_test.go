package filesync

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"godeploy/internal/fault"
)

func paths(m *Manifest) []string {
	var all []string
	for i := range m.Entries {
		all = append(all, m.Entries[i].Path)
	}
	return all
}

func TestScanSeesWhatIsThere(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"b": "x", "a/c": "y", "a-b": "", "a/d/": "", "l": "->b", "big": noise(1, 300_000), ".git/x": "", "sub/.git": "gitdir:"})
	ok(t, os.Chmod(filepath.Join(dir, "b"), os.ModeSetuid|0o754))
	src := scanDir(t, dir)
	if got, want := paths(src.Manifest), []string{"a", "a-b", "a/c", "a/d", "b", "big", "l", "sub"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if e := src.Manifest.Find("b"); e.Mode != 0o754 || e.Hash.String() != "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" {
		t.Errorf("got %+v", e)
	}
	if e := src.Manifest.Find("big"); len(e.Chunks) < 3 || e.Hash.IsZero() {
		t.Errorf("got %d chunks", len(e.Chunks))
	}
	before := src.Manifest.Root()
	ok(t, os.Chtimes(filepath.Join(dir, "b"), time.Unix(5, 0), time.Unix(5, 0)))
	if scanDir(t, dir).Manifest.Root() != before {
		t.Error("a time changed the root")
	}
	ok(t, os.Chmod(filepath.Join(dir, "b"), 0o755))
	if scanDir(t, dir).Manifest.Root() == before {
		t.Error("permission bits did not change the root")
	}
}

func TestScanRefusesWithEveryPathNamed(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"ok": "x", "abs": "->/etc/passwd", "up": "->../x", "d/up": "->../../x", "d/in": "->../ok", "dangling": "->nowhere"})
	ok(t, mkfifo(filepath.Join(dir, "fifo")))
	_, err := Scan(t.Context(), dir, ScanOptions{})
	all := fault.All(err)
	if len(all) != 4 {
		t.Fatalf("got %d faults, want 4: %v", len(all), err)
	}
	for i, name := range []string{"abs", "d/up", "fifo", "up"} {
		if all[i].Code != fault.SyncSource || !strings.HasPrefix(all[i].Msg, name+" ") || all[i].Cause == "" {
			t.Errorf("fault %d: got %q, want one about %s", i, all[i].Msg, name)
		}
	}
	src, err := Scan(t.Context(), dir, ScanOptions{Symlinks: "skip", Special: "skip"})
	ok(t, err)
	defer src.Close()
	if got := paths(src.Manifest); !slices.Equal(got, []string{"d", "d/in", "dangling", "ok"}) || len(src.Notes) != 4 {
		t.Errorf("got %q with notes %q", got, src.Notes)
	}
	kept, err := Scan(t.Context(), dir, ScanOptions{Symlinks: "any", Special: "skip"})
	ok(t, err)
	defer kept.Close()
	if kept.Manifest.Find("abs") == nil {
		t.Error("symlinks = any left out a link")
	}
}

func TestLinksAreResolvedOverTheTree(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		links   map[string]string
		escapes bool
	}{
		{map[string]string{"a": "b", "b": "c"}, false},
		{map[string]string{"a": "b", "b": "a"}, false},
		{map[string]string{"a": "a"}, false},
		{map[string]string{"a": "d/../d"}, false},
		{map[string]string{"a": ".."}, true},
		{map[string]string{"a": "."}, false},
		{map[string]string{"a": "./b/.."}, false},
		{map[string]string{"d/a": ".."}, false},
		{map[string]string{"d/a": "../.."}, true},
		{map[string]string{"d/e/a": "../..", "x": "d/e/a/.."}, true}, // each is fine by its letters
		{map[string]string{"d/l": "..", "x": "d/l/d/l/../y"}, true},
		{map[string]string{"d/e/up": "../..", "x": "d/e/up/d"}, false},
		{map[string]string{"a": "/"}, true},
		{map[string]string{"a": "b//..//./..", "b": "d"}, true},
		{map[string]string{"a": "none/../../x"}, true},
		{map[string]string{"a": "none/../x"}, false},
	} {
		m := &Manifest{Entries: []Entry{{Path: "d", Kind: Dir}, {Path: "d/e", Kind: Dir}}}
		for path, text := range c.links {
			m.Entries = append(m.Entries, Entry{Path: path, Kind: Link, Link: text})
		}
		slices.SortFunc(m.Entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
		got := false
		for i := range m.Entries {
			got = got || m.Entries[i].Kind == Link && m.escapes(&m.Entries[i])
		}
		if got != c.escapes {
			t.Errorf("%v: escapes %v, want %v", c.links, got, c.escapes)
		}
	}
}

func TestScanRefusesWhatIsNoSource(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"file": "x", "empty/": "", "only/.git/x": ""})
	for _, name := range []string{"file", "empty", "only", "none"} {
		_, err := Scan(t.Context(), filepath.Join(dir, name), ScanOptions{})
		if !fault.Is(err, fault.SyncSource) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := Scan(t.Context(), "/", ScanOptions{}); !fault.Is(err, fault.SyncSource) {
		t.Errorf("/: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Scan(ctx, dir, ScanOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// restless changes under the reader: each Stat after the first sees another file.
type restless struct {
	FS
	opens atomic.Int32
	calm  int32 // opens before it holds still
}

type restlessFile struct {
	FileReader
	n     int32
	stats int
	calm  bool
}

func (r *restless) Open(path string) (FileReader, error) {
	f, err := r.FS.Open(path)
	n := r.opens.Add(1)
	return &restlessFile{FileReader: f, n: n, calm: n > r.calm}, err
}

func (f *restlessFile) Stat() (Info, error) {
	info, err := f.FileReader.Stat()
	if f.stats++; f.stats > 1 && !f.calm {
		info.CTime++
	}
	return info, err
}

func TestAFileThatChangesIsReadThreeTimes(t *testing.T) {
	t.Parallel()
	fsys := openDir(t, put(t, map[string]string{"f": "x"}))
	for calm, want := range map[int32]bool{0: true, 2: true, 3: false} {
		s := scanner{fs: &restless{FS: fsys, calm: calm}, faults: &faults{}}
		_, err := s.scan(t.Context())
		if (err == nil) != want || err != nil && !fault.Is(err, fault.SyncSourceChanged) {
			t.Errorf("changing %d times: got %v", calm, err)
		}
	}
}

// flipping is a file system whose clock stands still: its one file has another content from the second
// block that is read on, and no stat shows it.
type flipping struct {
	FS
	now     int64
	reads   atomic.Int32
	content [2]string
}

type flippingFile struct {
	FileReader
	fs *flipping
}

func (f *flipping) Open(path string) (FileReader, error) {
	file, err := f.FS.Open(path)
	return &flippingFile{file, f}, err
}

func (f *flippingFile) Stat() (Info, error) {
	return Info{Kind: File, Size: int64(len(f.fs.content[0])), MTime: f.fs.now, CTime: f.fs.now, Ino: 1}, nil
}

func (f *flippingFile) ReadAt(p []byte, off int64) (int, error) {
	return strings.NewReader(f.fs.content[min(1, f.fs.reads.Add(1)-1)]).ReadAt(p, off)
}

// A large file that changed within a tick of the clock is never taken for half the one and half the other.
func TestALargeFileIsNotTornWithinATick(t *testing.T) {
	t.Parallel()
	f := &flipping{FS: openDir(t, put(t, map[string]string{"big": noise(1, 3<<20)})), now: time.Now().Add(time.Hour).UnixNano() | 1,
		content: [2]string{noise(1, 3<<20), noise(2, 3<<20)}}
	s := scanner{fs: f, faults: &faults{}}
	m, err := s.scan(t.Context())
	ok(t, err)
	want := scanDir(t, put(t, map[string]string{"big": f.content[1]})).Manifest.Find("big").Hash
	if m.Find("big").Hash != want {
		t.Error("what was scanned was never there")
	}
}

func TestSendFailsWhenTheSourceIsNoLongerWhatWasScanned(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(path string) error{
		"rewritten": func(p string) error { return os.WriteFile(p, []byte("other"), 0o644) },
		"same size": func(p string) error { return os.WriteFile(p, []byte("abcdf"), 0o644) },
		"vanished":  os.Remove,
		"shrunk":    func(p string) error { return os.Truncate(p, 1) },
		"folder":    func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o755)) },
		"link":      func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) },
		"fifo":      func(p string) error { return errors.Join(os.Remove(p), mkfifo(p)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := put(t, map[string]string{"f": "abcde", "before": "x", "z": noise(1, 300_000)})
			src := scanDir(t, dir)
			ok(t, change(filepath.Join(dir, "f")))
			app := t.TempDir()
			e := transfer(t, src, SendOptions{}, ReceiveOptions{FS: openDir(t, app), ID: "r1", UID: -1, GID: -1})
			if !fault.Is(e.sendErr, fault.SyncSourceChanged) || !fault.Is(e.receiveErr, fault.SyncSourceChanged) {
				t.Errorf("sender %v, receiver %v", e.sendErr, e.receiveErr)
			}
			if left, _ := os.ReadDir(filepath.Join(app, "releases")); len(left) != 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

func TestAFileThatGrewSendsWhatWasScanned(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"log": "line 1\n"})
	src := scanDir(t, dir)
	ok(t, os.WriteFile(filepath.Join(dir, "log"), []byte("line 1\nline 2\n"), 0o644))
	app := t.TempDir()
	release(t, src, openDir(t, app), "r1", "")
	if got, _ := os.ReadFile(filepath.Join(app, "releases/r1/log")); string(got) != "line 1\n" {
		t.Errorf("got %q", got)
	}
}

func TestManyHostsFromOneSource(t *testing.T) {
	t.Parallel()
	src := scanDir(t, put(t, map[string]string{"a": "x", "d/b": noise(1, 100_000), "big": noise(2, 600_000)}))
	apps := make([]string, 6)
	var wg sync.WaitGroup
	for i := range apps {
		apps[i] = t.TempDir()
		fsys := openDir(t, apps[i])
		wg.Go(func() {
			e := transfer(t, src, SendOptions{Compress: []string{"auto", "off"}[i%2]}, ReceiveOptions{FS: fsys, ID: "r1", UID: -1, GID: -1})
			if err := errors.Join(e.sendErr, e.receiveErr); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, app := range apps {
		if got := scanDir(t, filepath.Join(app, "releases/r1")).Manifest.Root(); got != src.Manifest.Root() {
			t.Errorf("%s: another tree", app)
		}
	}
}

func TestAKnownParentIsToldByItsDifferences(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 600 {
		files[fmt.Sprintf("d%d/f%d", i%20, i)] = fmt.Sprint(i)
	}
	dir, cache := put(t, files), t.TempDir()
	scan := func() *Source {
		src, err := Scan(t.Context(), dir, ScanOptions{Cache: cache})
		ok(t, err)
		return src
	}
	fsys := openDir(t, t.TempDir())
	src := scan()
	first := src.Manifest.Root()
	release(t, src, fsys, "r1", "")
	ok(t, src.Close())
	if Recall(cache, first) == nil {
		t.Fatal("what was sent is not remembered")
	}
	ok(t, os.Remove(filepath.Join(dir, "d3/f3")))
	putIn(t, dir, map[string]string{"d4/f4": "new", "d5/g": "added", "aa": "first", "zz": "last"})
	src = scan()
	e := release(t, src, fsys, "r2", "r1")
	if e.sent.Sent > 1500 {
		t.Errorf("four changes took %d bytes", e.sent.Sent)
	}
	second := src.Manifest.Root()
	ok(t, src.Close())
	stored, err := ReadManifest(fsys, "r2")
	ok(t, err)
	if stored.Root() != second {
		t.Error("the host has another tree")
	}
	// What is remembered under a wrong name is found out.
	ok(t, os.Rename(filepath.Join(cache, "manifests", first.String()), filepath.Join(cache, "manifests", second.String())))
	putIn(t, dir, map[string]string{"d6/f6": "newer"})
	src = scan()
	defer src.Close()
	release(t, src, fsys, "r3", "r2")
}

func TestCancelEndsBothSides(t *testing.T) {
	t.Parallel()
	src := scanDir(t, put(t, map[string]string{"a": "x"}))
	ctx, cancel := context.WithCancel(t.Context())
	a, b := net.Pipe()
	defer b.Close()
	done := make(chan error, 2)
	go func() { _, err := Send(ctx, src, a, SendOptions{}); done <- err }()
	fsys := openDir(t, t.TempDir())
	c, d := net.Pipe()
	defer d.Close()
	go func() { _, err := Receive(ctx, ReceiveOptions{FS: fsys, ID: "r1"}, c); done <- err }()
	cancel()
	for range 2 {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}

func TestProgressGoesToTheEnd(t *testing.T) {
	t.Parallel()
	src := scanDir(t, put(t, map[string]string{"a": "xy", "big": noise(1, 300_000)}))
	for _, hosts := range []int{1, 2} {
		var last Progress
		o := SendOptions{Hosts: hosts, Progress: func(p Progress) {
			if p.Bytes < last.Bytes || p.Files < last.Files {
				t.Errorf("went back from %+v to %+v", last, p)
			}
			last = p
		}}
		e := transfer(t, src, o, ReceiveOptions{FS: openDir(t, t.TempDir()), ID: "r1", UID: -1, GID: -1})
		ok(t, errors.Join(e.sendErr, e.receiveErr))
		if want := (Progress{300_002, 300_002, 2, 2}); last != want {
			t.Errorf("%d hosts: ended at %+v", hosts, last)
		}
	}
}

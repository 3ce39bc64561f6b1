package filesync

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"godeploy/internal/fault"
)

// mortal is an FS that dies at the nth change: nothing can be changed any more, as after a kill.
type mortal struct {
	FS
	left atomic.Int64
}

var errDead = errors.New("dead")

func (m *mortal) alive() error {
	if m.left.Add(-1) < 0 {
		return errDead
	}
	return nil
}

func (m *mortal) Create(path string, perm uint32) (FileWriter, error) {
	if err := m.alive(); err != nil {
		return nil, err
	}
	f, err := m.FS.Create(path, perm)
	return mortalFile{f, m}, err
}

type mortalFile struct {
	FileWriter
	m *mortal
}

// Write writes half of what it is given when it dies meanwhile.
func (f mortalFile) Write(p []byte) (int, error) {
	if err := f.m.alive(); err != nil {
		n, _ := f.FileWriter.Write(p[:len(p)/2])
		return n, err
	}
	return f.FileWriter.Write(p)
}

func (m *mortal) Mkdir(path string, perm uint32) error {
	return m.then(func() error { return m.FS.Mkdir(path, perm) })
}
func (m *mortal) Symlink(target, path string) error {
	return m.then(func() error { return m.FS.Symlink(target, path) })
}
func (m *mortal) Chmod(path string, perm uint32) error {
	return m.then(func() error { return m.FS.Chmod(path, perm) })
}
func (m *mortal) Chtimes(path string, mtime int64) error {
	return m.then(func() error { return m.FS.Chtimes(path, mtime) })
}
func (m *mortal) Rename(old, path string) error {
	return m.then(func() error { return m.FS.Rename(old, path) })
}
func (m *mortal) RemoveAll(path string) error {
	return m.then(func() error { return m.FS.RemoveAll(path) })
}
func (m *mortal) Sync() error { return m.then(m.FS.Sync) }

func (m *mortal) then(f func() error) error {
	if err := m.alive(); err != nil {
		return err
	}
	return f()
}

func placeOptions(fsys FS) PlaceOptions { return PlaceOptions{FS: fsys, UID: -1, GID: -1, List: true} }

func placed(t *testing.T, src *Source, o PlaceOptions) PlaceResult {
	t.Helper()
	result, err := placeFrom(t.Context(), src, o)
	must(t, err)
	return result
}

// TestPlaceSurvivesADeathAnywhere: whatever change is the last one, every file is the old or the new one,
// whole, and the next run finishes the work.
func TestPlaceSurvivesADeathAnywhere(t *testing.T) {
	t.Parallel()
	old := map[string]string{"a": "old a", "d/b": "old b", "d/c": "old c", "gone/x": "x", "kind": "was a file", "folder/in": "in", "l": "->a", "big": noise(1, 600_000)}
	source := put(t, map[string]string{"a": "new and longer", "d/b": "new b", "d/c": "old c", "kind/now": "a folder", "folder": "now a file", "l": "->d/b",
		"fresh/e/f": "f", "big": noise(1, 300_000) + "inserted" + noise(2, 300_000), "twin": "new b"})
	src := scanDir(t, source)
	first, step := time.Now().UnixNano()%7, int64(7)
	if os.Getenv("GODEPLOY_TEST_FULL") != "" {
		first, step = 0, 1
	}
	for n := first; ; n += step {
		target := openTempDir(t)
		putIn(t, target, old)
		fsys := &mortal{FS: openDir(t, target)}
		fsys.left.Store(n)
		o := placeOptions(fsys)
		o.Delete, o.Limit, o.Workers = true, MaxDelete{N: 100, Percent: true}, 2
		_, err := placeFrom(t.Context(), src, o)
		wholeFiles(t, n, target, old, source)
		if err == nil {
			if n < 30 {
				t.Errorf("only %d changes were made", n)
			}
			break
		}
		fsys.left.Store(1 << 40)
		placed(t, src, o)
		if got, want := portrait(t, target), portrait(t, source); !slices.Equal(got, want) {
			t.Fatalf("died at change %d, then finished: got (-), want (+)\n%s", n, difference(got, want))
		}
		unlock(target)
		must(t, os.RemoveAll(target))
	}
}

// wholeFiles fails the test when a file is neither what it was nor what it is to be, or is missing though
// both have it.
func wholeFiles(t *testing.T, n int64, target string, old map[string]string, source string) {
	t.Helper()
	for path, was := range old {
		if strings.HasPrefix(was, "->") {
			continue
		}
		got, err := os.ReadFile(filepath.Join(target, path))
		want, wantErr := os.ReadFile(filepath.Join(source, path))
		switch {
		case err == nil && string(got) != was && (wantErr != nil || string(got) != string(want)):
			t.Fatalf("died at change %d: %s is neither old nor new: %.40q", n, path, got)
		case err != nil && wantErr == nil:
			t.Fatalf("died at change %d: %s: %v", n, path, err)
		}
	}
}

// cutOff passes on so many bytes and then breaks.
type cutOff struct {
	net.Conn
	left atomic.Int64
}

func (c *cutOff) Read(p []byte) (int, error) {
	if c.left.Load() <= 0 {
		_ = c.Conn.Close() // as a broken line does
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.left.Load())])
	c.left.Add(-int64(n))
	return n, err
}

// TestPlaceResumes: what had arrived when the line broke is not sent again, and nothing of it was in place.
func TestPlaceResumes(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 40 {
		files["f"+string(rune('a'+i))] = noise(uint64(i), 100_000)
	}
	files["large"] = noise(99, 5<<20)
	src := scanDir(t, put(t, files))
	target := t.TempDir()
	o := placeOptions(openDir(t, target))
	near, far := net.Pipe()
	ended := make(chan error, 1)
	go func() {
		cut := &cutOff{Conn: far}
		cut.left.Store(7 << 20)
		_, err := Place(t.Context(), o, cut)
		_ = far.Close()
		ended <- err
	}()
	_, sendErr := Send(t.Context(), src, near, SendOptions{Times: true})
	_ = near.Close()
	if err := <-ended; err == nil || sendErr == nil {
		t.Fatal("the broken line was no error")
	}
	if left := portrait(t, target); len(left) != 0 {
		t.Errorf("the broken run left %q", left)
	}
	result := placed(t, src, o)
	if result.Stats.Received > 3<<20 {
		t.Errorf("%d bytes came after 7 MiB of 9 had come", result.Stats.Received)
	}
	if infos, err := o.FS.ReadDir(".godeploy"); err != nil || len(infos) != 1 || infos[0].Name != "manifests" {
		t.Errorf("left behind: %+v, %v", infos, err)
	}
}

// TestPlaceReadsNothingTwice: what the last run left is known by its inodes; what changed behind its back
// shows, with the same size and time too (N23).
func TestPlaceReadsNothingTwice(t *testing.T) {
	t.Parallel()
	source := put(t, map[string]string{"a": "aaaa", "b": "bbbb", "c": "cccc"})
	src := scanDir(t, source)
	target := t.TempDir()
	o := placeOptions(openDir(t, target))
	o.Now = func() time.Time { return time.Now().Add(time.Hour) } // no stamp is too fresh
	placed(t, src, o)
	if again := placed(t, src, o); again.Hashed != 0 || len(again.Changes) != 0 || again.Stats.Received > 500 {
		t.Errorf("nothing changed: got %+v", again)
	}
	path := filepath.Join(target, "b")
	info, err := os.Stat(path)
	must(t, err)
	must(t, errors.Join(os.WriteFile(path, []byte("BBBB"), 0o644), os.Chtimes(path, info.ModTime(), info.ModTime())))
	if got := placed(t, src, o); got.Hashed != 1 || len(got.Changes) != 1 || got.Changes[0].Why != WhyContent {
		t.Errorf("changed behind our back: got %+v", got)
	}
	must(t, os.WriteFile(filepath.Join(target, placeStamps), []byte("damaged"), 0o600))
	if got := placed(t, src, o); got.Hashed != 3 || len(got.Changes) != 0 {
		t.Errorf("damaged record: got %+v", got)
	}
	o.VerifyAll = true
	if got := placed(t, src, o); got.Hashed != 3 || len(got.Changes) != 0 {
		t.Errorf("verify all: got %+v", got)
	}
}

// TestPlaceTrustsNoFreshStamp: a file that has only just changed could change again in the same tick.
func TestPlaceTrustsNoFreshStamp(t *testing.T) {
	t.Parallel()
	src := scanDir(t, put(t, map[string]string{"a": "aaaa"}))
	target := t.TempDir()
	o := placeOptions(openDir(t, target))
	o.Now = func() time.Time { return time.Unix(0, 0) }
	placed(t, src, o)
	o.Now = nil
	if got := placed(t, src, o); got.Hashed != 1 {
		t.Errorf("got %d files read, want 1", got.Hashed)
	}
}

// TestPlaceReplacesWhatRuns: a program that runs is replaced by another inode and goes on (N27).
func TestPlaceReplacesWhatRuns(t *testing.T) {
	t.Parallel()
	sleep, err := exec.LookPath("sleep")
	must(t, err)
	program, err := os.ReadFile(sleep)
	must(t, err)
	target := t.TempDir()
	must(t, os.WriteFile(filepath.Join(target, "run"), program, 0o755))
	cmd := exec.Command(filepath.Join(target, "run"), "60")
	must(t, cmd.Start())
	defer func() { _ = cmd.Wait() }() // it was killed
	defer func() { must(t, cmd.Process.Kill()) }()
	placed(t, scanDir(t, put(t, map[string]string{"run": "something else"})), placeOptions(openDir(t, target)))
	got, err := os.ReadFile(filepath.Join(target, "run"))
	if err != nil || string(got) != "something else" {
		t.Errorf("got %.20q, %v", got, err)
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("what ran is gone: %v", err)
	}
}

func TestMaxDelete(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limit         MaxDelete
		there, source int
		want          int
	}{
		{MaxDelete{}, 100, 50, 50}, {MaxDelete{}, 12, 5, 10}, {MaxDelete{}, 12, 1, 6}, {MaxDelete{N: 3}, 100, 50, 3},
		{MaxDelete{Set: true}, 100, 50, 0}, {MaxDelete{Percent: true, Set: true}, 100, 50, 0}, {MaxDelete{N: 100, Percent: true}, 7, 1, 7},
	} {
		if got := tt.limit.of(tt.there, tt.source); got != tt.want {
			t.Errorf("%s of %d there for %d: got %d, want %d", tt.limit, tt.there, tt.source, got, tt.want)
		}
	}
}

// TestPlaceDeletesNotTooMuch: a source that has shrunk to nearly nothing empties no folder (T26).
func TestPlaceDeletesNotTooMuch(t *testing.T) {
	t.Parallel()
	src := scanDir(t, put(t, map[string]string{"only": "one"}))
	target := t.TempDir()
	putIn(t, target, map[string]string{"a": "a", "b": "b", "c": "c", "only": "other"})
	before := portrait(t, target)
	o := placeOptions(openDir(t, target))
	o.Delete = true
	if _, err := placeFrom(t.Context(), src, o); errorCode(err) != fault.DeleteRefused {
		t.Errorf("got %v", err)
	}
	if after := portrait(t, target); !slices.Equal(before, after) {
		t.Errorf("refused, and yet changed:\n%s", difference(before, after))
	}
	o.Limit = MaxDelete{N: 3}
	if got := placed(t, src, o); got.Deleted != 3 {
		t.Errorf("allowed: got %+v", got)
	}
}

// TestPlaceKeepsWhatComesMeanwhile: a file that somebody puts into a folder after it was looked at stays,
// with the folder.
func TestPlaceKeepsWhatComesMeanwhile(t *testing.T) {
	t.Parallel()
	src := scanDir(t, put(t, map[string]string{"a": "new"}))
	target := t.TempDir()
	putIn(t, target, map[string]string{"a": "old", "gone/x": "x", "gone/y": "y"})
	o := placeOptions(openDir(t, target))
	o.Delete, o.Limit = true, MaxDelete{N: 100, Percent: true}
	o.FS = interloper{o.FS, func() { must(t, os.WriteFile(filepath.Join(target, "gone", "late"), nil, 0o644)) }}
	result := placed(t, src, o)
	if _, err := os.Stat(filepath.Join(target, "gone", "late")); err != nil || result.Deleted != 2 || len(result.Notes) != 1 {
		t.Errorf("got %v, %+v", err, result)
	}
}

// interloper acts when the first file is put in place.
type interloper struct {
	FS
	act func()
}

func (i interloper) Sync() error {
	i.act()
	return i.FS.Sync()
}

// TestPlaceEnds: a cancelled run says so and leaves what is there.
func TestPlaceEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	target := t.TempDir()
	if _, err := placeFrom(ctx, scanDir(t, put(t, map[string]string{"a": "a"})), placeOptions(openDir(t, target))); err == nil {
		t.Error("a cancelled run was done")
	}
	if left := portrait(t, target); len(left) != 0 {
		t.Errorf("got %q", left)
	}
}

// TestPlaceEntersWhatItLeftOut: a source that was scanned by other rules than those of the deletion.
func TestPlaceEntersWhatItLeftOut(t *testing.T) {
	t.Parallel()
	source := put(t, map[string]string{"a": "a", "out/x": "new", "out/y": "same"})
	src := scanDir(t, source)
	rules, err := ParseRules([]string{"out/", "other/"}, nil, nil)
	must(t, err)
	folders, err := rules.Folders(t.Context(), source)
	must(t, err)
	target := t.TempDir()
	putIn(t, target, map[string]string{"out/x": "old", "out/y": "same", "out/z": "extra", "other/z": "stays"})
	o := placeOptions(openDir(t, target))
	o.Rules, o.Delete, o.Limit = folders, true, MaxDelete{N: 100, Percent: true}
	if got := placed(t, src, o); got.Deleted != 1 || got.Kept != 1 || got.Written != 2 {
		t.Errorf("got %+v", got)
	}
	if _, err := os.Stat(filepath.Join(target, "other/z")); err != nil {
		t.Error(err)
	}
}

// mounted is an FS with another file system mounted at mnt.
type mounted struct{ FS }

func (m mounted) Rename(old, path string) error {
	if strings.HasPrefix(old, "mnt/") != strings.HasPrefix(path, "mnt/") {
		return &os.PathError{Op: "rename", Path: old, Err: syscall.EXDEV}
	}
	return m.FS.Rename(old, path)
}

// TestPlaceOntoAMount: what lies on another file system is made complete beside its name; what a dead run
// left there goes.
func TestPlaceOntoAMount(t *testing.T) {
	t.Parallel()
	source := put(t, map[string]string{"a": "new", "mnt/b": "new", "mnt/l": "->b", "mnt/d/c": "new", "mnt/now": "a file"})
	src := scanDir(t, source)
	target := t.TempDir()
	putIn(t, target, map[string]string{"mnt/b": "old", "mnt/l": "->a", "mnt/gone": "x", "mnt/" + placeTemp + "3": "left over", "mnt/d": "was a file"})
	o := placeOptions(mounted{openDir(t, target)})
	o.Delete, o.Limit = true, MaxDelete{N: 100, Percent: true}
	placed(t, src, o)
	if got, want := portrait(t, target), portrait(t, source); !slices.Equal(got, want) {
		t.Errorf("got (-), want (+)\n%s", difference(got, want))
	}
	before := portrait(t, target)
	must(t, errors.Join(os.Remove(filepath.Join(target, "mnt/now")), os.Mkdir(filepath.Join(target, "mnt/now"), 0o755)))
	if _, err := placeFrom(t.Context(), src, o); errorCode(err) != fault.LayoutRefused {
		t.Errorf("a folder on a file system of its own: got %v", err)
	}
	must(t, errors.Join(os.Remove(filepath.Join(target, "mnt/now")), os.WriteFile(filepath.Join(target, "mnt/now"), nil, 0o644)))
	placed(t, src, o)
	if got := portrait(t, target); !slices.Equal(got, before) {
		t.Errorf("got (-), want (+)\n%s", difference(got, before))
	}
}

// TestPlaceLeavesStateAlone: godeploy's own folder is never taken for part of the target, and a link in its
// place is not followed.
func TestPlaceLeavesStateAlone(t *testing.T) {
	t.Parallel()
	src := scanDir(t, put(t, map[string]string{"a": "a"}))
	target, elsewhere := t.TempDir(), t.TempDir()
	must(t, os.Symlink(elsewhere, filepath.Join(target, ".godeploy")))
	o := placeOptions(openDir(t, target))
	o.Delete = true
	if _, err := placeFrom(t.Context(), src, o); err == nil {
		t.Error("a link in the place of .godeploy was followed")
	}
	if left, err := os.ReadDir(elsewhere); err != nil || len(left) != 0 {
		t.Errorf("written through the link: %v, %v", left, err)
	}
	if left := portrait(t, target); len(left) != 0 {
		t.Errorf("got %q", left)
	}
}

func BenchmarkPlace(b *testing.B) {
	for name, edits := range map[string]int{"unchanged": 0, "20 edits": 20} {
		b.Run(name, func(b *testing.B) {
			source, target := b.TempDir(), b.TempDir()
			for i := range 11_500 {
				dir := filepath.Join(source, "d", string(rune('a'+i%26)), string(rune('a'+i/26%26)))
				must(b, errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), []byte(noise(uint64(i), 8_000)), 0o644)))
			}
			fsys, err := OpenLocal(target)
			must(b, err)
			o := PlaceOptions{FS: fsys, UID: -1, GID: -1}
			scan := func() *Source {
				src, err := Scan(b.Context(), source, ScanOptions{})
				must(b, err)
				return src
			}
			run := func(src *Source) {
				_, err := placeFrom(b.Context(), src, o)
				must(b, errors.Join(err, src.Close()))
			}
			run(scan())
			run(scan()) // now no stamp is too fresh
			n := 0
			for b.Loop() {
				b.StopTimer()
				n++
				for i := range edits {
					must(b, os.WriteFile(filepath.Join(source, "d", string(rune('a'+i%26)), string(rune('a'+i/26%26)), strconv.Itoa(i)), []byte("edit "+strconv.Itoa(n)), 0o644))
				}
				src := scan()
				b.StartTimer()
				run(src)
			}
			must(b, fsys.Close())
		})
	}
}

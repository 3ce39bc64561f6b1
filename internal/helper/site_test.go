package helper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// id makes the n-th release id of a test.
func id(n int) string { return fmt.Sprintf("20261123-1041%02d-4f2c9e1", n) }

// newSite makes an app's folder and its layout.
func newSite(t *testing.T) *Site {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tree, err := filesync.OpenLocal(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tree.Close() })
	s := &Site{FS: tree, Path: dir, UID: -1, GID: -1}
	if err := s.Prepare(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// put makes a release without a transfer.
func (s *Site) put(t *testing.T, n int) string {
	t.Helper()
	if err := os.Mkdir(filepath.Join(s.Path, "releases", id(n)), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.Path, "releases", id(n), "name"), id(n))
	if err := s.write(wire.Release{ID: id(n), Seq: n, Mark: wire.MarkStaged}); err != nil {
		t.Fatal(err)
	}
	return id(n)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// source is a scanned tree of path-to-content.
func source(t *testing.T, files map[string]string) *filesync.Source {
	t.Helper()
	dir := t.TempDir()
	for p, content := range files {
		write(t, filepath.Join(dir, p), content)
	}
	src, err := filesync.Scan(t.Context(), dir, filesync.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = src.Close() })
	return src
}

// stage brings a tree in as the n-th release, as a controller would.
func (s *Site) stage(t *testing.T, n int, files map[string]string, change func(*wire.StageRequest)) (wire.StageReply, error) {
	t.Helper()
	req := wire.StageRequest{Release: wire.Release{ID: id(n), Message: "m"}}
	if change != nil {
		change(&req)
	}
	near, far := net.Pipe()
	sent := make(chan error, 1)
	go func() {
		_, err := filesync.Send(t.Context(), source(t, files), near, filesync.SendOptions{})
		sent <- err
	}()
	reply, err := s.Stage(t.Context(), req, far)
	_ = far.Close()
	if sendErr := <-sent; err == nil && sendErr != nil {
		t.Fatalf("Send: %v", sendErr)
	}
	return reply, err
}

func TestStageLinksSharedAndRecords(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	write(t, filepath.Join(s.Path, "shared/.env"), "SECRET")
	reply, err := s.stage(t, 1, map[string]string{
		"app/main.py": "print()", "media/local/old.png": "x", ".env": "from the tree", "conf/a/keep": "k",
	}, func(r *wire.StageRequest) {
		r.SharedDirs = []string{"media/local", "media/local/deeper", "var/log"}
		r.SharedFiles = []string{".env"}
	})
	if err != nil {
		t.Fatal(err)
	}
	if reply.Files != 4 || reply.Bytes == 0 {
		t.Errorf("reply: got %+v, want 4 files", reply)
	}
	root := filepath.Join(s.Path, "releases", id(1))
	for p, want := range map[string]string{
		".env": "../../shared/.env", "media/local": "../../../shared/media/local", "var/log": "../../../shared/var/log",
	} {
		if got, err := os.Readlink(filepath.Join(root, p)); got != want {
			t.Errorf("%s: got link %q, %v; want %q", p, got, err, want)
		}
		if _, err := os.Stat(filepath.Join(root, p)); err != nil {
			t.Errorf("%s leads nowhere: %v", p, err)
		}
	}
	state, err := s.State(t.Context(), []string{".env", "other"})
	if err != nil || len(state.Releases) != 1 || !slices.Equal(state.Missing, []string{"other"}) {
		t.Fatalf("state: %+v, %v", state, err)
	}
	if r := state.Releases[0]; r.ID != id(1) || r.Seq != 1 || r.Mark != wire.MarkStaged || r.Message != "m" {
		t.Errorf("record: got %+v", r)
	}
	if state.FreeBytes <= 0 {
		t.Errorf("free bytes: got %d", state.FreeBytes)
	}
}

func TestSequenceGoesUpWhateverTheIDs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, n := range []int{30, 10, 20} { // clocks may go backwards
		if _, err := s.stage(t, n, map[string]string{"a": "b"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	state, err := s.State(t.Context(), nil)
	var got []string
	for _, r := range state.Releases {
		got = append(got, r.ID)
	}
	if err != nil || !slices.Equal(got, []string{id(30), id(10), id(20)}) {
		t.Errorf("got %v, %v; want them in the order they came", got, err)
	}
}

func TestStageThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, err := s.stage(t, 1, map[string]string{"a": "b"}, func(r *wire.StageRequest) { r.SharedFiles = []string{".env"} })
	if !fault.Is(err, fault.SharedMissing) || !strings.Contains(err.Error(), "shared/.env") {
		t.Errorf("missing shared file: got %v", err)
	}
	write(t, filepath.Join(s.Path, "shared/x/y"), "")
	_, err = s.stage(t, 1, map[string]string{"x": "a file where a folder must be"},
		func(r *wire.StageRequest) { r.SharedFiles = []string{"x/y"} })
	if err == nil {
		t.Error("a file in the way of a shared path: no error")
	}
	near, far := net.Pipe()
	_ = near.Close()
	if _, err := s.Stage(t.Context(), wire.StageRequest{Release: wire.Release{ID: id(2)}}, far); err == nil {
		t.Error("a stream cut at once: no error")
	}
	for _, dir := range []string{"releases", ".godeploy/releases", ".godeploy/manifests"} {
		if names, _ := s.names(dir); len(names) > 0 {
			t.Errorf("%s: left %v", dir, names)
		}
	}
}

func TestStageRefusesAReleaseThatIsThere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(t, 1)
	if _, err := s.stage(t, 1, map[string]string{"a": "b"}, nil); !fault.Is(err, fault.LayoutRefused) {
		t.Errorf("got %v, want it refused", err)
	}
	if _, err := os.Stat(filepath.Join(s.Path, "releases", id(1), "name")); err != nil {
		t.Errorf("the release that was there is harmed: %v", err)
	}
}

func TestPrepareRemovesOnlyWhatDeadRunsLeft(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(t, 1)
	inUse := id(5)
	s.WorkingDirs = func(context.Context) ([]string, error) {
		return []string{s.Path + "/releases/" + inUse + "/app", "/", s.Path + "/releases/" + id(6) + " (deleted)"}, nil
	}
	keep := []string{
		"releases/." + id(8) + ".partial/half", ".godeploy/manifests/." + id(8) + ".partial",
		"releases/." + id(8) + ".1.partial/half", ".godeploy/manifests/." + id(8) + ".1.partial",
		"releases/.gone-" + id(6) + "/half", "releases/" + id(1), "releases/" + inUse + "/app", "releases/20260101", "releases/.hidden", "releases/" + id(4),
		".godeploy/releases/" + id(1) + ".json", ".godeploy/releases/notes.txt", "shared/media",
	}
	litter := []string{
		"releases/." + id(3) + ".partial/half", ".godeploy/manifests/." + id(3) + ".partial",
		"releases/." + id(9) + ".partial/no-manifest", ".godeploy/manifests/." + id(7) + ".partial",
		"releases/." + id(2) + ".partial/half", "releases/.gone-" + id(3) + "/half", "releases/" + id(2) + "/no-record",
		".godeploy/releases/" + id(7) + ".json", ".godeploy/releases/" + id(1) + ".json.new",
		".godeploy/manifests/" + id(7), ".godeploy/current.new",
	}
	for _, p := range append(slices.Clone(keep), litter...) {
		if !strings.HasSuffix(p, id(1)) && !strings.HasSuffix(p, id(1)+".json") {
			write(t, filepath.Join(s.Path, p, "f"), "x")
		}
	}
	// A record that makes no sense is no licence to remove a release.
	write(t, filepath.Join(s.Path, ".godeploy/releases", id(4)+".json"), "{")
	if err := s.Prepare(t.Context(), []string{"media"}); err != nil {
		t.Fatal(err)
	}
	for _, p := range keep {
		if _, err := os.Lstat(filepath.Join(s.Path, p)); err != nil {
			t.Errorf("removed %s", p)
		}
	}
	for _, p := range litter {
		if _, err := os.Lstat(filepath.Join(s.Path, p)); err == nil {
			t.Errorf("left %s", p)
		}
	}
}

// What came before the connection broke is not sent again.
func TestStageGoesOnWhereAConnectionBroke(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rng := rand.NewChaCha8([32]byte{})
	files := map[string]string{}
	for i := range 12 {
		content := make([]byte, 1<<20)
		_, _ = rng.Read(content)
		files[fmt.Sprintf("f%02d", i)] = string(content)
	}
	near, far := net.Pipe()
	go func() {
		src := source(t, files)
		_, _ = filesync.Send(t.Context(), src, &breaking{Conn: near, left: 6 << 20}, filesync.SendOptions{})
	}()
	if _, err := s.Stage(t.Context(), wire.StageRequest{Release: wire.Release{ID: id(1)}}, far); err == nil {
		t.Fatal("a broken connection brought a release")
	}
	_ = far.Close()
	reply, err := s.stage(t, 2, files, nil)
	if err != nil {
		t.Fatal(err)
	}
	if reply.Received > 8<<20 {
		t.Errorf("%d bytes came again of 12 MiB", reply.Received)
	}
	left, err := os.ReadDir(filepath.Join(s.Path, "releases"))
	if err != nil || len(left) != 1 {
		t.Errorf("releases holds %v: %v", left, err)
	}
}

// breaking closes the connection after so many bytes.
type breaking struct {
	net.Conn
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		_ = b.Close()
		return 0, io.ErrClosedPipe
	}
	return b.Conn.Write(p)
}

func TestPrepareKeepsForeignArrangementsAndSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	elsewhere := t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(s.Path, "shared/media")); err != nil {
		t.Fatal(err)
	}
	if err := s.Prepare(t.Context(), []string{"media", "logs/web"}); err != nil {
		t.Errorf("a shared folder on another disk: %v", err)
	}
	write(t, filepath.Join(s.Path, "shared/file"), "")
	if err := s.Prepare(t.Context(), []string{"file"}); !fault.Is(err, fault.LayoutRefused) {
		t.Errorf("a file in a shared folder's place: got %v", err)
	}
	if info, err := os.Stat(filepath.Join(s.Path, "shared/logs/web")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("shared/logs/web: %v, %v", info, err)
	}
}

func TestSwitchIsSeenWholeByEveryReader(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.put(t, 1), s.put(t, 2)
	if _, err := s.Switch(t.Context(), a, ""); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	bad := make(chan string, 1)
	reads := make(chan int, 1)
	go func() {
		n := 0
		for ; !stop.Load() || n < 1000; n++ {
			got, err := os.ReadFile(filepath.Join(s.Path, "current/name"))
			if err != nil || string(got) != a && string(got) != b {
				select {
				case bad <- fmt.Sprintf("%q, %v", got, err):
				default:
				}
			}
		}
		reads <- n
	}()
	for i := range 300 {
		want := []string{a, b}[i%2]
		if previous, err := s.Switch(t.Context(), []string{b, a}[i%2], want); err != nil || previous != want {
			t.Fatalf("switch %d: previous %q, %v", i, previous, err)
		}
	}
	stop.Store(true)
	if n := <-reads; len(bad) > 0 {
		t.Errorf("one of %d reads got %s", n, <-bad)
	}
}

func TestSwitchRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		arrange func(t *testing.T, s *Site)
		id      string
		expect  string
		want    fault.Code
	}{
		"a real folder":        {func(t *testing.T, s *Site) { write(t, s.Path+"/current/f", "") }, id(1), "", fault.LayoutRefused},
		"a file":               {func(t *testing.T, s *Site) { write(t, s.Path+"/current", "") }, id(1), "", fault.LayoutRefused},
		"a foreign link":       {func(t *testing.T, s *Site) { _ = os.Symlink("/srv/other", s.Path+"/current") }, id(1), "", fault.LayoutRefused},
		"a link way up":        {func(t *testing.T, s *Site) { _ = os.Symlink("releases/../..", s.Path+"/current") }, id(1), "", fault.LayoutRefused},
		"another release":      {func(t *testing.T, s *Site) { _ = os.Symlink("releases/"+id(2), s.Path+"/current") }, id(1), id(3), fault.SwitchFailed},
		"nothing there":        {func(*testing.T, *Site) {}, id(1), id(3), fault.SwitchFailed},
		"an unknown release":   {func(*testing.T, *Site) {}, id(9), "", fault.ReleaseUnknown},
		"one without a record": {func(t *testing.T, s *Site) { write(t, s.Path+"/releases/"+id(8)+"/f", "") }, id(8), "", fault.ReleaseUnknown},
		"one without a tree":   {func(t *testing.T, s *Site) { _ = os.RemoveAll(s.Path + "/releases/" + id(1)) }, id(1), "", fault.ReleaseUnknown},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.put(t, 1)
			s.put(t, 2)
			tc.arrange(t, s)
			before, _ := os.Readlink(s.Path + "/current")
			if _, err := s.Switch(t.Context(), tc.id, tc.expect); !fault.Is(err, tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
			if after, _ := os.Readlink(s.Path + "/current"); after != before {
				t.Errorf("current went from %q to %q", before, after)
			}
		})
	}
}

func TestSwitchTakesAbsoluteLinksAndUndoesAFirstRelease(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.put(t, 1), s.put(t, 2)
	if err := os.Symlink(s.Path+"/releases/"+a, s.Path+"/current"); err != nil {
		t.Fatal(err)
	}
	if previous, err := s.Switch(t.Context(), b, a); err != nil || previous != a {
		t.Errorf("from an absolute link: %q, %v", previous, err)
	}
	if got, _ := os.Readlink(s.Path + "/current"); got != "releases/"+b {
		t.Errorf("current: got %q, want it relative", got)
	}
	if previous, err := s.Switch(t.Context(), "", b); err != nil || previous != b {
		t.Errorf("undo: %q, %v", previous, err)
	}
	if _, err := os.Lstat(s.Path + "/current"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("current is still there: %v", err)
	}
}

// TestSwitchAwayFromAReleaseWithoutARecordCanBeUndone: one that was brought by other means, or whose
// record was damaged, is what serves, and the only thing to go back to.
func TestSwitchAwayFromAReleaseWithoutARecordCanBeUndone(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, record string) error{
		"none":    func(_ *testing.T, record string) error { return os.Remove(record) },
		"damaged": func(_ *testing.T, record string) error { return os.WriteFile(record, []byte("{"), 0o644) },
		"empty":   func(_ *testing.T, record string) error { return os.Truncate(record, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			a, b := s.put(t, 5), s.put(t, 6)
			if _, err := s.Switch(t.Context(), a, ""); err != nil {
				t.Fatal(err)
			}
			if err := damage(t, filepath.Join(s.Path, recordPath(a))); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Switch(t.Context(), b, a); err != nil {
				t.Fatal(err)
			}
			if err := s.Prepare(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Switch(t.Context(), a, b); err != nil {
				t.Errorf("undo: %v", err)
			}
			if list, err := s.releases(); err != nil || len(list) != 2 || list[0].ID != a || list[0].Mark != "" {
				t.Errorf("releases: %+v, %v, want %s as the oldest, without a mark", list, err, a)
			}
		})
	}
}

func TestMarkIsKept(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.put(t, 1), s.put(t, 2)
	if err := s.Mark(t.Context(), b, wire.MarkHealthy, a); err != nil {
		t.Fatal(err)
	}
	if err := s.Mark(t.Context(), b, wire.MarkBad, ""); err != nil {
		t.Fatal(err)
	}
	if r, err := s.record(b); err != nil || r.Mark != wire.MarkBad || r.Previous != a || r.Seq != 2 {
		t.Errorf("got %+v, %v", r, err)
	}
	if err := s.Mark(t.Context(), id(9), wire.MarkBad, ""); !fault.Is(err, fault.ReleaseUnknown) {
		t.Errorf("unknown release: got %v", err)
	}
}

func TestStateOfVeryManyReleasesFitsAFrame(t *testing.T) {
	t.Parallel()
	var list []*wire.Release
	for i := range 5000 {
		list = append(list, &wire.Release{ID: id(i % 60), Seq: i, Message: strings.Repeat("m", 900)})
	}
	told := newest(list)
	if len(told) < 100 || told[len(told)-1].Seq != 4999 || told[0].Seq != 5000-len(told) {
		t.Errorf("told %d, from %d to %d", len(told), told[0].Seq, told[len(told)-1].Seq)
	}
}

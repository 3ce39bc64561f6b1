package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// contents reads a tree into memory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		all[strings.TrimPrefix(name, dir)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// tiny makes the small tree.
func tiny(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	if err := makeTree(t.Context(), treeTiny, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Everybody measures the same files.
func TestTreesAreTheSameEverywhere(t *testing.T) {
	t.Parallel()
	all := contents(t, tiny(t))
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(sum, "%s %d %s", name, len(all[name]), all[name])
	}
	const want = "60 files, 6085289ca287f2f14e2e0e05"
	if got := fmt.Sprintf("%d files, %.12x", len(all), sum.Sum(nil)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAnEditChangesTwentyFiles(t *testing.T) {
	t.Parallel()
	dir := tiny(t)
	before := contents(t, dir)
	for round := 1; round <= 2; round++ {
		if err := edit20.apply(t.Context(), dir, round); err != nil {
			t.Fatal(err)
		}
		after, same, longer := contents(t, dir), 0, 0
		for name, text := range after {
			switch {
			case text == before[name]:
			case len(text) == len(before[name]):
				same++
			default:
				longer++
			}
		}
		if same != 10 || longer != 10 || len(after) != len(before) {
			t.Errorf("round %d: %d files of the same size and %d longer ones changed, want 10 and 10", round, same, longer)
		}
		before = after
	}
}

func TestAnInsertMovesTheRest(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), bigFile)
	old := text(rand.New(rand.NewPCG(7, 7)), 5<<20)
	if err := os.WriteFile(name, old, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := insert(name, 1); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for at < len(old) && got[at] == old[at] {
		at++
	}
	rest := len(got) - len(old)
	// The first inserted bytes may happen to be the old ones.
	ok := slices.ContainsFunc([]int{0, 1, 2, 3, 4, 5, 6, 7, 8}, func(back int) bool { return bytes.Equal(got[at-back+rest:], old[at-back:]) })
	if rest != 1024 || at < len(old)/3 || at > len(old)*2/3 || !ok {
		t.Errorf("%d bytes more from %d of %d on, want 1024 in the middle and the rest moved", rest, at, len(old))
	}
}

func TestAFolderGetsANewName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, movedFolder+"0"), 0o755); err != nil {
		t.Fatal(err)
	}
	for round := 1; round <= 3; round++ {
		if err := renameFolder.apply(t.Context(), dir, round); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, movedFolder+"3")); err != nil {
		t.Error(err)
	}
}

// The relay keeps each packet for its time, and their order.
func TestRelayDelays(t *testing.T) {
	t.Parallel()
	near, a := packetPair(t)
	far, b := packetPair(t)
	const delay = 30 * time.Millisecond
	r := newRelay(a, b, delay)
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	began := time.Now()
	for i := range 3 {
		if _, err := fmt.Fprint(near, i); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 9)
	for i := range 3 {
		n, err := far.Read(buf)
		if err != nil || string(buf[:n]) != fmt.Sprint(i) {
			t.Fatalf("got %q, %v, want %d", buf[:n], err, i)
		}
	}
	if took := time.Since(began); took < delay {
		t.Errorf("three packets took %v, less than %v", took, delay)
	}
}

func packetPair(t *testing.T) (*os.File, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	near, inner := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "inner")
	t.Cleanup(func() { _ = near.Close() })
	return near, inner
}

// One row from end to end: namespaces, sshd, rsync, figures, comparison, and nothing left behind.
func TestARowRuns(t *testing.T) {
	t.Parallel()
	needs(t)
	dir := t.TempDir()
	kept := filepath.Join(dir, "results.json")
	o := options{n: 2, dir: dir, kept: kept}
	all := chosen(rows(), []string{"smoke"}, false)
	var said strings.Builder
	if err := o.run(t.Context(), all, screen{w: &said}, results{Rows: map[string]outcome{}}); err != nil {
		t.Fatal(err, said.String())
	}
	got, err := readResults(kept)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range got.Rows["smoke"].Sides {
		if f.Error != "" || len(f.Samples) != 2 {
			t.Fatalf("%s: %q, %d samples\n%s", name, f.Error, len(f.Samples), said.String())
		}
		for _, s := range f.Samples {
			if s.Wall <= 0 || s.ClientCPU <= 0 || s.ServerCPU <= 0 || s.Sent < 2000 || s.Received < 2000 {
				t.Errorf("%s: %+v: something was not measured", name, s)
			}
		}
		if f.Memory == nil || f.Memory.Client < 1<<20 || f.Memory.Server < 1<<20 {
			t.Errorf("%s: memory %+v", name, f.Memory)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "godeploy-bench-*")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v is left", left, err)
	}
	if left, err := filepath.Glob(fmt.Sprintf("/run/netns/%s%d*", labPrefix, os.Getpid())); err != nil || len(left) > 0 {
		t.Errorf("namespaces %v, %v are left", left, err)
	}
}

// A copy that differs from the source takes the side's figures away.
func TestADifferentCopyIsSeen(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("rsync"); err != nil {
		missing(t, "rsync")
	}
	dir, src := t.TempDir(), tiny(t)
	tr := &trial{b: &bench{dir: dir}, row: row{ID: "x"}, side: side{Name: "copy", Argv: "rsync"}, src: src, runs: 1}
	dst := tr.at("app", 0)
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", src, dst).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := tr.compare(t.Context()); err != nil {
		t.Errorf("the same copy: %v", err)
	}
	if err := edit20.apply(t.Context(), dst, 1); err != nil {
		t.Fatal(err)
	}
	if err := tr.compare(context.Background()); err == nil {
		t.Error("another copy passes")
	}
}

// needs skips, or fails where everything must run, when this machine cannot hold the lab.
func needs(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, name := range []string{"ip", "tc", "rsync", "ssh", "/usr/sbin/sshd"} {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, name)
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		missing(t, "/dev/net/tun")
	}
}

func missing(t *testing.T, name string) {
	t.Helper()
	if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
		t.Fatalf("%s is missing", name)
	}
	t.Skipf("%s is missing", name)
}

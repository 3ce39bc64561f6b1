//go:build unix

package filesync

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// processors measures the time of all processors together: on a machine that has other work, too, it
// says more than the clock. The caller calls what it gives at the end.
func processors(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64((used()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op") }
}

// goTree is Go's own source tree: about 11,500 files, 128 MB.
func goTree(b *testing.B) string {
	b.Helper()
	root, err := exec.CommandContext(b.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		b.Skip("there is no go command to ask for its sources")
	}
	return filepath.Join(strings.TrimSpace(string(root)), "src")
}

// manyFiles makes a tree of folders with 100 files each, as sizes go in code: 2.7 KB on average.
func manyFiles(tb testing.TB, folders int) string {
	tb.Helper()
	dir := tb.TempDir()
	rng := rand.New(rand.NewPCG(1, 2))
	content := []byte(noise(1, 64<<10))
	for i := range folders {
		sub := filepath.Join(dir, fmt.Sprintf("pkg%02d", i%32), fmt.Sprintf("module%04d", i))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			tb.Fatal(err)
		}
		for k := range 100 {
			size := min(int(500*rng.ExpFloat64()*5.4), len(content))
			if err := os.WriteFile(fmt.Sprintf("%s/some_file_%03d.py", sub, k), content[:size], 0o644); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return dir
}

// BenchmarkScan scans with all hashes known and with none.
func BenchmarkScan(b *testing.B) {
	for name, tree := range map[string]func(*testing.B) string{
		"11k":  goTree,
		"100k": func(b *testing.B) string { return manyFiles(b, 1000) },
	} {
		dir := tree(b)
		cache := b.TempDir()
		for _, cold := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/rehash=%v", name, cold), func(b *testing.B) {
				b.ReportAllocs()
				defer processors(b)()
				for b.Loop() {
					src, err := Scan(b.Context(), dir, ScanOptions{Cache: cache, Rehash: cold})
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(float64(src.Hashed), "hashed")
					if err := src.Close(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkHashLarge hashes one file of 1 GiB, from memory the second time on.
func BenchmarkHashLarge(b *testing.B) {
	dir := b.TempDir()
	f, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		b.Fatal(err)
	}
	for i := range 256 {
		_, err = f.WriteString(noise(uint64(i), 4<<20))
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(1 << 30)
	defer processors(b)()
	for b.Loop() {
		src, err := Scan(b.Context(), dir, ScanOptions{})
		if err = errors.Join(err, src.Close()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFS links 100,000 files in 1,000 folders and creates 10,000, as a release is built.
func BenchmarkFS(b *testing.B) {
	fsys, err := OpenLocal(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer fsys.Close()
	content := []byte(noise(1, 2700))
	folders := func(b *testing.B, root string, n int) {
		if err := fsys.Mkdir(root, 0o755); err != nil {
			b.Fatal(err)
		}
		for i := range n {
			if err := fsys.Mkdir(fmt.Sprintf("%s/d%d", root, i), 0o755); err != nil {
				b.Fatal(err)
			}
		}
	}
	create := func(path string) error {
		w, err := fsys.Create(path, 0o644)
		if err != nil {
			return err
		}
		_, err = w.Write(content)
		return errors.Join(err, w.Chtimes(1e18), w.Close())
	}
	runs := 0
	fresh := func() string { runs++; return fmt.Sprintf("run%d", runs) }
	b.Run("create10k", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			root := fresh()
			folders(b, root, 100)
			b.StartTimer()
			inParallel(b, 10_000, func(i int) error { return create(fmt.Sprintf("%s/d%d/f%d", root, i/100, i)) })
		}
	})
	folders(b, "old", 1000)
	inParallel(b, 100_000, func(i int) error { return create(fmt.Sprintf("old/d%d/f%d", i/100, i)) })
	b.Run("link100k", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			root := fresh()
			folders(b, root, 1000)
			b.StartTimer()
			inParallel(b, 100_000, func(i int) error {
				return fsys.Link(fmt.Sprintf("old/d%d/f%d", i/100, i), fmt.Sprintf("%s/d%d/f%d", root, i/100, i))
			})
		}
	})
}

// inParallel runs f for 0 to n-1 with four at once, each a run of neighbours.
func inParallel(b *testing.B, n int, f func(i int) error) {
	b.Helper()
	const workers = 4
	done := make(chan error, workers)
	for w := range workers {
		go func() {
			for i := w * n / workers; i < (w+1)*n/workers; i++ {
				if err := f(i); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRelease brings Go's own source tree in: from nothing, and from a parent that differs in a
// few files.
func BenchmarkRelease(b *testing.B) {
	src, err := Scan(b.Context(), goTree(b), ScanOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	fsys, err := OpenLocal(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer fsys.Close()
	for _, parent := range []string{"", "0"} {
		b.Run(fmt.Sprintf("parent=%q", parent), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				e := pipe(b.Context(), src, SendOptions{}, ReceiveOptions{FS: fsys, ID: fmt.Sprint(len(parent)*1000 + i), Parent: parent, UID: -1, GID: -1})
				if err := errors.Join(e.sendErr, e.receiveErr); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(e.sent.Sent), "wire-B")
			}
		})
	}
}

package filesync

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkRelease brings Go's own source tree in: scanned, from nothing, and from a parent that
// differs in a few files.
func BenchmarkRelease(b *testing.B) {
	root, err := exec.CommandContext(b.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		b.Skip("there is no go command to ask for its sources")
	}
	dir := filepath.Join(strings.TrimSpace(string(root)), "src")
	src, err := Scan(b.Context(), dir, ScanOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	b.Run("scan", func(b *testing.B) {
		for b.Loop() {
			again, err := Scan(b.Context(), dir, ScanOptions{})
			if err := errors.Join(err, again.Close()); err != nil {
				b.Fatal(err)
			}
		}
	})
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

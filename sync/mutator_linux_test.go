package filesync

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"godeploy/internal/fault"
)

// What a program writes into a file that it has mapped shows in no time until the system writes it back: the
// host's check of each content finds it.
func TestAMappedFileThatChangesUnseenIsFoundByTheHost(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"small": 5000, "large": 600_000} {
		dir, app := put(t, map[string]string{"f": noise(1, size), "other": "x"}), t.TempDir()
		f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_RDWR, 0)
		ok(t, err)
		mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		ok(t, errors.Join(err, f.Close()))
		mem[size-1] ^= 1 // from here on the page is dirty: what follows leaves no sign
		ticked(t, dir)
		src, err := scanAt(t.Context(), dir, ScanOptions{}, later())
		ok(t, err)
		mem[size-1] ^= 1
		e := transfer(t, src, SendOptions{}, into(openDir(t, app), "r1", ""))
		// The system may write the page back between the scan and the read; then the sender sees a new mtime.
		seen := fault.Is(e.sendErr, fault.SyncSourceChanged) && fault.Is(e.receiveErr, fault.SyncSourceChanged)
		found := fault.Is(e.sendErr, fault.SyncVerify) && fault.Is(e.receiveErr, fault.SyncVerify)
		if !seen && !found {
			t.Errorf("%s: got %v and %v", name, e.sendErr, e.receiveErr)
		}
		if left, err := os.ReadDir(filepath.Join(app, "releases")); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v: %v", name, left, err)
		}
		ok(t, errors.Join(unix.Munmap(mem), src.Close()))
	}
}

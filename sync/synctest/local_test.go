//go:build linux

package synctest

import (
	"testing"

	"golang.org/x/sys/unix"

	filesync "godeploy/sync"
)

// TestMain runs everything under a umask that would take nearly all bits away.
func TestMain(m *testing.M) {
	unix.Umask(0o077)
	m.Run()
}

func TestLocal(t *testing.T) {
	t.Parallel()
	Run(t, func(t *testing.T) filesync.FS {
		fsys, err := filesync.OpenLocal(TempDir(t))
		must(t, err)
		t.Cleanup(func() { must(t, fsys.Close()) })
		return fsys
	})
}

package overssh

import (
	"testing"

	filesync "godeploy/sync"
	"godeploy/sync/synctest"
)

// TestTarKeepsTheContractOfAFileTree holds what is made behind the caller's back to what every file tree
// holds to, with each of the tars.
func TestTarKeepsTheContractOfAFileTree(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := unaided(t, startOpenSSH(t, userland(t, kind)...).login(t, me(t)), "/nowhere")
			synctest.Run(t, func(t *testing.T) filesync.FS {
				root := synctest.TempDir(t)
				fsys := h.tree(newSFTPFS(h.client, root), kind != "bsd").(shellFS).behind(t.Context())
				if _, ok := fsys.(behindFS); !ok {
					t.Fatalf("got a %T with the tools %+v", fsys, h.tools)
				}
				t.Cleanup(func() { _ = fsys.Close() })
				return fsys
			})
		})
	}
}

// TestOpenSSHKeepsTheContractOfAFileTree is SFTP alone, as tuned for OpenSSH.
func TestOpenSSHKeepsTheContractOfAFileTree(t *testing.T) {
	t.Parallel()
	h := unaided(t, startOpenSSH(t).login(t, me(t)), "/nowhere")
	synctest.Run(t, func(t *testing.T) filesync.FS { return newSFTPFS(h.client, synctest.TempDir(t)) })
}

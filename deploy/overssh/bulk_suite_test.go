package overssh

import (
	"os"
	"strings"
	"testing"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/sshx"
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

// filesOnly is a login of an account that sshd lets do nothing but SFTP, and, where the test may set that
// up, in a part of the file tree alone. newRoot makes a folder and gives its path as the account sees it.
func filesOnly(t *testing.T) (conn *sshx.Conn, newRoot func(t *testing.T) string) {
	t.Helper()
	if os.Getuid() != 0 {
		return startOpenSSH(t, "ForceCommand internal-sftp").login(t, me(t)), synctest.TempDir
	}
	jail, err := os.MkdirTemp("/run", "godeploy-test-") // sshd wants every folder on the way to be root's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(jail) })
	if err := os.Chmod(jail, 0o755); err != nil {
		t.Fatal(err)
	}
	return startOpenSSH(t, "ForceCommand internal-sftp", "ChrootDirectory "+jail).login(t, me(t)), func(t *testing.T) string {
		dir, err := os.MkdirTemp(jail, "app")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(dir, jail)
	}
}

// TestFilesOnlyAccountKeepsTheContractOfAFileTree is SFTP alone, as tuned for OpenSSH.
func TestFilesOnlyAccountKeepsTheContractOfAFileTree(t *testing.T) {
	t.Parallel()
	conn, newRoot := filesOnly(t)
	h := unaided(t, conn, "/nowhere")
	synctest.Run(t, func(t *testing.T) filesync.FS { return h.tree(newSFTPFS(h.client, newRoot(t)), true) })
}

func TestFilesOnlyAccountTakesAReleaseAndSaysWhatItCannotDo(t *testing.T) {
	t.Parallel()
	conn, newRoot := filesOnly(t)
	h := unaided(t, conn, newRoot(t))
	if h.tools.shell || h.Facts().UID != -1 {
		t.Fatalf("got the tools %+v and %+v", h.tools, h.Facts())
	}
	lock(t, h)
	stage(t, h, "20261123-104107-4f2c9e1", "", "one")
	if _, err := h.Switch(t.Context(), "20261123-104107-4f2c9e1", ""); err != nil {
		t.Fatal(err)
	}
	state, err := h.State(t.Context(), nil)
	if err != nil || state.Current != "20261123-104107-4f2c9e1" || !state.Writable {
		t.Errorf("got %+v, %v", state, err)
	}
	_, err = h.Exec(t.Context(), wire.ExecRequest{Argv: []string{"true"}}, func(string, []byte) {})
	if !fault.Is(err, fault.RemoteToolMissing) {
		t.Errorf("a program there: got %v, want %s", err, fault.RemoteToolMissing)
	}
	if err := h.Signal(t.Context(), wire.SignalRequest{PID: 1, Signal: "TERM"}); !fault.Is(err, fault.RemoteToolMissing) {
		t.Errorf("a signal there: got %v, want %s", err, fault.RemoteToolMissing)
	}
}

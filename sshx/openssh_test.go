package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"godeploy/internal/fault"
)

// pinned is a real server's target, pinned.
func pinned(t testing.TB, s *sshd) Target {
	t.Helper()
	key, err := ParseHostKey(s.public(t, "ed25519"))
	if err != nil {
		t.Fatal(err)
	}
	to := s.target()
	to.HostKey = key.Fingerprint()
	return to
}

func TestHundredHostsOnOneSSHDAllGetIn(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := startSSHD(t, key, func(*sshd) []string { return []string{"MaxStartups 10:30:100"} })
	p := pool(t, key, func(o *Options) { o.Timeout = time.Minute }) // the machine may be busy; the limit is not what is tested
	dialMany(t, p, 100, func(i int) Target {
		to := pinned(t, server)
		to.Name = fmt.Sprint("app", i)
		return to
	})
	// A few may be dropped and tried again when the machine is so busy that sshd counts late.
	if n := strings.Count(readFile(t, server.log), "drop connection"); n > 5 {
		t.Errorf("sshd dropped %d connections", n)
	}
}

func TestEleventhSessionOnOpenSSHWaitsItsTurn(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	for _, limit := range []string{"MaxSessions 10", "MaxSessions 2", "MaxSessions 1"} {
		server := startSSHD(t, key, func(*sshd) []string { return []string{limit} })
		c := connect(t, pool(t, key, nil), pinned(t, server))
		var all sync.WaitGroup
		for range 11 {
			all.Go(func() {
				if err := c.Run(context.Background(), "sleep 0.1", nil, nil, nil); err != nil {
					t.Errorf("%s: %v", limit, err)
				}
			})
		}
		all.Wait()
	}
	server := startSSHD(t, key, func(*sshd) []string { return []string{"MaxSessions 0"} })
	c := connect(t, pool(t, key, nil), pinned(t, server))
	wantCode(t, c.Run(context.Background(), "true", nil, nil, nil), fault.SSHRefused)
}

func TestOpenSSHRunsProcessesFilesAndTunnels(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server, gate := startSSHD(t, key, nil), startSSHD(t, key, nil)
	to := pinned(t, server)
	by := pinned(t, gate)
	by.Name = "gate"
	to.Jumps = [][]Target{{by}}
	p := pool(t, key, func(o *Options) { o.KeepAlive = 3 * time.Second })
	c := connect(t, p, to)
	process, err := c.Start(context.Background(), "cat; echo late >&2; exit 5")
	if err != nil {
		t.Fatal(err)
	}
	payload := strings.Repeat("0123456789abcdef", 200_000) // more than a window
	go func() {
		_, _ = io.WriteString(process, payload)
		_ = process.CloseWrite()
	}()
	back, err := io.ReadAll(process)
	if err != nil || string(back) != payload {
		t.Errorf("%d bytes came back, %v", len(back), err)
	}
	var exit *ExitError
	if err := process.Wait(); !errors.As(err, &exit) || exit.Status != 5 || process.Stderr() != "late\n" {
		t.Errorf("got %v and stderr %q", err, process.Stderr())
	}
	files, err := c.SFTP(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := files.Stat("/"); err != nil {
		t.Error(err)
	}
	if err := files.Close(); err != nil {
		t.Error(err)
	}
	tunnel, err := c.DialContext(context.Background(), "tcp", gate.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer tunnel.Close()
	banner := make([]byte, 4)
	if _, err := io.ReadFull(tunnel, banner); err != nil || string(banner) != "SSH-" {
		t.Errorf("read %q through the tunnel, %v", banner, err)
	}
}

func TestClosingAProcessThatIgnoresItsStdin(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := startSSHD(t, key, nil)
	c := connect(t, pool(t, key, nil), pinned(t, server))
	process, err := c.Start(context.Background(), "exec sleep 7")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	endsWithin(t, 5*time.Second, func() {
		if err := process.Close(); err != nil {
			t.Error(err)
		}
		if err := c.Run(ctx, "exec sleep 7", nil, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if got := output(t, c, "echo on"); got != "on\n" {
			t.Errorf("got %q on the same connection", got)
		}
	})
}

func TestLoginRefusedByOpenSSHLeavesNoPenaltyBehind(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := startSSHD(t, newKey(t), nil)
	wantCode(t, dialError(t, pool(t, key, nil), pinned(t, server)), fault.SSHAuth)
	if n := strings.Count(readFile(t, server.log), "Connection from"); n != 2 { // the other looked whether it listens
		t.Errorf("sshd saw %d connections, want ours once:\n%s", n, readFile(t, server.log))
	}
}

func TestOutdatedServerIsNamed(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	for _, only := range []string{"HostKeyAlgorithms ssh-rsa", "MACs hmac-sha1-96\nCiphers aes128-cbc", "KexAlgorithms diffie-hellman-group1-sha1"} {
		server := startSSHD(t, key, func(*sshd) []string { return strings.Split(only, "\n") })
		e := wantCode(t, dialError(t, pool(t, key, nil), server.target()), fault.SSHRefused)
		if !strings.Contains(e.Msg, "outdated") {
			t.Errorf("%s: message %q", only, e.Msg)
		}
	}
}

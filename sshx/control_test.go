package sshx

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// master is a ControlMaster of ssh(1) for a server.
type master struct{ dir, config, socket string }

func startMaster(t *testing.T, s *sshd, key clientKey) master {
	t.Helper()
	ssh := tool(t, "ssh")
	dir, err := os.MkdirTemp("", "cm") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m := master{dir: dir, config: filepath.Join(dir, "config"), socket: filepath.Join(dir, "s")}
	known := "[127.0.0.1]:" + strconv.Itoa(s.port) + " " + s.public(t, "ed25519") + "\n"
	text := "Host 127.0.0.1\n ControlPath " + m.socket + "\n IdentityFile " + key.path + "\n IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile " +
		dir + "/known\n HostKeyAlgorithms ssh-ed25519\n BatchMode yes\n"
	for name, text := range map[string]string{"config": text, "known": known} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	to := s.target()
	cmd := exec.Command(ssh, "-F", m.config, "-M", "-N", "-l", to.User, "-p", strconv.Itoa(s.port), "127.0.0.1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	eventually(t, "the master listens", func() bool {
		conn, err := net.Dial("unix", m.socket)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return m
}

// config makes the test's configuration stand in place of the user's.
func (m master) asked(t testing.TB) *UserConfig { return configFrom(t, m.config) }

func TestControlMasterSavesTheLogin(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := startSSHD(t, key, nil)
	m := startMaster(t, s, key)
	// No key of ours and no known host: whatever works, works through the master.
	p := NewPool(Options{Keys: []string{newKey(t).path}, Config: m.asked(t)})
	defer p.Close()
	logins := strings.Count(readFile(t, s.log), "Accepted publickey")
	c := connect(t, p, s.target())
	if got := output(t, c, "echo through"); got != "through\n" {
		t.Errorf("got %q", got)
	}
	process, err := c.Start(context.Background(), "cat; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	payload := strings.Repeat("0123456789abcdef", 300_000) // more than a window
	go func() {
		_, _ = io.WriteString(process, payload)
		_ = process.CloseWrite()
	}()
	if back, err := io.ReadAll(process); err != nil || string(back) != payload {
		t.Errorf("%d bytes came back, %v", len(back), err)
	}
	files, err := c.SFTP(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := files.Stat("/"); err != nil {
		t.Error(err)
	}
	_ = files.Close()
	if c.RoundTrip() == 0 {
		t.Error("no round trip was measured")
	}
	_ = c.Close()
	if n := strings.Count(readFile(t, s.log), "Accepted publickey"); n != logins {
		t.Errorf("%d logins more, want none", n-logins)
	}
	if got := output(t, connect(t, p, s.target()), "echo again"); got != "again\n" { // the master has survived us
		t.Errorf("got %q", got)
	}
}

// What is not certainly this user's own is not spoken to: the target is dialled instead.
func TestControlSocketsThatAreNotTaken(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := startSSHD(t, key, nil)
	m := startMaster(t, s, key)
	hostKey, err := ParseHostKey(s.public(t, "ed25519"))
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(m.dir, "left")
	l, err := net.Listen("unix", left)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close() // the socket stays, as when a master was killed
	file := filepath.Join(m.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(m.dir, "link")
	if err := os.Symlink(m.socket, link); err != nil {
		t.Fatal(err)
	}
	open := startMaster(t, s, key)
	if err := os.Chmod(open.socket, 0o660); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"none": "none", "gone": m.dir + "/gone", "left behind": left, "a file": file,
		"a link": link, "open to others": open.socket} {
		config := filepath.Join(t.TempDir(), "config")
		writeFile(t, config, "ControlPath "+path+"\nUserKnownHostsFile "+m.dir+"/known\n")
		p := NewPool(Options{Keys: []string{key.path}, Config: configFrom(t, config)})
		before := strings.Count(readFile(t, s.log), "Accepted publickey")
		if got := output(t, connect(t, p, s.target()), "echo dialled"); got != "dialled\n" {
			t.Errorf("%s: got %q", name, got)
		}
		if n := strings.Count(readFile(t, s.log), "Accepted publickey"); n != before+1 {
			t.Errorf("%s: %d logins, want one", name, n-before)
		}
		_ = p.Close()
	}
	pool := NewPool(Options{Config: m.asked(t)})
	defer pool.Close()
	to, err := pool.resolve(context.Background(), s.target())
	if err != nil || to.conf.controlPath == "" {
		t.Fatalf("got %+v, %v", to.conf, err)
	}
	to.HostKey = hostKey.Fingerprint()
	if c := pool.mastered(context.Background(), to); c != nil {
		t.Error("a pinned host key was left to the master")
		_ = c.Close()
	}
}

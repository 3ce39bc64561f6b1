package sshtest

import (
	"bytes"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"crypto/ed25519"
	"crypto/rand"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts a server, and gives what OpenSSH's client needs to log in to it.
func start(t *testing.T, o Options) (s *Server, flags []string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	o.Authorized = append(o.Authorized, pub)
	if o.Home == "" {
		o.Home = t.TempDir()
	}
	if s, err = Start(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	key, known := filepath.Join(dir, "key"), filepath.Join(dir, "known")
	line := "[127.0.0.1]:" + strconv.Itoa(s.Port()) + " " + string(ssh.MarshalAuthorizedKey(s.HostKeys()[0]))
	if err := errors.Join(os.WriteFile(key, pem.EncodeToMemory(block), 0o600), os.WriteFile(known, []byte(line), 0o600)); err != nil {
		t.Fatal(err)
	}
	return s, []string{"-F", "none", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile=" + known, "-o", "IdentityAgent=none",
		"-o", "IdentitiesOnly=yes", "-i", key, "-o", "Port=" + strconv.Itoa(s.Port())}
}

// client runs a program of OpenSSH.
func client(t *testing.T, program string, flags []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatalf("%s is not installed", program)
		}
		t.Skipf("%s is not installed", program)
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(program, append(append([]string(nil), flags...), args...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Stdin = strings.NewReader("from stdin")
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// eventually polls a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestOpenSSHsClientRunsCommands(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	s, flags := start(t, Options{Home: home, Env: []string{"PATH=/usr/bin:/bin", "COLOUR=blue"}})
	out, errs, status := client(t, "ssh", flags, "deploy@127.0.0.1", "cat; echo; pwd; echo $HOME $COLOUR; echo bad >&2; exit 7")
	if want := "from stdin\n" + home + "\n" + home + " blue\n"; out != want || !strings.HasSuffix(errs, "bad\n") || status != 7 {
		t.Errorf("got %q, %q, status %d; want %q, status 7", out, errs, status, want)
	}
	if got := s.Stats(); got.Logins != 1 || got.Sessions != 1 || len(got.Commands) != 1 {
		t.Errorf("stats %+v", got)
	}
	if _, _, status := client(t, "ssh", flags, "deploy@127.0.0.1", "kill -TERM $$"); status != 255 {
		t.Errorf("status %d after a signal, want ssh's 255", status)
	}
}

func TestOpenSSHsClientForwardsAndAsksForTheAgent(t *testing.T) {
	t.Parallel()
	target, _ := start(t, Options{})
	s, flags := start(t, Options{})
	out, errs, _ := client(t, "ssh", flags, "-A", "-W", target.Addr(), "x@127.0.0.1")
	if !strings.HasPrefix(out, "SSH-2.0-sshtest") {
		t.Errorf("through the tunnel came %q, %q", out, errs)
	}
	if got := s.Stats().Forwards; got != 1 {
		t.Errorf("%d forwards", got)
	}
}

func TestOpenSSHsSFTPCarriesAFile(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	_, flags := start(t, Options{Home: home})
	local := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(local, bytes.Repeat([]byte("data"), 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	batch := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(batch, []byte("put "+local+" copy\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, status := client(t, "sftp", flags, "-b", batch, "x@127.0.0.1"); status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	if got, err := os.ReadFile(filepath.Join(home, "copy")); err != nil || len(got) != 400_000 {
		t.Errorf("%d bytes arrived, %v", len(got), err)
	}
}

func TestCommandsOutliveTheSessionOnlyAsAsked(t *testing.T) {
	t.Parallel()
	for _, kill := range []bool{false, true} {
		mark := filepath.Join(t.TempDir(), "pid")
		s, _ := start(t, Options{NoAuth: true, KillOnDisconnect: kill})
		conn := dial(t, s)
		session, err := conn.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Start("exec >/dev/null 2>&1; trap 'echo gone >" + mark + "' EXIT; echo $$ >" + mark + "; cat; sleep 0.2; echo alive >" + mark + ".after"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "command runs", func() bool { _, err := os.Stat(mark); return err == nil })
		_ = conn.Close()
		if kill {
			eventually(t, "command is gone", func() bool { return s.running() == 0 })
			if _, err := os.Stat(mark + ".after"); err == nil {
				t.Error("command went on after the disconnect")
			}
			continue
		}
		eventually(t, "command goes on", func() bool { _, err := os.Stat(mark + ".after"); return err == nil })
	}
}

func (s *Server) running() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.commands)
}

// dial logs in without a key.
func dial(t *testing.T, s *Server) *ssh.Client {
	t.Helper()
	conn, err := ssh.Dial("tcp", s.Addr(), &ssh.ClientConfig{User: "x", HostKeyCallback: ssh.FixedHostKey(s.HostKeys()[0])})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestNoiseComesBeforeTheCommand(t *testing.T) {
	t.Parallel()
	s, _ := start(t, Options{NoAuth: true, Faults: Faults{Noise: "Welcome!\n"}})
	session, err := dial(t, s).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := session.Output("echo hello"); err != nil || string(out) != "Welcome!\nhello\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestRefusalsAreCounted(t *testing.T) {
	t.Parallel()
	s, flags := start(t, Options{MaxSessions: 1, Faults: Faults{RefuseAuth: true}})
	if _, _, status := client(t, "ssh", flags, "x@127.0.0.1", "true"); status != 255 {
		t.Errorf("a refused login ended with status %d", status)
	}
	if got := s.Stats(); got.Logins != 0 || got.AuthTries != 1 {
		t.Errorf("stats %+v", got)
	}
	s.SetFaults(Faults{HangUp: 1})
	if _, _, status := client(t, "ssh", flags, "x@127.0.0.1", "true"); status != 255 {
		t.Errorf("a hang-up ended with status %d", status)
	}
	if got := s.Stats().Dropped; got != 1 {
		t.Errorf("%d dropped", got)
	}
	if _, errs, status := client(t, "ssh", flags, "x@127.0.0.1", "true"); status != 0 {
		t.Errorf("a healthy server ended with status %d: %s", status, errs)
	}
}

func TestMaxStartupsDropsUnheard(t *testing.T) {
	t.Parallel()
	s, _ := start(t, Options{NoAuth: true, MaxStartups: 1})
	idle, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	eventually(t, "first is in", func() bool { return s.Stats().Open == 1 })
	late, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if n, err := late.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes from a dropped connection", n)
	}
	_ = idle.Close()
	eventually(t, "there is room again", func() bool { return s.Stats().Open == 0 })
	dial(t, s)
}

func TestFreezeAndDrop(t *testing.T) {
	t.Parallel()
	s, _ := start(t, Options{NoAuth: true})
	conn := dial(t, s)
	s.Freeze()
	answered := make(chan error, 1)
	go func() {
		_, _, err := conn.SendRequest("keepalive@openssh.com", true, nil)
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("a frozen server answered: %v", err)
	case <-time.After(100 * time.Millisecond): // silent, as far as that can be seen
	}
	s.Thaw()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	s.Drop()
	if err := conn.Wait(); err == nil {
		t.Error("a dropped connection ended well")
	}
}

func TestHostKeysCanChange(t *testing.T) {
	t.Parallel()
	s, _ := start(t, Options{NoAuth: true})
	before := s.Fingerprint()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	s.SetHostKeys(key)
	dial(t, s)
	if s.Fingerprint() == before {
		t.Error("the key is the same")
	}
}

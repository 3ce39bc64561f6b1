package sshx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"godeploy/internal/fault"
	"godeploy/internal/sshtest"
)

// kindOfKey makes a key of a kind with ssh-keygen.
func kindOfKey(t testing.TB, kind string) clientKey {
	t.Helper()
	path := filepath.Join(t.TempDir(), "id")
	run(t, tool(t, "ssh-keygen"), "-q", "-t", kind, "-N", "", "-f", path)
	return clientKey{path: path, pub: readPublic(path + ".pub")}
}

// seen pins a server's key as keys trust would: by what it shows.
func seen(t testing.TB, p *Pool, to Target) Target {
	t.Helper()
	keys, err := p.FetchHostKeys(context.Background(), to)
	if err != nil || len(keys) == 0 {
		t.Fatalf("host keys: %v, %v %q", keys, err, facts(err))
	}
	to.HostKey = keys[0].Fingerprint()
	return to
}

// works runs commands, one with input, and several at once.
func works(t *testing.T, c *Conn) {
	t.Helper()
	oneByOne(t, c)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := c.Run(context.Background(), "true", nil, nil, nil); err != nil {
				t.Errorf("at once with others: %v", err)
			}
		})
	}
	all.Wait()
}

// oneByOne runs commands, one with input.
func oneByOne(t *testing.T, c *Conn) {
	t.Helper()
	if got := output(t, c, "echo one; echo two >&2"); got != "one\n" {
		t.Errorf("got %q", got)
	}
	var exit *ExitError
	if err := c.Run(context.Background(), "exit 3", nil, nil, nil); !errors.As(err, &exit) || exit.Status != 3 {
		t.Errorf("got %v, want exit status 3", err)
	}
	payload := strings.Repeat("0123456789abcdef", 20_000)
	var out strings.Builder
	if err := c.Run(context.Background(), "cat", strings.NewReader(payload), &out, nil); err != nil || out.String() != payload {
		t.Errorf("%d of %d bytes came back, %v", out.Len(), len(payload), err)
	}
}

func TestKindsOfOpenSSHServers(t *testing.T) {
	t.Parallel()
	ed, ec, rsa := newKey(t), kindOfKey(t, "ecdsa"), kindOfKey(t, "rsa")
	for name, c := range map[string]struct {
		key   clientKey
		lines []string
	}{
		"only ecdsa":     {ec, []string{"HostKeyAlgorithms ecdsa-sha2-nistp256", "PubkeyAcceptedAlgorithms ecdsa-sha2-nistp256"}},
		"only rsa-sha2":  {rsa, []string{"HostKeyAlgorithms rsa-sha2-512,rsa-sha2-256", "PubkeyAcceptedAlgorithms rsa-sha2-512,rsa-sha2-256"}},
		"one session":    {ed, []string{"MaxSessions 1"}},
		"two sessions":   {ed, []string{"MaxSessions 2"}},
		"only chacha20":  {ed, []string{"Ciphers chacha20-poly1305@openssh.com"}},
		"only CTR":       {ed, []string{"Ciphers aes256-ctr", "MACs hmac-sha2-512"}},
		"only group16":   {ed, []string{"KexAlgorithms diffie-hellman-group16-sha512"}},
		"group exchange": {ed, []string{"KexAlgorithms diffie-hellman-group-exchange-sha256"}},
		"compression":    {ed, []string{"Compression yes"}},
		"one key tried":  {ed, []string{"MaxAuthTries 1"}},
		"a banner":       {ed, []string{"Banner /etc/os-release", "VersionAddendum none"}},
		"rekeying":       {ed, []string{"RekeyLimit 64K"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSSHD(t, c.key, func(*sshd) []string { return c.lines })
			p := pool(t, c.key, nil)
			works(t, connect(t, p, seen(t, p, s.target())))
		})
	}
}

func TestOpenSSHWithTwoStartupsTakesEverybodyIn(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := startSSHD(t, key, func(*sshd) []string { return []string{"MaxStartups 2"} })
	p := pool(t, key, nil)
	to := seen(t, p, s.target())
	connect(t, p, to)
	e := make(chan error, 6)
	var all sync.WaitGroup
	for range cap(e) {
		all.Go(func() {
			c, err := p.Dial(context.Background(), to)
			if err == nil {
				_ = c.Close()
			}
			e <- err
		})
	}
	all.Wait()
	close(e)
	for err := range e { // more than it takes at once: whoever is not in after four tries is told why
		if err != nil && !strings.Contains(fmt.Sprint(wantCode(t, err, fault.SSHRefused).Cause), "MaxStartups") {
			t.Errorf("got %v", err)
		}
	}
}

func TestOpenSSHWithCertificatesAlone(t *testing.T) {
	t.Parallel()
	authority, key := newKey(t), newKey(t)
	writeFile(t, key.path+".pub", string(ssh.MarshalAuthorizedKey(key.pub)))
	run(t, tool(t, "ssh-keygen"), "-q", "-s", authority.path, "-I", "me", "-n", me(), key.path+".pub")
	s := startSSHD(t, newKey(t), func(s *sshd) []string {
		run(t, "ssh-keygen", "-q", "-s", authority.path, "-h", "-I", "host", "-n", "127.0.0.1", s.hostKey("ed25519")+".pub")
		return []string{"TrustedUserCAKeys " + s.write(t, "ca.pub", string(ssh.MarshalAuthorizedKey(authority.pub))),
			"PubkeyAcceptedAlgorithms ssh-ed25519-cert-v01@openssh.com", "HostKeyAlgorithms ssh-ed25519-cert-v01@openssh.com",
			"HostCertificate " + s.hostKey("ed25519") + "-cert.pub"}
	})
	file := s.write(t, "known", "@cert-authority 127.0.0.*,[127.0.0.*]:* "+string(ssh.MarshalAuthorizedKey(authority.pub)))
	works(t, connect(t, pool(t, key, func(o *Options) { o.KnownHosts = []string{file} }), s.target()))
	e := wantCode(t, dialError(t, pool(t, newKey(t), func(o *Options) { o.KnownHosts = []string{file} }), s.target()), fault.SSHAuth)
	if len(e.Facts) == 0 {
		t.Errorf("a key without a certificate: %v", e)
	}
}

func TestOpenSSHThatWantsMoreThanAKey(t *testing.T) {
	t.Parallel()
	key, second := newKey(t), newKey(t)
	for methods, want := range map[string]string{
		"publickey,password": "wants: password", "publickey,keyboard-interactive": "wants: keyboard-interactive",
		"password": "takes no keys", "publickey,publickey": "",
	} {
		s := startSSHD(t, key, func(s *sshd) []string {
			return []string{"AuthenticationMethods " + methods, "PasswordAuthentication yes", "KbdInteractiveAuthentication yes", "PermitRootLogin yes"}
		})
		s.write(t, "authorized", string(ssh.MarshalAuthorizedKey(key.pub))+string(ssh.MarshalAuthorizedKey(second.pub)))
		p := pool(t, key, func(o *Options) { o.Keys = append(o.Keys, second.path) })
		to := seen(t, p, s.target())
		if want == "" {
			connect(t, p, to)
			continue
		}
		e := wantCode(t, dialError(t, p, to), fault.SSHAuth)
		if text := strings.Join(e.Facts, "\n"); !strings.Contains(text, want) || e.Cause == "" {
			t.Errorf("%s: facts %q, hint %q", methods, e.Facts, e.Cause)
		}
	}
}

// A forced command runs in place of what was asked for; what it says and how it ends is what comes back.
func TestForcedCommand(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := startSSHD(t, key, nil)
	s.write(t, "authorized", `command="echo only this; exit 4" `+string(ssh.MarshalAuthorizedKey(key.pub)))
	p := pool(t, key, nil)
	c := connect(t, p, seen(t, p, s.target()))
	var out strings.Builder
	var exit *ExitError
	if err := c.Run(context.Background(), "echo something else", nil, &out, nil); !errors.As(err, &exit) || exit.Status != 4 || out.String() != "only this\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	if _, err := c.SFTP(context.Background()); err == nil {
		t.Error("the forced command spoke SFTP")
	} else if fault.All(err) == nil {
		t.Errorf("%v is no fault", err)
	}
}

// covered is a command that finds a home folder of ours in place of the user's, in a mount namespace: dropbear
// and tinysshd look for authorized_keys nowhere else.
func covered(t *testing.T, key clientKey) func(argv ...string) *exec.Cmd {
	t.Helper()
	unshare := tool(t, "unshare")
	if os.Geteuid() != 0 && os.Getenv("GODEPLOY_TEST_MUST_RUN") == "" {
		t.Skip("the home folder of the user can be covered by root alone")
	}
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	cover := t.TempDir()
	if err := errors.Join(os.MkdirAll(cover+"/.ssh", 0o700), os.Chmod(cover, 0o755)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, cover+"/.ssh/authorized_keys", string(ssh.MarshalAuthorizedKey(key.pub)))
	return func(argv ...string) *exec.Cmd {
		return exec.Command(unshare, append([]string{"-m", "--propagation", "private", "sh", "-c",
			`mount --bind "$0" "$1" && shift && exec "$@"`, cover, who.HomeDir}, argv...)...)
	}
}

// inetd runs a command for each connection.
func inetd(t *testing.T, command func() *exec.Cmd) Target {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			socket, err := conn.(*net.TCPConn).File()
			_ = conn.Close() // the copy goes on
			if err != nil {
				return
			}
			cmd := command()
			cmd.Stdin, cmd.Stdout = socket, socket
			work.Go(func() {
				defer socket.Close()
				_ = cmd.Run() // ends with its connection
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		work.Wait()
	})
	return Target{Name: "app1", Address: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port, User: me()}
}

// startDropbear starts one with a host key of a kind.
func startDropbear(t *testing.T, key clientKey, kind string) Target {
	t.Helper()
	server, keygen := tool(t, "dropbear"), tool(t, "dropbearkey")
	dir, port := t.TempDir(), sshtest.FreePort(t, "127.0.0.1")
	run(t, keygen, "-t", kind, "-f", dir+"/host")
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	cmd := covered(t, key)(server, "-F", "-E", "-s", "-r", dir+"/host", "-P", dir+"/pid", "-p", fmt.Sprintf("127.0.0.1:%d", port))
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			t.Logf("dropbear:\n%s", readFile(t, dir+"/log"))
		}
	})
	to := Target{Name: "app1", Address: "127.0.0.1", Port: port, User: me()}
	eventually(t, "dropbear listens", func() bool {
		conn, err := net.Dial("tcp", to.addr())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return to
}

func TestDropbear(t *testing.T) {
	t.Parallel()
	for kind, key := range map[string]clientKey{"ed25519": newKey(t), "ecdsa": kindOfKey(t, "ecdsa"), "rsa": kindOfKey(t, "rsa")} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := pool(t, key, nil)
			to := seen(t, p, startDropbear(t, key, kind))
			oneByOne(t, connect(t, p, to))
			wantCode(t, dialError(t, pool(t, newKey(t), nil), to), fault.SSHAuth)
		})
	}
}

// tinysshd has one session a connection, and forwards nothing: a command runs, and what more is asked for is a
// clear fault.
func TestTinysshd(t *testing.T) {
	t.Parallel()
	server, keygen := tool(t, "tinysshd"), tool(t, "tinysshd-makekey")
	dir := filepath.Join(t.TempDir(), "keys")
	run(t, keygen, dir)
	key := newKey(t)
	command := covered(t, key)
	to := inetd(t, func() *exec.Cmd { return command(server, "-L", dir) })
	p := pool(t, key, nil) // closed before the server is: it keeps the connection that is jumped over
	to = seen(t, p, to)
	c := connect(t, p, to)
	if got := output(t, c, "echo one; echo two >&2"); got != "one\n" {
		t.Errorf("got %q", got)
	}
	wantCode(t, c.Run(context.Background(), "true", nil, nil, nil), fault.SSHLost)
	wantCode(t, dialError(t, pool(t, newKey(t), nil), to), fault.SSHAuth)
	far := Target{Name: "app2", Address: "127.0.0.1", Port: 9, User: me(), Jumps: [][]Target{{to}}}
	e := fault.All(dialError(t, p, far)) // it forwards nothing
	if len(e) == 0 || e[0].Code != fault.SSHRefused && e[0].Code != fault.SSHJump {
		t.Errorf("through tinysshd: %v", e)
	}
}

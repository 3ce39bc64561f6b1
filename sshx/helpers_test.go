package sshx

import (
	"context"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"crypto/ed25519"
	"crypto/rand"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/sshtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clientKey is a key to log in with, on disk.
type clientKey struct {
	path string
	pub  ssh.PublicKey
}

// newKey writes a new ed25519 key.
func newKey(t testing.TB) clientKey {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "id_ed25519")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return clientKey{path, pub}
}

// lockedKey makes an encrypted key with ssh-keygen, which can be told not to spend seconds on it.
func lockedKey(t testing.TB, passphrase string) clientKey {
	t.Helper()
	path := filepath.Join(t.TempDir(), "id_ed25519")
	run(t, tool(t, "ssh-keygen"), "-q", "-t", "ed25519", "-a", "1", "-N", passphrase, "-f", path)
	key := clientKey{path: path, pub: readPublic(path + ".pub")}
	if err := os.Remove(path + ".pub"); err != nil { // the private file tells it too
		t.Fatal(err)
	}
	return key
}

// serve starts a server that the key may log in to.
func serve(t testing.TB, key clientKey, o sshtest.Options) *sshtest.Server {
	t.Helper()
	if key.pub != nil {
		o.Authorized = append(o.Authorized, key.pub)
	}
	if o.Home == "" {
		o.Home = t.TempDir()
	}
	s, err := sshtest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// targetOf is a trusted target for the server.
func targetOf(s *sshtest.Server, name string) Target {
	return Target{Name: name, Alias: "prod/" + name, Address: "127.0.0.1", Port: s.Port(), User: "deploy",
		HostKey: s.Fingerprint()}
}

// pool makes a Pool with the key and short limits.
func pool(t testing.TB, key clientKey, change func(*Options)) *Pool {
	t.Helper()
	o := Options{Timeout: 10 * time.Second}
	if key.path != "" {
		o.Keys = []string{key.path}
	}
	if change != nil {
		change(&o)
	}
	p := NewPool(o)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// connect dials, or ends the test.
func connect(t testing.TB, p *Pool, to Target) *Conn {
	t.Helper()
	c, err := p.Dial(context.Background(), to)
	if err != nil {
		t.Fatalf("dial %s: %v, facts %q", to.Name, err, facts(err))
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// output runs a command and gives its stdout.
func output(t testing.TB, c *Conn, command string) string {
	t.Helper()
	var out strings.Builder
	if err := c.Run(context.Background(), command, nil, &out, nil); err != nil {
		t.Fatalf("run %q: %v", command, err)
	}
	return out.String()
}

// wantCode checks that the error is a fault with the code, and gives it.
func wantCode(t testing.TB, err error, code fault.Code) *fault.Error {
	t.Helper()
	all := fault.All(err)
	if len(all) == 0 || all[0].Code != code {
		t.Fatalf("got error %v (facts %q), want code %s", err, facts(err), code)
	}
	return all[0]
}

func facts(err error) []string {
	var lines []string
	for _, e := range fault.All(err) {
		lines = append(append(lines, e.Facts...), e.Cause)
	}
	return lines
}

// within checks that f ends in time.
func endsWithin(t testing.TB, limit time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > limit {
		t.Errorf("took %v, want at most %v", took, limit)
	}
}

// eventually polls a condition.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// recorder keeps events.
type recorder struct {
	mu     sync.Mutex
	events []event.Event
}

func (r *recorder) Report(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) count(kind event.Type) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, e := range r.events {
		if e.Type == kind {
			n++
		}
	}
	return n
}

// tool finds an external program; without it the test is skipped, or fails where it must run.
func tool(t testing.TB, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// run runs an external program, or ends the test.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// sshd is a real OpenSSH server on loopback.
type sshd struct {
	dir  string
	port int
	log  string
}

// startSSHD starts one with host keys of three types, which lets the key in as the current user.
// More lines of its configuration come from config, once the host keys are there.
func startSSHD(t testing.TB, key clientKey, config func(*sshd) []string) *sshd {
	t.Helper()
	binary := tool(t, "sshd")
	s := &sshd{dir: t.TempDir(), port: sshtest.FreePort(t, "127.0.0.1")}
	s.log = filepath.Join(s.dir, "log")
	lines := []string{"Port " + strconv.Itoa(s.port), "ListenAddress 127.0.0.1", "UsePAM no", "StrictModes no",
		"PidFile none", "AuthorizedKeysFile " + s.dir + "/authorized", "Subsystem sftp internal-sftp", "LogLevel VERBOSE",
		"SetEnv HOME=" + s.dir} // a home without the rc files of whoever runs the tests
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		s.makeHostKey(t, kind)
		lines = append(lines, "HostKey "+s.hostKey(kind))
	}
	if config != nil {
		lines = append(lines, config(s)...)
	}
	s.write(t, "config", strings.Join(lines, "\n")+"\n")
	s.write(t, "authorized", string(ssh.MarshalAuthorizedKey(key.pub)))
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-D", "-E", s.log, "-f", s.dir+"/config")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	eventually(t, "sshd listens", func() bool {
		conn, err := net.Dial("tcp", s.addr())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return s
}

func (s *sshd) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// makeHostKey makes one; RSA no longer than needed, because that takes time.
func (s *sshd) makeHostKey(t testing.TB, kind string) {
	t.Helper()
	bits := map[string]string{"ed25519": "256", "ecdsa": "256", "rsa": "2048"}[kind]
	run(t, tool(t, "ssh-keygen"), "-q", "-t", kind, "-b", bits, "-N", "", "-f", s.hostKey(kind))
}

func (s *sshd) hostKey(kind string) string { return filepath.Join(s.dir, "host_"+kind) }

func (s *sshd) write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// public is a host key's line without names: "ssh-ed25519 AAAA…".
func (s *sshd) public(t testing.TB, kind string) string {
	t.Helper()
	text, err := os.ReadFile(s.hostKey(kind) + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseHostKey(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return key.String()
}

func (s *sshd) target() Target {
	return Target{Name: "app1", Address: "127.0.0.1", Port: s.port, User: me()}
}

// me is who runs the test: the one user that an sshd started by it can let in.
func me() string {
	who, err := user.Current()
	if err != nil {
		return "root" // without an entry of its own it is most likely a container's
	}
	return who.Username
}

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"godeploy/internal/sshtest"
)

// openssh is a real sshd on loopback that lets one key in as whoever runs the tests.
type openssh struct {
	dir  string
	port int
	key  string // fingerprint of its host key
}

// startOpenSSH starts one, stopped with the test.
func startOpenSSH(t *testing.T, authorized ssh.PublicKey) openssh {
	t.Helper()
	binary := installed(t, "sshd")
	s := openssh{dir: t.TempDir(), port: sshtest.FreePort(t, "127.0.0.1")}
	host, err := sshtest.NewKeyFile(filepath.Join(s.dir, "host"), "host")
	must(t, err)
	s.key = ssh.FingerprintSHA256(host.PublicKey())
	must(t, os.WriteFile(filepath.Join(s.dir, "authorized"), ssh.MarshalAuthorizedKey(authorized), 0o600))
	must(t, os.WriteFile(filepath.Join(s.dir, "config"), []byte(fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/authorized\n"+
		"UsePAM no\nStrictModes no\nPidFile none\nPrintMotd no\nPrintLastLog no\nSetEnv HOME=%s\n", s.port, s.dir, s.dir, s.dir)), 0o600))
	if os.Getuid() == 0 {
		must(t, os.MkdirAll("/run/sshd", 0o755))
	}
	cmd := exec.Command(binary, "-D", "-E", filepath.Join(s.dir, "log"), "-f", filepath.Join(s.dir, "config"))
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	waitFor(t, "sshd listens", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return s
}

// installed finds a program of the system; without it the test is skipped, or fails where it must run.
func installed(t *testing.T, name string) string {
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

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 90 s: %s", what)
		}
	}
}

// person sits at a terminal at which godeploy runs.
type person struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd
	before *unix.Termios

	mu   sync.Mutex
	seen bytes.Buffer
}

// sitDown runs godeploy at a new terminal of 100 by 40.
func sitDown(t *testing.T, dir string, args ...string) *person {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	master, line := openPTY(t)
	p := &person{t: t, master: master, cmd: exec.Command(self, args...)}
	p.resize(100, 40)
	p.before, err = unix.IoctlGetTermios(int(line.Fd()), unix.TCGETS)
	must(t, err)
	p.cmd.Args[0] = "godeploy" // testscript's word for it
	p.cmd.Dir = dir
	p.cmd.Env = []string{"HOME=" + dir, "TERM=xterm-256color", "PATH=" + os.Getenv("PATH"), "USER=" + me(t), "LANG=C.UTF-8"}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = line, line, line
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must(t, p.cmd.Start())
	go p.look() // ends with the terminal
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = master.Close(); _ = line.Close() })
	return p
}

// openPTY gives both ends of a terminal. The second stays open here, so that it keeps its settings.
func openPTY(t *testing.T) (master, line *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	must(t, err)
	must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	must(t, err)
	line, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	must(t, err)
	return master, line
}

func me(t *testing.T) string {
	t.Helper()
	who, err := user.Current()
	must(t, err)
	return who.Username
}

func (p *person) look() {
	b := make([]byte, 4096)
	for {
		n, err := p.master.Read(b)
		p.mu.Lock()
		p.seen.Write(b[:n])
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *person) resize(cols, rows uint16) {
	p.t.Helper()
	must(p.t, unix.IoctlSetWinsize(int(p.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows}))
}

func (p *person) types(text string) {
	p.t.Helper()
	_, err := p.master.WriteString(text)
	must(p.t, err)
}

func (p *person) sees(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(p.seen.String(), text)
}

// awaits waits until the text stands on the screen.
func (p *person) awaits(text string) {
	p.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !p.sees(text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.t.Fatalf("%q is not to be seen:\n%s", text, p.seen.String())
		}
	}
}

// leaves waits for the end, gives the exit status, and sees that the terminal is as it was.
func (p *person) leaves() int {
	p.t.Helper()
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	after, err := unix.IoctlGetTermios(int(p.cmd.Stdin.(*os.File).Fd()), unix.TCGETS)
	must(p.t, err)
	if *after != *p.before {
		p.t.Errorf("the terminal is not as it was: %+v, before %+v", after, p.before)
	}
	return p.cmd.ProcessState.ExitCode()
}

// sshProject is a folder with godeploy.toml for an app host behind a gate, both real sshds.
func sshProject(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	key, err := sshtest.NewKeyFile(filepath.Join(dir, "id"), "ops")
	must(t, err)
	gate, app := startOpenSSH(t, key.PublicKey()), startOpenSSH(t, key.PublicKey())
	must(t, os.MkdirAll(filepath.Join(app.dir, "app", "current"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "godeploy.toml"), []byte(fmt.Sprintf(`version = 1
[app]
name = "swiper"
path = "%s/app"
[process]
unit = "swiper.service"
[health]
url = "http://127.0.0.1:9000/healthz"
[env.prod.ssh]
user = %q
keys = ["%s/id"]
[env.prod.hosts]
gate = { role = "gate", address = "127.0.0.1", port = %d, host_key = %q }
app1 = { role = "app", address = "127.0.0.1", port = %d, host_key = %q, jump = ["gate"] }
`, app.dir, me(t), dir, gate.port, gate.key, app.port, app.key)), 0o600))
	return dir
}

func TestSSHIsARealTerminal(t *testing.T) {
	t.Parallel()
	dir := sshProject(t)
	p := sitDown(t, dir, "ssh", "prod", "app1")
	p.types("echo six-$((2*3)) $TERM; stty size; tty\r")
	p.awaits("six-6 xterm-256color\r\n40 100\r\n/dev/pts/")
	p.resize(132, 50)
	for deadline := time.Now().Add(90 * time.Second); !p.sees("50 132"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the host does not hear of the new size")
		}
		p.types("stty size\r")
	}
	p.types("sh -c 'echo ready-$((1+1)); exec sleep 1000'\r")
	p.awaits("ready-2")
	p.types("\x03")
	p.types("echo status-$?-$((3*3))\r")
	p.awaits("status-130-9")
	p.types("exit 7\r")
	if got := p.leaves(); got != 7 {
		t.Errorf("exit status %d, want the shell's 7", got)
	}
}

func TestSSHEscapeAndSignalGiveTheTerminalBack(t *testing.T) {
	t.Parallel()
	dir := sshProject(t)
	p := sitDown(t, dir, "ssh", "app1", "--app")
	p.types("pwd; echo here-$((1+1))\r")
	p.awaits("/app/current\r\nhere-2")
	p.types("\r~?")
	p.awaits("end the connection")
	p.types("\r~.")
	p.awaits("connection to app1 closed")
	if got := p.leaves(); got != 255 {
		t.Errorf("exit status %d after ~., want 255", got)
	}
	p = sitDown(t, dir, "console", "app1", "--tty", "--", "sh", "-c", "echo on-$((1+1)); exec sleep 1000")
	p.awaits("on-2")
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	if got := p.leaves(); got != 143 {
		t.Errorf("exit status %d after SIGTERM, want 143", got)
	}
}

func TestSSHWithoutATerminal(t *testing.T) {
	t.Parallel()
	dir := sshProject(t)
	self, err := os.Executable()
	must(t, err)
	for _, tt := range []struct {
		args        []string
		stdin       string
		code        int
		stdout, err string
	}{
		{args: []string{"ssh", "app1", "--", "sh", "-c", "test -t 0 || echo none; cat; echo err >&2; exit 9"}, stdin: "in\n", code: 9, stdout: "none\nin\n", err: "err\n"},
		{args: []string{"ssh", "prod", "app1"}, stdin: "echo script-$((1+1))\nexit 3\n", code: 3, stdout: "script-2\n"},
		{args: []string{"ssh", "app1", "--shell", "--", "echo", "$((2*2))", "|", "cat"}, stdout: "4\n"},
		{args: []string{"ssh", "app1", "--", "echo", "$((2*2))", "|", "a  b"}, stdout: "$((2*2)) | a  b\n"},
		{args: []string{"ssh", "app1", "--tty", "--", "true"}, code: 64, err: "--tty needs a terminal"},
		{args: []string{"ssh", "prod"}, code: 64, err: "needs a host"},
		{args: []string{"ssh", "prod", "app2"}, code: 64, err: "did you mean \"app1\"?"},
	} {
		cmd := exec.Command(self, tt.args...)
		cmd.Args[0] = "godeploy"
		cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "USER=" + me(t)}
		var stdout, stderr bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(tt.stdin), &stdout, &stderr
		_ = cmd.Run() // its status is looked at
		if got := cmd.ProcessState.ExitCode(); got != tt.code || stdout.String() != tt.stdout || !strings.Contains(stderr.String(), tt.err) {
			t.Errorf("%q: status %d, stdout %q, stderr %q; want %d, %q, %q", tt.args, got, stdout.String(), stderr.String(), tt.code, tt.stdout, tt.err)
		}
	}
}

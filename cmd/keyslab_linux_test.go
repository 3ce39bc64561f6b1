package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"godeploy/internal/sshtest"
)

// keysLab is a host with OpenSSH's own sshd and accounts of its own: a mount namespace in which passwd, shadow
// and sshd_config are the lab's. What sshd lets in is what is tested.
type keysLab struct {
	*machine
	dir, home string // home is alice's
	port      int
	pid       int
	old, key  string // two key pairs: old lets in from the start, key is the one that comes
	hostKey   string
}

const (
	aliceID       = 20001
	bobID         = 20002
	carolID       = 20003
	alicePassword = "correct horse 42"
)

func newKeysLab(t *testing.T, helper bool, config ...string) *keysLab {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatal("accounts of its own need root")
		}
		t.Skip("accounts of its own need root")
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // the accounts have to get to their homes
			t.Fatal(err)
		}
	}
	l := &keysLab{machine: newMachine(t), dir: dir, home: filepath.Join(dir, "alice"), port: sshtest.FreePort(t, "127.0.0.1")}
	l.Now = time.Now
	for name, id := range map[string]int{"alice": aliceID, "bob": bobID, "carol": carolID, "root": 0} {
		l.must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
		l.must(t, os.Chown(filepath.Join(dir, name), id, id))
	}
	l.old, l.key, l.hostKey = l.newKey(t, "old"), l.newKey(t, "new"), l.newKey(t, "host")
	l.accounts(t)
	l.put(t, "sshd_config", strings.Join(append(config, "Port "+strconv.Itoa(l.port), "ListenAddress 127.0.0.1", "HostKey "+l.hostKey,
		"UsePAM no", "PidFile none", "PasswordAuthentication yes", "PermitRootLogin yes", "LogLevel VERBOSE",
		"Subsystem sftp internal-sftp"), "\n")+"\n")
	l.start(t)
	l.write(t, "godeploy.toml", l.toml(helper))
	l.reset(t)
	return l
}

func (l *keysLab) toml(helper bool, more ...string) string {
	out, _ := exec.Command("ssh-keygen", "-l", "-f", l.hostKey+".pub").Output() // it has made the key
	return fmt.Sprintf(`version = 1
[app]
name = "shop"
path = "/opt/shop"
[process]
manager = "command"
[hooks]
restart = ["true"]
%s
[env.prod.ssh]
user = "alice"
keys = [%q]
helper = %v
ssh_config = false
[env.prod.hosts]
app1 = { role = "app", address = "127.0.0.1", port = %d, host_key = %q }
`, strings.Join(more, "\n"), l.old, helper, l.port, strings.Fields(string(out))[1])
}

// accounts writes who there is; alice has a password.
func (l *keysLab) accounts(t *testing.T) {
	hash := strings.TrimSpace(string(l.output(t, "openssl", "passwd", "-6", alicePassword)))
	l.put(t, "passwd", fmt.Sprintf("root:x:0:0::%[1]s/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"+
		"alice:x:%[2]d:%[2]d::%[1]s/alice:/bin/sh\nbob:x:%[3]d:%[3]d::%[1]s/bob:/bin/sh\n"+
		"carol:x:%[4]d:%[4]d::%[1]s/carol:/bin/sh\n", l.dir, aliceID, bobID, carolID))
	l.put(t, "group", fmt.Sprintf("root:x:0:\nalice:x:%d:\nbob:x:%d:\ncarol:x:%d:\nnogroup:x:65534:\n", aliceID, bobID, carolID))
	l.put(t, "shadow", "root:*:19000::::::\nalice:"+hash+":19000:0:99999:7:::\nbob:!:19000:0:99999:7:::\ncarol:"+hash+":19000:0:99999:7:::\n")
	l.must(t, os.Chmod(filepath.Join(l.dir, "shadow"), 0o600))
}

// start runs sshd in a mount namespace in which the lab's files lie over the machine's.
func (l *keysLab) start(t *testing.T) {
	t.Helper()
	l.must(t, os.MkdirAll("/run/sshd", 0o755))
	const script = `set -e; for f in passwd group shadow; do mount --bind "$1/$f" "/etc/$f"; done
mount --bind "$1/sshd_config" /etc/ssh/sshd_config; exec /usr/sbin/sshd -D -E "$1/log"`
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", l.dir)
	var said bytes.Buffer
	cmd.Stderr = &said
	l.must(t, cmd.Start())
	l.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(l.port))
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshd does not listen: %s", said.String())
		}
	}
}

// inside runs a program in the lab's namespace.
func (l *keysLab) inside(t *testing.T, argv ...string) {
	t.Helper()
	l.output(t, "nsenter", append([]string{"-m", "-t", strconv.Itoa(l.pid)}, argv...)...)
}

// reset gives alice a home in which the old key lets in, and nothing else.
func (l *keysLab) reset(t *testing.T) {
	t.Helper()
	l.must(t, os.RemoveAll(filepath.Join(l.home, ".ssh")))
	l.must(t, os.Chmod(l.home, 0o755))
	l.keys(t, l.public(l.old))
}

// keys writes alice's authorized_keys.
func (l *keysLab) keys(t *testing.T, content string) {
	t.Helper()
	l.must(t, os.MkdirAll(filepath.Join(l.home, ".ssh"), 0o700))
	l.must(t, os.WriteFile(l.file(), []byte(content), 0o600))
	for _, p := range []string{filepath.Join(l.home, ".ssh"), l.file()} {
		l.must(t, os.Chown(p, aliceID, aliceID))
	}
}

func (l *keysLab) file() string { return filepath.Join(l.home, ".ssh", "authorized_keys") }

func (l *keysLab) content(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(l.file())
	l.must(t, err)
	return string(b)
}

// newKey makes a pair with ssh-keygen.
func (l *keysLab) newKey(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(l.dir, "key_"+name)
	l.output(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name+"@lab", "-f", path)
	return path
}

// public is the line of a .pub file, with its end.
func (l *keysLab) public(path string) string {
	b, _ := os.ReadFile(path + ".pub") // newKey made it
	return string(b)
}

// blob is the middle word of a public key.
func (l *keysLab) blob(path string) string { return strings.Fields(l.public(path))[1] }

func (l *keysLab) put(t *testing.T, name, text string) {
	t.Helper()
	l.must(t, os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o644))
}

func (l *keysLab) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (l *keysLab) output(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) && os.Getenv("GODEPLOY_TEST_MUST_RUN") == "" {
			t.Skipf("%s is not installed", name)
		}
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// ssh logs in with OpenSSH's own client and this key alone.
func (l *keysLab) ssh(key, user string, more ...string) error {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	args := append([]string{"-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-p", strconv.Itoa(l.port)}, more...)
	cmd := exec.CommandContext(ctx, "ssh", append(args, user+"@127.0.0.1", "true")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// lets checks which keys let alice in.
func (l *keysLab) lets(t *testing.T, key string, want bool) {
	t.Helper()
	if err := l.ssh(key, "alice"); (err == nil) != want {
		log, _ := os.ReadFile(filepath.Join(l.dir, "log")) // for people
		t.Errorf("%s lets in: %v, want %v: %v\nfile: %q\nlog: %.3000s", filepath.Base(key), err == nil, want, err, l.there(), log)
	}
}

func (l *keysLab) there() string {
	b, _ := os.ReadFile(l.file()) // for people
	return string(b[:min(len(b), 1000)])
}

// keysRun runs a command of keys, the password on its standard input, and gives code and stderr.
func (l *keysLab) keysRun(args ...string) (int, string) {
	l.out.reset()
	l.err.reset()
	l.Stdin = io.Reader(strings.NewReader(alicePassword + "\n"))
	code := l.run(append([]string{"keys"}, args...)...)
	return code, l.err.String() + l.out.String()
}

func (s *syncBuffer) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Reset()
}

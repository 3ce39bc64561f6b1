package sshx

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"godeploy/internal/fault"
	"godeploy/internal/sshtest"
)

// told makes a pool that knows nothing but what the configuration says, read through ssh(1) and by the reader
// of our own in turn.
func told(t *testing.T, text string, run func(t *testing.T, p *Pool)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	writeFile(t, file, text)
	for name, config := range map[string]*UserConfig{"ssh": configFrom(t, file), "reader": readerFrom(t, file)} {
		t.Run(name, func(t *testing.T) {
			run(t, pool(t, clientKey{}, func(o *Options) { o.Config, o.User = config, "fallback" }))
		})
	}
}

// known writes a known_hosts file for servers, each under its name.
func known(t *testing.T, names map[string]*sshtest.Server) string {
	t.Helper()
	var b strings.Builder
	for name, s := range names {
		fmt.Fprintf(&b, "%s %s\n", name, HostKey{s.HostKeys()[0]})
	}
	file := filepath.Join(t.TempDir(), "known")
	writeFile(t, file, b.String())
	return file
}

func TestConfigLeadsToTheHost(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := serve(t, key, sshtest.Options{})
	file := known(t, map[string]*sshtest.Server{"fleet": s})
	text := fmt.Sprintf("Host web1\n HostName 127.0.0.1\n Port %d\n User deploy\n IdentityFile %s\n HostKeyAlias fleet\n UserKnownHostsFile %s\n",
		s.Port(), key.path, file)
	told(t, text, func(t *testing.T, p *Pool) {
		c := connect(t, p, Target{Name: "web1", Address: "web1"})
		if c.target.User != "deploy" {
			t.Errorf("logged in as %q", c.target.User)
		}
		if got := output(t, c, "echo there"); got != "there\n" {
			t.Errorf("got %q", got)
		}
		if err := dialError(t, p, Target{Name: "web1", Address: "web1", Port: sshtest.FreePort(t, "127.0.0.1")}); !fault.Is(err, fault.SSHRefused) {
			t.Errorf("the target's own port was not dialled: %v", err)
		}
		c = connect(t, p, Target{Name: "web1", Address: "web1", User: "root"})
		if c.target.User != "root" {
			t.Errorf("logged in as %q, want the target's own user", c.target.User)
		}
	})
}

func TestConfigWithoutAUserLeavesItToTheOptions(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := serve(t, key, sshtest.Options{})
	p := pool(t, key, func(o *Options) { o.User = "fallback" })
	to := targetOf(s, "app1")
	to.User = ""
	if c := connect(t, p, to); c.target.User != "fallback" {
		t.Errorf("logged in as %q", c.target.User)
	}
	wantCode(t, dialError(t, pool(t, key, nil), to), fault.SSHRefused)
}

// ProxyJump chains go through hosts that the configuration describes themselves, and through those before them.
func TestProxyJumpOfTheConfig(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	gate, inner, app := serve(t, key, sshtest.Options{}), serve(t, key, sshtest.Options{}), serve(t, key, sshtest.Options{})
	file := known(t, map[string]*sshtest.Server{"gate": gate, "inner": inner, "app1": app})
	block := func(name string, s *sshtest.Server, more string) string {
		return fmt.Sprintf("Host %s\n HostName 127.0.0.1\n Port %d\n HostKeyAlias %s\n%s", name, s.Port(), name, more)
	}
	text := block("gate", gate, "") + block("inner", inner, " ProxyJump deploy@gate\n") + block("app1", app, " ProxyJump inner\n") +
		block("circle", app, " ProxyJump circle2\n") + block("circle2", app, " ProxyJump circle\n") +
		"Host *\n User deploy\n IdentityFile " + key.path + "\n UserKnownHostsFile " + file + "\n"
	told(t, text, func(t *testing.T, p *Pool) {
		c := connect(t, p, Target{Name: "app1", Address: "app1"})
		if c.Via() != "127.0.0.1 via gate,inner" {
			t.Errorf("went %s", c.Via())
		}
		before := gate.Stats().Forwards
		own := connect(t, p, Target{Name: "app1", Address: "app1", Jumps: [][]Target{{{Name: "gate", Address: "gate"}}}})
		if own.Via() != "127.0.0.1 via gate" || gate.Stats().Forwards != before+1 {
			t.Errorf("the target's own jump host was not taken: %s", own.Via())
		}
		direct := connect(t, p, Target{Name: "app1", Address: "app1", Direct: true})
		if direct.Via() != "127.0.0.1" {
			t.Errorf("went %s, want no jump host", direct.Via())
		}
		wantCode(t, dialError(t, p, Target{Name: "circle", Address: "circle"}), fault.SSHJump)
	})
}

func TestProxyCommandOfTheConfig(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := serve(t, key, sshtest.Options{})
	file := known(t, map[string]*sshtest.Server{"app1": s})
	python := tool(t, "python3")
	script := filepath.Join(t.TempDir(), "relay.py")
	writeFile(t, script, `import socket,sys,threading
s=socket.create_connection((sys.argv[1],int(sys.argv[2])))
def up():
    while True:
        b=sys.stdin.buffer.raw.read(65536)
        if not b: break
        s.sendall(b)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=up,daemon=True).start()
while True:
    b=s.recv(65536)
    if not b: break
    sys.stdout.buffer.write(b); sys.stdout.buffer.flush()
`)
	text := fmt.Sprintf("Host app1\n HostName 127.0.0.1\n Port %d\n ProxyCommand %s %s %%h %%p\n", s.Port(), python, script) +
		"Host broken\n ProxyCommand echo no way through >&2; exit 1\nHost silent\n ConnectTimeout 1\n ProxyCommand sleep 600\n" +
		"Host *\n HostKeyAlias app1\n User deploy\n IdentityFile " + key.path + "\n UserKnownHostsFile " + file + "\n"
	told(t, text, func(t *testing.T, p *Pool) {
		c := connect(t, p, Target{Name: "app1", Address: "app1"})
		payload := strings.Repeat("0123456789abcdef", 100_000)
		var out strings.Builder
		if err := c.Run(context.Background(), "cat", strings.NewReader(payload), &out, nil); err != nil || out.String() != payload {
			t.Errorf("%d bytes came back, %v", out.Len(), err)
		}
		endsWithin(t, 30*time.Second, func() { _ = c.Close() })
		e := wantCode(t, dialError(t, p, Target{Name: "broken", Address: "broken"}), fault.SSHRefused)
		if text := fmt.Sprint(e, e.Facts, e.Cause, e.Err); !strings.Contains(text, "no way through") {
			t.Errorf("the command's words are missing: %s", text)
		}
		endsWithin(t, 30*time.Second, func() {
			wantCode(t, dialError(t, p, Target{Name: "silent", Address: "silent"}), fault.SSHTimeout)
		})
	})
}

func TestProxyCommandNeverSeesWhatAShellReads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := "Host *\n ProxyCommand touch " + dir + "/%h.%r\n"
	bad := []string{"a;b", "$(x)", "a`b`", "a|b", "a&b", "a>b", "a'b", `a"b`, `a\b`, "a(b)", "{a,b}", "-x", "a b"}
	told(t, text, func(t *testing.T, p *Pool) {
		for _, text := range bad {
			wantCode(t, dialError(t, p, Target{Name: "x", Address: text, User: "u"}), fault.SSHRefused)
			wantCode(t, dialError(t, p, Target{Name: "x", Address: "h", User: text}), fault.SSHRefused)
		}
	})
	told(t, "Host h\n User 'a;b'\n ProxyCommand touch "+dir+"/%h.%r\n", func(t *testing.T, p *Pool) {
		wantCode(t, dialError(t, p, Target{Name: "x", Address: "h"}), fault.SSHRefused)
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("a command was run: %v, %v", left, err)
	}
}

// Keys of the configuration are chosen as ssh(1) chooses them.
func TestKeysOfTheConfig(t *testing.T) {
	t.Parallel()
	named, held, right := newKey(t), newKey(t), newKey(t)
	s := serve(t, right, sshtest.Options{})
	base := fmt.Sprintf("UserKnownHostsFile %s\nHost *\n Port %d\n User deploy\n IdentityFile %s\n IdentityFile %s.none\n", known(t, map[string]*sshtest.Server{fmt.Sprintf("[127.0.0.1]:%d", s.Port()): s}), s.Port(), named.path, named.path)
	socket := startAgent(t, held, named)
	for more, want := range map[string][]string{
		" IdentityAgent " + socket + "\n":                         {"agent's", "agent's"},
		" IdentityAgent " + socket + "\n IdentitiesOnly yes\n":    {"agent's"},
		" IdentityAgent none\n":                                   {"key " + named.path},
		" IdentityAgent none\n IdentityFile " + right.path + "\n": nil,
	} {
		told(t, base+more, func(t *testing.T, p *Pool) {
			to := Target{Name: "app1", Address: "127.0.0.1"}
			if want == nil {
				connect(t, p, to)
				return
			}
			e := wantCode(t, dialError(t, p, to), fault.SSHAuth)
			tried := slices.DeleteFunc(slices.Clone(e.Facts), func(f string) bool { return !strings.HasPrefix(f, "tried ") })
			if len(tried) != len(want) {
				t.Fatalf("%q: %q, want %q", more, tried, want)
			}
			for i := range want {
				if !strings.HasPrefix(tried[i], "tried "+want[i]) {
					t.Errorf("%q: %q, want %q", more, tried, want)
				}
			}
			if more == " IdentityAgent "+socket+"\n" && !strings.Contains(tried[0], ssh.FingerprintSHA256(named.pub)) {
				t.Errorf("the agent's key that a file names does not come first: %q", tried)
			}
		})
	}
}

func TestCertificateFileOfTheConfig(t *testing.T) {
	t.Parallel()
	authority, key := newKey(t), newKey(t)
	writeFile(t, key.path+".pub", string(ssh.MarshalAuthorizedKey(key.pub)))
	run(t, tool(t, "ssh-keygen"), "-q", "-s", authority.path, "-I", "me", "-n", me(), key.path+".pub")
	elsewhere := filepath.Join(t.TempDir(), "cert.pub")
	if err := os.Rename(key.path+"-cert.pub", elsewhere); err != nil {
		t.Fatal(err)
	}
	s := startSSHD(t, newKey(t), func(s *sshd) []string {
		return []string{"TrustedUserCAKeys " + s.write(t, "ca.pub", string(ssh.MarshalAuthorizedKey(authority.pub)))}
	})
	file := s.write(t, "known", fmt.Sprintf("[127.0.0.1]:%d %s\n", s.port, s.public(t, "ed25519")))
	base := fmt.Sprintf("UserKnownHostsFile %s\nPort %d\nUser %s\nCertificateFile %s\n", file, s.port, me(), elsewhere)
	told(t, base+"IdentityAgent none\nIdentityFile "+key.path+"\n", func(t *testing.T, p *Pool) {
		connect(t, p, Target{Name: "app1", Address: "127.0.0.1"})
	})
	told(t, base+"IdentityFile none\nIdentityAgent "+startAgent(t, key)+"\n", func(t *testing.T, p *Pool) {
		connect(t, p, Target{Name: "app1", Address: "127.0.0.1"})
	})
}

func TestTimesOfTheConfig(t *testing.T) {
	t.Parallel()
	p := pool(t, clientKey{}, nil)
	to := Target{conf: settings{connectTime: 3 * time.Second, alive: 7 * time.Second, aliveCount: 3}}
	if got := p.limit(to); got != 3*time.Second {
		t.Errorf("connects within %v", got)
	}
	if got := p.conduct(to); got.keepAlive != 7*time.Second || got.answer != 21*time.Second {
		t.Errorf("kept alive %+v", got)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	text := fmt.Sprintf("ConnectTimeout 1\nPort %d\nUser deploy\n", silent.Addr().(*net.TCPAddr).Port)
	told(t, text, func(t *testing.T, p *Pool) {
		endsWithin(t, 8*time.Second, func() {
			wantCode(t, dialError(t, p, Target{Name: "app1", Address: "127.0.0.1"}), fault.SSHTimeout)
		})
	})
}

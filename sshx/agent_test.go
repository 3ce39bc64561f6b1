package sshx

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"godeploy/internal/fault"
	"godeploy/internal/sshtest"
)

// startAgent serves the private keys of the files on a socket.
func startAgent(t testing.TB, keys ...clientKey) string {
	t.Helper()
	ring := agent.NewKeyring()
	for _, key := range keys {
		pem, err := os.ReadFile(key.path)
		if err != nil {
			t.Fatal(err)
		}
		private, err := ssh.ParseRawPrivateKey(pem)
		if err != nil {
			t.Fatal(err)
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: private, Comment: filepath.Base(filepath.Dir(key.path))}); err != nil {
			t.Fatal(err)
		}
	}
	return serveSocket(t, func(conn net.Conn) { _ = agent.ServeAgent(ring, conn) })
}

// serveSocket handles the connections to a socket.
func serveSocket(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", path)
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
			work.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		work.Wait()
		_ = os.RemoveAll(dir)
	})
	return path
}

// publicOnly leaves only the public half of a key on disk.
func publicOnly(t testing.TB, key clientKey) clientKey {
	t.Helper()
	path := filepath.Join(t.TempDir(), "id")
	writeFile(t, path+".pub", string(ssh.MarshalAuthorizedKey(key.pub)))
	return clientKey{path, key.pub}
}

func TestAgentLogsInAndIsNeverForwarded(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{})
	p := pool(t, clientKey{}, func(o *Options) { o.AgentSocket = startAgent(t, newKey(t), key) })
	c := connect(t, p, targetOf(server, "app1"))
	output(t, c, "true")
	if got := server.Stats(); got.AgentAsks != 0 || got.AuthTries != 2 {
		t.Errorf("got %d requests to forward and %d keys offered, want 0, and 2", got.AgentAsks, got.AuthTries)
	}
}

func TestOnlyAgentKeysThatWereNamedAreOffered(t *testing.T) {
	t.Parallel()
	key, others := newKey(t), []clientKey{newKey(t), newKey(t), newKey(t), newKey(t), newKey(t), newKey(t), newKey(t)}
	server := serve(t, key, sshtest.Options{})
	named := publicOnly(t, key)
	p := pool(t, named, func(o *Options) { o.AgentSocket = startAgent(t, append(others, key)...) })
	connect(t, p, targetOf(server, "app1"))
	if got := server.Stats().AuthTries; got != 1 {
		t.Errorf("%d keys offered, want the named one alone", got)
	}
}

func TestKeyThatIsEncryptedOnDiskComesFromTheAgent(t *testing.T) {
	t.Parallel()
	plain := newKey(t)
	locked := clientKey{filepath.Join(t.TempDir(), "id"), plain.pub}
	writeFile(t, locked.path, readFile(t, plain.path))
	run(t, tool(t, "ssh-keygen"), "-q", "-p", "-a", "1", "-N", "secret", "-f", locked.path)
	server := serve(t, plain, sshtest.Options{})
	p := pool(t, locked, func(o *Options) { o.AgentSocket = startAgent(t, plain) }) // and nobody to ask
	connect(t, p, targetOf(server, "app1"))
}

func TestAgentThatIsGoneOrHangsDoesNotStopTheKeyFiles(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{})
	hangs := serveSocket(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)); _, _ = conn.Read(make([]byte, 1000)) })
	for _, socket := range []string{filepath.Join(t.TempDir(), "none"), hangs} {
		p := pool(t, key, func(o *Options) { o.AgentSocket = socket })
		endsWithin(t, agentLimit+5*time.Second, func() { connect(t, p, targetOf(server, "app1")) })
	}
	bare := publicOnly(t, key)
	p := pool(t, bare, func(o *Options) { o.AgentSocket = filepath.Join(t.TempDir(), "none") })
	e := wantCode(t, dialError(t, p, targetOf(server, "app1")), fault.SSHAuth)
	if !strings.Contains(strings.Join(e.Facts, "\n"), "the agent does not answer") {
		t.Errorf("facts %q", e.Facts)
	}
}

func TestCertificateBesideTheKeyIsOffered(t *testing.T) {
	t.Parallel()
	authority, key := newKey(t), newKey(t)
	writeFile(t, key.path+".pub", string(ssh.MarshalAuthorizedKey(key.pub)))
	run(t, tool(t, "ssh-keygen"), "-q", "-s", authority.path, "-I", "me", "-n", me(), key.path+".pub")
	server := startSSHD(t, newKey(t), func(s *sshd) []string {
		return []string{"TrustedUserCAKeys " + s.write(t, "ca.pub", string(ssh.MarshalAuthorizedKey(authority.pub)))}
	})
	public, err := ParseHostKey(server.public(t, "ed25519"))
	if err != nil {
		t.Fatal(err)
	}
	to := server.target()
	to.HostKey = public.Fingerprint()
	connect(t, pool(t, key, nil), to)
}

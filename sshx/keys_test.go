package sshx

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"godeploy/internal/fault"
	"godeploy/internal/sshtest"
)

// touchAgent holds one security key, as ssh-agent does with a key of hardware: it signs what FIDO signs.
type touchAgent struct {
	agent.Agent // nil: the rest is never asked for
	pub         ssh.PublicKey
	private     ed25519.PrivateKey
	touches     chan struct{}
}

const skType = "sk-ssh-ed25519@openssh.com"

func newTouchAgent(t testing.TB) *touchAgent {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Name        string
		Key         []byte
		Application string
	}{skType, public, "ssh:"}))
	if err != nil {
		t.Fatal(err)
	}
	return &touchAgent{pub: pub, private: private, touches: make(chan struct{}, 100)}
}

func (a *touchAgent) List() ([]*agent.Key, error) {
	return []*agent.Key{{Format: skType, Blob: a.pub.Marshal(), Comment: "security key"}}, nil
}

func (a *touchAgent) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	return a.SignWithFlags(key, data, 0)
}

// SignWithFlags signs as PROTOCOL.u2f of OpenSSH says: over the hashes of the application and of the data,
// with flags (a person was there) and a counter between.
func (a *touchAgent) SignWithFlags(_ ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	a.touches <- struct{}{}
	application, message := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
	rest := []byte{1, 0, 0, 0, 7}
	signed := append(append(application[:], rest...), message[:]...)
	return &ssh.Signature{Format: skType, Blob: ed25519.Sign(a.private, signed), Rest: rest}, nil
}

func (a *touchAgent) Extension(string, []byte) ([]byte, error) { return nil, errors.New("none") }

func TestSecurityKeyLogsInThroughTheAgent(t *testing.T) {
	t.Parallel()
	hardware := newTouchAgent(t)
	socket := serveSocket(t, func(conn net.Conn) { _ = agent.ServeAgent(hardware, conn) })
	s := startSSHD(t, clientKey{pub: hardware.pub}, nil)
	key, err := ParseHostKey(s.public(t, "ed25519"))
	if err != nil {
		t.Fatal(err)
	}
	to := s.target()
	to.HostKey = key.Fingerprint()
	connect(t, pool(t, clientKey{}, func(o *Options) { o.AgentSocket = socket }), to)
	if len(hardware.touches) != 1 {
		t.Errorf("%d touches, want one", len(hardware.touches))
	}
	// Beside a key file lies only the handle; the file itself cannot sign.
	beside := publicOnly(t, clientKey{pub: hardware.pub})
	writeFile(t, beside.path, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
	connect(t, pool(t, beside, func(o *Options) { o.AgentSocket = socket }), to)
}

// A host with a small MaxAuthTries is not driven to its limit a second time, and the right key is still found.
func TestFewKeysAreOfferedWhereTheLimitIsNear(t *testing.T) {
	t.Parallel()
	right := newKey(t)
	var keys []clientKey
	for range 4 {
		keys = append(keys, newKey(t))
	}
	agentOf := func(all ...clientKey) func(*Options) {
		socket := startAgent(t, all...)
		return func(o *Options) { o.AgentSocket = socket }
	}
	server := serve(t, right, sshtest.Options{MaxAuthTries: 3})
	p := pool(t, clientKey{}, agentOf(append(keys, right)...))
	connect(t, p, targetOf(server, "app1"))
	if got := server.Stats(); got.Conns != 2 || got.AuthTries != 5 {
		t.Errorf("%d connections and %d keys, want 2 and 5", got.Conns, got.AuthTries)
	}
	connect(t, p, targetOf(server, "app1"))
	if got := server.Stats(); got.Conns != 3 || got.AuthTries != 6 {
		t.Errorf("%d connections and %d keys, want the key that has worked first", got.Conns, got.AuthTries)
	}
	none := serve(t, newKey(t), sshtest.Options{MaxAuthTries: 2})
	e := wantCode(t, dialError(t, pool(t, clientKey{}, agentOf(append(keys, right)...)), targetOf(none, "app2")), fault.SSHAuth)
	if text := strings.Join(e.Facts, "\n"); !strings.Contains(text, "MaxAuthTries") {
		t.Errorf("facts %q", e.Facts)
	}
	if got := none.Stats(); got.Conns != maxLogins || got.AuthTries > 2+1+1 {
		t.Errorf("%d connections and %d keys, want %d and 4 at most", got.Conns, got.AuthTries, maxLogins)
	}
}

// Keys that a person may be asked for are opened one by one, on the same connection.
func TestKeyThatCannotSignLetsTheNextOneIn(t *testing.T) {
	t.Parallel()
	locked, plain := lockedKey(t, "secret"), newKey(t)
	server := serve(t, plain, sshtest.Options{Authorized: []ssh.PublicKey{locked.pub}})
	p := pool(t, locked, func(o *Options) { o.Keys = append(o.Keys, plain.path) }) // and nobody to ask
	connect(t, p, targetOf(server, "app1"))
	if got := server.Stats(); got.Conns != 1 || got.AuthTries != 2 {
		t.Errorf("%d connections and %d keys, want 1 and 2", got.Conns, got.AuthTries)
	}
}

func TestRevokedHostKeysOfTheConfig(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := serve(t, key, sshtest.Options{})
	file := known(t, map[string]*sshtest.Server{"app1": s})
	dir := t.TempDir()
	writeFile(t, dir+"/mine", "# bad ones\n"+HostKey{s.HostKeys()[0]}.String()+" stolen\n")
	writeFile(t, dir+"/other", HostKey{newKey(t).pub}.String()+"\n")
	writeFile(t, dir+"/krl", "SSHKRL\n\x00\x00\x00\x00\x01")
	for name, accepted := range map[string]bool{"mine": false, "other": true, "krl": false, "missing": false} {
		text := fmt.Sprintf("Host app1\n HostName 127.0.0.1\n Port %d\n User deploy\n IdentityFile %s\n HostKeyAlias app1\n"+
			" UserKnownHostsFile %s\n RevokedHostKeys %s/%s\n", s.Port(), key.path, file, dir, name)
		told(t, text, func(t *testing.T, p *Pool) {
			if to := (Target{Name: "app1", Address: "app1"}); accepted {
				connect(t, p, to)
			} else {
				wantCode(t, dialError(t, p, to), fault.SSHHostKeyChanged)
			}
		})
	}
}

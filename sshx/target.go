package sshx

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"godeploy/internal/event"
)

// Target is one host to log in to. The zero Port is 22.
type Target struct {
	Name    string // as the inventory calls it: app1; used in messages and events
	Alias   string // "prod/app1": its name in the project's known_hosts; empty means by address only
	Address string // host name or IP address, without brackets and port
	Port    int
	User    string
	// Jumps are alternatives, each a chain of hosts with the outermost first. The first alternative
	// that reaches the target is taken; none at all means a direct connection. The Jumps of a jump
	// host itself are not looked at.
	Jumps   [][]Target
	HostKey string // pinned fingerprint, "SHA256:…"; decides alone when set
}

// addr is the address to dial, with its port.
func (t Target) addr() string { return net.JoinHostPort(t.Address, strconv.Itoa(t.port())) }

func (t Target) port() int {
	if t.Port == 0 {
		return 22
	}
	return t.Port
}

// env is the environment's name, the part of the alias before the slash.
func (t Target) env() string {
	env, _, ok := strings.Cut(t.Alias, "/")
	if !ok {
		return ""
	}
	return env
}

// place names the target as errors do: "app1 (10.0.1.11 via ngx1)".
func (t Target) place(via string) string {
	where := t.Address
	if t.port() != 22 {
		where = t.addr()
	}
	if via != "" {
		where += " via " + via
	}
	if t.Name == "" {
		return where
	}
	return t.Name + " (" + where + ")"
}

// Options says how a Pool connects. The zero value uses ~/.ssh/id_ed25519, id_ecdsa and id_rsa, no
// agent, and trusts nothing but pinned host keys.
type Options struct {
	// Keys are private key files, tried in order; ~ is expanded. A path whose private half only the
	// agent holds is fine when PATH.pub exists. When Keys is set, only those identities of the agent
	// are offered that match one of them. Empty means the default files that exist.
	Keys        []string
	AgentSocket string // path of ssh-agent's socket; empty means no agent
	// KnownHosts are read at the first dial, and again when one has changed: the project's file, the
	// user's, the global one. A missing file counts as empty.
	KnownHosts []string
	// Passphrase asks for the passphrase of an encrypted key, only once a server has accepted the
	// key, and once per key for the whole run (three times when the answer is wrong). Calls for
	// different keys may overlap. Nil means that encrypted keys cannot be used without an agent.
	Passphrase func(ctx context.Context, keyPath string) ([]byte, error)
	Timeout    time.Duration // for connecting, key exchange and login together; default 15 s
	KeepAlive  time.Duration // interval of the question, and the time it has for its answer; default 10 s
	// Control gives the path of the socket of a ControlMaster of ssh(1) for a target, "" for none. It is
	// used for hosts that are reached without a jump host of ours, jump hosts among them, where the
	// socket is this user's alone and live; the host key is then the one that ssh has accepted. A
	// target with a pinned HostKey is always dialled. Nil means that there are none.
	Control func(ctx context.Context, t Target) string
	Report  event.Reporter // told of connects, retries and jump fail-over; nil drops them
	// Dialer makes the outermost TCP connection; nil is net.Dialer.DialContext. Its connections must
	// heed SetDeadline.
	Dialer func(ctx context.Context, network, addr string) (net.Conn, error)
}

const (
	defaultTimeout   = 15 * time.Second
	defaultKeepAlive = 10 * time.Second
	// askLimit is how long a login may wait for a person: a passphrase, a touch on a hardware key.
	// sshd's own LoginGraceTime is 120 s.
	askLimit = 2 * time.Minute
)

// withDefaults fills in what was left out.
func (o Options) withDefaults() Options {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.KeepAlive <= 0 {
		o.KeepAlive = defaultKeepAlive
	}
	if o.Report == nil {
		o.Report = event.Discard{}
	}
	if o.Dialer == nil {
		o.Dialer = new(net.Dialer).DialContext
	}
	return o
}

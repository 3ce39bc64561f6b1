package sshx

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"godeploy/internal/event"
)

// Target is one host to log in to. Where its port, user or jump hosts are left out, Options.Config may name
// them; what it names itself stays.
type Target struct {
	Name    string // as the inventory calls it: app1; used in messages and events
	Alias   string // "prod/app1": its name in the project's known_hosts; empty means by address only
	Address string // host name or IP address, without brackets and port: what one would tell ssh(1)
	Port    int    // 0 is what Options.Config says, else 22
	User    string // "" is what Options.Config says, else Options.User
	// Jumps are alternatives, each a chain of hosts with the outermost first. The first alternative
	// that reaches the target is taken; none at all means a direct connection. The Jumps of a jump
	// host itself are not looked at.
	Jumps   [][]Target
	Direct  bool   // no jump host, even if Options.Config names one
	HostKey string // pinned fingerprint, "SHA256:…"; decides alone when set

	conf settings // of ssh_config; Address, Port and User are then the resolved ones
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
	// User is who logs in where neither the target nor Config names anybody.
	User string
	// Config says what ssh_config has for each host. Nil is nothing: only what is given here counts.
	Config *UserConfig
	// KnownHosts are read at the first dial, and again when one has changed: the user's file, the global
	// one. Config may name others in their place. A missing file counts as empty.
	KnownHosts []string
	// ProjectHosts is a known_hosts file that stands before KnownHosts, whatever Config says; "" is none.
	ProjectHosts string
	// Passphrase asks for the passphrase of an encrypted key, only once a server has accepted the
	// key, and once per key for the whole run (three times when the answer is wrong). Calls for
	// different keys may overlap. Nil means that encrypted keys cannot be used without an agent.
	Passphrase func(ctx context.Context, keyPath string) ([]byte, error)
	// Password is asked when no key has let in, once for each login at a target or a jump host, and its answer
	// is used for that login alone: by keyboard-interactive or password. Calls may overlap. Nil means that
	// there are only keys.
	Password func(ctx context.Context, t Target) ([]byte, error)
	// Without leaves identities out: it is given the public half of each, a certificate's too, in SSH's wire
	// format. Nil leaves none out.
	Without   func(blob []byte) bool
	Timeout   time.Duration // for connecting, key exchange and login together; default 15 s
	KeepAlive time.Duration // interval of the question, and the time it has for its answer; default 10 s
	// NoMaster leaves a ControlMaster of ssh(1) alone. Otherwise the one that Config names is used for
	// hosts that are reached without jump hosts of ours, where its socket is this user's alone and live;
	// the host key is then the one that ssh has accepted. A target with a pinned HostKey is always dialled.
	NoMaster bool
	Shell    string // runs the ProxyCommand of Config; default /bin/sh
	// Limit may wrap the connection to a ProxyCommand, as Dialer may wrap its own; nil leaves it as it is.
	Limit  func(net.Conn) net.Conn
	Report event.Reporter // told of connects, retries and jump fail-over; nil drops them
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

package sshx

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// attempt is one connection being made, up to the login.
type attempt struct {
	pool   *Pool
	target Target
	hop    *Conn // nil for a direct connection

	// What earlier tries of the same dial have taught.
	triedTypes []string        // host key types that a pinned fingerprint did not match
	firstNo    error           // the verdict on the first of them
	refusals   map[string]bool // public keys that the host did not take
	perLogin   int             // how many keys one login may offer; 0 is any number
	logins     int             // that ended because of too many

	raw      *counted
	deadline time.Time

	mu       sync.Mutex // the handshake calls back from its own goroutines
	refused  error      // the verdict on the host key
	verified bool       // the host key was accepted: what follows is the login
	asked    bool       // the login waited for a person
	tried    []string   // the identities offered on any try, for people
	notes    []string   // why others were not
	login    login
}

// run connects, verifies and logs in. The connection is closed if it fails.
func (a *attempt) run(ctx context.Context) (*ssh.Client, error) {
	list, agentConn, err := a.identities(ctx)
	if err != nil {
		return nil, err
	}
	defer agentConn.Close()
	a.login = login{}
	for _, s := range list {
		if !a.refusals[string(s.pub.Marshal())] {
			a.login.queue = append(a.login.queue, s)
		}
	}
	client, err := a.connect(ctx, &ssh.ClientConfig{User: a.target.User, AuthCallback: func(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
		return a.nextOrPassword(ctx, c)
	}})
	if err == nil && a.login.signer != nil {
		a.pool.keys.praise(a.login.signer.pub)
	}
	return client, err
}

// connect makes the connection and shakes hands under the attempt's deadline.
func (a *attempt) connect(ctx context.Context, config *ssh.ClientConfig) (*ssh.Client, error) {
	a.deadline = time.Now().Add(a.pool.limit(a.target))
	stream, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	raw := &counted{Conn: stream, prompt: prompt(stream)}
	a.raw = raw
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // nothing else wakes the handshake
	defer stop()
	_ = raw.SetDeadline(a.deadline) // a connection that cannot is closed by ctx alone
	a.secure(config)
	conn, channels, requests, err := ssh.NewClientConn(raw, a.target.addr(), config)
	if err != nil {
		_ = raw.Close()
		return nil, a.failed(ctx, err)
	}
	if !stop() {
		_ = raw.Close()
		return nil, context.Cause(ctx)
	}
	_ = raw.SetDeadline(time.Time{})
	return ssh.NewClient(conn, channels, requests), nil
}

// dial opens the byte stream: TCP, a ProxyCommand, or a tunnel through the jump host.
func (a *attempt) dial(ctx context.Context) (net.Conn, error) {
	within, cancel := context.WithDeadline(ctx, a.deadline)
	defer cancel()
	var raw net.Conn
	var err error
	if a.hop != nil {
		raw, err = a.hop.dialRaw(within, "tcp", a.target.addr())
	} else {
		raw, err = a.pool.dialOut(within, a.target)
	}
	if err == nil {
		return raw, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, &noRoute{a.pool.unreachableFault(a.target, a.hop, err)}
}

// noRoute marks a failure in which the target itself was not reached.
type noRoute struct{ error }

func (e *noRoute) Unwrap() error { return e.error }

// secure sets what is the same for every connection: current algorithms only, and the verdict on
// the host key.
func (a *attempt) secure(config *ssh.ClientConfig) {
	able := able(a.target.conf)
	config.Ciphers, config.MACs, config.KeyExchanges = able.Ciphers, able.MACs, able.KeyExchanges
	config.ClientVersion = "SSH-2.0-godeploy"
	known := a.pool.knownHosts(a.target)
	if config.HostKeyAlgorithms == nil {
		config.HostKeyAlgorithms = known.algorithms(a.target, a.triedTypes)
	}
	if config.HostKeyCallback == nil {
		config.HostKeyCallback = func(_ string, _ net.Addr, key ssh.PublicKey) error {
			return a.judged(key, known.verify(a.target, viaOf(a.hop), key))
		}
	}
}

// judged keeps the verdict, because the handshake wraps it beyond recognition.
func (a *attempt) judged(key ssh.PublicKey, err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused, a.verified = err, err == nil
	if err == nil && a.target.conf.connectTime > 0 { // which is for what lies behind us
		a.deadline = time.Now().Add(a.pool.o.Timeout)
		_ = a.raw.SetDeadline(a.deadline)
	}
	if err != nil && a.target.HostKey != "" {
		a.triedTypes = append(a.triedTypes, key.Type())
	}
	if a.firstNo == nil {
		a.firstNo = err
	}
	return err
}

// failed turns a handshake's error into a fault, or into what makes the dial try again.
func (a *attempt) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	banned := strings.Contains(a.raw.refusal(), "Not allowed at this time")
	if isHangup(err) && (!a.verified || a.asked) && a.refused == nil && !banned {
		return &hangup{a.handshakeFault(err)}
	}
	return a.handshakeFault(err)
}

// hangup marks a connection closed before the login: most often MaxStartups, so worth another try.
type hangup struct{ error }

func (e *hangup) Unwrap() error { return e.error }

// pause lets the deadline rest while a person is asked. It still ends, later.
func (a *attempt) pause() (resume func()) {
	start := time.Now()
	a.mu.Lock()
	a.asked = true
	a.mu.Unlock()
	_ = a.raw.SetDeadline(start.Add(askLimit))
	return func() {
		a.deadline = a.deadline.Add(time.Since(start))
		_ = a.raw.SetDeadline(a.deadline)
	}
}

// again prepares the same attempt for another try, if something was learnt that may change its end: the
// host is asked for a key of another type than those a pin did not match, or is offered the keys that it
// did not wait for.
func (a *attempt) again() bool {
	others := a.refused != nil && a.target.HostKey != "" &&
		len(a.pool.knownHosts(a.target).algorithms(a.target, a.triedTypes)) > 0
	if !others && !a.moreKeys() {
		return false
	}
	a.refused, a.verified = nil, false
	return true
}

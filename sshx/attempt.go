package sshx

import (
	"context"
	"errors"
	"net"
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
	barred     map[string]bool // public keys that could not sign
	barredWhy  []string
	triedTypes []string // host key types that a pinned fingerprint did not match
	firstNo    error    // the verdict on the first of them

	raw      *counted
	deadline time.Time

	mu       sync.Mutex // the handshake calls back from its own goroutines
	refused  error      // the verdict on the host key
	verified bool       // the host key was accepted: what follows is the login
	asked    bool       // the login waited for a person
	sulked   bool       // a key could not sign
	tried    []string   // the identities offered, for people
	notes    []string   // why others were not
}

// run connects, verifies and logs in. The connection is closed if it fails.
func (a *attempt) run(ctx context.Context) (*ssh.Client, error) {
	signers, agentConn, err := a.identities(ctx)
	if err != nil {
		return nil, err
	}
	defer agentConn.Close()
	return a.connect(ctx, &ssh.ClientConfig{
		User: a.target.User,
		Auth: []ssh.AuthMethod{ssh.PublicKeys(signers...)},
	})
}

// connect makes the connection and shakes hands under the attempt's deadline.
func (a *attempt) connect(ctx context.Context, config *ssh.ClientConfig) (*ssh.Client, error) {
	a.deadline = time.Now().Add(a.pool.o.Timeout)
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

// dial opens the byte stream: TCP, or a tunnel through the jump host.
func (a *attempt) dial(ctx context.Context) (net.Conn, error) {
	within, cancel := context.WithDeadline(ctx, a.deadline)
	defer cancel()
	dial := a.pool.o.Dialer
	if a.hop != nil {
		dial = a.hop.dialRaw
	}
	raw, err := dial(within, "tcp", a.target.addr())
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
	able := ssh.SupportedAlgorithms()
	config.Ciphers, config.MACs, config.KeyExchanges = able.Ciphers, able.MACs, able.KeyExchanges
	config.ClientVersion = "SSH-2.0-godeploy"
	known := a.pool.known.read()
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
	switch {
	case a.sulked:
		return errBarred
	case isHangup(err) && (!a.verified || a.asked) && a.refused == nil:
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

// bar leaves a key out of the next try.
func (a *attempt) bar(s *identity, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.barred[string(s.pub.Marshal())] = true
	a.sulked = true
	a.barredWhy = append(a.barredWhy, s.name+": "+err.Error())
}

// again prepares the same attempt for another try, if something was learnt that may change its end:
// a key is left out, or the host is asked for a key of another type than those a pin did not match.
func (a *attempt) again(err error) bool {
	others := a.refused != nil && a.target.HostKey != "" &&
		len(a.pool.known.read().algorithms(a.target, a.triedTypes)) > 0
	if !others && !errors.Is(err, errBarred) {
		return false
	}
	a.refused, a.verified, a.sulked, a.tried = nil, false, false, nil
	return true
}

package sshx

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"godeploy/internal/event"
	"godeploy/internal/fault"
)

const (
	// maxHandshakes is how many unauthenticated connections one sshd sees from us at once. Its
	// default MaxStartups starts to drop them at ten.
	maxHandshakes = 8
	// maxSessions is how many sessions one connection carries; sshd's default MaxSessions is ten.
	maxSessions = 9
	// masterSessions is the same for a connection that belongs to ssh(1).
	masterSessions = 6
	// dialTries counts the first try and the three that follow a hang-up.
	dialTries = 4
)

// Pool makes connections and shares what they can share: jump hosts, opened keys, the known hosts,
// and the limit on handshakes. Make one per run; it is safe for concurrent use.
type Pool struct {
	o    Options
	keys keyring

	known knownFiles

	pauses func() backoff.BackOff // between the tries after a hang-up

	mu     sync.Mutex
	closed bool
	gates  map[string]chan struct{} // by sshd: a slot for each handshake under way
	jumps  map[string]*jump         // by chain
	work   sync.WaitGroup           // shared dials and jump connections being ended
}

// NewPool makes a Pool. Nothing is read or dialled yet. Close it at the end of the run.
func NewPool(o Options) *Pool {
	return &Pool{
		o:      o.withDefaults(),
		pauses: jitter,
		gates:  make(map[string]chan struct{}),
		jumps:  make(map[string]*jump),
	}
}

// errClosed is what a Pool says after Close.
var errClosed = errors.New("connection pool is closed")

// Close ends the jump connections, and with them every connection that goes through one. Direct
// connections stay their owners' to close. It waits for what it has started.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	jumps := p.jumps
	p.jumps = make(map[string]*jump)
	p.mu.Unlock()
	for _, j := range jumps {
		j.cancel()
		<-j.done
		if j.conn != nil {
			_ = j.conn.Close() // the run is over; what it carried has reported its own end
		}
	}
	p.work.Wait()
	return nil
}

// Dial connects to the target and logs in. Connecting, key exchange and login together take no
// longer than Options.Timeout (a person asked for a passphrase not counted); the wait for a free
// slot at a busy sshd, and up to three more tries after a hang-up before the login, come on top. Where
// Options.Config names a live ControlMaster, the connection is one through it. A refused login is never tried again.
//
// The error is a *fault.Error: ssh-refused, ssh-timeout, ssh-auth, ssh-hostkey-unknown,
// ssh-hostkey-changed or ssh-jump, or the cause of ctx when that has ended. The caller closes the
// Conn; ctx does not matter to it any more.
func (p *Pool) Dial(ctx context.Context, t Target) (*Conn, error) {
	start := time.Now()
	t, err := p.resolve(ctx, t)
	if err != nil {
		return nil, err
	}
	conn := p.mastered(ctx, t)
	if conn != nil {
		p.connected(t, start)
		return conn, nil
	}
	err = p.reach(ctx, t, func(hop *Conn) (err error) {
		conn, err = p.login(ctx, t, hop)
		return err
	})
	if err != nil {
		return nil, err
	}
	p.connected(t, start)
	return conn, nil
}

func (p *Pool) connected(t Target, start time.Time) {
	p.o.Report.Report(event.Event{Time: time.Now(), Type: event.Connect, Host: t.Name,
		Env: t.env(), MS: time.Since(start).Milliseconds()})
}

// checkTarget refuses what can be no address before anything is run or dialled. The characters are those
// that ssh(1) takes out of the reach of a ProxyCommand's shell.
func checkTarget(t Target) error {
	if t.Address == "" {
		return fault.New(fault.SSHRefused, "%s has no address", t.Name).On(t.Name)
	}
	for _, text := range []string{t.Address, t.User} {
		for i, r := range text {
			if r <= ' ' || r == 0x7f || strings.ContainsRune("'\"`$;&|<>\\(){},", r) || (i == 0 && r == '-') {
				return fault.New(fault.SSHRefused, "%s has an address or user with a character that is not allowed: %q", t.Name, text).On(t.Name)
			}
		}
	}
	return nil
}

// login makes a connection over the hop (nil is direct), with as many tries as make sense.
func (p *Pool) login(ctx context.Context, t Target, hop *Conn) (*Conn, error) {
	a := &attempt{pool: p, target: t, hop: hop}
	leave, err := p.enter(ctx, viaOf(hop)+" "+t.addr())
	if err != nil {
		return nil, err
	}
	conn, err := p.persist(ctx, a)
	if err != nil {
		leave()
		return nil, err
	}
	// sshd counts a login as under way until its own processes have told each other of the success;
	// an answer from the one that then serves us proves that.
	conn.work.Go(func() {
		defer leave()
		if !deaf(conn.client.ServerVersion()) {
			conn.ping(p.o.Timeout)
		}
	})
	return conn, nil
}

// persist tries again where that makes sense.
func (p *Pool) persist(ctx context.Context, a *attempt) (*Conn, error) {
	try, t := 1, a.target
	once := func() (*Conn, error) {
		client, err := a.run(ctx)
		for err != nil && ctx.Err() == nil && a.again() {
			client, err = a.run(ctx)
		}
		var hung *hangup
		switch {
		case err == nil:
			return newConn(client, a.raw, t, a.hop, p.conduct(t)), nil
		case errors.As(err, &hung) && ctx.Err() == nil:
			return nil, err
		}
		return nil, backoff.Permanent(err)
	}
	tell := func(err error, wait time.Duration) {
		try++
		p.o.Report.Report(event.Event{Time: time.Now(), Type: event.Retry, Host: t.Name, Try: try, Of: dialTries,
			Msg: fmt.Sprintf("%v; try %d of %d in %d ms", err, try, dialTries, wait.Milliseconds())})
	}
	conn, err := backoff.Retry(ctx, once, backoff.WithBackOff(p.pauses()), backoff.WithMaxTries(dialTries),
		backoff.WithMaxElapsedTime(0), backoff.WithNotify(tell))
	return conn, plain(err)
}

// jitter spreads the tries of many hosts: 0.2, 0.5, 1.2 s, each give or take all but a tenth.
func jitter() backoff.BackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.RandomizationFactor = 200*time.Millisecond, 2.4, 0.9
	return b
}

// plain takes the marks off that only the dial needs.
func plain(err error) error {
	var last *backoff.PermanentError
	if errors.As(err, &last) {
		err = last.Unwrap()
	}
	var hung *hangup
	if errors.As(err, &hung) {
		return hung.error
	}
	return err
}

// enter waits for a slot at one sshd.
func (p *Pool) enter(ctx context.Context, sshd string) (leave func(), err error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errClosed
	}
	gate := p.gates[sshd]
	if gate == nil {
		gate = make(chan struct{}, maxHandshakes)
		p.gates[sshd] = gate
	}
	p.mu.Unlock()
	select {
	case gate <- struct{}{}:
		return func() { <-gate }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

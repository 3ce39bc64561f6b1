package sshx

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"godeploy/internal/fault"
)

// Conn is one logged-in connection to a host. It carries up to nine sessions at once; more wait for
// their turn. All methods may be called from any goroutine. The caller closes it.
type Conn struct {
	client   *ssh.Client
	raw      *counted
	target   Target
	hop      *Conn
	sessions *turnstile
	patience time.Duration // for the host to open a session; 0: the keepalive finds a dead one
	done     chan struct{} // closed when the connection has ended
	work     sync.WaitGroup

	mu     sync.Mutex
	closed bool          // by Close
	why    error         // what ended it otherwise
	rtt    time.Duration // the shortest round trip so far; 0 is none yet
}

// conduct is how a connection is kept.
type conduct struct {
	keepAlive time.Duration // how often it is asked whether it lives
	answer    time.Duration // how long the answer may take
	// master: the connection is one of ssh(1), which keeps it alive and answers no question of ours.
	master   bool
	patience time.Duration
}

// newConn watches over a logged-in client.
func newConn(client *ssh.Client, raw *counted, t Target, hop *Conn, how conduct) *Conn {
	c := &Conn{client: client, raw: raw, target: t, hop: hop, patience: how.patience,
		sessions: newTurnstile(maxSessions), done: make(chan struct{})}
	c.work.Go(func() {
		defer close(c.done)
		c.note(client.Wait())
		_ = raw.Close() // the peer's end came first
	})
	switch {
	case how.master:
		c.sessions = newTurnstile(masterSessions) // the user's own sessions count as well
	case deaf(client.ServerVersion()): // TCP's own questions find a dead one
	default:
		c.work.Go(func() { c.keepAlive(how.keepAlive, how.answer) })
	}
	return c
}

// Name is the target's name.
func (c *Conn) Name() string { return c.target.Name }

// Via says how the host was reached, for messages: "203.0.113.11", "10.0.1.11 via ngx1".
func (c *Conn) Via() string {
	if c.hop == nil {
		return c.target.Address
	}
	return c.target.Address + " via " + viaOf(c.hop)
}

// viaOf names the jump hosts up to the hop, outermost first: "gate,ngx1"; "" without one.
func viaOf(hop *Conn) string {
	if hop == nil {
		return ""
	}
	if outer := viaOf(hop.hop); outer != "" {
		return outer + "," + hop.target.Name
	}
	return hop.target.Name
}

// RoundTrip is the shortest time so far that the host took to answer; 0 when nothing was asked yet. It
// holds the host's own time too, so it is never less than the way takes.
func (c *Conn) RoundTrip() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rtt
}

func (c *Conn) roundTrip(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rtt == 0 || took < c.rtt {
		c.rtt = took
	}
}

// Done is closed when the connection has ended, for whatever reason; Err then says which.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection ended: a *fault.Error with code ssh-lost, or nil after Close and while
// it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.why == nil {
		return nil
	}
	return c.lost(c.why)
}

// lost makes the fault for a connection that broke.
func (c *Conn) lost(err error) *fault.Error {
	return fault.New(fault.SSHLost, "%s: the connection was lost", c.target.place(viaOf(c.hop))).On(c.target.Name).Wrap(err)
}

// Close ends the connection and every session, tunnel and transfer on it, at once and without
// asking the peer. A command on the host that does not watch its stdin goes on there. Closing twice
// is fine; the error is always nil.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	_ = c.raw.Close() // there is nobody left who could act on it
	c.work.Wait()
	return nil
}

// note keeps the first reason.
func (c *Conn) note(why error) {
	if why == nil {
		why = errors.New("closed by the host")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == nil {
		c.why = why
	}
}

// fail ends a connection of which nothing is to be expected any more.
func (c *Conn) fail(why error) {
	c.note(why)
	_ = c.raw.Close() // the only thing that wakes everybody who waits on it
}

// deaf reports whether a server answers a global request with a message that x/crypto takes for the end of
// the connection: tinysshd says that it does not implement them.
func deaf(version []byte) bool { return bytes.HasPrefix(version, []byte("SSH-2.0-tinyssh")) }

// errSilent is the reason when a keepalive got no answer.
var errSilent = errors.New("the host stopped answering")

// keepAlive asks the host for a sign of life. x/crypto never does, and a host that froze while its
// kernel still takes bytes would block a session for ever.
func (c *Conn) keepAlive(every, limit time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
			if !c.ping(limit) {
				c.fail(errSilent)
				return
			}
		}
	}
}

// ping asks once. Any answer will do; OpenSSH's is a refusal. On a slow line the question may stand
// behind megabytes of upload: as long as anything at all comes back, the host lives.
func (c *Conn) ping(limit time.Duration) bool {
	answer := make(chan error, 1)
	go func() { // ends with the answer, or with the connection
		asked := time.Now()
		_, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil)
		if err == nil {
			c.roundTrip(time.Since(asked))
		}
		answer <- err
	}()
	late := time.NewTicker(limit)
	defer late.Stop()
	for heard := c.raw.heard.Load(); ; heard = c.raw.heard.Load() {
		select {
		case <-answer:
			return true // an error means that the connection has ended, and for its own reason
		case <-c.done:
			return true
		case <-late.C:
			if c.raw.heard.Load() == heard {
				return false
			}
		}
	}
}

// counted is a connection that counts the bytes that come in.
type counted struct {
	net.Conn
	heard  atomic.Int64
	prompt func() // asks for quick acknowledgements; nil where that is not to be had

	mu    sync.Mutex
	first []byte // the first bytes, which say why when a server closes at once
}

// maxFirst is how many of the first bytes are kept.
const maxFirst = 256

// keep keeps the first bytes.
func (c *counted) keep(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.first = append(c.first, b[:min(len(b), maxFirst-len(c.first))]...)
}

// refusal is what a server has said in place of SSH before it closed: one line, "" if nothing.
func (c *counted) refusal() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	line, _, _ := strings.Cut(string(c.first), "\n")
	if line = strings.TrimSpace(line); strings.HasPrefix(line, "SSH-") {
		return ""
	}
	return clip(strings.ToValidUTF8(line, "?"), 100)
}

// quickBelow is the size of a read above which data flows and acknowledgements come by themselves.
const quickBelow = 4 << 10

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.heard.Add(int64(n)) <= maxFirst+int64(n) {
		c.keep(b[:n])
	}
	if c.prompt != nil && n < quickBelow {
		c.prompt()
	}
	return n, err
}

// DialContext connects from the host to an address as the host sees it, for example to ask a
// service on its loopback: network is "tcp", "tcp4", "tcp6", or "unix" with a socket's path. The
// connection heeds deadlines; ctx bounds the connecting only. It ends with the Conn at the latest.
func (c *Conn) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := c.dialRaw(ctx, network, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return conn, nil
}

// dialRaw leaves the error as it is.
func (c *Conn) dialRaw(ctx context.Context, network, addr string) (net.Conn, error) {
	channel, err := within(ctx, c, func() (net.Conn, error) { return c.client.Dial(network, addr) },
		func(late net.Conn) { _ = late.Close() })
	if err != nil {
		return nil, err
	}
	return detach(channel), nil
}

// within waits for a request that the host may leave unanswered. When ctx ends first the request
// stays behind, until the answer or the end of the connection; drop gets rid of a late result.
func within[T any](ctx context.Context, c *Conn, request func() (T, error), drop func(T)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answered := make(chan answer)
	gone := make(chan struct{})
	defer close(gone)
	go func() {
		value, err := request()
		select {
		case answered <- answer{value, err}:
		case <-gone:
			if err == nil {
				drop(value)
			}
		}
	}()
	var none T
	over := c.done
	var late <-chan time.Time
	for {
		select {
		case a := <-answered:
			// The request may hear of the connection's end before we do.
			if a.err != nil && (c.ended() || endsWith(a.err) && c.endsSoon()) {
				return none, c.endError()
			}
			return a.value, a.err
		case <-ctx.Done():
			return none, context.Cause(ctx)
		case <-over: // what the host said before the end still counts, and is on its way
			over, late = nil, time.After(endGrace)
		case <-late:
			return none, c.endError()
		}
	}
}

// endGrace is how long an answer may take that was given before the connection ended.
const endGrace = time.Second

// ended reports whether the connection is over.
func (c *Conn) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// endError says why an operation found the connection over.
func (c *Conn) endError() error {
	if err := c.Err(); err != nil {
		return err
	}
	return c.lost(net.ErrClosed)
}

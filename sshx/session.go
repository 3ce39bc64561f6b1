package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"godeploy/internal/fault"
)

// session is one SSH session and its place among those of the connection.
type session struct {
	*ssh.Session
	conn   *Conn
	once   sync.Once
	closed atomic.Bool   // by us, before the command ended
	ended  chan struct{} // closed when the host has ended it; err is set before
	err    error
}

// A server may count a session for a moment after it has ended: so often, with that much time
// between, one is asked for again when none other is open.
const (
	openTries = 20
	openPause = 50 * time.Millisecond
)

// open waits for a place and opens a session. A server that refuses one while others are open has a
// smaller MaxSessions than usual: then the place of one of those is waited for.
func (c *Conn) open(ctx context.Context) (*session, error) {
	for try := 1; ; {
		in, err := c.sessions.enter(ctx, c.done)
		if err != nil {
			return nil, err
		}
		if !in {
			return nil, c.endError()
		}
		s, err := c.newSession(ctx)
		if err == nil {
			return s, nil
		}
		var refusal *ssh.OpenChannelError
		if !errors.As(err, &refusal) {
			c.sessions.leave()
			return nil, err
		}
		if c.sessions.shrink() {
			continue
		}
		if try++; try > openTries {
			return nil, c.noSession(err)
		}
		if err := rest(ctx, openPause); err != nil {
			return nil, err
		}
	}
}

// openSpare opens a session if there is a place for it now, and one is left for others.
func (c *Conn) openSpare(ctx context.Context) (*session, error) {
	if !c.sessions.tryEnter() {
		return nil, errNoSpare
	}
	s, err := c.newSession(ctx)
	var refusal *ssh.OpenChannelError
	switch {
	case errors.As(err, &refusal):
		c.sessions.shrink() // remembered: the server has no more
		return nil, errNoSpare
	case err != nil:
		c.sessions.leave()
	}
	return s, err
}

// errNoSpare says that a connection carries as many sessions as it can.
var errNoSpare = errors.New("no session to spare")

// newSession asks the host for a session. The time until it says yes is that of a round trip.
func (c *Conn) newSession(ctx context.Context) (*session, error) {
	asked := time.Now()
	if c.patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.patience, c.silent())
		defer cancel()
	}
	opened, err := within(ctx, c, c.client.NewSession, func(late *ssh.Session) { _ = late.Close() })
	if err != nil {
		return nil, err
	}
	c.roundTrip(time.Since(asked))
	return &session{Session: opened, conn: c, ended: make(chan struct{})}, nil
}

// silent says that the host behind a ControlMaster does not answer.
func (c *Conn) silent() error {
	return timeoutFault(c.target, "", fmt.Sprintf("does not open a session within %s over ssh's ControlMaster", c.patience)).
		Hint("that connection may be dead; end it with: ssh -O exit %s", c.target.Address)
}

// noSession says that the host does not open even one.
func (c *Conn) noSession(err error) error {
	return fault.New(fault.SSHRefused, "%s does not open a session", c.target.place(viaOf(c.hop))).
		On(c.target.Name).Hint("sshd's MaxSessions may be 0").Wrap(err)
}

// rest waits, or until ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-over.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave gives the place back, once.
func (s *session) leave() { s.once.Do(s.conn.sessions.leave) }

// launch sends the request that starts the session's work (a command, a subsystem). When it fails
// the session is over.
func (s *session) launch(ctx context.Context, request func() error) error {
	_, err := within(ctx, s.conn, func() (struct{}, error) { return struct{}{}, request() }, func(struct{}) {})
	if errors.Is(err, io.EOF) { // the request was not answered, and the connection lives
		err = s.conn.lost(errors.New("the host closed the session when it was told what to run"))
	}
	if err != nil {
		s.abandon(ssh.SIGTERM) // where ctx has ended the work may have begun all the same
	}
	return err
}

// watch waits for the end of a launched session.
func (s *session) watch() {
	go func() { // ends with the session, or with the connection
		s.err = s.exit(s.Session.Wait())
		s.leave()
		close(s.ended)
	}()
}

package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// ExitError says that a command ended otherwise than with status 0.
type ExitError struct {
	Status int    // 1 to 255; 128 and more for a signal
	Signal string // without "SIG", when a signal ended it: "KILL"
}

// Error gives "exit status 3" or "killed by SIGTERM".
func (e *ExitError) Error() string {
	if e.Signal != "" {
		return "killed by SIG" + e.Signal
	}
	return fmt.Sprintf("exit status %d", e.Status)
}

// exit turns what a session ended with into our words.
func (s *session) exit(err error) error {
	c := s.conn
	var status *ssh.ExitError
	var none *ssh.ExitMissingError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status):
		return &ExitError{Status: status.ExitStatus(), Signal: status.Signal()}
	case errors.As(err, &none) && s.closed.Load():
		return errSessionClosed
	case errors.As(err, &none):
		// The end of the connection ends its sessions first; only what is left after it is a session
		// that the host ended without a word.
		if c.endsSoon() {
			return c.endError()
		}
		return c.lost(errors.New("the session ended without an exit status"))
	}
	return err
}

// errSessionClosed is how a session ends that we have closed before the command ended.
var errSessionClosed = fmt.Errorf("session: %w", os.ErrClosed)

// endsSoon waits a moment for the connection's end to be noticed.
func (c *Conn) endsSoon() bool { return c.endsIn(50 * time.Millisecond) }

func (c *Conn) endsIn(limit time.Duration) bool {
	short := time.NewTimer(limit)
	defer short.Stop()
	select {
	case <-c.done:
		return true
	case <-short.C:
		return false
	}
}

// Run runs a command line in the user's shell on the host and waits for its end, as `ssh HOST
// COMMAND` does, without a terminal. The streams may be nil; what is read from the host goes to
// stdout and stderr unbounded, so the writers decide how much to keep. A read from stdin may still be
// under way when Run has returned.
//
// A command that ends badly is an *ExitError, a connection that broke a *fault.Error (ssh-lost).
// When ctx ends the command is sent SIGTERM, its session is closed, and the cause of ctx is
// returned at once; nothing is written to the streams any more. Whether the command heeds the signal
// is up to the host (sshd does not pass it on to root's commands), so commands that must die with us
// belong under the helper.
func (c *Conn) Run(ctx context.Context, command string, stdin io.Reader, stdout, stderr io.Writer) error {
	return c.run(ctx, func(s *ssh.Session) error { return s.Start(command) }, stdin, stdout, stderr)
}

// run is Run for whatever start asks the host for.
func (c *Conn) run(ctx context.Context, start func(*ssh.Session) error, stdin io.Reader, stdout, stderr io.Writer) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	out, errs := &gate{w: stdout}, &gate{w: stderr}
	defer errs.shut() // a start that was given up may still go on and bring output
	defer out.shut()
	s.Stdout, s.Stderr = out, errs
	input, err := s.StdinPipe()
	if err != nil {
		s.leave()
		return err
	}
	if err := s.launch(ctx, func() error { return start(s.Session) }); err != nil {
		return err
	}
	s.watch()
	go feed(input, stdin)
	select {
	case <-s.ended:
		return s.err
	case <-ctx.Done():
		s.abandon(ssh.SIGTERM)
		return context.Cause(ctx)
	}
}

// feed gives the command its input, then the end of it. It is not waited for: the reader may be a
// terminal that nobody types on.
func feed(input io.WriteCloser, stdin io.Reader) {
	if stdin != nil {
		_, _ = io.Copy(input, stdin) // a command need not read all its input
	}
	_ = input.Close()
}

// abandon gives a session up without waiting: sshd confirms the end of a session only when its
// command has ended, which may be never. What still waits for it ends then, or with the connection.
func (s *session) abandon(signal ssh.Signal) {
	s.closed.Store(true)
	s.leave()
	go func() { // blocks on a frozen connection, until keepalive closes it
		if signal != "" {
			_ = s.Signal(signal)
		}
		_ = s.Close()
	}()
}

// gate is a writer that can be shut: what comes later is dropped.
type gate struct {
	mu     sync.Mutex
	w      io.Writer // nil drops everything
	closed bool
}

func (g *gate) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.w == nil {
		return len(b), nil
	}
	return g.w.Write(b)
}

// shut waits for a write that is under way.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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

// closeGrace is how long a closed session has to be confirmed by the host before the connection is
// held for dead.
const closeGrace = 2 * time.Second

// endsSoon waits a moment for the connection's end to be noticed.
func (c *Conn) endsSoon() bool {
	short := time.NewTimer(50 * time.Millisecond)
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
// returned; whether the command heeds that is up to the host (root's sshd often does not pass it
// on), so commands that must die with us belong under the helper.
func (c *Conn) Run(ctx context.Context, command string, stdin io.Reader, stdout, stderr io.Writer) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	s.Stdout, s.Stderr = stdout, stderr
	input, err := s.StdinPipe()
	if err != nil {
		s.leave()
		return err
	}
	if err := s.launch(ctx, func() error { return s.Session.Start(command) }); err != nil {
		return err
	}
	s.watch()
	go feed(input, stdin)
	select {
	case <-s.ended:
		return s.err
	case <-ctx.Done():
		s.abandon()
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

// abandon asks the host to end the session. If it does not answer, the connection goes too: closing
// that is all that frees who waits.
func (s *session) abandon() {
	s.closed.Store(true)
	asked := make(chan struct{})
	go func() { // both may block on a frozen connection, until it is closed below
		defer close(asked)
		_ = s.Signal(ssh.SIGTERM)
		_ = s.Close()
	}()
	s.settle()
	<-asked
}

// settle waits for the end of a session that was closed.
func (s *session) settle() {
	late := time.NewTimer(closeGrace)
	defer late.Stop()
	select {
	case <-s.ended:
	case <-late.C:
		s.conn.fail(errSilent)
		<-s.ended
	}
}

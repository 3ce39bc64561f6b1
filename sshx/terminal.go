package sshx

import (
	"context"
	"io"

	"golang.org/x/crypto/ssh"
)

// Window is the size of a terminal in characters.
type Window struct{ Cols, Rows int }

// Terminal is what a person sits at while a session runs: the local end of a terminal on the host.
type Terminal struct {
	Name    string // what TERM says: "xterm-256color"; "" is "dumb"
	Size    Window
	Resized <-chan Window // new sizes, for as long as the session runs; nil never tells any
	Input   io.Reader     // read raw; its end ends the host's input
	Output  io.Writer     // both streams of the host, which has made one of them
}

// Interact runs a command line, or the login shell when it is "", at a terminal on the host, and waits
// for its end. The host's terminal does the echo, and makes signals of control characters, so the
// caller's own must be raw. Errors, and what becomes of the command when ctx ends, are as for Run; a
// read from Input may still be under way when Interact has returned.
func (c *Conn) Interact(ctx context.Context, command string, t Terminal) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	out := &gate{w: t.Output}
	defer out.shut()
	s.Stdout, s.Stderr = out, out
	input, err := s.StdinPipe()
	if err != nil {
		s.leave()
		return err
	}
	if err := s.launch(ctx, func() error { return s.atTerminal(command, t) }); err != nil {
		return err
	}
	s.watch()
	go feed(input, t.Input)
	for {
		select {
		case <-s.ended:
			return s.err
		case size := <-t.Resized:
			go func() { _ = s.WindowChange(max(size.Rows, 1), max(size.Cols, 1)) }() // a lost connection ends the session anyway
		case <-ctx.Done():
			s.abandon(ssh.SIGHUP) // as when a line is hung up
			return context.Cause(ctx)
		}
	}
}

// iutf8 is the terminal mode of RFC 8160: a character that is erased may be of several bytes.
const iutf8 = 42

// atTerminal asks for a terminal, then for what is to run there.
func (s *session) atTerminal(command string, t Terminal) error {
	modes := ssh.TerminalModes{ssh.ECHO: 1, ssh.TTY_OP_ISPEED: 38400, ssh.TTY_OP_OSPEED: 38400, iutf8: 1}
	name := t.Name
	if name == "" {
		name = "dumb"
	}
	if err := s.RequestPty(name, max(t.Size.Rows, 1), max(t.Size.Cols, 1), modes); err != nil {
		return err
	}
	if command == "" {
		return s.Session.Shell()
	}
	return s.Session.Start(command)
}

// Shell runs the login shell without a terminal: it reads commands from stdin, as `ssh HOST < script`
// does. Otherwise as Run.
func (c *Conn) Shell(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	return c.run(ctx, (*ssh.Session).Shell, stdin, stdout, stderr)
}

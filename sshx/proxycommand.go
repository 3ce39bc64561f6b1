package sshx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// commandGrace is how long a ProxyCommand may take to end after its connection was closed.
const commandGrace = time.Second

// viaCommand connects over a ProxyCommand of ssh_config: the user's own command, run by the user's shell. Host
// and user in it were checked and hold nothing that a shell would read.
func (p *Pool) viaCommand(t Target) (net.Conn, error) {
	shell := p.o.Shell
	if shell == "" {
		shell = "/bin/sh"
	}
	theirIn, ourOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	ourIn, theirOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, theirIn.Close(), ourOut.Close())
	}
	c := &commandConn{cmd: exec.Command(shell, "-c", "exec "+t.conf.command), in: ourIn, out: ourOut, ended: make(chan struct{})}
	c.said.limit = 2 << 10
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = theirIn, theirOut, &c.said
	c.cmd.WaitDelay = commandGrace // somebody else may hold its stderr
	err = c.cmd.Start()
	_ = theirIn.Close() // the command has its own
	_ = theirOut.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ProxyCommand: %w", err), ourIn.Close(), ourOut.Close())
	}
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait() // what it has said tells more
	}()
	if p.o.Limit != nil {
		return p.o.Limit(c), nil
	}
	return c, nil
}

// commandConn is a connection whose other end is a command.
type commandConn struct {
	cmd   *exec.Cmd
	in    *os.File
	out   *os.File
	said  prefix
	ended chan struct{}
	once  sync.Once
}

// Read gives what the command writes. When that ends, what it has said on stderr is the reason.
func (c *commandConn) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	if n > 0 {
		return n, err
	}
	return n, c.because(err)
}

func (c *commandConn) Write(b []byte) (int, error) {
	n, err := c.out.Write(b)
	return n, c.because(err)
}

// because adds what the command has said to the error that its end is.
func (c *commandConn) because(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) {
		return err
	}
	select {
	case <-c.ended:
		if said := strings.TrimSpace(c.said.text()); said != "" {
			return &commandError{said, err}
		}
	case <-time.After(commandGrace):
	}
	return err
}

// commandError is the end of a command that has complained.
type commandError struct {
	said string
	error
}

func (e *commandError) Error() string { return "ProxyCommand ended and says: " + clip(e.said, 300) }
func (e *commandError) Unwrap() error { return e.error }

// Close ends the command, if need be with force, and waits for it.
func (c *commandConn) Close() error {
	c.once.Do(func() {
		_ = c.in.Close() // nobody reads any more
		_ = c.out.Close()
		late := time.AfterFunc(commandGrace, func() { _ = c.cmd.Process.Kill() })
		defer late.Stop()
		hangUp(c.cmd.Process)
		<-c.ended
	})
	return nil
}

func (c *commandConn) LocalAddr() net.Addr  { return commandAddr{} }
func (c *commandConn) RemoteAddr() net.Addr { return commandAddr{} }

func (c *commandConn) SetDeadline(t time.Time) error {
	return errors.Join(c.in.SetReadDeadline(t), c.out.SetWriteDeadline(t))
}
func (c *commandConn) SetReadDeadline(t time.Time) error  { return c.in.SetReadDeadline(t) }
func (c *commandConn) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }

// commandAddr stands where a connection over a command has no address.
type commandAddr struct{}

func (commandAddr) Network() string { return "command" }
func (commandAddr) String() string  { return "ProxyCommand" }

// dialOut opens the outermost byte stream to the target: over its ProxyCommand, or TCP.
func (p *Pool) dialOut(ctx context.Context, t Target) (net.Conn, error) {
	if t.conf.command != "" {
		return p.viaCommand(t)
	}
	return p.o.Dialer(ctx, "tcp"+t.conf.family, t.addr())
}

package overssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
	"godeploy/sshx"
)

// Sudo lets helpers be started as root by sudo, with one password for a whole run. It is asked for when the first
// host is about to start one, and given to one host at a time until a host has taken it: a wrong one is tried
// once, on one host. Safe for concurrent use.
type Sudo struct {
	ask func(context.Context) ([]byte, error)

	mu      sync.Mutex // held while the password is tried for the first time
	asked   bool
	secret  []byte
	err     error // why it is tried nowhere any more
	settled bool
}

// NewSudo gives a Sudo that gets its password from ask, once.
func NewSudo(ask func(context.Context) ([]byte, error)) *Sudo { return &Sudo{ask: ask} }

// Forget overwrites the password. Nothing can be started any more.
func (s *Sudo) Forget() {
	if s == nil {
		return
	}
	if !s.mu.TryLock() {
		return // a run that was given up is still at it, and ends with the process
	}
	defer s.mu.Unlock()
	clear(s.secret)
	s.asked, s.settled, s.err = true, false, fault.New(fault.Internal, "the sudo password is forgotten")
}

// try runs start with the password: one at a time until one says that it was taken. refused is when it was not.
func (s *Sudo) try(ctx context.Context, h inventory.Host, start func(secret []byte) (taken, refused bool, err error)) error {
	s.mu.Lock()
	if !s.asked {
		s.asked = true
		s.secret, s.err = s.ask(ctx)
	}
	if s.settled {
		secret := bytes.Clone(s.secret)
		s.mu.Unlock()
		defer clear(secret)
		_, _, err := start(secret)
		return err
	}
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	taken, refused, err := start(s.secret)
	s.settled = taken
	if refused {
		s.err = fault.New(fault.SudoNeeded, "the sudo password was not tried, since %s did not take it", h.Name)
	}
	return err
}

// startAsRoot gives the host with a helper that is root. There is no weaker way: what the plain shell does, it does
// as the login.
func (c *Connector) startAsRoot(ctx context.Context, h inventory.Host, conn *sshx.Conn) (deploy.Host, error) {
	if !c.Env.SSH.Helper {
		return nil, fault.New(fault.SudoNeeded, "with helper = false there is nothing that sudo could start with a password").
			Hint("take helper = false off, or let sudo run the commands without a password: godeploy doctor --sudoers")
	}
	client, facts, err := c.asRoot(ctx, h, conn)
	if no, ok := errors.AsType[*cannotHelp](err); ok {
		err = fault.New(fault.SudoNeeded, "no helper can run there as root: %s", no.why)
	}
	if err != nil {
		return nil, err
	}
	return &helped{site: deploy.SiteOf(c.Env, h), host: h, conn: conn, client: client, facts: facts}, nil
}

// asRoot starts the helper of a host by sudo.
func (c *Connector) asRoot(ctx context.Context, h inventory.Host, conn *sshx.Conn) (*wire.Client, wire.HelloReply, error) {
	var client *wire.Client
	var facts wire.HelloReply
	err := c.Sudo.try(ctx, h, func(secret []byte) (bool, bool, error) {
		hashes, err := c.hashes()
		if err != nil {
			return false, false, err
		}
		process, err := conn.Start(ctx, wire.RootBootstrapCommand(hashes...))
		if err != nil {
			return false, false, err
		}
		door := openDoor(process, secret)
		client, err = wire.NewClient(ctx, toTheEnd{process}, wire.Options{Install: c.install, Lanes: wire.Lanes{Count: 1}})
		refused := door.close()
		if err != nil {
			return false, refused, sudoFault(err, process.Stderr(), refused)
		}
		if facts, err = c.known(ctx, client); err == nil && facts.UID != 0 {
			_ = client.Close() // it is of no use
			err = fault.New(fault.SudoNeeded, "sudo has started the helper as %s, not as root", facts.User)
		}
		return err == nil, false, err
	})
	return client, facts, err
}

// toTheEnd is a process whose stdout ends when all of it has: what sudo says of its no comes on another stream.
type toTheEnd struct{ *sshx.Process }

func (p toTheEnd) Read(b []byte) (int, error) {
	n, err := p.Process.Read(b)
	if errors.Is(err, io.EOF) {
		_ = p.Wait() // Close wakes it; how it ended is told by what it said
	}
	return n, err
}

// door answers sudo's question on a process's standard input, once. At the second the process is closed: what is
// sent there would be another try.
type door struct {
	process *sshx.Process
	done    chan struct{}
	ended   sync.WaitGroup
	refused bool
}

func openDoor(p *sshx.Process, secret []byte) *door {
	d := &door{process: p, done: make(chan struct{})}
	line := append(bytes.Clone(secret), '\n')
	d.ended.Go(func() {
		defer clear(line)
		for told := false; ; {
			switch n := strings.Count(p.Stderr(), wire.SudoPrompt); {
			case n > 1:
				d.refused = true
				_ = p.Close() // nothing else can be said to it
				return
			case n == 1 && !told:
				told = true
				_, _ = p.Write(line) // the reader learns what became of it
			}
			select {
			case <-p.StderrGrew():
			case <-d.done:
				return
			}
		}
	})
	return d
}

// close waits for the end, and reports whether the password was refused.
func (d *door) close() bool {
	close(d.done)
	d.ended.Wait()
	return d.refused || strings.Count(d.process.Stderr(), wire.SudoPrompt) > 1
}

// sudoFault tells what sudo has against the start of the helper. What is no matter of sudo stays as it is.
func sudoFault(err error, said string, refused bool) error {
	if refused {
		return fault.New(fault.SudoNeeded, "sudo does not take the password").
			Hint("it was tried once, on this host alone; what the host holds against wrong passwords (faillock) counts it")
	}
	said = strings.TrimSpace(strings.ReplaceAll(said, wire.SudoPrompt, ""))
	at := strings.LastIndex("\n"+said, "\n")
	last := said[at:]
	if !strings.HasPrefix(last, "sudo: ") && !strings.HasPrefix(last, "Sorry, ") && !strings.Contains(last, " is not in the sudoers file") {
		return err
	}
	return fault.New(fault.SudoNeeded, "sudo does not start the helper as root").Fact("| %s", fmt.Sprintf("%.160s", last)).
		Hint("the login needs a rule for every command (ALL), or godeploy's own helper in %s and a rule for it", wire.RootDir).
		Try("godeploy doctor --sudoers --ask-sudo")
}

package sshx

import (
	"context"
	"io"
	"sync"
)

// stderrKept is how much of a process's stderr is kept, the last of it.
const stderrKept = 32 << 10

// Process is a command that runs on the host while we talk to it. Read reads its stdout, Write writes
// to its stdin; one reader and one writer may be active at a time. The caller closes it.
type Process struct {
	s      *session
	stdin  io.WriteCloser
	stdout io.Reader
	stderr *tail
}

// Start starts a command line in the user's shell on the host, for a talk over stdin and stdout. ctx
// bounds the start only; the process ends by itself, by Close, or with the connection.
func (c *Conn) Start(ctx context.Context, command string) (*Process, error) {
	s, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	p := &Process{s: s, stderr: new(tail)}
	s.Stderr = p.stderr
	if p.stdin, err = s.StdinPipe(); err == nil {
		p.stdout, err = s.StdoutPipe()
	}
	if err != nil {
		s.leave()
		return nil, err
	}
	if err := s.launch(ctx, func() error { return s.Session.Start(command) }); err != nil {
		return nil, err
	}
	s.watch()
	return p, nil
}

// Read reads from the process's stdout; io.EOF is its end.
func (p *Process) Read(b []byte) (int, error) { return p.stdout.Read(b) }

// Write writes to the process's stdin. It blocks while the process does not read.
func (p *Process) Write(b []byte) (int, error) { return p.stdin.Write(b) }

// CloseWrite ends the process's stdin; what it still writes can be read.
func (p *Process) CloseWrite() error { return p.stdin.Close() }

// Stderr is the last 32 KiB of what the process wrote to stderr so far.
func (p *Process) Stderr() string { return p.stderr.String() }

// Wait waits for the end: nil for status 0, an *ExitError, or a *fault.Error when the connection was
// lost. Stdout has to be read meanwhile, or the process blocks when the window is full.
func (p *Process) Wait() error {
	<-p.s.ended
	return p.s.err
}

// Close ends the process's stdin and the session, and wakes a blocked Read or Write. The process
// itself ends only if it heeds the end of its stdin. A host that does not confirm within 2 s is held
// for dead and the connection closed. The error is always nil; Wait has the process's own.
func (p *Process) Close() error {
	select {
	case <-p.s.ended:
		return nil
	default:
	}
	p.s.closed.Store(true)
	asked := make(chan struct{})
	go func() { // may block on a frozen connection, until settle closes it
		defer close(asked)
		_ = p.stdin.Close()
		_ = p.s.Close()
	}()
	p.s.settle()
	<-asked
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b[max(0, len(b)-stderrKept):]...)
	if over := len(t.kept) - stderrKept; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}

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
	stdin  *io.PipeWriter
	stdout *io.PipeReader
	stderr *tail
	once   sync.Once
	closed chan struct{} // by Close
}

// Start starts a command line in the user's shell on the host, for a talk over stdin and stdout. ctx
// bounds the start only; the process ends by itself, when it heeds the end of its stdin, or with
// the connection.
func (c *Conn) Start(ctx context.Context, command string) (*Process, error) {
	s, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	return s.process(ctx, command)
}

// StartSpare is Start for a session that is good to have but can be done without: where the connection
// carries nearly as many as it can, or the host refuses one more, it fails at once.
func (c *Conn) StartSpare(ctx context.Context, command string) (*Process, error) {
	s, err := c.openSpare(ctx)
	if err != nil {
		return nil, err
	}
	return s.process(ctx, command)
}

func (s *session) process(ctx context.Context, command string) (*Process, error) {
	p := &Process{s: s, stderr: &tail{grew: make(chan struct{}, 1)}, closed: make(chan struct{})}
	s.Stderr = p.stderr
	stdin, err := s.StdinPipe()
	if err != nil {
		s.leave()
		return nil, err
	}
	stdout, err := s.StdoutPipe()
	if err != nil {
		s.leave()
		return nil, err
	}
	if err := s.launch(ctx, func() error { return s.Session.Start(command) }); err != nil {
		return nil, err
	}
	s.watch()
	p.connect(stdin, stdout)
	return p, nil
}

// connect puts pipes between the session's streams and ours. Those of x/crypto wake only when the
// host says so, and sshd says nothing while the process lives; pipes wake when we close them.
func (p *Process) connect(stdin io.WriteCloser, stdout io.Reader) {
	fromUser, toProcess := io.Pipe()
	fromProcess, toUser := io.Pipe()
	p.stdin, p.stdout = toProcess, fromProcess
	go func() { // ends with the process, with its stdin, or with Close
		_, err := io.Copy(stdin, fromUser)
		_ = fromUser.CloseWithError(err) // nil becomes io.ErrClosedPipe, which is right for a later Write
		_ = stdin.Close()
	}()
	go func() { // nobody reads any more what is still written
		<-p.s.ended
		_ = fromUser.CloseWithError(io.ErrClosedPipe)
	}()
	go func() { // ends with the process's stdout, or with the connection
		_, err := io.Copy(toUser, stdout)
		_ = toUser.CloseWithError(err)
	}()
}

// Read reads from the process's stdout; io.EOF is its end.
func (p *Process) Read(b []byte) (int, error) { return p.stdout.Read(b) }

// Write writes to the process's stdin. It blocks while the process does not read. An error of the
// connection shows at the next Write at the latest.
func (p *Process) Write(b []byte) (int, error) { return p.stdin.Write(b) }

// CloseWrite ends the process's stdin; what it still writes can be read.
func (p *Process) CloseWrite() error { return p.stdin.Close() }

// Stderr is the last 32 KiB of what the process wrote to stderr so far.
func (p *Process) Stderr() string { return p.stderr.String() }

// StderrGrew is sent to when there is more in Stderr than at the last receive. One goroutine may receive.
func (p *Process) StderrGrew() <-chan struct{} { return p.stderr.grew }

// Wait waits for the end: nil for status 0, an *ExitError, a *fault.Error when the connection was
// lost, or an os.ErrClosed after Close. Stdout has to be read meanwhile, or the process blocks when
// the window is full.
func (p *Process) Wait() error {
	select {
	case <-p.s.ended:
		return p.s.err
	case <-p.closed:
		return errSessionClosed
	}
}

// Close ends the process's stdin and the session, and wakes a blocked Read, Write or Wait, all
// without waiting for the host. The process ends only if it heeds the end of its stdin: to see it
// end, use CloseWrite and Wait first. Closing twice is fine; the error is always nil.
func (p *Process) Close() error {
	p.once.Do(func() {
		_ = p.stdin.Close() // pipes: these cannot fail
		_ = p.stdout.Close()
		select {
		case <-p.s.ended:
		default:
			p.s.abandon("")
		}
		close(p.closed)
	})
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
	grew chan struct{} // with room for one; nil when nobody is to be told
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b[max(0, len(b)-stderrKept):]...)
	if over := len(t.kept) - stderrKept; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	select {
	case t.grew <- struct{}{}:
	default: // it is told already
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}

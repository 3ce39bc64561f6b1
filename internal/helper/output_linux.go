package helper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"godeploy/internal/wire"
)

// streams are the two pipes of a program's output. os/exec has pipes too, but it closes them a while after
// the end, with what a slow line has not taken yet still in them.
type streams struct {
	pipes []*pipe
	done  sync.WaitGroup
}

// pipe is one of them.
type pipe struct {
	read, write *os.File
	to          io.Writer
	held        bool // nobody waits any more for whoever has it open
}

// pipesOf gives a program that is not started yet pipes for its output.
func pipesOf(cmd *exec.Cmd, out *capped) (*streams, error) {
	s := &streams{}
	for n := range byte(2) {
		r, w, err := os.Pipe()
		if err != nil {
			s.close()
			return nil, fmt.Errorf("make a pipe: %w", err)
		}
		s.pipes = append(s.pipes, &pipe{read: r, write: w, to: out.stream(n + 1)})
	}
	cmd.Stdout, cmd.Stderr = s.pipes[0].write, s.pipes[1].write
	return s, nil
}

// begin reads, once the program has its ends.
func (s *streams) begin() {
	for _, p := range s.pipes {
		_ = p.write.Close()
		s.done.Go(p.pass)
	}
}

// finish waits, after the program's end, until all that it wrote is passed on. It reports whether somebody
// else holds the output open.
func (s *streams) finish() bool {
	for _, p := range s.pipes {
		_ = p.read.SetReadDeadline(time.Now().Add(drain))
	}
	s.done.Wait()
	return s.pipes[0].held || s.pipes[1].held
}

func (s *streams) close() {
	for _, p := range s.pipes {
		_, _ = p.read.Close(), p.write.Close()
	}
}

// pass passes on what comes. When its time is up, what lies in the pipe by then is passed on too: it may
// have been written before the end, while the line took what came before.
func (p *pipe) pass() {
	_, err := io.Copy(p.to, justReader{p.read})
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	p.held = true
	buf := make([]byte, 32<<10)
	for left := p.waiting(); left > 0; {
		_ = p.read.SetReadDeadline(time.Time{})
		n, err := p.read.Read(buf[:min(left, len(buf))])
		_, _ = p.to.Write(buf[:n])
		if left -= n; err != nil {
			return
		}
	}
	p.held = !p.ended()
}

// waiting is how many bytes lie in the pipe.
func (p *pipe) waiting() int {
	n := 0
	p.control(func(fd int) { n, _ = unix.IoctlGetInt(fd, unix.TIOCINQ) })
	return n
}

// ended reports whether the pipe is empty and nobody can write to it any more.
func (p *pipe) ended() bool {
	over := false
	p.control(func(fd int) {
		look := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(look, 0)
		over = err == nil && n == 1 && look[0].Revents&unix.POLLHUP != 0 && look[0].Revents&unix.POLLIN == 0
	})
	return over
}

func (p *pipe) control(do func(fd int)) {
	if raw, err := p.read.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { do(int(fd)) })
	}
}

// justReader hides a file's own ways to be copied, which move more than is read by us.
type justReader struct{ io.Reader }

// capped passes on the first wire.MaxOutput bytes of a program's output and counts the rest.
type capped struct {
	send func(byte, []byte) error
	mu   sync.Mutex
	sent int
	lost int64
}

func (c *capped) stream(n byte) *cappedStream { return &cappedStream{c, n} }

func (c *capped) dropped() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

type cappedStream struct {
	*capped
	n byte
}

// Write never fails: a program must not die of a controller that has gone before it is told to end.
func (c *cappedStream) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	keep := min(len(b), wire.MaxOutput-c.sent)
	if c.send(c.n, b[:keep]) != nil {
		keep = 0
	}
	c.sent += keep
	c.lost += int64(len(b) - keep)
	return len(b), nil
}

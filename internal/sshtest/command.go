package sshtest

import (
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"

	"golang.org/x/crypto/ssh"
)

// command is a shell that runs for a session.
type command struct {
	*exec.Cmd
	in       *os.File // our ends of its pipes
	out, err *os.File
	group    int // its process group
}

// exec runs a command line and reports its end as sshd does: the status as soon as the shell has
// ended, the channel's end when nobody holds its output any more.
func (l *link) exec(channel ssh.Channel, requests <-chan *ssh.Request, r *ssh.Request, line string, env []string) {
	s := l.server
	s.count(func(st *Stats) { st.Commands = append(st.Commands, line) })
	c, err := s.start(line, env)
	reply(r, err == nil)
	if err != nil {
		return
	}
	faults := s.currentFaults()
	_, _ = io.WriteString(channel, faults.Noise)
	gone := make(chan struct{}) // closed when the session is over, from either side
	l.channels.Go(func() {
		defer close(gone)
		for r := range requests {
			if r.Type == "signal" {
				c.signal(r.Payload)
			}
			reply(r, false)
		}
	})
	go feed(c.in, channel) // ends with the channel or with the command's stdin
	ended := s.await(c, func(state *os.ProcessState) {
		if !faults.NoExitStatus {
			report(channel, state)
		}
	})
	drained := c.drain(channel)
	if whole(drained, ended, gone) {
		_ = channel.Close()
		<-gone
		return
	}
	if s.o.KillOnDisconnect {
		c.kill()
		defer func() { <-ended }()
	}
	c.release()
	<-drained
}

// whole waits until the output is drained and the shell has ended, in that order, because the status
// goes before the channel's end; false when the session is gone first.
func whole(drained, ended, gone <-chan struct{}) bool {
	for _, step := range []<-chan struct{}{drained, ended} {
		select {
		case <-step:
		case <-gone:
			return false
		}
	}
	return true
}

// feed passes the client's input on, then its end.
func feed(in *os.File, channel ssh.Channel) {
	_, _ = io.Copy(in, channel) // a command need not read all
	_ = in.Close()
}

// drain copies the command's output until nobody can write any more.
func (c *command) drain(channel ssh.Channel) <-chan struct{} {
	var both sync.WaitGroup
	copyTo := func(w io.Writer, r *os.File) func() {
		return func() {
			_, _ = io.Copy(w, r)
			_ = r.Close()
		}
	}
	both.Go(copyTo(channel, c.out))
	both.Go(copyTo(channel.Stderr(), c.err))
	drained := make(chan struct{})
	go func() {
		both.Wait()
		close(drained)
	}()
	return drained
}

// release closes our ends of the pipes: the command meets end of input and a broken pipe.
func (c *command) release() {
	_ = c.in.Close()
	_ = c.out.Close()
	_ = c.err.Close()
}

// start runs the shell in a process group of its own.
func (s *Server) start(line string, env []string) (*command, error) {
	cmd := exec.Command("/bin/sh", "-c", line)
	cmd.Dir, cmd.Env = s.dir(), append(s.environment(), env...)
	ownGroup(cmd)
	pipes, err := openPipes()
	if err != nil {
		return nil, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = pipes[0], pipes[3], pipes[5]
	c := &command{Cmd: cmd, in: pipes[1], out: pipes[2], err: pipes[4]}
	err = cmd.Start()
	for _, theirs := range []*os.File{pipes[0], pipes[3], pipes[5]} {
		_ = theirs.Close()
	}
	if err != nil {
		c.release()
		return nil, err
	}
	c.group = cmd.Process.Pid
	s.mu.Lock()
	s.commands[c] = true
	s.mu.Unlock()
	return c, nil
}

// openPipes gives the read and write ends of three pipes.
func openPipes() ([]*os.File, error) {
	var ends []*os.File
	for range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			for _, end := range ends {
				_ = end.Close()
			}
			return nil, err
		}
		ends = append(ends, r, w)
	}
	return ends, nil
}

// await reports the shell's end, whenever it comes; the channel is closed then.
func (s *Server) await(c *command, report func(*os.ProcessState)) <-chan struct{} {
	ended := make(chan struct{})
	go func() { // outlives the session if the command does
		defer close(ended)
		_ = c.Wait() // the state says more
		s.mu.Lock()
		delete(s.commands, c)
		s.mu.Unlock()
		report(c.ProcessState)
	}()
	return ended
}

// report sends exit-status or exit-signal.
func report(channel ssh.Channel, state *os.ProcessState) {
	name, core := endingSignal(state)
	if name == "" {
		sendStatus(channel, uint32(max(state.ExitCode(), 0)))
		return
	}
	_, _ = channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
		Name       string
		Core       bool
		Text, Lang string
	}{name, core, "", ""}))
}

// signal passes a signal request on to the whole group.
func (c *command) signal(payload []byte) {
	var what struct{ Name string }
	if ssh.Unmarshal(payload, &what) == nil {
		signalGroup(c.group, what.Name)
	}
}

// kill ends the whole group.
func (c *command) kill() { signalGroup(c.group, "KILL") }

// dir is where commands start.
func (s *Server) dir() string {
	if s.o.Dir != "" {
		return s.o.Dir
	}
	return s.home()
}

func (s *Server) home() string {
	if s.o.Home != "" {
		return s.o.Home
	}
	home, err := os.UserHomeDir()
	if err == nil {
		return home
	}
	return "/"
}

// environment is what commands find, before what the client sends.
func (s *Server) environment() []string {
	env := slices.Clone(s.o.Env)
	if len(env) == 0 {
		env = []string{"PATH=" + os.Getenv("PATH")}
	}
	return append(env, "HOME="+s.home())
}

package hooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// grace is how long a hook that was told to end may take before it is killed, and how long a daemon
// that it left behind may hold our pipes.
const grace = 2 * time.Second

// Local runs commands on the operator's machine by /bin/sh, each in a process group of its own that
// ends as a whole when the context does. Standard input is empty. It is safe for concurrent use.
type Local struct {
	Environ []string // what the command inherits, as os.Environ gives it
}

// Run runs the command; see Runner.
func (l Local) Run(ctx context.Context, c Command, output func(stream string, p []byte)) (Ended, error) {
	limited, cancel := ctx, context.CancelFunc(func() {})
	if c.Timeout > 0 {
		limited, cancel = context.WithTimeout(ctx, c.Timeout)
	}
	defer cancel()
	cmd := exec.CommandContext(limited, "/bin/sh", "-c", c.Shell)
	cmd.Dir = c.Dir
	cmd.Env = append(append([]string(nil), l.Environ...), environ(c.Env)...)
	out := newFunnel(output)
	cmd.Stdout, cmd.Stderr = out.stream("stdout"), out.stream("stderr")
	ownGroup(cmd)
	cmd.WaitDelay = grace
	began := time.Now()
	err := cmd.Run()
	if limited.Err() != nil {
		endGroup(cmd)
	}
	ended := Ended{Took: time.Since(began), TimedOut: limited.Err() != nil && ctx.Err() == nil}
	if ctx.Err() != nil {
		return ended, context.Cause(ctx)
	}
	return ended.fill(cmd.ProcessState, err)
}

// fill takes exit status and signal from the state of a process that has ended.
func (e Ended) fill(state *os.ProcessState, err error) (Ended, error) {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) && !e.TimedOut {
		return e, fmt.Errorf("start /bin/sh: %w", err)
	}
	if state != nil {
		e.Exit, e.Signal = state.ExitCode(), signalOf(state)
	}
	return e, nil
}

func environ(vars map[string]string) []string {
	list := make([]string, 0, len(vars))
	for name, value := range vars {
		list = append(list, name+"="+value)
	}
	return list
}

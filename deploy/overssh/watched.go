package overssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/sshx"
)

// watchdog runs a program the way the helper would, by a POSIX shell alone. It takes the environment
// as NAME=VALUE lines from its standard input, up to an empty one, so that no value stands in argv;
// then the program, in a session of its own, with nothing to read. When standard input ends, since
// the connection is gone or the run was stopped, the program's whole group is ended. The shell's text
// is constant; folder and program are its arguments.
const watchdog = `d=$1; shift
while IFS= read -r l && [ -n "$l" ]; do export "$l"; done
cd -- "$d" || exit 126
PWD=$d; export PWD
exec 3<&0
setsid "$@" </dev/null 3<&- & p=$!
( cat <&3; kill -TERM -$p; i=0; while kill -0 -$p && [ $i -lt 20 ]; do sleep 0.5; i=$((i+1)); done; kill -KILL -$p ) >/dev/null 2>&1 & w=$!
wait $p; s=$?
kill $w 2>/dev/null
exit $s`

// launcher starts a program that must outlive us: it is not watched.
const launcher = `d=$1; shift
while IFS= read -r l && [ -n "$l" ]; do export "$l"; done
cd -- "$d" || exit 126
PWD=$d; export PWD
exec "$@" </dev/null`

// watched runs a request of the helper's kind over a plain SSH session.
func watched(ctx context.Context, conn *sshx.Conn, req wire.ExecRequest, root bool, output func(stream string, p []byte)) (wire.ExecReply, error) {
	if len(req.Stdin) > 0 {
		return wire.ExecReply{}, fault.New(fault.HelperArch, "input for a program needs the helper")
	}
	command, err := shellCommand(req, root)
	if err != nil {
		return wire.ExecReply{}, err
	}
	input, hold := io.Pipe()
	go func() {
		_, _ = io.WriteString(hold, environLines(req.Env)) // then it stays open: its end is the order to stop
	}()
	stopped, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { _ = hold.Close() })()
	var timedOut atomic.Bool
	if req.Timeout > 0 {
		timer := time.AfterFunc(req.Timeout, func() { timedOut.Store(true); _ = hold.Close() })
		defer timer.Stop()
	}
	var one sync.Mutex // the two streams are read side by side; output is called for one at a time
	turns := func(stream string, p []byte) {
		one.Lock()
		defer one.Unlock()
		output(stream, p)
	}
	began := time.Now()
	err = conn.Run(stopped, command, input, stream{"stdout", turns}, stream{"stderr", turns})
	_ = hold.Close() // ends the goroutine that feeds it
	reply := wire.ExecReply{MS: time.Since(began).Milliseconds()}
	var exit *sshx.ExitError
	if errors.As(err, &exit) {
		reply.Exit, reply.Signal, err = exit.Status, exit.Signal, nil
	}
	if ctx.Err() != nil && err == nil {
		err = context.Cause(ctx)
	}
	reply.TimedOut = timedOut.Load()
	return reply, err
}

type stream struct {
	name   string
	output func(stream string, p []byte)
}

func (s stream) Write(p []byte) (int, error) {
	s.output(s.name, p)
	return len(p), nil
}

func shellCommand(req wire.ExecRequest, root bool) (string, error) {
	text := watchdog
	if req.Keep {
		text = launcher
	}
	dir := req.Dir
	if dir == "" {
		dir = "/"
	}
	argv := append([]string{"/bin/sh", "-c", text, "sh", dir}, asUser(req, root)...)
	return sshx.Quote(argv...)
}

// asUser puts runuser in front where root is to run something as somebody else.
func asUser(req wire.ExecRequest, root bool) []string {
	if req.User == "" || !root {
		return req.Argv
	}
	user, _, _ := strings.Cut(req.User, ":")
	return append([]string{"runuser", "-u", user, "--"}, req.Argv...)
}

// environLines gives the variables for the watchdog. A value of several lines cannot be given this
// way and is left out.
func environLines(env map[string]string) string {
	names := make([]string, 0, len(env))
	for name, value := range env {
		if !strings.ContainsAny(name+value, "\n\x00") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "%s=%s\n", name, env[name])
	}
	b.WriteString("\n")
	return b.String()
}

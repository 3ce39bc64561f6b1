package overssh

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
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
// the connection is gone or the run was stopped, the program's whole group is ended; with "keep" only the
// program, which starts what must outlive it. At its end the shell says so with the word that is $2: sshd
// tells it only when nobody holds the output any more. The shell's text is constant; folder and program are
// its arguments.
//
// Where setsid is missing perl or python3 does the same; with none of them only the program itself is ended.
const watchdog = `k=$1 t=$2 d=$3; shift 3
while IFS= read -r l && [ -n "$l" ]; do export "$l"; done
cd -- "$d" || exit 126
PWD=$d; export PWD
exec 3<&0
g=-
if command -v setsid >/dev/null 2>&1; then set -- setsid "$@"
elif command -v perl >/dev/null 2>&1; then set -- perl -e 'use POSIX; POSIX::setsid(); exec {$ARGV[0]} @ARGV; exit 127' "$@"
elif command -v python3 >/dev/null 2>&1; then set -- python3 -c 'import os, sys
os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])' "$@"
else g=; fi
[ "$k" = keep ] && g=
"$@" </dev/null 3<&- & p=$!
( cat <&3; kill -TERM $g$p; i=0; while kill -0 $g$p && [ $i -lt 20 ]; do sleep 0.5; i=$((i+1)); done; kill -KILL $g$p ) >/dev/null 2>&1 & w=$!
wait $p; s=$?
kill $w 2>/dev/null
[ "$k" = keep ] && echo "$t $s" >&2
exit $s`

// held is how long the output of what a program has left behind is still read.
const held = 2 * time.Second

// watched runs a request of the helper's kind over a plain SSH session.
func watched(ctx context.Context, conn *sshx.Conn, req wire.ExecRequest, root bool, output func(stream string, p []byte)) (wire.ExecReply, error) {
	if len(req.Stdin) > 0 {
		return wire.ExecReply{}, fault.New(fault.HelperArch, "input for a program needs the helper")
	}
	mark := &endMark{word: rand.Text(), seen: make(chan int, 1)}
	command, err := shellCommand(req, root, mark.word)
	if err != nil {
		return wire.ExecReply{}, err
	}
	input, hold := io.Pipe()
	go func() {
		_, _ = io.WriteString(hold, environLines(req.Env)) // then it stays open: its end is the order to stop
	}()
	stopped, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
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
	mark.out = stream{"stderr", turns}
	go mark.cut(stopped, stop)
	began := time.Now()
	err = conn.Run(stopped, command, input, stream{"stdout", turns}, mark)
	_ = hold.Close() // ends the goroutine that feeds it
	mark.flush()
	reply := wire.ExecReply{MS: time.Since(began).Milliseconds()}
	var exit *sshx.ExitError
	switch {
	case errors.As(err, &exit):
		reply.Exit, reply.Signal, err = exit.Status, exit.Signal, nil
	case errors.Is(err, errHeld):
		reply.Exit, reply.Held, err = mark.status, true, nil
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

func shellCommand(req wire.ExecRequest, root bool, word string) (string, error) {
	how := "end"
	if req.Keep {
		how = "keep"
	}
	dir := req.Dir
	if dir == "" {
		dir = "/"
	}
	argv := append([]string{"/bin/sh", "-c", watchdog, "sh", how, word, dir}, asUser(req, root)...)
	return sshx.Quote(argv...)
}

// errHeld ends a session whose program has ended and left its output to another.
var errHeld = errors.New("the program's output is still held")

// endMark takes the line out of a program's stderr by which the watchdog says that it has ended. cut and
// Write run side by side; all else comes after them.
type endMark struct {
	word   string
	out    io.Writer
	kept   []byte // what may be the beginning of the line
	seen   chan int
	status int
}

// maxStatus is how long the rest of the line behind the word may be.
const maxStatus = len(" 255\n")

func (m *endMark) Write(p []byte) (int, error) {
	m.kept = append(m.kept, p...)
	at := bytes.Index(m.kept, []byte(m.word))
	if at < 0 {
		m.pass(len(m.kept) - m.begun())
		return len(p), nil
	}
	m.pass(at)
	rest := m.kept[len(m.word):]
	end := bytes.IndexByte(rest, '\n')
	if end < 0 && len(rest) < maxStatus {
		return len(p), nil // the rest is on its way
	}
	status, err := strconv.Atoi(strings.TrimSpace(string(rest[:max(end, 0)])))
	if err != nil || status < 0 || status > 255 {
		m.pass(len(m.kept)) // the program said the word itself
		return len(p), nil
	}
	m.kept = append(m.kept[:0], rest[end+1:]...)
	select {
	case m.seen <- status:
	default: // it was said before
	}
	return len(p), nil
}

// begun is how much of the word may stand at the end of what is kept.
func (m *endMark) begun() int {
	for n := min(len(m.word)-1, len(m.kept)); n > 0; n-- {
		if strings.HasPrefix(m.word, string(m.kept[len(m.kept)-n:])) {
			return n
		}
	}
	return 0
}

// pass gives on so many bytes.
func (m *endMark) pass(n int) {
	if n > 0 {
		_, _ = m.out.Write(m.kept[:n]) // a stream takes everything
		m.kept = append(m.kept[:0], m.kept[n:]...)
	}
}

func (m *endMark) flush() { m.pass(len(m.kept)) }

// cut ends the session a while after the program. It ends with the session.
func (m *endMark) cut(session context.Context, stop context.CancelCauseFunc) {
	select {
	case m.status = <-m.seen:
	case <-session.Done():
		return
	}
	timer := time.NewTimer(held)
	defer timer.Stop()
	select {
	case <-timer.C:
		stop(errHeld)
	case <-session.Done():
	}
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

package helper

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

const (
	termGrace = 10 * time.Second // a cancelled program has to end after TERM
	restGrace = 2 * time.Second  // what a program left behind has to end after TERM
	killGrace = 5 * time.Second  // after KILL even a process in a system call should be gone
	drain     = 2 * time.Second  // output still waited for after the end

	searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

var errTimeout = errors.New("the program's time was up")

// programs runs programs and finds again what they started. Every program has a session of its own,
// and, unless it starts a daemon, a mark in its environment that its descendants inherit: so those
// that leave the session are found too, even after this helper was killed.
type programs struct {
	mark  string // of this helper
	grace time.Duration
	last  atomic.Int64
}

func newPrograms() (*programs, error) {
	me, err := readStat(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("look at this process: %w", err)
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return nil, fmt.Errorf("look at this process: %w", err)
	}
	mark := fmt.Sprintf("%s.%d.%d.%s", strings.Trim(space, "pid:[]"), me.pid, me.start, rand.Text()[:8])
	return &programs{mark: mark, grace: termGrace}, nil
}

func (h *host) exec(ctx context.Context, r *wire.Request) (any, error) {
	var req wire.ExecRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	return h.programs.run(ctx, req, r.Output)
}

// run runs a program to its end, and ends it when ctx does. What it left running is ended too,
// unless it was to start a daemon.
func (p *programs) run(ctx context.Context, req wire.ExecRequest, send func(byte, []byte) error) (wire.ExecReply, error) {
	if req.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, req.Timeout, errTimeout)
		defer stop()
	}
	mark := ""
	if !req.Keep {
		mark = fmt.Sprintf("%s-%d", p.mark, p.last.Add(1))
	}
	cmd, err := command(ctx, req, mark)
	if err != nil {
		return wire.ExecReply{}, err
	}
	out := &capped{send: send}
	streams, err := pipesOf(cmd, out)
	if err != nil {
		return wire.ExecReply{}, err
	}
	defer streams.close()
	// The kernel ends the child when the thread that made it ends, not when the process does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if ctx.Err() != nil { // making the command may have taken its time
		return wire.ExecReply{}, context.Cause(ctx)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return wire.ExecReply{}, notStarted(req, cmd, err)
	}
	streams.begin()
	p.see(ctx, cmd.Process.Pid, mark, req.Keep)
	err = cmd.Wait()
	took := time.Since(began)
	held := streams.finish()
	reply := wire.ExecReply{MS: took.Milliseconds(), Dropped: out.dropped(), Held: held || errors.Is(err, exec.ErrWaitDelay)}
	ended(&reply, cmd.ProcessState)
	reply.TimedOut = context.Cause(ctx) == errTimeout && (reply.Exit != 0)
	if ctx.Err() != nil && !reply.TimedOut && reply.Exit != 0 {
		return reply, ctx.Err()
	}
	return reply, nil
}

// see waits until the program has ended but not for its remains to be collected: as long as it is
// a zombie nobody else can get its number, and what is left of its session can safely be ended.
func (p *programs) see(ctx context.Context, pid int, mark string, keep bool) {
	of := func(s stat, marked func() string) bool {
		return s.session == pid || mark != "" && marked() == mark
	}
	gone := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		select {
		case <-ctx.Done():
			end(of, p.graceOf(context.Cause(ctx)))
		case <-gone:
		}
	})
	var info unix.Siginfo
	for unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	close(gone)
	killer.Wait()
	if !keep {
		end(of, restGrace)
	}
}

// graceOf is how long a program has to end after TERM. Where nobody waits for it any more the host has to
// be put in order, and that has a limit of its own.
func (p *programs) graceOf(cause error) time.Duration {
	if errors.Is(cause, wire.ErrGone) || errors.Is(cause, context.DeadlineExceeded) {
		return min(p.grace, restGrace)
	}
	return p.grace
}

// ended tells how a process ended.
func ended(reply *wire.ExecReply, state *os.ProcessState) {
	reply.Exit = state.ExitCode() // -1 for a signal
	if ws, ok := state.Sys().(interface {
		Signaled() bool
		Signal() unix.Signal
	}); ok && ws.Signaled() {
		reply.Signal = strings.TrimPrefix(unix.SignalName(ws.Signal()), "SIG")
	}
}

// command makes the process to start.
func command(ctx context.Context, req wire.ExecRequest, mark string) (*exec.Cmd, error) {
	who := self()
	attr := &unix.SysProcAttr{Setsid: true}
	if !req.Keep {
		attr.Pdeathsig = unix.SIGKILL
	}
	if req.User != "" {
		var err error
		if who, err = lookup(ctx, req.User); err != nil {
			return nil, err
		}
		if attr.Credential, err = become(who); err != nil {
			return nil, err
		}
	}
	env := environ(who, req, mark)
	path, err := find(req.Argv[0], env["PATH"])
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: path, Args: req.Argv, Dir: req.Dir, SysProcAttr: attr, WaitDelay: drain}
	for _, k := range slices.Sorted(maps.Keys(env)) {
		cmd.Env = append(cmd.Env, k+"="+env[k])
	}
	if req.Stdin != nil {
		cmd.Stdin = bytes.NewReader(req.Stdin)
	}
	return cmd, nil
}

// environ is small and the same on every host; what the login brought is left out. PWD is the
// folder as it was asked for: servers look there to keep a link in a path.
func environ(who account, req wire.ExecRequest, mark string) map[string]string {
	env := map[string]string{
		"PATH": searchPath, "HOME": who.home, "USER": who.name, "LOGNAME": who.name, "LANG": "C.UTF-8",
	}
	maps.Copy(env, req.Env)
	if req.Dir != "" {
		env["PWD"] = req.Dir
	}
	if mark != "" {
		env[markName] = mark
	}
	return env
}

// find looks a program up as execvp does, but only in absolute folders. A name with a slash is
// left for the kernel.
func find(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(path) {
		at := filepath.Join(dir, name)
		if info, err := os.Stat(at); filepath.IsAbs(dir) && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return at, nil
		}
	}
	return "", fault.New(fault.RemoteToolMissing, "%s is not on this host", name).Hint("looked in %s", path)
}

func notStarted(req wire.ExecRequest, cmd *exec.Cmd, err error) error {
	e := fault.New(fault.ExecFailed, "%s cannot be started", req.Argv[0]).Wrap(err)
	if !errors.Is(err, fs.ErrNotExist) {
		return e
	}
	if _, statErr := os.Stat(req.Dir); req.Dir != "" && statErr != nil {
		return e.Hint("the folder %s is not there", req.Dir)
	}
	if _, statErr := os.Stat(cmd.Path); statErr == nil {
		return e.Hint("the program named in its first line is not there; Windows line ends make such a name")
	}
	return e
}

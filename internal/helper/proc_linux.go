package helper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

const (
	maxProcs = 500
	maxArgs  = 1 << 10 // bytes of the arguments told of one process
)

// stat is what /proc/PID/stat says, as far as it is needed.
type stat struct {
	pid, ppid, session int
	state              byte
	start              uint64 // clock ticks since boot
}

// identity is the stat without what changes.
func (s stat) identity() stat { return stat{pid: s.pid, start: s.start} }

func readProc(pid int, name string, limit int64) ([]byte, error) {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), name))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit))
	return b, errors.Join(err, f.Close())
}

func readStat(pid int) (stat, error) {
	b, err := readProc(pid, "stat", 4<<10)
	if err != nil {
		return stat{}, err
	}
	return parseStat(pid, b)
}

// parseStat reads the fields after the name, which may hold anything, parentheses too.
func parseStat(pid int, b []byte) (stat, error) {
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 20 || len(f[0]) != 1 {
		return stat{}, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(f))
	}
	s := stat{pid: pid, state: f[0][0]}
	var errs [3]error
	s.ppid, errs[0] = strconv.Atoi(string(f[1]))
	s.session, errs[1] = strconv.Atoi(string(f[3]))
	s.start, errs[2] = strconv.ParseUint(string(f[19]), 10, 64)
	return s, errors.Join(errs[:]...)
}

// pids lists the processes there are.
func pids() []int {
	entries, _ := os.ReadDir("/proc") // what was read before an error still counts
	var list []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// allStats describes every process; what ends meanwhile is left out.
func allStats() []stat {
	var list []stat
	for _, pid := range pids() {
		if s, err := readStat(pid); err == nil {
			list = append(list, s)
		}
	}
	return list
}

// procs tells of a process and its children.
func procs(_ context.Context, req wire.ProcsRequest) (any, error) {
	first, err := readStat(req.PID)
	if err != nil || first.state == 'Z' {
		return wire.ProcsReply{}, nil
	}
	reply := wire.ProcsReply{Procs: []wire.Proc{describe(first)}}
	for _, s := range allStats() {
		if s.ppid == req.PID && s.state != 'Z' && len(reply.Procs) < maxProcs {
			reply.Procs = append(reply.Procs, describe(s))
		}
	}
	return reply, nil
}

func describe(s stat) wire.Proc {
	p := wire.Proc{PID: s.pid, PPID: s.ppid, UID: -1, Start: s.start}
	dir := filepath.Join("/proc", strconv.Itoa(s.pid))
	var st unix.Stat_t
	if unix.Stat(dir, &st) == nil {
		p.UID = int(st.Uid)
	}
	p.CWD = workingDir(s.pid)
	b, _ := readProc(s.pid, "cmdline", maxArgs) // none when it may not be seen
	if b = bytes.TrimRight(b, "\x00"); len(b) > 0 {
		p.Args = strings.Split(string(b), "\x00")
	}
	return p
}

// workingDir is the folder a process stands in, "" when it may not be seen.
func workingDir(pid int) string {
	dir, _ := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
	return dir
}

// workingDirs gives the folders live processes stand in and those their programs lie in.
func workingDirs(context.Context) ([]string, error) {
	var dirs []string
	for _, pid := range pids() {
		for _, link := range []string{"cwd", "exe"} {
			if d, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), link)); err == nil {
				dirs = append(dirs, d)
			}
		}
	}
	return dirs, nil
}

// signalProc signals a process if it is still the one that was seen.
func signalProc(_ context.Context, req wire.SignalRequest) (any, error) {
	err := sendSignal(req.PID, req.Start, unix.SignalNum("SIG"+req.Signal))
	switch {
	case errors.Is(err, os.ErrProcessDone):
		return nil, fault.New(fault.ExecFailed, "process %d has ended", req.PID)
	case errors.Is(err, unix.EPERM):
		return nil, fault.New(fault.SudoNeeded, "this user may not signal process %d", req.PID)
	}
	return nil, err
}

// sendSignal signals a process of that number and start time; os.ErrProcessDone when there is none.
// The descriptor holds the process fast between the look and the signal.
func sendSignal(pid int, start uint64, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ENOSYS || err == unix.EPERM { // an old kernel, or a sandbox that knows no descriptors
		if !alive(pid, start) {
			return os.ErrProcessDone
		}
		return done(unix.Kill(pid, sig))
	}
	if err != nil {
		return done(err)
	}
	defer func() { _ = unix.Close(fd) }() // nothing to lose
	if !alive(pid, start) {
		return os.ErrProcessDone
	}
	return done(unix.PidfdSendSignal(fd, sig, nil, 0))
}

func alive(pid int, start uint64) bool {
	s, err := readStat(pid)
	return err == nil && s.start == start && s.state != 'Z'
}

func done(err error) error {
	if err == unix.ESRCH {
		return os.ErrProcessDone
	}
	return err
}

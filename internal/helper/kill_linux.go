package helper

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// markName is the environment variable that marks what a helper started:
// PIDNAMESPACE.PID.START.NONCE of the helper, "-", and the program's number.
const markName = "GODEPLOY_EXEC"

// maxEnviron bounds what is read of another process's environment.
const maxEnviron = 1 << 20

// match picks processes; marked reads the process's mark, which costs more than the rest.
type match func(s stat, marked func() string) bool

// marker reads the mark a process was started with, "" when there is none or it may not be seen.
func marker(pid int) string {
	b, err := readProc(pid, "environ", maxEnviron)
	if err != nil {
		return ""
	}
	for v := range bytes.SplitSeq(b, []byte{0}) {
		if m, ok := bytes.CutPrefix(v, []byte(markName+"=")); ok {
			return string(m)
		}
	}
	return ""
}

// find lists the live processes that match; zombies are no longer alive, and this one is never
// meant.
func (m match) find() []stat {
	var list []stat
	for _, s := range allStats() {
		if s.state != 'Z' && s.state != 'X' && s.pid != os.Getpid() && m(s, func() string { return marker(s.pid) }) {
			list = append(list, s)
		}
	}
	return list
}

// end ends every process that matches, and those that come up meanwhile: TERM, and after the grace
// KILL. It returns when none is left, or when KILL has not helped for killGrace.
func end(m match, grace time.Duration) {
	const pause = 10 * time.Millisecond
	told := map[stat]bool{}
	began := time.Now()
	for {
		left := m.find()
		if len(left) == 0 || time.Since(began) > grace+killGrace {
			return
		}
		for _, s := range left {
			switch {
			case time.Since(began) >= grace:
				_ = sendSignal(s.pid, s.start, unix.SIGKILL) // it may be gone already
			case !told[s.identity()]:
				told[s.identity()] = true
				_ = sendSignal(s.pid, s.start, unix.SIGTERM) // it may be gone already
				_ = sendSignal(s.pid, s.start, unix.SIGCONT) // a stopped one would not hear it
			}
		}
		time.Sleep(pause)
	}
}

// killAll kills what this helper's programs left behind.
func (p *programs) killAll() {
	end(func(_ stat, marked func() string) bool { return strings.HasPrefix(marked(), p.mark+"-") }, 0)
}

// killOrphans kills what the programs of helpers left behind that are no longer there to do it:
// a hook of a dead run must not go on beside a new run.
func (p *programs) killOrphans() {
	space, _, _ := strings.Cut(p.mark, ".")
	end(func(_ stat, marked func() string) bool {
		f := strings.Split(marked(), ".")
		if len(f) != 4 || f[0] != space {
			return false
		}
		pid, err1 := strconv.Atoi(f[1])
		start, err2 := strconv.ParseUint(f[2], 10, 64)
		if err1 != nil || err2 != nil {
			return false
		}
		helper, err := readStat(pid)
		if err != nil { // only one that is not there is dead; what cannot be looked at may be at work
			return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
		}
		return helper.start != start || helper.state == 'Z'
	}, 0)
}

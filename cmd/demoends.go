package cmd

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"godeploy/internal/fault"
)

const (
	demoGrace = 3 * time.Second // what runs on the demo's servers has to end by then
	demoKill  = 2 * time.Second // and when killed, by then
)

// lifeline holds a connection to every shop of the demo. They end with it, however this process ends.
type lifeline struct {
	net.Listener
	mu     sync.Mutex
	conns  []net.Conn
	closed bool
}

func newLifeline(address string) (*lifeline, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	l := &lifeline{Listener: listener}
	go l.hold() // until close
	return l, nil
}

func (l *lifeline) hold() {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		l.mu.Lock()
		l.conns = append(l.conns, conn)
		if l.closed {
			_ = conn.Close() // that is what it waits for
		}
		l.mu.Unlock()
	}
}

func (l *lifeline) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	_ = l.Listener.Close() // nothing to lose
	for _, conn := range l.conns {
		_ = conn.Close() // nothing to lose
	}
}

// endBelow waits for the processes of this program that work in or below dir, and kills those that stay.
func endBelow(dir string) error {
	left := runningBelow(dir)
	for began, killed := time.Now(), false; len(left) > 0; left = runningBelow(dir) {
		since := time.Since(began)
		if since > demoGrace+demoKill {
			return fault.New(fault.Internal, "the demo leaves processes behind").Fact("pids %v", left).Hint("kill them by hand")
		}
		if since > demoGrace && !killed {
			killed = true
			killBelow(dir, left)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// runningBelow lists the processes that run this program, or a program in dir, and work in dir. A shell
// that the user has there is none of them.
func runningBelow(dir string) []int {
	entries, _ := os.ReadDir("/proc") // what was read before an error still counts
	var all []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() && runsBelow(pid, dir) {
			all = append(all, pid)
		}
	}
	return all
}

func runsBelow(pid int, dir string) bool {
	of := func(pid, name string) string {
		path, _ := os.Readlink(filepath.Join("/proc", pid, name)) // "" for another user's, and one that has ended
		return path
	}
	program, work := of(strconv.Itoa(pid), "exe"), of(strconv.Itoa(pid), "cwd")
	if below(program, dir) {
		return true
	}
	return program != "" && program == of("self", "exe") && below(work, dir)
}

func below(path, dir string) bool { return strings.HasPrefix(path, dir+string(filepath.Separator)) }

// killBelow kills processes that are still what they were when they were listed.
func killBelow(dir string, pids []int) {
	for _, pid := range pids {
		process, err := os.FindProcess(pid) // holds on to the process, so that the number cannot become another's
		if err == nil && runsBelow(pid, dir) {
			_ = process.Kill() // it may have ended meanwhile
		}
	}
}

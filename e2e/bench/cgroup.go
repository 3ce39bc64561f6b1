package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroup is a control group of the second version: what is started in it, and all that comes of that,
// is counted together.
type cgroup struct {
	path string
	dir  *os.File
}

// newCgroup makes one for this process's lifetime.
func newCgroup(name string) (*cgroup, error) {
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
		root += "/unified" // beside the first version
	}
	sweepGroups(root)
	g := &cgroup{path: filepath.Join(root, fmt.Sprintf("%s%d-%s", labPrefix, os.Getpid(), name))}
	if err := os.Mkdir(g.path, 0o755); err != nil {
		return nil, err
	}
	var err error
	if g.dir, err = os.Open(g.path); err != nil {
		return nil, errors.Join(err, os.Remove(g.path))
	}
	return g, nil
}

// sweepGroups ends and removes what a killed run has left.
func sweepGroups(root string) {
	left, err := filepath.Glob(filepath.Join(root, labPrefix+"*-*"))
	if err != nil {
		return // the pattern is fixed
	}
	for _, path := range left {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), labPrefix), "-")
		if gone(pid) {
			_ = os.WriteFile(path+"/cgroup.kill", []byte("1"), 0) // an old one in the way hurts nobody
			_ = os.Remove(path)
		}
	}
}

// attr is for a command that is to run in the group.
func (g *cgroup) attr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.dir.Fd())}
}

// cpu is the time all processes of the group have used so far.
func (g *cgroup) cpu() (time.Duration, error) {
	text, err := os.ReadFile(g.path + "/cpu.stat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "usage_usec "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return time.Duration(n) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("%s/cpu.stat has no usage_usec", g.path)
}

// processes lists the group's processes.
func (g *cgroup) processes() []string {
	text, err := os.ReadFile(g.path + "/cgroup.procs")
	if err != nil {
		return nil // it is being removed
	}
	return strings.Fields(string(text))
}

// settle waits until the group has no more processes than that: sessions take a moment to end, and
// what they do until then belongs to them.
func (g *cgroup) settle(ctx context.Context, processes int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for len(g.processes()) > processes {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d processes still run, not %d: %w", len(g.processes()), processes, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// peak gives the most memory one process of the group has had, of those whose command line has the
// word in it; "" is any.
func (g *cgroup) peak(word string) int64 {
	var most int64
	for _, pid := range g.processes() {
		line, err := os.ReadFile("/proc/" + pid + "/cmdline")
		if err == nil && strings.Contains(string(line), word) {
			most = max(most, residentPeak(pid))
		}
	}
	return most
}

// residentPeak reads VmHWM; a process that has just ended has none.
func residentPeak(pid string) int64 {
	f, err := os.Open("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	defer f.Close() // read only
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64) // the kernel's own number
			return n * 1024
		}
	}
	return 0
}

// Close ends what is still in the group, and removes it.
func (g *cgroup) Close() error {
	err := os.WriteFile(g.path+"/cgroup.kill", []byte("1"), 0)
	err = errors.Join(err, g.settle(context.Background(), 0))
	return errors.Join(err, g.dir.Close(), os.Remove(g.path))
}

package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pollEvery is how often a condition is looked at while it is waited for.
const pollEvery = 20 * time.Millisecond

// poll waits until cond holds. It ends with cond's last error when the context does.
func poll(ctx context.Context, cond func() error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := cond()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

func allPIDs() []int {
	entries, _ := os.ReadDir("/proc") // without /proc there are no processes to find
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// nspawnPIDs finds the nspawn processes by the machine name on their command line, so that those of
// a killed run are found too. A shell that is about to become one counts: it has the same words.
func nspawnPIDs(match func(machine string) bool) []int {
	var pids []int
	for _, pid := range allPIDs() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !bytes.Contains(line, []byte("systemd-nspawn")) {
			continue
		}
		args := strings.Split(string(line), "\x00")
		if name := filepath.Base(args[0]); name != "systemd-nspawn" && name != "sh" {
			continue
		}
		if i := slices.Index(args, "-M"); i >= 0 && i+1 < len(args) && match(args[i+1]) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// initOf gives the pid, seen from here, of the PID 1 that an nspawn process started; 0 while there is
// none. A host that reboots itself gets a new one, so it is looked up each time.
func initOf(nspawn int) int {
	for _, pid := range allPIDs() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		if field(status, "PPid:") == strconv.Itoa(nspawn) && strings.HasSuffix(field(status, "NSpid:"), "\t1") {
			return pid
		}
	}
	return 0
}

// field gives the rest of the first line of a /proc status file that starts with the name.
func field(status []byte, name string) string {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// haveCapability says whether a child of this process may be given the capability.
func haveCapability(number uint) bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	set, err := strconv.ParseUint(field(status, "CapBnd:"), 16, 64)
	return err == nil && set&(1<<number) != 0
}

// cgroupRoots lists the hierarchies in which systemd keeps its units: the one of a pure v2 machine,
// or the named and the unified one of older set-ups.
func cgroupRoots() []string {
	var roots []string
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			roots = append(roots, dir)
		}
	}
	return roots
}

// makeCgroups gives a host cgroups of its own and the files through which a process enters them.
// Without them every host's systemd would manage the same tree: stopping nginx on one host
// looks at the processes of all.
func makeCgroups(id, host string) ([]string, error) {
	var procs []string
	for _, root := range cgroupRoots() {
		dir := filepath.Join(root, "godeploy-e2e", id, host)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		procs = append(procs, filepath.Join(dir, "cgroup.procs"))
	}
	return procs, nil
}

// removeCgroups removes what a fleet's hosts made below their cgroups, innermost first. The kernel
// needs a moment to take a killed host's processes out; a group that is busy longer stays: it
// weighs nothing and is gone with the machine.
func removeCgroups(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, root := range cgroupRoots() {
		dir := filepath.Join(root, "godeploy-e2e", id)
		_ = poll(ctx, func() error { return removeEmptyDirs(dir) }) // see above
		_ = unix.Rmdir(filepath.Join(root, "godeploy-e2e"))         // other fleets may stand in it
	}
}

func removeEmptyDirs(dir string) error {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := removeEmptyDirs(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return unix.Rmdir(dir)
}

// inotifyInstances is enough for a dozen fleets: a booted Debian holds about eight.
const inotifyInstances = 1024

// allowInotify raises the machine's limit of inotify instances per user when it is lower. All hosts' root
// is one user to the kernel, and its default of 128 is used up by the third fleet: systemd then
// neither boots nor says why. The limit is only ever raised, and lasts until the machine's reboot.
func allowInotify(log func(format string, args ...any)) error {
	const path = "/proc/sys/fs/inotify/max_user_instances"
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	have, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || have >= inotifyInstances {
		return err
	}
	log("fs.inotify.max_user_instances is raised from %d to %d until the next reboot", have, inotifyInstances)
	return os.WriteFile(path, []byte(strconv.Itoa(inotifyInstances)), 0o644)
}

package hosts

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stateDir holds one folder per fleet with its lock. It is on a tmpfs: after a reboot of the
// machine nothing of a fleet exists, and neither does its state.
const stateDir = "/run/godeploy-e2e"

// idPattern finds a fleet's id in a namespace's or a folder's name.
var idPattern = regexp.MustCompile(`^(gd[0-9a-f]{6})(-|$)`)

// Sweep removes what fleets whose process is gone left behind: hosts, mounts, namespaces, folders. It
// leaves alone a fleet whose process lives and one that was asked to stay (Options.Keep): others
// may work on it. It gives the ids of the fleets it removed.
func Sweep() ([]string, error) {
	done, err := cleaning()
	if err != nil {
		return nil, err
	}
	defer done()
	ids, err := fleetIDs()
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, id := range ids {
		if kept(id) {
			continue
		}
		removed, err := removeUnlocked(id)
		if err != nil {
			return gone, fmt.Errorf("remove fleet %s: %w", id, err)
		}
		if removed {
			gone = append(gone, id)
		}
	}
	return gone, nil
}

// Kept lists the fleets that were asked to stay.
func Kept() ([]string, error) {
	ids, err := fleetIDs()
	return slices.DeleteFunc(ids, func(id string) bool { return !kept(id) }), err
}

// cleaning waits until nobody else on the machine removes a fleet. Without it a Sweep that has listed a
// fleet makes its folder anew just after its owner has removed it.
func cleaning() (done func(), err error) {
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return nil, err
	}
	return flock(filepath.Join(stateDir, "clean.lock"), unix.LOCK_EX)
}

func kept(id string) bool {
	_, err := os.Stat(filepath.Join(stateDir, id, "keep"))
	return err == nil
}

// Remove removes one kept fleet, named by its id: on a shared machine the others are somebody's.
func Remove(id string) error {
	done, err := cleaning()
	if err != nil {
		return err
	}
	defer done()
	if !kept(id) {
		return fmt.Errorf("no kept fleet %q", id)
	}
	removed, err := removeUnlocked(id)
	if err == nil && !removed {
		return fmt.Errorf("fleet %s is in use by a running process", id)
	}
	return err
}

// removeUnlocked removes a fleet unless a living process holds its lock, and says whether it did.
func removeUnlocked(id string) (bool, error) {
	state := filepath.Join(stateDir, id)
	if err := os.MkdirAll(state, 0o755); err != nil {
		return false, err
	}
	unlock, err := flock(filepath.Join(state, "lock"), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unlock()
	return true, tearDown(id)
}

// fleetIDs lists every fleet there is any trace of: a state folder, a namespace, a host that
// runs without either, or files that a reboot of the machine has left.
func fleetIDs() ([]string, error) {
	seen := map[string]bool{}
	for _, dir := range []string{stateDir, "/run/netns", filepath.Join(CacheDir(), "fleets")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		for _, e := range entries {
			if m := idPattern.FindStringSubmatch(e.Name()); m != nil {
				seen[m[1]] = true
			}
		}
	}
	nspawnPIDs(func(machine string) bool {
		if m := idPattern.FindStringSubmatch(machine); m != nil {
			seen[m[1]] = true
		}
		return false
	})
	return slices.Sorted(maps.Keys(seen)), nil
}

// tearDown removes one fleet, from whatever point its life stopped at. The caller holds its lock.
func tearDown(id string) error {
	if err := killMachines(id + "-"); err != nil {
		return err
	}
	state := filepath.Join(stateDir, id)
	work, err := os.ReadFile(filepath.Join(state, "work"))
	if os.IsNotExist(err) || err == nil && len(work) == 0 {
		work, err = []byte(filepath.Join(CacheDir(), "fleets", id)), nil
	}
	if err != nil {
		return err
	}
	if err := deleteNamespaces(id + "-"); err != nil {
		return err
	}
	removeCgroups(id)
	if err := removeTree(string(work)); err != nil {
		return err
	}
	return os.RemoveAll(state)
}

// killMachines ends the nspawn processes whose machine name has the prefix, and waits until they
// are gone: their mounts are busy before that.
func killMachines(prefix string) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		pids := nspawnPIDs(func(name string) bool { return strings.HasPrefix(name, prefix) })
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d hosts of %s outlive SIGKILL", len(pids), prefix)
		}
		for _, pid := range pids {
			if init := initOf(pid); init > 0 {
				_ = unix.Kill(init, unix.SIGKILL) // gone already is as good
			}
			_ = unix.Kill(pid, unix.SIGKILL) // likewise
		}
		time.Sleep(pollEvery)
	}
}

func deleteNamespaces(prefix string) error {
	names, err := filepath.Glob("/run/netns/" + prefix + "*")
	if err != nil {
		return err
	}
	for _, name := range names {
		// Processes started in the operator's namespace would keep it alive without a name.
		killIn(name)
		if out, err := exec.Command("ip", "netns", "del", filepath.Base(name)).CombinedOutput(); err != nil {
			return fmt.Errorf("ip netns del %s: %w: %s", filepath.Base(name), err, out)
		}
	}
	return nil
}

// killIn ends every process whose network namespace is the named one.
func killIn(path string) {
	var want, have unix.Stat_t
	if unix.Stat(path, &want) != nil {
		return
	}
	for _, pid := range allPIDs() {
		if pid == os.Getpid() || unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &have) != nil {
			continue
		}
		if have.Ino == want.Ino && have.Dev == want.Dev {
			_ = unix.Kill(pid, unix.SIGKILL) // gone already is as good
		}
	}
}

// removeTree removes a folder that may have mounts below it. It refuses to delete anything while
// a mount is left: what lies behind one is not ours.
func removeTree(dir string) error {
	for _, mount := range mountsUnder(dir) {
		if err := unix.Unmount(mount, unix.UMOUNT_NOFOLLOW); err != nil {
			if err = unix.Unmount(mount, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
				return fmt.Errorf("unmount %s: %w", mount, err)
			}
		}
	}
	if left := mountsUnder(dir); len(left) > 0 {
		return fmt.Errorf("%s is still mounted, %s stays", left[0], dir)
	}
	return os.RemoveAll(dir)
}

// mountsUnder lists the mount points at and below a folder, innermost first.
func mountsUnder(dir string) []string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	// The kernel writes blanks in octal here.
	blanks := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var found []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if point := blanks.Replace(fields[4]); point == dir || strings.HasPrefix(point, dir+"/") {
			found = append(found, point)
		}
	}
	slices.Reverse(found)
	return found
}

// flock takes a lock file and gives the function that lets go. The kernel lets go too when the
// process dies, so nothing is ever stale.
func flock(path string, how int) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return func() { _ = f.Close() }, nil // nothing was written
}

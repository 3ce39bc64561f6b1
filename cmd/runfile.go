package cmd

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
)

const (
	keptRuns    = 50       // run files that are kept
	maxRunLine  = 1 << 20  // longest line read back from one
	maxRunBytes = 64 << 20 // most that is read back from one
)

func newRunID(now time.Time) string { return now.UTC().Format("20060102-150405") }

// logs opens --log and the run file, and gives the path of the latter. A run file that cannot be written is no reason to stop and comes
// back as a warning; a --log that was asked for is.
func (c *call) logs(greeting hello) (kept []sink, path, warning string, err error) {
	if c.opt.Log != "" {
		f, err := os.OpenFile(c.path(c.opt.Log), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, "", "", usagef("the log file cannot be written").Wrap(err)
		}
		kept = append(kept, newJSONLines(f, f, greeting))
	}
	if c.file == nil || c.leaf.cmd == nil || !c.leaf.cmd.Story {
		return kept, "", "", nil
	}
	f, err := openRunFile(filepath.Join(c.file.Dir, ".godeploy"), greeting.Run)
	if err != nil {
		return kept, "", fmt.Sprintf("this run is not recorded: %v", err), nil
	}
	return append(kept, newJSONLines(f, f, greeting)), f.Name(), "", nil
}

// path makes a path of the command line absolute.
func (c *call) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.sys.Dir, name)
}

// openRunFile makes the file of a run in dir/runs, with a number behind the name when two runs start
// within a second, and removes the oldest ones.
func openRunFile(dir, run string) (*os.File, error) {
	runs := filepath.Join(dir, "runs")
	if err := os.MkdirAll(runs, 0o755); err != nil {
		return nil, err
	}
	if err := ignoreRuns(dir); err != nil {
		return nil, err
	}
	if err := pruneRuns(runs, keptRuns-1); err != nil {
		return nil, err
	}
	for i := 1; ; i++ {
		name := run
		if i > 1 {
			name = fmt.Sprintf("%s-%d", run, i)
		}
		f, err := os.OpenFile(filepath.Join(runs, name+".jsonl"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if !errors.Is(err, fs.ErrExist) || i > 100 {
			return f, err
		}
	}
}

// ignoreRuns keeps run files out of the user's commits; a .gitignore that is there is the user's.
func ignoreRuns(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, ".gitignore"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString("runs/\n")
	return errors.Join(err, f.Close())
}

// runFiles lists the run files, oldest first: their names sort by time.
func runFiles(runs string) ([]string, error) {
	entries, err := os.ReadDir(runs)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), ".jsonl") {
			all = append(all, filepath.Join(runs, e.Name()))
		}
	}
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.TrimSuffix(a, ".jsonl"), strings.TrimSuffix(b, ".jsonl")))
	})
	return all, nil
}

func pruneRuns(runs string, keep int) error {
	all, err := runFiles(runs)
	if err != nil {
		return err
	}
	for _, old := range all[:max(0, len(all)-keep)] {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// failedHosts answers @failed: the hosts that failed in the newest run of this environment that did
// not succeed. It reads nothing unless the pattern is asked for.
func (c *call) failedHosts() ([]string, error) {
	if !slices.ContainsFunc(c.opt.Limit, func(p string) bool { return strings.Contains(p, "@failed") }) {
		return nil, nil
	}
	files, err := runFiles(filepath.Join(c.file.Dir, ".godeploy", "runs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the runs before this one: %w", err)
	}
	for _, path := range slices.Backward(files) {
		hosts, found, err := failedIn(path, c.env)
		if err != nil {
			return nil, err
		}
		if found {
			return hosts, nil
		}
	}
	return nil, fault.New(fault.LimitEmpty, "no run of %s has failed, so @failed names no host", c.env.Name).
		Hint("the last %d runs are kept in .godeploy/runs", keptRuns)
}

// failedIn reads one run file; found says that it is a failed run of env.
func failedIn(path string, env *inventory.Env) (hosts []string, found bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	scanner := bufio.NewScanner(io.LimitReader(f, maxRunBytes))
	scanner.Buffer(nil, maxRunLine)
	for scanner.Scan() {
		var e event.Event
		if json.Unmarshal(scanner.Bytes(), &e) != nil {
			continue // the last line of a run that was killed may be half a line
		}
		switch {
		case e.Type == event.RunStart && e.Env != env.Name:
			return nil, false, nil
		case e.Type == event.HostEnd && failing(e.Result):
			hosts = appendKnown(hosts, env, e.Host)
		case e.Type == event.Error:
			hosts = appendKnown(hosts, env, append(e.Hosts, e.Host)...)
		}
	}
	return hosts, len(hosts) > 0, nil
}

// failing reports whether a host's result means that it failed itself. One that was only taken back, since
// another failed, did not.
func failing(result string) bool {
	return result != "ok" && result != "unchanged" && result != "rolled_back"
}

// appendKnown adds hosts that the environment still has, each once.
func appendKnown(hosts []string, env *inventory.Env, names ...string) []string {
	for _, n := range names {
		if _, ok := env.Host(n); ok && !slices.Contains(hosts, n) {
			hosts = append(hosts, n)
		}
	}
	return hosts
}

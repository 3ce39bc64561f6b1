package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"godeploy/deploy"
	"godeploy/internal/wire"
)

// findings are what is wrong, each begins with the invariant of release.md that it breaks.
type findings []string

func (f *findings) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

// seen is a host as its disk and its service show it.
type seen struct {
	current string // release, "" for no link
	serving string
	code    string
	journal *wire.Journal
}

func (l *lab) look(h string) (s seen, err error) {
	to, err := os.Readlink(filepath.Join(l.shop(h), "current"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s.current = strings.TrimPrefix(to, "releases/")
	s.serving, s.code = l.serving(h)
	b, err := os.ReadFile(filepath.Join(l.shop(h), ".godeploy/journal"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		s.journal = &wire.Journal{}
		err = json.Unmarshal(b, s.journal)
	}
	return s, err
}

// afterFault checks what must hold whatever has struck, while nothing runs any more. left names the hosts
// whose helper had the time to put them right: there nothing may be half-way.
func (l *lab) afterFault(before map[string]seen, left map[string]bool) findings {
	var f findings
	for _, h := range hostNames() {
		s, err := l.look(h)
		if err != nil {
			f.add("I1: %s: %v", h, err)
			continue
		}
		if s.current != "" {
			f = append(f, l.complete(h, s.current)...)
		}
		if was := before[h]; was.current != "" {
			f = append(f, l.complete(h, was.current)...) // I2: the release before is untouched
			if s.current == "" {
				f.add("I1: %s has no current any more", h)
			}
			if s.serving == "" {
				f.add("I3: %s serves nothing", h)
			}
		}
		if left[h] {
			f = append(f, l.settled(h, s)...)
		}
		if !l.freeSoon(h) {
			f.add("I6: %s: the lock is still held", h)
		}
		f = append(f, l.outside(h)...)
	}
	return append(f, l.secret()...)
}

// settled: a host is on one release, serves that one, and its journal has nothing open.
func (l *lab) settled(h string, s seen) (f findings) {
	if s.journal.Open() {
		f.add("half-way: %s: the journal is open at %s (%s)", h, s.journal.Step, s.journal.Why)
	}
	if s.serving != s.current || s.current != "" && !healthy(h, s.code) {
		f.add("half-way: %s: current is %q, and %q is served (%s)", h, s.current, s.serving, s.code)
	}
	return f
}

// complete compares a release with the tree it was made from.
func (l *lab) complete(h, id string) (f findings) {
	l.mu.Lock()
	version, ok := l.known[id]
	l.mu.Unlock()
	if !ok {
		f.add("I1: %s: current is %s, which no run has made", h, id)
		return f
	}
	root := filepath.Join(l.shop(h), "releases", id)
	src := filepath.Join(l.dir, "src", version)
	err := filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(src, p)
		if err := same(p, filepath.Join(root, rel), d); err != nil {
			f.add("I1: %s: release %s: %v", h, id, err)
		}
		return nil
	})
	if err != nil {
		f.add("I1: %s: %v", h, err)
	}
	if _, err := os.Stat(filepath.Join(root, ".built")); err != nil {
		f.add("I4: %s: release %s was switched to before it was built", h, id)
	}
	if _, err := os.Stat(filepath.Join(l.shop(h), ".godeploy/releases", id+".json")); err != nil {
		f.add("I1: %s: release %s has no record", h, id)
	}
	return f
}

func same(want, got string, d fs.DirEntry) error {
	info, err := os.Lstat(got)
	if err != nil {
		return err
	}
	wanted, err := d.Info()
	if err != nil {
		return err
	}
	if info.Mode() != wanted.Mode() {
		return fmt.Errorf("%s has mode %s, not %s", got, info.Mode(), wanted.Mode())
	}
	switch {
	case d.Type() == fs.ModeSymlink:
		a, _ := os.Readlink(want)
		if b, _ := os.Readlink(got); a != b {
			return fmt.Errorf("%s leads to %q, not %q", got, b, a)
		}
	case d.Type().IsRegular():
		a, err1 := os.ReadFile(want)
		b, err2 := os.ReadFile(got)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if string(a) != string(b) {
			return fmt.Errorf("%s has another content: %d bytes, not %d", got, len(b), len(a))
		}
	}
	return nil
}

// free reports whether the lock of a host can be had.
func (l *lab) free(h string) bool {
	f, err := os.Open(filepath.Join(l.shop(h), ".godeploy/lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		return false
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// freeSoon waits: a program that was about to be started when its helper was killed has the lock's
// descriptor until the kernel has put the program in its place.
func (l *lab) freeSoon(h string) bool {
	for deadline := time.Now().Add(30 * time.Second); !l.free(h); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// outside: nothing lies where nothing of godeploy's belongs (I7).
func (l *lab) outside(h string) (f findings) {
	for dir, allowed := range map[string][]string{
		l.host(h): {"run", "shop"}, filepath.Join(l.host(h), "run"): {"serving", "serving.new", "log"},
		l.shop(h): {".godeploy", "current", "releases", "shared"}, filepath.Join(l.shop(h), "shared"): {"secret.env", "data"},
	} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if !slices.Contains(allowed, e.Name()) {
				f.add("I7: %s", filepath.Join(dir, e.Name()))
			}
		}
	}
	return f
}

// secret: what stands in a shared file stands nowhere else.
func (l *lab) secret() (f findings) {
	for _, h := range hostNames() {
		_ = filepath.WalkDir(filepath.Join(l.shop(h), ".godeploy"), func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), canary) {
				f.add("I14: the secret stands in %s", p)
			}
			return nil
		})
	}
	if strings.Contains(l.told(), canary) {
		f.add("I14: the secret stands in what was told")
	}
	return f
}

// truth compares what a run said of each host with what is there (I9). The controller must have lived.
func (l *lab) truth(result *deploy.Result, runErr error, before map[string]seen) (f findings) {
	for _, h := range result.Hosts {
		s, err := l.look(h.Host)
		if err != nil {
			f.add("I9: %s: %v", h.Host, err)
			continue
		}
		was := before[h.Host].current
		switch h.Outcome {
		case deploy.Healthy:
			if s.current != result.Release || s.serving != result.Release {
				f.add("I9: %s is told as healthy on %s, and has %q, serves %q", h.Host, result.Release, s.current, s.serving)
			}
		case deploy.Unchanged, deploy.Staged, deploy.RolledBack:
			if s.current != was || s.serving != was {
				f.add("I9: %s is told as %s, and has %q, serves %q; before it had %q", h.Host, h.Outcome, s.current, s.serving, was)
			}
		}
		if runErr == nil && h.Outcome != deploy.Healthy && h.Outcome != deploy.Unchanged {
			f.add("I9: the run is told as done, and %s as %s", h.Host, h.Outcome)
		}
	}
	return f
}

// afterNext checks a fleet over which a plain release has gone: all is as if nothing had ever happened.
func (l *lab) afterNext(result *deploy.Result, err error) (f findings) {
	if err != nil {
		f.add("I5: the next release: %v", err)
		return f
	}
	for _, h := range hostNames() {
		s, err := l.look(h)
		if err != nil || s.current != result.Release || s.serving != result.Release {
			f.add("I10: %s has %q, serves %q, not %s: %v", h, s.current, s.serving, result.Release, err)
		}
		f = append(f, l.settled(h, s)...)
		f = append(f, l.complete(h, result.Release)...) // I13: the same bytes on every host
		f = append(f, l.outside(h)...)
		f = append(f, l.leftover(h)...)
		f = append(f, l.turns(h)...)
	}
	f = append(f, l.orphans()...)
	return append(f, l.secret()...)
}

// leftover: what a dead run has left is gone, but two transfers that were cut may wait for their next try, and the
// folders of one release that nobody needs for the next one.
func (l *lab) leftover(h string) (f findings) {
	partial, retired := 0, 0
	for _, dir := range []string{"releases", ".godeploy", ".godeploy/releases", ".godeploy/manifests"} {
		entries, _ := os.ReadDir(filepath.Join(l.shop(h), dir))
		for _, e := range entries {
			switch name := e.Name(); {
			case dir == "releases" && strings.HasSuffix(name, ".partial"):
				partial++
			case dir == "releases" && strings.HasPrefix(name, ".gone-"):
				retired++
			case strings.HasPrefix(name, ".gone-"), strings.HasSuffix(name, ".new"):
				f.add("left: %s has %s/%s", h, dir, name)
			}
		}
	}
	if retired > 1 {
		f.add("left: %s has %d trees that nobody needs", h, retired)
	}
	if partial > 2 {
		f.add("left: %s has %d cut transfers", h, partial)
	}
	return f
}

// orphans: no process of a dead run goes on.
func (l *lab) orphans() (f findings) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		b, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && strings.Contains(string(b), "GODEPLOY_PATH="+l.dir+"/") {
			line, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
			f.add("I6: process %s goes on: %q", e.Name(), line)
		}
	}
	return f
}

package filesync

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// mutator changes a folder without pause and keeps every state that each path has had: a path holds
// nothing (""), a folder ("dir") or a content (its sum). What comes is noted before it can be seen.
type mutator struct {
	rng   *rand.Rand
	dir   string
	names []string
	mu    sync.Mutex
	had   map[string]map[string]bool
	now   map[string]string // content of each file
	err   error
	steps int
	pause int // turns of a loop between two changes, at most
}

func newMutator(seed uint64, dir string) *mutator {
	m := &mutator{rng: rand.New(rand.NewPCG(seed, 2)), dir: dir, had: map[string]map[string]bool{}, now: map[string]string{}}
	m.pause = []int{2000, 1_000_000, 20_000_000}[seed%3]
	for i := range 8 {
		m.names = append(m.names, fmt.Sprintf("d%d/f%d", i%3, i))
	}
	m.names = append(m.names, "big", "top")
	for _, name := range m.names {
		m.err = errors.Join(m.err, os.MkdirAll(filepath.Dir(m.path(name)), 0o755), m.whole(name, m.content(name)))
	}
	return m
}

func (m *mutator) path(name string) string { return filepath.Join(m.dir, name) }

func (m *mutator) content(name string) string {
	if name == "big" {
		return noise(m.rng.Uint64(), ChunkedFrom+m.rng.IntN(3)*100_000)
	}
	return noise(m.rng.Uint64(), m.rng.IntN(20_000))
}

func stateOf(content string) string { s := sum([]byte(content)); return s.String() }

// note keeps a state that is about to be, or may be on the way to another.
func (m *mutator) note(name, state string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.had[name] == nil {
		m.had[name] = map[string]bool{}
	}
	m.had[name][state] = true
}

// knows reports whether a path was ever in this state.
func (m *mutator) knows(name, state string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.had[name][state]
}

// whole makes a file with a content by a rename.
func (m *mutator) whole(name, content string) error {
	m.note(name, stateOf(content))
	m.now[name] = content
	temp := filepath.Join(m.dir, ".git") // is never sent
	return errors.Join(os.WriteFile(temp, []byte(content), 0o644), os.Rename(temp, m.path(name)))
}

// step makes one change.
func (m *mutator) step() error {
	name := m.names[m.rng.IntN(len(m.names))]
	old, there := m.now[name]
	if !there {
		m.note(name, "")
		return errors.Join(os.RemoveAll(m.path(name)), m.whole(name, m.content(name)))
	}
	switch m.rng.IntN(7) {
	case 0:
		return m.whole(name, m.content(name))
	case 1:
		return m.write(name, old+noise(m.rng.Uint64(), 1+m.rng.IntN(3000)), len(old))
	case 2: // same size, and the time put back
		info, err := os.Stat(m.path(name))
		if err != nil || len(old) == 0 {
			return err
		}
		at := m.rng.IntN(len(old))
		return errors.Join(m.write(name, old[:at]+"#"+old[at+1:], at), os.Chtimes(m.path(name), info.ModTime(), info.ModTime()))
	case 3:
		n := m.rng.IntN(len(old) + 1)
		m.note(name, stateOf(old[:n]))
		m.now[name] = old[:n]
		return os.Truncate(m.path(name), int64(n))
	case 4:
		m.note(name, "")
		delete(m.now, name)
		return os.Remove(m.path(name))
	case 5: // a folder in its place
		m.note(name, "")
		m.note(name, "dir")
		m.note(name+"/in", stateOf("in"))
		m.note(name+"/in", stateOf(""))
		delete(m.now, name)
		return errors.Join(os.Remove(m.path(name)), os.Mkdir(m.path(name), 0o755), os.WriteFile(m.path(name)+"/in", []byte("in"), 0o644))
	}
	return m.whole(name, old) // another inode with the same content
}

// write puts what is in content from a place on into the file as it lies there, in one call.
func (m *mutator) write(name, content string, from int) error {
	m.note(name, stateOf(content))
	m.now[name] = content
	f, err := os.OpenFile(m.path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	end := min(from+4096, len(content)) // a page at most is written in one piece
	for ; from < len(content); from, end = end, min(end+4096, len(content)) {
		_, werr := f.WriteAt([]byte(content[from:end]), int64(from))
		m.note(name, stateOf(content[:end]))
		err = errors.Join(err, werr)
	}
	return errors.Join(err, f.Close())
}

// run changes things until ctx ends.
func (m *mutator) run(ctx context.Context) {
	for ctx.Err() == nil && m.err == nil {
		m.err = m.step()
		m.steps++
		for range m.rng.IntN(m.pause) { // from next to nothing to as long as a sync takes
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// mutatorRounds is how often a sync runs against the mutator: a sample, or all with GODEPLOY_TEST_FULL.
func mutatorRounds() int {
	if os.Getenv("GODEPLOY_TEST_FULL") != "" {
		return 1000
	}
	return 21
}

// TestASourceThatChangesMeanwhile: whatever is done to a source while it is synced, every file that arrives
// holds a state that it has had, or nothing arrives. N24.
func TestASourceThatChangesMeanwhile(t *testing.T) {
	t.Parallel()
	first := uint64(time.Now().UnixNano() % 1_000_000)
	for name, run := range map[string]func(t *testing.T, m *mutator, fsys FS, app string, round int) error{
		"staged": mutatedRelease, "in place": mutatedPlace,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := t.TempDir()
			fsys := noSync{openDir(t, app)}
			done, steps := 0, 0
			for round := range mutatorRounds() {
				m := newMutator(first+uint64(round), t.TempDir())
				if run(t, m, fsys, app, round) == nil {
					done++
				}
				steps += m.steps
				if must(t, m.err); t.Failed() {
					t.Fatalf("seed %d", first+uint64(round))
				}
				must(t, os.RemoveAll(m.dir))
			}
			t.Logf("%d of %d rounds came through, with %d changes", done, mutatorRounds(), steps)
			if done == 0 || done == mutatorRounds() || steps < mutatorRounds() {
				t.Error("the source was not changed enough")
			}
		})
	}
}

// mutatedRelease makes a release out of a source that is still, and the next one out of it while it changes.
func mutatedRelease(t *testing.T, m *mutator, fsys FS, app string, round int) error {
	old, id := fmt.Sprintf("r%d", 2*round), fmt.Sprintf("r%d", 2*round+1)
	release(t, scanDir(t, m.dir), fsys, old, "")
	before := portrait(t, filepath.Join(app, "releases", old))
	err := meanwhile(t, m, func(src *Source) error {
		e := transfer(t, src, SendOptions{Hosts: 1 + round%2}, into(fsys, id, old))
		return errors.Join(e.sendErr, e.receiveErr)
	})
	into := filepath.Join(app, "releases", id)
	if _, statErr := os.Stat(into); (statErr == nil) != (err == nil) {
		t.Errorf("the sync says %v and the release %v", err, statErr)
	}
	if err == nil {
		allKnown(t, m, into)
	}
	if after := portrait(t, filepath.Join(app, "releases", old)); difference(before, after) != "" {
		t.Errorf("the old release changed:\n%s", difference(before, after))
	}
	must(t, errors.Join(fsys.RemoveAll("releases"), fsys.RemoveAll(manifestsDir)))
	return err
}

// mutatedPlace does the same in place.
func mutatedPlace(t *testing.T, m *mutator, fsys FS, app string, _ int) error {
	o := placeOptions(fsys)
	o.Delete, o.Limit = true, MaxDelete{N: 100, Percent: true}
	placed(t, scanDir(t, m.dir), o)
	before := portrait(t, app)
	err := meanwhile(t, m, func(src *Source) error {
		_, err := placeFrom(t.Context(), src, o)
		return err
	})
	allKnown(t, m, app)
	if after := portrait(t, app); err != nil && difference(before, after) != "" {
		t.Errorf("it did not come through (%v) and yet changed:\n%s", err, difference(before, after))
	}
	return err
}

// meanwhile scans and syncs a source while it changes.
func meanwhile(t *testing.T, m *mutator, sync func(*Source) error) error {
	t.Helper()
	now := time.Now()
	if m.rng.IntN(2) == 0 {
		now = later() // as if all had been at rest: what a stat shows is trusted
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); m.run(ctx) }()
	src, err := scanAt(t.Context(), m.dir, ScanOptions{}, now)
	if err == nil {
		err = errors.Join(sync(src), src.Close())
	}
	cancel()
	<-ended
	return err
}

// allKnown fails the test when a file holds what it never held in the source.
func allKnown(t *testing.T, m *mutator, dir string) {
	t.Helper()
	for _, path := range listTree(dir) {
		info, err := os.Lstat(filepath.Join(dir, path))
		must(t, err)
		if info.IsDir() {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, path))
		must(t, err)
		if !m.knows(path, stateOf(string(content))) && filepath.Dir(path) != manifestsDir {
			t.Errorf("%s has %d bytes that it never had", path, len(content))
		}
	}
}

package cmd

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write golden files and generated docs")

// machine is a System for tests, with what it printed.
type machine struct {
	System
	out, err syncBuffer
}

// syncBuffer may be read while something writes to it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newMachine(t *testing.T, env ...string) *machine {
	t.Helper()
	m := &machine{}
	start := time.Date(2026, 11, 23, 10, 41, 7, 3e6, time.UTC)
	m.System = System{
		Stdin: strings.NewReader(""), Stdout: &m.out, Stderr: &m.err, Dir: t.TempDir(), Home: t.TempDir(), User: "ops",
		Now: func() time.Time { return start },
		Env: func(name string) string {
			for _, pair := range env {
				if v, ok := strings.CutPrefix(pair, name+"="); ok {
					return v
				}
			}
			return ""
		},
	}
	return m
}

func (m *machine) run(args ...string) int {
	return Main(append([]string{"godeploy"}, args...), m.System)
}

func (m *machine) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(m.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const smallFile = `version = 1
default_env = "prod"
[app]
name = "swiper"
path = "/opt/swiper"
[process]
unit = "swiper.service"
[health]
url = "http://127.0.0.1:9000/healthz"
[env.prod.hosts]
app1 = { role = "app", address = "10.0.0.1" }
app2 = { role = "app", address = "10.0.0.2", weight = 20 }
[env.staging.hosts]
box = { role = "app", address = "192.0.2.50" }
`

// golden compares with testdata/NAME, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	compareFile(t, path, got)
}

func compareFile(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s differs from what is made now (go test ./cmd -update writes it)\n--- got\n%s\n--- want\n%s", path, got, want)
	}
}

// testTree has every shape of command: own flags that shadow global ones, optional values, groups, a rest.
func testTree(seen *call) []*command {
	keep := func(_ context.Context, c *call) error {
		seen.leaf, seen.flags, seen.opt, seen.words = c.leaf, c.flags, c.opt, c.words
		seen.rest, seen.hasRest = c.rest, c.hasRest
		return nil
	}
	return []*command{
		{Name: "release", Group: groupRelease, Usage: "release", MaxArgs: 1, Run: keep, Flags: releaseFlags()},
		{Name: "bench", Group: groupRelease, Usage: "bench", MaxArgs: 1, Run: keep, Flags: benchFlags()},
		{Name: "run", Group: groupRelease, Usage: "run", MaxArgs: 1, Rest: true, Run: keep},
		{Name: "keys", Group: groupAccess, Usage: "keys", Sub: []*command{
			{Name: "trust", Group: groupAccess, Usage: "trust", MaxArgs: 1, Run: keep},
			{Name: "list", Aliases: []string{"ls"}, Group: groupAccess, Usage: "list", MaxArgs: 1, Run: keep},
		}},
	}
}

// parse runs a line through permute and urfave/cli with the tree above.
func parse(args ...string) (*call, error) {
	seen := &call{}
	l, err := permute(testTree(seen), args)
	if err != nil {
		return seen, err
	}
	if l.help || l.version {
		return seen, errHelp
	}
	c := &call{sys: System{Env: func(string) string { return "" }}}
	return seen, c.dispatch(context.Background(), testTree(seen), l)
}

var errHelp = errors.New("help")

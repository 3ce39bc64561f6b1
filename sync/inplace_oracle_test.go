package filesync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"godeploy/internal/fault"
)

// node is one thing of a random tree.
type node struct {
	kind    Kind
	content string // of a file; text of a link
	mode    fs.FileMode
	mtime   time.Time
}

// forest is a random tree by path; every folder on the way is in it.
type forest map[string]node

var oddNames = []string{"a", "b", "c", "d.log", "keep", "hid", "x y", "-n", "--", "a\nb", "\xff\xfe", "ü", "u\u0308", "A", "a-b", "a.b", " ", "\x1b[m", "'", "*", "[a]", ".hidden", "n"}

func (f forest) folders() []string {
	list := []string{"."}
	for path, n := range f {
		if n.kind == Dir {
			list = append(list, path)
		}
	}
	slices.Sort(list)
	return list
}

func (f forest) paths() []string {
	var list []string
	for path := range f {
		list = append(list, path)
	}
	slices.Sort(list)
	return list
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

func someTime(rng *rand.Rand) time.Time {
	switch rng.IntN(8) {
	case 0:
		return time.Unix(0, 0)
	case 1:
		return time.Unix(-1, 999_999_999)
	case 2:
		return time.Unix(4_000_000_000, 1)
	}
	return time.Unix(1_700_000_000+int64(rng.IntN(50)), int64(rng.IntN(3))*333_333_333)
}

func someNode(rng *rand.Rand) node {
	n := node{mtime: someTime(rng), mode: pick(rng, []fs.FileMode{0o644, 0o755, 0o600, 0o444, 0o777, 0o640})}
	switch rng.IntN(7) {
	case 0, 1:
		n.kind, n.mode = Dir, pick(rng, []fs.FileMode{0o755, 0o700, 0o555, 0o775, 0o500})
	case 2:
		n.kind, n.content = Link, pick(rng, []string{"a", "b/c", "../x", "/etc/passwd", "nowhere", "..", "x y"})
	default:
		n.kind = File
		n.content = strings.Repeat(string(rune('a'+rng.IntN(4))), pick(rng, []int{0, 1, 5, 5, 5, 100, 5000}))
		if rng.IntN(60) == 0 {
			n.content = noise(uint64(rng.IntN(3)), ChunkedFrom+rng.IntN(3)*100_000)
		}
	}
	return n
}

func plant(rng *rand.Rand, n int) forest {
	f := forest{}
	for range n {
		f[join(pick(rng, f.folders()), pick(rng, oddNames))] = someNode(rng)
		f.prune()
	}
	return f
}

// prune drops what lies below something that is no folder any more.
func (f forest) prune() {
	for _, path := range f.paths() {
		if dir, _ := split(path); dir != "." && f[dir].kind != Dir {
			delete(f, path)
		}
	}
}

// edit makes random changes of every sort.
func (f forest) edit(rng *rand.Rand, n int) forest {
	g := forest{}
	for path, one := range f {
		g[path] = one
	}
	for range n {
		paths := g.paths()
		if len(paths) == 0 {
			break
		}
		path := pick(rng, paths)
		one := g[path]
		switch rng.IntN(9) {
		case 0:
			delete(g, path)
		case 1:
			one.mtime = someTime(rng)
			g[path] = one
		case 2:
			if one.kind != Link {
				one.mode = pick(rng, []fs.FileMode{0o755, 0o700, 0o555, 0o750})
				g[path] = one
			}
		case 3, 4: // often of another kind
			g[path] = someNode(rng)
		case 5: // same size and same time, other content
			if one.kind == File {
				one.content = strings.Map(func(r rune) rune { return 'z' }, one.content)
				g[path] = one
			}
		case 6: // renamed, folders with what is in them
			g.move(path, join(pick(rng, g.folders()), pick(rng, oddNames)))
		default:
			g[join(pick(rng, g.folders()), pick(rng, oddNames))] = someNode(rng)
		}
		g.prune()
	}
	return g
}

func (f forest) move(old, path string) {
	if strings.HasPrefix(path+"/", old+"/") || f[path].kind != 0 {
		return
	}
	for _, p := range f.paths() {
		if p == old || strings.HasPrefix(p, old+"/") {
			f[path+p[len(old):]] = f[p]
			delete(f, p)
		}
	}
}

// grow makes the tree on disk.
func (f forest) grow(t testing.TB, dir string) {
	t.Helper()
	paths := f.paths()
	for _, path := range paths {
		full := filepath.Join(dir, path)
		switch n := f[path]; n.kind {
		case Dir:
			must(t, os.Mkdir(full, 0o700))
		case Link:
			must(t, os.Symlink(n.content, full))
			setTime(t, dir, path, n.mtime)
		case File:
			must(t, os.WriteFile(full, []byte(n.content), 0o600))
			must(t, os.Chmod(full, n.mode))
			must(t, os.Chtimes(full, n.mtime, n.mtime))
		}
	}
	for _, path := range slices.Backward(paths) {
		if n := f[path]; n.kind == Dir {
			must(t, os.Chmod(filepath.Join(dir, path), n.mode))
			must(t, os.Chtimes(filepath.Join(dir, path), n.mtime, n.mtime))
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func setTime(t testing.TB, dir, path string, mtime time.Time) {
	t.Helper()
	fsys, err := OpenLocal(dir)
	must(t, err)
	must(t, errors.Join(fsys.Chtimes(path, mtime.UnixNano()), fsys.Close()))
}

// portrait describes a tree on disk, one line for each path, without godeploy's own folder.
func portrait(t testing.TB, dir string) []string {
	t.Helper()
	fsys, err := OpenLocal(dir)
	must(t, err)
	defer fsys.Close()
	var lines []string
	for todo := []string{"."}; len(todo) > 0; {
		at := todo[0]
		todo = todo[1:]
		infos, err := fsys.ReadDir(at)
		must(t, err)
		for _, in := range infos {
			path := join(at, in.Name)
			if path == ".godeploy" {
				continue
			}
			text := ""
			switch in.Kind {
			case Dir:
				todo, in.Size = append(todo, path), 0
			case Link:
				text, err = fsys.Readlink(path)
				must(t, err)
				in.Mode = 0
			case File:
				content, err := os.ReadFile(filepath.Join(dir, path))
				must(t, err)
				text = fmt.Sprintf("%.40q", content)
				if len(content) > 40 {
					text = fmt.Sprintf("%x", sha(content))
				}
			}
			if age := time.Since(time.Unix(0, in.MTime)); age >= 0 && age < time.Hour {
				in.MTime = 0 // of a folder that stays and that the source does not have: the time of the run
			}
			lines = append(lines, fmt.Sprintf("%q kind %d mode %o size %d mtime %d %s", path, in.Kind, in.Mode, in.Size, in.MTime, text))
		}
	}
	slices.Sort(lines)
	return lines
}

// oracleCase is one random comparison with rsync.
type oracleCase struct {
	seed          uint64
	before, after forest
	remove        bool
	filter        []string
}

func newOracleCase(seed uint64) oracleCase {
	rng := rand.New(rand.NewPCG(seed, 1))
	c := oracleCase{seed: seed, before: plant(rng, rng.IntN(25)), remove: rng.IntN(3) > 0}
	c.after = c.before.edit(rng, rng.IntN(12))
	if rng.IntN(4) == 0 {
		c.after = plant(rng, 1+rng.IntN(25))
	}
	for range max(0, rng.IntN(6)-3) {
		c.filter = append(c.filter, pick(rng, []string{"- *.log", "P keep/", "P keep/***", "H hid/", "- /a", "- b/c", "+ a/", "P *", "R keep/a", "S hid", "- .hidden", "H *.log", "P n"}))
	}
	return c
}

// run makes the target what the source is, by rsync and by us, and compares.
func (c oracleCase) run(t testing.TB, root string) error {
	dirs := map[string]string{}
	for _, name := range []string{"source", "ours", "theirs"} {
		dirs[name] = filepath.Join(root, name)
		must(t, os.Mkdir(dirs[name], 0o755))
	}
	c.after.grow(t, dirs["source"])
	c.before.grow(t, dirs["ours"])
	c.before.grow(t, dirs["theirs"])
	rules, err := ParseRules(nil, nil, c.filter)
	must(t, err)
	src, err := Scan(t.Context(), dirs["source"], ScanOptions{Rules: rules, Symlinks: "any"})
	if errorCode(err) == fault.SyncSource {
		return nil // nothing left to send
	}
	must(t, err)
	defer src.Close()
	fsys, err := OpenLocal(dirs["ours"])
	must(t, err)
	defer fsys.Close()
	folders, err := rules.Folders(t.Context(), dirs["source"])
	must(t, err)
	if folders, err = ReadFolderRules(folders.Texts()); err != nil {
		return err
	}
	old := portrait(t, dirs["ours"])
	o := PlaceOptions{FS: fsys, Rules: folders, Delete: c.remove, Limit: MaxDelete{N: 100, Percent: true}, UID: -1, GID: -1, List: true}
	result, err := placeFrom(t.Context(), src, o)
	if errorCode(err) == fault.LayoutRefused {
		if now := portrait(t, dirs["ours"]); !slices.Equal(old, now) {
			return fmt.Errorf("refused (%v) and yet changed:\n%s", err, difference(old, now))
		}
		if rerr := c.rsync(dirs); rerr == nil {
			return fmt.Errorf("refused what rsync does: %v", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	switch err := c.rsync(dirs); {
	case os.Geteuid() != 0 && err != nil && strings.Contains(err.Error(), "Permission denied"):
		return nil // rsync leaves folders closed that we open for the work
	case err != nil:
		return err
	}
	ours, theirs := portrait(t, dirs["ours"]), portrait(t, dirs["theirs"])
	if os.Geteuid() != 0 {
		ours, theirs = c.ownFolders(src, ours), c.ownFolders(src, theirs)
	}
	if !slices.Equal(ours, theirs) {
		return fmt.Errorf("ours (-) is not rsync's (+):\n%s", difference(ours, theirs))
	}
	return c.again(t, src, dirs, o, result)
}

// ownFolders drops folders that the source does not have: rsync opens those in which it deletes, and does not
// close them again.
func (c oracleCase) ownFolders(src *Source, lines []string) []string {
	return slices.DeleteFunc(lines, func(line string) bool {
		quoted, rest, _ := strings.Cut(line[1:], `" kind `)
		path, err := strconv.Unquote(`"` + quoted + `"`)
		return err == nil && strings.HasPrefix(rest, "1 ") && src.Manifest.Find(path) == nil
	})
}

// again: a second run finds nothing to do.
func (c oracleCase) again(t testing.TB, src *Source, dirs map[string]string, o PlaceOptions, first PlaceResult) error {
	before := portrait(t, dirs["ours"])
	result, err := placeFrom(t.Context(), src, o)
	if err != nil {
		return fmt.Errorf("again: %w", err)
	}
	for _, change := range result.Changes {
		if change.Op != Keep {
			return fmt.Errorf("again: %+v (at first %+v)", change, first.Changes)
		}
	}
	if after := portrait(t, dirs["ours"]); !slices.Equal(before, after) {
		return fmt.Errorf("again changed:\n%s", difference(before, after))
	}
	return nil
}

func (c oracleCase) rsync(dirs map[string]string) error {
	args := []string{"-ac", "--modify-window=-1", "--exclude=.git", "--exclude=.godeploy/"}
	if c.remove {
		args = append(args, "--delete")
	}
	for _, f := range c.filter {
		args = append(args, "--filter="+f)
	}
	cmd := exec.Command("rsync", append(args, dirs["source"]+"/", dirs["theirs"]+"/")...)
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("cannot delete non-empty")) && bytes.Contains(out, []byte("could not make way")) {
		return fmt.Errorf("rsync: %w: %s", err, out)
	}
	return nil
}

func errorCode(err error) fault.Code {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f.Code
	}
	return ""
}

func difference(a, b []string) string {
	var out []string
	for _, line := range a {
		if !slices.Contains(b, line) {
			out = append(out, "- "+line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			out = append(out, "+ "+line)
		}
	}
	return strings.Join(out, "\n")
}

// oracleCases is how many random trees are compared: a sample, or all with GODEPLOY_TEST_FULL.
func oracleCases() int {
	if os.Getenv("GODEPLOY_TEST_FULL") != "" {
		return 2500
	}
	return 60
}

// TestPlaceAgreesWithRsync: what a sync in place makes of a folder is what rsync makes of it: names,
// bytes, modes, times to the nanosecond, link texts. Where it refuses, rsync fails too.
func TestPlaceAgreesWithRsync(t *testing.T) {
	t.Parallel()
	need(t, "rsync")
	first := uint64(time.Now().UnixNano() % 1_000_000_000)
	if os.Getenv("GODEPLOY_TEST_FULL") != "" {
		first = 0
	}
	seeds := []uint64{437789875} // an empty folder that a rule protects gives way
	for n := range oracleCases() {
		seeds = append(seeds, first+uint64(n))
	}
	for _, seed := range seeds {
		c := newOracleCase(seed)
		root := openTempDir(t)
		if err := c.run(t, root); err != nil {
			t.Errorf("seed %d, delete %t, filter %q: %v", c.seed, c.remove, c.filter, err)
		}
		unlock(root)
		must(t, os.RemoveAll(root))
		if t.Failed() {
			return
		}
	}
}

// openTempDir is a temporary folder that goes with the test, whatever modes are in it.
func openTempDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { unlock(dir) })
	return dir
}

func unlock(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // what stays closed fails the clean-up itself
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
}

// placeFrom runs both ends over a pipe without any buffer.
func placeFrom(ctx context.Context, src *Source, o PlaceOptions) (PlaceResult, error) {
	near, far := net.Pipe()
	type end struct {
		result PlaceResult
		err    error
	}
	ended := make(chan end, 1)
	go func() {
		result, err := Place(ctx, o, far)
		_ = far.Close()
		ended <- end{result, err}
	}()
	_, sendErr := Send(ctx, src, near, SendOptions{Times: true})
	_ = near.Close()
	e := <-ended
	if e.err == nil && sendErr != nil {
		e.err = fmt.Errorf("sender: %w", sendErr)
	}
	return e.result, e.err
}

func sha(b []byte) Hash {
	var h Hash
	for i := range b {
		h[i%len(h)] = h[i%len(h)]*31 + b[i]
	}
	return h
}

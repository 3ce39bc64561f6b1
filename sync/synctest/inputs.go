package synctest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	filesync "godeploy/sync"
)

// oddInput is a row of docs/sync.md, "Odd inputs", under its number.
type oddInput struct {
	name string
	test func(*testing.T, filesync.FS)
}

func oddInputs() []oddInput {
	return []oddInput{
		{"names", names1to6},
		{"N7 a link of 4095 bytes", longLink},
		{"N8 folders deep", deep},
		{"N10 nothing but emptiness", emptiness},
		{"N11 holes", holes},
		{"N13 bits of all sorts", bits},
		{"N15 N16 links of all sorts", links},
		{"N19 two names of one inode", twoNames},
		{"N21 other kinds", otherKinds},
		{"N22 odd times", oddTimes},
		{"N23 same size and time", sameSizeAndTime},
		{"N33 many alike", manyAlike},
		{"N34 an app that writes into its release", appWrites},
		{"N36 what shrinks and what does not", shrinks},
		{"N37 new bits and new names", newBitsAndNames},
		{"E17 what is excluded is protected", protected},
		{"E18 what is hidden goes", hidden},
	}
}

// names1to6 brings odd names over and over again: each row is looked at by itself.
func names1to6(t *testing.T, fsys filesync.FS) {
	rows := map[string][]string{
		"N1 bytes that a terminal obeys":    {"new\nline", "tab\t", "esc\x1b[31m", "del\x7f", " lead", "trail ", "\r", "\a"},
		"N2 names like options":             {"-n", "--", "-rf", "--delete", "-", "@", "=x", "-d/-e/-f"},
		"N3 names that are no text":         {"\xff\xfe", "\xed\xa0\x80", "ok\x80", "\xc3", "\xff/\xfe"},
		"N4 composed and decomposed":        {"cafe\u0301", "caf\u00e9"},
		"N5 upper and lower case":           {"A", "a", "d/Readme", "d/README"},
		"N6 names of 255 bytes":             {strings.Repeat("n", 255), strings.Repeat("d", 255) + "/" + strings.Repeat("é", 127)},
		"names that a shell or tar expands": {`back\slash`, "$HOME", "`id`", "*", "...", "a:b", "a'b", `a"b`, ";", "|", "&", "~", "#", "%s", "{}", `\n`, "[a]", "?"},
	}
	content := map[string]string{}
	for _, paths := range rows {
		for _, path := range paths {
			content[path] = "content of " + path
		}
	}
	src := scan(t, source(t, content))
	send(t, src, options(fsys, "r1", ""))
	if stats := send(t, src, options(fsys, "r2", "r1")); stats.Linked != len(content) {
		t.Errorf("the second release linked %d of %d", stats.Linked, len(content))
	}
	must(t, fsys.RemoveAll("releases/r1"))
	for name, paths := range rows {
		t.Run(name, func(t *testing.T) {
			for _, path := range paths {
				if got := read(t, fsys, "releases/r2/"+path); got != content[path] {
					t.Errorf("%q holds %q", path, got)
				}
			}
		})
	}
}

// deep: folders in folders, a thousand where a folder on the way is no round trip or all is tested.
func deep(t *testing.T, fsys filesync.FS) {
	depth := 1000
	if !near(fsys) && os.Getenv("GODEPLOY_TEST_FULL") == "" {
		depth = 150
	}
	path := strings.Repeat("d/", depth) + "f"
	src := scan(t, source(t, map[string]string{path: "deep"}))
	send(t, src, options(fsys, "r1", ""))
	send(t, src, options(fsys, "r2", "r1"))
	must(t, fsys.RemoveAll("releases/r1"))
	if got := read(t, fsys, "releases/r2/"+path); got != "deep" {
		t.Errorf("got %q", got)
	}
}

func longLink(t *testing.T, fsys filesync.FS) {
	send(t, scan(t, source(t, map[string]string{"l": "->" + strings.Repeat("n/", 2047) + "n", "f": "x"})), options(fsys, "r1", ""))
}

func emptiness(t *testing.T, fsys filesync.FS) {
	send(t, scan(t, source(t, map[string]string{"a/b/": "", "c/": ""})), options(fsys, "r1", ""))
	send(t, scan(t, source(t, map[string]string{"a/b/": "", "c/none": ""})), options(fsys, "r2", "r1"))
}

// holes: a file with holes costs nearly nothing to send.
func holes(t *testing.T, fsys filesync.FS) {
	dir := source(t, map[string]string{"a": "x"})
	f, err := os.Create(filepath.Join(dir, "disk.img"))
	must(t, err)
	_, err = f.WriteAt([]byte("x"), 5<<20)
	must(t, errors.Join(err, f.Truncate(9<<20), f.Close()))
	if stats := send(t, scan(t, dir), options(fsys, "r1", "")); stats.Received > 100<<10 {
		t.Errorf("9 MiB of holes took %d bytes", stats.Received)
	}
	if got := read(t, fsys, "releases/r1/disk.img"); got != strings.Repeat("\x00", 5<<20)+"x"+strings.Repeat("\x00", 4<<20-1) {
		t.Error("the file is another one")
	}
}

// bits: permission bits come as they are, special ones do not come, and what forbids writing can be
// filled, linked from and removed.
func bits(t *testing.T, fsys filesync.FS) {
	dir := source(t, map[string]string{"ro/f": "x", "ro/ro/g": "y", "set": "#!", "sticky/f": "z", "none": "n", "all": "a"})
	for path, mode := range map[string]os.FileMode{"set": os.ModeSetuid | os.ModeSetgid | 0o755, "sticky": os.ModeSticky | 0o777, "all": 0o777,
		"none": 0o400, "ro/f": 0o444, "ro/ro": 0o500, "ro": 0o555} {
		must(t, os.Chmod(filepath.Join(dir, path), mode))
	}
	t.Cleanup(func() { _ = errors.Join(os.Chmod(dir+"/ro", 0o755), os.Chmod(dir+"/ro/ro", 0o755)) }) // so that it can be removed
	src := scan(t, dir)
	for _, e := range src.Manifest.Entries {
		if e.Mode > 0o777 {
			t.Errorf("%s has the mode %o", e.Path, e.Mode)
		}
	}
	send(t, src, options(fsys, "r1", ""))
	send(t, src, options(fsys, "r2", "r1"))
	must(t, fsys.RemoveAll("releases/r1"))
	compare(t, src, fsys, "releases/r2")
}

// links: they are data, wherever they lead.
func links(t *testing.T, fsys filesync.FS) {
	content := map[string]string{"d/f": "x", "dangling": "->nowhere", "up": "->../../..", "abs": "->/etc/passwd", "loop a": "->loop b", "loop b": "->loop a",
		"self": "->self", "dir": "->d", "slashes": "->d//./f", "odd": "->\xff\n", "l0": "->d/f"}
	for i := range 45 {
		content[fmt.Sprintf("l%d", i+1)] = fmt.Sprintf("->l%d", i)
	}
	src, err := filesync.Scan(t.Context(), source(t, content), filesync.ScanOptions{Symlinks: "any"})
	must(t, err)
	t.Cleanup(func() { must(t, src.Close()) })
	send(t, src, options(fsys, "r1", ""))
	send(t, src, options(fsys, "r2", "r1"))
}

// twoNames: hard links of the source become files of their own.
func twoNames(t *testing.T, fsys filesync.FS) {
	dir := source(t, map[string]string{"a": noise(1, 300_000)})
	must(t, os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
	send(t, scan(t, dir), options(fsys, "r1", ""))
	must(t, os.Remove(filepath.Join(dir, "b")))
	must(t, os.WriteFile(filepath.Join(dir, "b"), []byte(noise(1, 300_000)+"more"), 0o644))
	send(t, scan(t, dir), options(fsys, "r2", "r1"))
	if a, b := read(t, fsys, "releases/r2/a"), read(t, fsys, "releases/r2/b"); a != noise(1, 300_000) || b != a+"more" {
		t.Error("one of the two is not what it was")
	}
}

// otherKinds: whatever was under a name, the next release has what the source has.
func otherKinds(t *testing.T, fsys filesync.FS) {
	kinds := []map[string]string{{"x": "file"}, {"x/f": "folder"}, {"x": "->d"}, {"x/": ""}, {"x": ""}, {"x": "->gone"}, {"x": noise(1, 300_000)}, {"x/f/g": "deep"}}
	parent := ""
	for i, content := range kinds {
		content["d/y"] = "stays"
		src, id := scan(t, source(t, content)), fmt.Sprintf("r%d", i)
		send(t, src, options(fsys, id, parent))
		parent = id
	}
}

// oddTimes: none stops a transfer, and each is what the file system and the way there can tell.
func oddTimes(t *testing.T, fsys filesync.FS) {
	times := map[string]time.Time{"epoch": time.Unix(0, 0), "before": time.Unix(-1, 0), "y2038": time.Unix(1<<31, 0), "last ns": time.Unix(1_700_000_000, 999_999_999),
		"y2106": time.Unix(1<<32, 1), "future": time.Now().AddDate(50, 0, 0).Truncate(time.Second), "y2261": time.Date(2261, 1, 1, 0, 0, 0, 0, time.UTC),
		"y2300": time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC), "y2500": time.Date(2500, 1, 1, 0, 0, 0, 0, time.UTC), "y1600": time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC)}
	content := map[string]string{}
	for name := range times {
		content[name] = name
	}
	dir := source(t, content)
	for name, when := range times {
		must(t, os.Chtimes(filepath.Join(dir, name), when, when))
	}
	src := scan(t, dir)
	send(t, src, options(fsys, "r1", ""))
	send(t, src, options(fsys, "r2", "r1"))
	for name := range times {
		onDisk, err := os.Lstat(filepath.Join(dir, name)) // what this file system made of it
		must(t, err)
		got, err := fsys.Lstat("releases/r1/" + name)
		must(t, err)
		want := onDisk.ModTime()
		if !within(want, near(fsys)) {
			continue
		}
		if got.MTime != want.UnixNano() && got.MTime != want.Unix()*1e9 {
			t.Errorf("%s: got %v, want %v", name, time.Unix(0, got.MTime).UTC(), want.UTC())
		}
	}
}

// within reports whether a time can be told at all: in 64 bits of nanoseconds, and without the helper
// in SFTP's 32 bits of seconds.
func within(when time.Time, helper bool) bool {
	if helper {
		return when.Year() < 2262 && when.Year() > 1678
	}
	return when.Unix() >= 0 && when.Unix() < 1<<32
}

// sameSizeAndTime: what rsync's quick check does not see is seen.
func sameSizeAndTime(t *testing.T, fsys filesync.FS) {
	dir, when := source(t, map[string]string{"f": "abcde", "big": noise(1, 300_000)}), time.Unix(1_600_000_000, 0)
	put := func(name, content string) {
		path := filepath.Join(dir, name)
		must(t, errors.Join(os.WriteFile(path, []byte(content), 0o644), os.Chtimes(path, when, when)))
	}
	put("f", "abcde")
	put("big", noise(1, 300_000))
	send(t, scan(t, dir), options(fsys, "r1", ""))
	put("f", "abXde")
	put("big", noise(2, 300_000))
	send(t, scan(t, dir), options(fsys, "r2", "r1"))
	if read(t, fsys, "releases/r2/f") != "abXde" || read(t, fsys, "releases/r2/big") != noise(2, 300_000) {
		t.Error("the second release has the old content")
	}
}

// manyAlike: one content travels once, under however many names.
func manyAlike(t *testing.T, fsys filesync.FS) {
	content := map[string]string{}
	for i := range 100 {
		content[fmt.Sprintf("d%d/f%d", i%7, i)] = noise(1, 50_000)
	}
	stats := send(t, scan(t, source(t, content)), options(fsys, "r1", ""))
	if stats.Received > 200_000 {
		t.Errorf("100 files of one content of 50 kB took %d bytes", stats.Received)
	}
	for path := range content {
		if read(t, fsys, "releases/r1/"+path) != noise(1, 50_000) {
			t.Errorf("%s is another file", path)
		}
	}
}

// appWrites: what a program changes in a release, be it through a name that two releases share, is
// never taken for what was sent.
func appWrites(t *testing.T, fsys filesync.FS) {
	dir := source(t, map[string]string{"config": "right", "lib/a.py": "code", "big": noise(1, 300_000)})
	src := scan(t, dir)
	send(t, src, options(fsys, "r1", ""))
	send(t, src, options(fsys, "r2", "r1"))
	for _, path := range []string{"config", "big"} { // another inode, as most programs write
		must(t, fsys.RemoveAll("releases/r2/"+path))
		write(t, fsys, "releases/r2/"+path, "wrong", 0o644)
	}
	must(t, fsys.Mkdir("releases/r2/lib/__pycache__", 0o755))
	write(t, fsys, "releases/r2/lib/__pycache__/a.pyc", "compiled", 0o644)
	o := options(fsys, "r3", "r2")
	o.SkipUnchanged = true
	send(t, src, o)
}

// shrinks: what compresses a thousandfold and what does not at all.
func shrinks(t *testing.T, fsys filesync.FS) {
	dir := source(t, map[string]string{"zeros": strings.Repeat("\x00", 8<<20), "small zeros": strings.Repeat("\x00", 200_000), "noise": noise(1, 2<<20), "small noise": noise(2, 200_000)})
	stats := send(t, scan(t, dir), options(fsys, "r1", ""))
	if most := int64(2<<20 + 200_000 + 64<<10); stats.Received > most {
		t.Errorf("took %d bytes, want %d at most", stats.Received, most)
	}
}

// newBitsAndNames: neither sends content.
func newBitsAndNames(t *testing.T, fsys filesync.FS) {
	dir := source(t, map[string]string{"tool": noise(1, 100_000), "big": noise(2, 2<<20), "d/e/f": noise(3, 100_000)})
	send(t, scan(t, dir), options(fsys, "r1", ""))
	must(t, os.Chmod(filepath.Join(dir, "tool"), 0o755))
	must(t, os.Rename(filepath.Join(dir, "big"), filepath.Join(dir, "d/large")))
	must(t, os.Rename(filepath.Join(dir, "d/e"), filepath.Join(dir, "folder")))
	stats := send(t, scan(t, dir), options(fsys, "r2", "r1"))
	most := int64(8 << 10)
	if !near(fsys) {
		most += 100_000 // a file whose bits differ cannot be linked, and is not copied there
	}
	if stats.Received > most {
		t.Errorf("took %d bytes, want %d at most", stats.Received, most)
	}
}

// place makes the root of a file system what the source is, deleting by these rules.
func place(t *testing.T, fsys filesync.FS, dir string, filter ...string) filesync.PlaceResult {
	t.Helper()
	rules, err := filesync.ParseRules(nil, nil, filter)
	must(t, err)
	src, err := filesync.Scan(t.Context(), dir, filesync.ScanOptions{Rules: rules})
	must(t, err)
	defer src.Close()
	folders, err := rules.Folders(t.Context(), dir)
	must(t, err)
	near, far := net.Pipe()
	sent := make(chan error, 1)
	go func() {
		_, err := filesync.Send(t.Context(), src, near, filesync.SendOptions{Times: true})
		sent <- errors.Join(err, near.Close())
	}()
	result, err := filesync.Place(t.Context(), filesync.PlaceOptions{FS: fsys, Rules: folders, Delete: true,
		Limit: filesync.MaxDelete{N: 100, Percent: true}, UID: -1, GID: -1, List: true}, far)
	must(t, errors.Join(err, far.Close(), <-sent))
	return result
}

// grown makes files through the FS, with the folders they are in.
func grown(t *testing.T, fsys filesync.FS, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if dir := filepath.Dir(path); dir != "." {
			_, err := filesync.MkdirAll(fsys, dir, 0o755)
			must(t, err)
		}
		write(t, fsys, path, "there", 0o644)
	}
}

// stays fails the test unless just these files are in the root.
func stays(t *testing.T, fsys filesync.FS, want ...string) {
	t.Helper()
	var got []string
	for todo := []string{"."}; len(todo) > 0; todo = todo[1:] {
		infos, err := fsys.ReadDir(todo[0])
		must(t, err)
		for _, info := range infos {
			switch path := strings.TrimPrefix(todo[0]+"/"+info.Name, "./"); {
			case path == ".godeploy":
			case info.Kind == filesync.Dir:
				todo = append(todo, path)
			default:
				got = append(got, path)
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("there is %q, want %q", got, want)
	}
}

// protected: what is excluded is not deleted, nor is the folder that it is in.
func protected(t *testing.T, fsys filesync.FS) {
	grown(t, fsys, "x.log", "sub/x.log", "sub/y", "keep/k", "keep/l", "other")
	place(t, fsys, source(t, map[string]string{"a": "1", "x.log": "not sent"}), "- x.log", "- keep/k")
	stays(t, fsys, "a", "keep/k", "sub/x.log", "x.log")
}

// hidden: H says what is sent and P what is deleted, each without the other.
func hidden(t *testing.T, fsys filesync.FS) {
	grown(t, fsys, "foo/a", "keep/k", "keep/deep/l", "mine", "old")
	place(t, fsys, source(t, map[string]string{"a": "1", "foo/b": "not sent", "mine": "sent"}), "H foo/", "P keep/***", "P mine")
	stays(t, fsys, "a", "keep/deep/l", "keep/k", "mine")
}

package filesync

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// gitIn runs git in dir, without any settings of the user's.
func gitIn(dir string, stdin []byte, args ...string) ([]byte, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(stdin)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "HOME=/nonexistent", "XDG_CONFIG_HOME=/nonexistent")
	out, err := cmd.Output()
	if e, is := errors.AsType[*exec.ExitError](err); is && e.ExitCode() == 1 && args[0] == "check-ignore" {
		return out, nil // nothing is ignored
	}
	return out, err
}

// gitKeeps lists what is below dir and not ignored, .git apart.
func gitKeeps(dir string) ([]string, error) {
	all := slices.DeleteFunc(listTree(dir), func(p string) bool { return slices.Contains(strings.Split(p, "/"), ".git") })
	out, err := gitIn(dir, []byte(strings.Join(append(all, ""), "\x00")), "check-ignore", "--no-index", "-z", "--stdin")
	ignored := strings.Split(string(out), "\x00")
	return slices.DeleteFunc(all, func(p string) bool { return slices.Contains(ignored, p) }), err
}

// gitKept lists what our rules let through.
func gitKept(dir string) ([]string, error) {
	rules, err := ReadRules(RuleOptions{Dir: dir, Gitignore: true})
	if err != nil {
		return nil, err
	}
	w, err := walkRules(dir, rules)
	slices.Sort(w.paths)
	return w.paths, err
}

func compareWithGit(t interface {
	Helper()
	Fatalf(string, ...any)
}, dir string) {
	t.Helper()
	want, err := gitKeeps(dir)
	if err != nil {
		t.Fatalf("git: %v", err)
	}
	got, err := gitKept(dir)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("in %s\nwe keep %q\n    git %q", show(dir), got, want)
	}
}

// repo makes a repository with these files.
func repo(t *testing.T, files map[string]string) string {
	t.Helper()
	need(t, "git")
	dir := put(t, files)
	_, err := gitIn(dir, nil, "init", "-q")
	ok(t, err)
	return dir
}

func TestIgnoreFilesMeanWhatGitMeans(t *testing.T) {
	t.Parallel()
	names := strings.Fields("foo a/foo a/b/foo foo/x #c !d a.log x/a.log x/y/a.log build/x build/keep a/build FOO tr\\ ail st* q ab abc a[b] é")
	for name, ignore := range map[string]string{
		"name": "foo\n", "top": "/foo\n", "folder": "build/\n", "path": "a/foo\n", "wild path": "x/*.log\n", "negated": "*.log\n!a.log\n",
		"below excluded": "build/\n!build/keep\n", "contents": "build/*\n!build/keep\n", "comment": "#c\n", "escaped": "\\#c\n\\!d\n", "trailing blank": "foo  \n",
		"kept blank": "foo\\ \n", "backslash and blank": "foo\\\\ \n", "CRLF": "foo\r\n*.log\r\n", "CR at the end": "foo\r", "BOM": "\ufefffoo\n",
		"case": "FOO\n", "stars in front": "**/foo\n", "stars behind": "a/**\n", "stars between": "a/**/foo\n", "stars in a name": "x**.log\n",
		"three stars": "a/***/foo\n", "class": "a[b-c]\n", "negated class": "[!a]*\n", "named class": "[[:upper:]]*\n", "broken class": "a[b\n*.log\n",
		"escaped star": "st\\*\n", "escaped class": "a\\[b]\n", "only !": "!\n", "only /": "/\n", "slashes": "//\n", "double": "a//foo\n", "dot": "./foo\n",
		"no end": "foo", "blank line": "\n \n\nfoo\n", "last wins": "foo\n!foo\nfoo\n", "zero byte": "foo\x00bar\n", "backslash at the end": "foo\\\n",
		"tab": "foo\t\n", "question": "a?c\n", "folder of a path": "a/build/\n", "star folder": "*/\n", "all but": "*\n!foo\n!a/\n!a/foo\n", "bytes": "\xc3?\n",
		"slash class": "a[/]foo\n", "star slash": "*/foo\n", "star slash star": "/*/*/foo\n", "middle": "a/*/foo\n", "suffix folder": "*oo/\n", "escaped slash": "**\\/foo\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{".gitignore": ignore, "a/b/.gitignore": "!foo\n"}
			for _, n := range names {
				files[n] = "x"
			}
			delete(files, "foo/x")
			if strings.Contains(ignore, "oo/") {
				delete(files, "foo")
				files["foo/x"] = "x"
			}
			compareWithGit(t, repo(t, files))
		})
	}
}

func TestIgnoreFilesOfTheRepositoryHoldInAFolderOfIt(t *testing.T) {
	t.Parallel()
	dir := repo(t, map[string]string{".gitignore": "*.log\n/app/top\ntop2\napp/web/deep\n", "app/.gitignore": "!keep.log\nweb/x\n",
		"app/web/.gitignore": "y\n", "app/web/x": "", "app/web/y": "", "app/web/z": "", "app/web/a.log": "", "app/web/keep.log": "",
		"app/web/top2": "", "app/web/deep": "", "app/top": "", "app/web/s": "", "app/web/sub/s": "", "app/web/sub/deep": ""})
	ok(t, os.WriteFile(filepath.Join(dir, ".git/info/exclude"), []byte("/app/web/s\nz\n!a.log\n"), 0o644))
	for _, below := range []string{".", "app", "app/web"} {
		compareWithGit(t, filepath.Join(dir, below))
	}
}

func TestIgnoreFilesInAWorktreeAndANestedRepository(t *testing.T) {
	t.Parallel()
	dir := repo(t, map[string]string{".gitignore": "*.log\n", "a.log": "", "a": "", "sub/a.log": "", "sub/b": "", "sub/.gitignore": "b\n", "sub/c": ""})
	_, err := gitIn(filepath.Join(dir, "sub"), nil, "init", "-q")
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, "sub/.git/info/exclude"), []byte("c\n"), 0o644))
	ok(t, os.WriteFile(filepath.Join(dir, ".git/info/exclude"), []byte("everywhere\n"), 0o644))
	compareWithGit(t, dir)
	_, err = gitIn(dir, nil, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "a")
	ok(t, err)
	tree := filepath.Join(t.TempDir(), "tree")
	_, err = gitIn(dir, nil, "worktree", "add", "-q", tree)
	ok(t, err)
	putIn(t, tree, map[string]string{"everywhere": "", "a": ""})
	compareWithGit(t, tree)
	if got, err := gitKept(tree); err != nil || !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestIgnoreFilesCountWithoutARepository(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{".gitignore": "foo\n", "foo": "", "a/foo": "", "b": "", "a/.gitignore": "c\n", "a/c": "", "a/d": "", "e/.gitignore/x": "d\n", "f": ""})
	ok(t, os.Symlink("../.gitignore", filepath.Join(dir, "e/link")))
	ok(t, os.Symlink("/etc/passwd", filepath.Join(dir, "a/l")))
	got, err := gitKept(dir)
	if want := []string{".gitignore", "a", "a/.gitignore", "a/d", "a/l", "b", "e", "e/.gitignore", "e/.gitignore/x", "e/link", "f"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestIgnoreFilesThatAreLinksDoNotCount(t *testing.T) {
	t.Parallel()
	dir := repo(t, map[string]string{"patterns": "foo\n", "foo": "", "a/foo": "", ".gitignore": "->patterns", "a/.gitignore": "->../patterns"})
	compareWithGit(t, dir)
	compareWithGit(t, filepath.Join(dir, "a"))
}

func TestRulesAreAskedBeforeIgnoreFiles(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{".gitignore": "dist/\n*.log\n", "dist/a": "", "dist/b.log": "", "c.log": "", "keep.log": "", "d": ""})
	rules, err := ReadRules(RuleOptions{Dir: dir, Gitignore: true, Include: []string{"/dist/", "keep.log"}, Exclude: []string{"d"}})
	ok(t, err)
	w, err := walkRules(dir, rules)
	ok(t, err)
	slices.Sort(w.paths)
	if want := []string{".gitignore", "dist", "dist/a", "keep.log"}; !slices.Equal(w.paths, want) {
		t.Errorf("got %q, want %q", w.paths, want)
	}
	if top := w.rules["."]; !top.Protected("x.log", false) || top.Protected("keep.log", false) || top.Protected("new", false) {
		t.Error("what is ignored is protected, and only that")
	}
	rules, err = ReadRules(RuleOptions{Dir: dir, Gitignore: true, Exclude: []string{"d"}, DeleteExcluded: true})
	ok(t, err)
	w, err = walkRules(dir, rules)
	ok(t, err)
	if top := w.rules["."]; top.Protected("x.log", false) || top.Protected("d", false) || !top.Protected(".godeploy", true) || !top.Excluded("d", false) || !top.Excluded("x.log", false) {
		t.Error("with DeleteExcluded what is left out is not protected, .godeploy is")
	}
}

// older is what git before 2.52 takes otherwise: stars behind plain text are a path element to it.
var olderGit = regexp.MustCompile(`^!?/?[^*?\[\\]*[^*?\[\\/]\*\*`)

// TestRandomIgnoreFilesAgreeWithGit puts many small trees into one repository, each with ignore files of
// its own, and asks git about all of them at once.
func TestRandomIgnoreFilesAgreeWithGit(t *testing.T) {
	t.Parallel()
	dir := repo(t, nil)
	piece := rapid.SampledFrom(strings.Fields("a b foo t a b foo / / / * * ** ***  ? [a-f] [!x] .log a.log \\* [[:alpha:]] []a] [b- \\ # ! **/ /** /**/ [^/] é"))
	pattern := rapid.Map(rapid.SliceOfN(rapid.OneOf(piece, piece, piece, piece, piece, piece, rapid.SampledFrom([]string{" ", "\\ ", "\r", "\t"})), 1, 6),
		func(p []string) string { return strings.Join(p, "") })
	line := rapid.OneOf(pattern, pattern, rapid.Map(pattern, func(p string) string { return "!" + p }), rapid.Map(pattern, func(p string) string { return p + "/" })).
		Filter(func(p string) bool { return !olderGit.MatchString(p) })
	ignore := rapid.Map(rapid.SliceOfN(line, 1, 5), func(l []string) string { return strings.Join(l, "\n") })
	v, n := newVocabulary(), 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		batch := filepath.Join(dir, fmt.Sprint("batch", n))
		defer os.RemoveAll(batch)
		for i := range 5 {
			tree := filepath.Join(batch, fmt.Sprint("case", i))
			if err := os.MkdirAll(tree, 0o755); err != nil {
				rt.Fatal(err)
			}
			putPaths(tree, v.tree.Draw(rt, "tree"))
			for i, folder := range append(foldersOf(tree), ".") {
				if folder == "." || i%3 == 0 {
					_ = os.WriteFile(filepath.Join(tree, folder, ".gitignore"), []byte(ignore.Draw(rt, "ignore")), 0o644)
				}
			}
		}
		compareWithGit(rt, batch)
	})
}

func FuzzParseIgnores(f *testing.F) {
	for _, text := range []string{"foo\n!bar/\n", "\ufeff#c\r\n\\#d  \n**/a/**\n[[:alpha:]]\\ \n", "*a*a*a*a*a*b\n", "/\n//\n!\n!/\n\\"} {
		f.Add([]byte(text), "a/b/c.log")
	}
	f.Fuzz(func(t *testing.T, text []byte, path string) {
		rules, _ := parseIgnores(text)
		_, name := split(path)
		(&gitRules{rules: rules, above: "x/"}).ignored(path, name, false)
		(&gitRules{rules: rules}).ignored(path, name, true)
	})
}

func TestIgnoreFileWithTooManyStarsIsNamed(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"a/.gitignore": "ok\n" + strings.Repeat("*a", 65), "b": ""})
	if _, err := gitKept(dir); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "a", ".gitignore")+":2: ") {
		t.Errorf("got %v", err)
	}
	if _, err := readSmall(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

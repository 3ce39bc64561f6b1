package filesync

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"godeploy/internal/fault"
)

// need skips a test whose outside tool is missing, unless tests must run.
func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatalf("%s is missing and GODEPLOY_TEST_MUST_RUN is set", tool)
		}
		t.Skipf("%s is missing", tool)
	}
}

// rsyncKeeps lists what rsync would send of a tree, sorted.
func rsyncKeeps(dir string, args ...string) ([]string, error) {
	args = append(args, "-rn", "--out-format=%n", dir+"/", filepath.Join(dir, "..", "nowhere")+"/")
	out, err := exec.CommandContext(context.Background(), "rsync", args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("rsync %q: %w: %s", args, err, out)
	}
	var paths []string
	for line := range strings.Lines(string(out)) {
		path := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "/")
		if path != "." && !strings.HasPrefix(path, "created directory") {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// oracleTree is the tree of the table of patterns.
func oracleTree(t *testing.T) string {
	files := map[string]string{}
	for _, path := range strings.Fields("foo/a foo/bar/b x/foo/c x/a.log a.log logs/k.log deep/a/b/c/t deep/t deep/a/t " +
		"[a-z] star* q z FOO/n -n x/deep/a/t [q] back\\slash a?b keep/ keep/k e/f/ e/foo sub/.git2/x") {
		files[path] = "x"
	}
	files["a b"] = "x"
	files[" foo"] = "x"
	files["foo "] = "x"
	return put(t, files)
}

// TestRulesAgreeWithRsync is the table of patterns whose meaning is rsync's.
func TestRulesAgreeWithRsync(t *testing.T) {
	t.Parallel()
	need(t, "rsync")
	dir := oracleTree(t)
	for _, c := range []struct {
		name  string
		rules []string // full rules, or patterns when plain
		plain bool
	}{
		{"E1", []string{"foo"}, true}, {"E2", []string{"/foo"}, true}, {"E3", []string{"foo/"}, true},
		{"E4", []string{"x/foo"}, true}, {"E5", []string{"/x/*"}, true}, {"E6a", []string{"*.log"}, true},
		{"E6b", []string{"/*.log"}, true}, {"E6c", []string{"**/a.log"}, true}, {"E7a", []string{"deep/**/t"}, true},
		{"E7b", []string{"deep/*/t"}, true}, {"E8a", []string{"deep/**"}, true}, {"E8b", []string{"deep/***"}, true},
		{"E9a", []string{"[a-z]"}, true}, {"E9b", []string{`\[a-z\]`}, true}, {"E9c", []string{`star\*`}, true},
		{"E9d", []string{"a?b"}, true}, {"E9e", []string{`a\?b`}, true}, {"E9f", []string{`back\slash`}, true},
		{"E9g", []string{`back\\slash*`}, true}, {"E9h", []string{"[[]q]"}, true}, {"E9i", []string{"[[:upper:]]*"}, true},
		{"E9j", []string{"[!a-z]*"}, true}, {"E9k", []string{"[^[:alpha:] ]*"}, true}, {"E9l", []string{"[a"}, true},
		{"E10", []string{"+ /foo/bar/b", "- /foo/**"}, false},
		{"E11", []string{"+ /foo/", "+ /foo/bar/", "+ /foo/bar/b", "- /foo/**"}, false},
		{"E12a", []string{"- *", "+ *.log"}, false}, {"E12b", []string{"+ *.log", "- *"}, false},
		{"E13", []string{"+ */", "+ *.log", "- *"}, false}, {"E14", []string{"*.log", "!", "/foo"}, true},
		{"E15a", []string{"  foo", "foo "}, true}, {"E15b", []string{" foo"}, true}, {"E15c", []string{"- a.log", "+ q", "q"}, true},
		{"E16a", []string{"-n"}, true}, {"E16b", []string{"FOO"}, true}, {"E16c", []string{""}, true},
		{"E17", []string{"/keep", "keep/k"}, true},
		{"E18", []string{"P keep/", "P keep/***", "H foo/"}, false}, {"show", []string{"S foo/a", "H foo/*"}, false},
		{"risk", []string{"R foo", "hide foo"}, false}, {"words", []string{"include foo/a", "exclude foo/*"}, false},
		{"negate", []string{"-! */", "- x"}, false}, {"negate2", []string{"-,! foo/"}, false}, {"modifiers", []string{"-s foo", "-r x", "-p q", "-pp z"}, false},
		{"both", []string{"-sr foo"}, false}, {"underscore", []string{"-_foo", "exclude,!_x/"}, false}, {"clear", []string{"- foo", "clear", "- x"}, false},
		{"stars", []string{"**", "foo"}, true}, {"stars2", []string{"**foo"}, true}, {"stars3", []string{"x/**"}, true},
		{"stars4", []string{"/**/t"}, true}, {"stars5", []string{"a/***"}, true}, {"slash", []string{"/"}, true}, {"slash2", []string{"//foo"}, true},
		{"slash3", []string{"foo//"}, true}, {"infix", []string{"a/b"}, true}, {"infix2", []string{"a/*/c"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			compareWithRsync(t, dir, c.rules, c.plain)
		})
	}
}

// compareWithRsync fails when rsync and we disagree about what is kept.
func compareWithRsync(t interface {
	Helper()
	Fatalf(string, ...any)
}, dir string, rules []string, plain bool) {
	t.Helper()
	option, exclude, filter := "--filter=", []string(nil), rules
	if plain {
		option, exclude, filter = "--exclude=", rules, nil
	}
	var args []string
	for _, r := range rules {
		args = append(args, option+r)
	}
	want, rsyncErr := rsyncKeeps(dir, args...)
	parsed, err := ParseRules(exclude, nil, filter)
	if err != nil || rsyncErr != nil {
		if (err == nil) != (rsyncErr == nil) {
			t.Fatalf("rules %q: we say %v, rsync says %v", rules, err, rsyncErr)
		}
		return
	}
	got := keepsOf(dir, parsed)
	if !slices.Equal(got, want) {
		t.Fatalf("rules %q\n  we keep %q\nrsync has %q", rules, got, want)
	}
}

func keepsOf(dir string, rules *Rules) []string {
	var paths []string
	_ = filepath.WalkDir(dir, func(full string, d os.DirEntry, err error) error {
		if err != nil || full == dir {
			return err
		}
		if rules.Excluded(full[len(dir)+1:], d.IsDir()) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		paths = append(paths, full[len(dir)+1:])
		return nil
	})
	slices.Sort(paths)
	return paths
}

// TestRandomRulesAgreeWithRsync draws rules out of the pieces that have a meaning.
func TestRandomRulesAgreeWithRsync(t *testing.T) {
	t.Parallel()
	need(t, "rsync")
	dir := oracleTree(t)
	piece := rapid.SampledFrom([]string{"foo", "a", "b", "t", "x", "deep", "/", "/", "*", "**", "***", "?", "[a-f]", "[!x]",
		".log", "a.log", "bar", "c", `\*`, "q", "keep", "[[:alpha:]]", "[]a]", "[b-", `\`, "e", " "})
	pattern := rapid.Map(rapid.SliceOfN(piece, 1, 5), func(p []string) string { return strings.Join(p, "") })
	prefix := rapid.SampledFrom([]string{"- ", "+ ", "-! ", "H ", "S ", "P ", "R ", "-p ", "+s ", "-r "})
	rapid.Check(t, func(rt *rapid.T) {
		var rules []string
		plain := rapid.Bool().Draw(rt, "plain")
		for range rapid.IntRange(1, 4).Draw(rt, "n") {
			rule := pattern.Draw(rt, "pattern")
			if !plain {
				rule = prefix.Draw(rt, "prefix") + rule
			}
			rules = append(rules, rule)
		}
		compareWithRsync(rt, dir, rules, plain)
	})
}

func TestRulesOrderAndWhatIsAlwaysLeftOut(t *testing.T) {
	t.Parallel()
	rules, err := ParseRules([]string{"*.log", "!", "*.txt", ".git"}, []string{"keep.txt", ".git", ".godeploy/"}, []string{"- first.txt"})
	ok(t, err)
	for path, want := range map[string]bool{
		".git": true, "sub/.git": true, ".godeploy": true, "keep.txt": true, "a.txt": true, "a.log": false, "first.txt": true, ".gitignore": false,
	} {
		// The ! clears the include before it too, as in one list of rsync's.
		if got := rules.Excluded(path, strings.HasSuffix(path, "godeploy")); got != want {
			t.Errorf("%s: excluded %v, want %v", path, got, want)
		}
	}
	rules, err = ParseRules([]string{"*.txt"}, []string{"keep.txt"}, []string{"- first.txt"})
	ok(t, err)
	if rules.Excluded("keep.txt", false) || !rules.Excluded("first.txt", false) || !rules.Excluded("a.txt", false) {
		t.Error("filter, include, exclude: the first that matches does not decide")
	}
	var none *Rules
	if !none.Excluded(".git", true) || none.Excluded("a", false) {
		t.Error("nil rules must leave out .git and nothing else")
	}
}

func TestBadRulesAreAllNamed(t *testing.T) {
	t.Parallel()
	_, err := ParseRules([]string{"- "}, nil, []string{"foo", "-/ x", "-", "! x", "merge f", ": f", "dir-merge f", "-q x", "-x z", "-C f"})
	all := fault.All(err)
	if len(all) != 11 {
		t.Fatalf("got %d problems, want 11: %v", len(all), err)
	}
	for _, e := range all {
		if e.Code != fault.ConfigValue && e.Code != fault.ConfigNotBuilt || !strings.Contains(e.Msg, `rule "`) {
			t.Errorf("fault %v does not name its rule", e)
		}
	}
}

func TestMergeReadsAFileAsRsyncDoes(t *testing.T) {
	t.Parallel()
	need(t, "rsync")
	dir := oracleTree(t)
	text := "# c\n; c\n\n- a.log\r\n+ q\n- [qz]\n-   foo\n- foo \n!\n- keep/\nmerge more"
	putIn(t, dir, map[string]string{"rules": text, "more": "- deep", "list": "a.log\n# c\nfoo/\n"})
	for _, c := range []struct{ ours, theirs string }{
		{"merge rules", "merge " + dir + "/rules"}, {". list", ""}, {".- list", ".- " + dir + "/list"}, {"merge,- list", "merge,- " + dir + "/list"},
	} {
		rules, err := ParseRulesIn(dir, nil, nil, []string{c.ours})
		if c.theirs == "" {
			if err == nil {
				t.Errorf("%q: a list of bare patterns passed as rules", c.ours)
			}
			continue
		}
		ok(t, err)
		cmd := exec.CommandContext(t.Context(), "rsync", "-rn", "--out-format=%n", "--filter="+c.theirs, dir+"/", dir+"-nowhere/")
		cmd.Dir = dir
		out, err := cmd.Output()
		ok(t, err)
		if got, want := len(keepsOf(dir, rules)), strings.Count(string(out), "\n")-1; got != want {
			t.Errorf("%q: we keep %d, rsync %d:\n%s", c.ours, got, want, out)
		}
	}
	if _, err := ParseRulesIn(dir, nil, nil, []string{"merge ../x"}); err == nil {
		t.Error("a file outside the source was merged")
	}
	putIn(t, dir, map[string]string{"loop": "merge loop"})
	if _, err := ParseRulesIn(dir, nil, nil, []string{"merge loop"}); err == nil {
		t.Error("a file that merges itself was merged")
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add("*.log\n!\n- a", "+ /foo/\nP x\n-! */")
	f.Fuzz(func(t *testing.T, exclude, filter string) {
		rules, err := ParseRules(strings.Split(exclude, "\n"), nil, strings.Split(filter, "\n"))
		if err == nil {
			rules.Excluded("a/b/c.log", false)
			rules.Excluded("a/b", true)
			if !rules.Excluded(".git", true) {
				t.Error(".git is let through")
			}
		}
	})
}

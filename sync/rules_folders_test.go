package filesync

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"godeploy/internal/fault"
)

// deletionTarget is what E17 and E18 delete in: all of it is too much.
func deletionTarget() map[string]string {
	return map[string]string{"x.log": "", "sub/x.log": "", "sub/y": "", "keep/k": "", "keep/l": "", "foo/a": "", "other": "", "deep/keep/k/z": ""}
}

// TestDeletionsAgreeWithRsync is E17 and E18.
func TestDeletionsAgreeWithRsync(t *testing.T) {
	t.Parallel()
	need(t, "rsync")
	for _, c := range []struct {
		name    string
		filter  []string
		options []string // of rsync's
		left    string   // some of what is left, to be sure
	}{
		{"E17 name", []string{"- x.log"}, nil, "sub/x.log x.log"},
		{"E17 anchored", []string{"- /keep"}, nil, "keep/k keep/l"},
		{"E17 in a folder", []string{"- keep/k"}, nil, "deep/keep/k/z keep/k"},
		{"E18 delete excluded", []string{"- x.log", "- /keep"}, []string{"--delete-excluded"}, ""},
		{"E18 delete excluded but protected", []string{"- x.log", "-r /keep", "-s foo"}, []string{"--delete-excluded"}, "keep/k keep/l"},
		{"E18 protect a folder", []string{"P keep/"}, nil, "deep/keep/k/z keep/k keep/l"},
		{"E18 protect a folder and what is in it", []string{"P keep/***"}, nil, "deep/keep/k/z keep/k keep/l"},
		{"E18 hide", []string{"H foo/"}, nil, ""},
		{"perishable", []string{"-p y", "-p x.log", "P,p keep"}, nil, "keep/k keep/l x.log"},
		{"risk before protect", []string{"R keep/l", "P keep/*", "P other"}, nil, "deep/keep/k/z keep/k other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, target := put(t, map[string]string{"a": "", "foo/b": ""}), put(t, deletionTarget())
			rules, err := ReadRules(RuleOptions{Dir: dir, Filter: c.filter, DeleteExcluded: c.options != nil})
			ok(t, err)
			w, err := walkRules(dir, rules)
			ok(t, err)
			own, err := roundTrip(rules, dir)
			ok(t, err)
			got := w.remains(target, own)
			args := append([]string{"-r", "--delete", "--existing", "--ignore-existing"}, c.options...)
			for _, f := range c.filter {
				args = append(args, "--filter="+f)
			}
			_, err = runRsync(dir, append(args, "./", target+"/")...)
			ok(t, err)
			if want := listTree(target); !slices.Equal(got, want) {
				t.Errorf("we leave %q\n   rsync %q", got, want)
			}
			for _, path := range strings.Fields(c.left) {
				if !slices.Contains(got, path) {
					t.Errorf("%s is gone", path)
				}
			}
			if c.left == "" && slices.Contains(got, "other") {
				t.Error("nothing was deleted")
			}
		})
	}
}

func TestRulesOfTheSourceHoldWhereTheTargetHasNone(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{".gitignore": "logs/\n", "app/.f": "- /data\n- *.pid\n", "app/a": "", "app/sub/b": "", ".godeploy/x": ""})
	rules, err := ReadRules(RuleOptions{Dir: dir, Filter: []string{":n .f", "-/ " + dir + "/app/whole"}, Gitignore: true})
	ok(t, err)
	f, err := roundTrip(rules, dir)
	ok(t, err)
	for path, want := range map[string]bool{
		"app/data": true, "data": false, "app/sub/data": false, "app/x.pid": true, "app/sub/x.pid": false, "app/new/x.pid": false, "logs": true,
		"app/sub/logs": true, "app/new/logs": true, ".godeploy": true, "app/new": false, "app/whole": true, "whole": false,
	} {
		if got := f.Protected(path, true); got != want {
			t.Errorf("%s: protected %v, want %v", path, got, want)
		}
	}
	var none *FolderRules
	if !none.Protected(".godeploy", true) || none.Protected("a/b", false) || len(none.Texts()) != 0 {
		t.Error("no rules at all must protect .godeploy and nothing else")
	}
}

// It is not parallel: it counts allocations.
func TestEnterCostsNothingWithoutFilesOfRules(t *testing.T) {
	in := []Info{{Name: "a"}, {Name: "b"}, {Name: ".gitignore"}}
	plain, err := ParseRules([]string{"*.pyc", "__pycache__", "/logs"}, nil, nil)
	ok(t, err)
	merging, err := ParseRulesIn(t.TempDir(), nil, nil, []string{": .f"})
	ok(t, err)
	allocs := testing.AllocsPerRun(100, func() {
		for _, r := range []*Rules{plain, merging, nil} {
			if below, err := r.Enter("x", in, nil); below != r || err != nil {
				t.Fatalf("got other rules, %v", err)
			}
			r.Excluded("x/y/module.py", false)
		}
	})
	if allocs > 4 { // those of what is always left out, for nil
		t.Errorf("got %v allocations", allocs)
	}
}

func TestFilesOfRulesThatCannotBeFollowedAreNamed(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"bad/.f": "- ok\n\nnonsense\n-x attr\n", "link/.f": "->../bad/.f", "dir/.f/x": "", "side/.s": "P foo", "big/.f": strings.Repeat("#\n", maxRuleFile/2+1),
		"in/.f": "merge none\n", "out/.f": "merge ../../x\n", "path/.f": ": a/b\n", "many/.f": strings.Repeat("- a\n", maxRules+1), "own/.f": "merge ./.f\n"})
	rules, err := ParseRulesIn(dir, nil, nil, []string{": .f", ":s .s"})
	ok(t, err)
	for folder, want := range map[string][]string{
		"bad": {"bad/.f:3: rule \"nonsense\"", "bad/.f:4: rule \"-x attr\""}, "link": {"link/.f is no regular file"}, "dir": nil, "side": {"names a side"},
		"big": {"larger than 1 MiB"}, "in": {`rule "merge none" cannot be read`}, "out": {"not below the source"}, "path": {"names a folder"},
		"many": {"more than 10000"}, "own": {"more than 32 deep"},
	} {
		in, err := infosOf(filepath.Join(dir, folder))
		ok(t, err)
		_, err = rules.Enter(folder, in, func(name string) ([]byte, error) { return readRuleFile(filepath.Join(dir, folder), name) })
		if (err == nil) != (want == nil) {
			t.Errorf("%s: got %v", folder, err)
			continue
		}
		for _, text := range want {
			if !strings.Contains(err.Error(), text) || !fault.Is(err, fault.ConfigValue) {
				t.Errorf("%s: got %q, want %q in it", folder, err, text)
			}
		}
	}
	broken := errors.New("broken")
	if _, err := rules.Enter("x", []Info{{Name: ".f", Kind: File}}, func(string) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestFilesOfRulesAboveTheSourceAreRead(t *testing.T) {
	t.Parallel()
	need(t, "rsync")
	top := put(t, map[string]string{".up": "- /app/src/one\n- two\n", "app/.up": "- /src/three\n- /one\n+ two\n", "app/src/one": "", "app/src/two": "",
		"app/src/three": "", "app/src/sub/three": "", "app/src/sub/two": "", "app/src/sub/.up": "!\n- three\n"})
	dir := filepath.Join(top, "app/src")
	for _, rule := range []string{": /.up", ":n /.up", ":- /.up", ": .up", ":e /.up"} {
		want, err := rsyncSends(dir, []string{"--filter=" + rule})
		ok(t, err)
		rules, err := ParseRulesIn(dir, nil, nil, []string{rule})
		ok(t, err)
		w, err := walkRules(dir, rules)
		ok(t, err)
		slices.Sort(w.paths)
		if !slices.Equal(w.paths, want) {
			t.Errorf("%s: we send %q\n  rsync %q", rule, w.paths, want)
		}
	}
}

func TestNoPatternTakesLong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 4000)
	deep := strings.Repeat("aaaa/", 800)
	for _, pattern := range []string{strings.Repeat("*a", 30) + "b", strings.Repeat("**a", 30) + "b", "/" + strings.Repeat("*a", 40) + "*", "x/" + strings.Repeat("**/*a", 20) + "*",
		strings.Repeat("a*", 60), strings.Repeat("**/a*a*", 20) + "b", strings.Repeat("[ab]*", 60) + "c", "**/" + strings.Repeat("*/", 40) + "b"} {
		rules, err := ParseRules([]string{pattern}, nil, nil)
		ok(t, err)
		git := gitRules{rules: []gitRule{newGitRule(pattern)}}
		began := time.Now()
		for _, path := range []string{long, long + "/x", deep + "x", deep + long, long + "/" + deep + "b"} {
			_, name := split(path)
			rules.Excluded(path, false)
			git.ignored(path, name, false)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%q took %v", pattern, took)
		}
	}
	steps := func(pattern, text string, git bool) int {
		m := matcher{pattern: pattern, text: text, git: git}
		m.at(0, 0)
		return m.steps
	}
	for _, pattern := range []string{strings.Repeat("*a", 30) + "*", strings.Repeat("a*", 30) + "/", strings.Repeat("**/*a", 30) + "*"} {
		for _, text := range []string{long + "/x", deep + "x"} {
			runs := starRuns(pattern)
			if n := max(steps(pattern, text, false), steps(pattern, text, true)); n > 2*memoFrom+2*runs*len(text) {
				t.Errorf("%q took %d steps on %d bytes", pattern, n, len(text))
			}
		}
	}
}

func FuzzReadFolderRules(f *testing.F) {
	dir := f.TempDir()
	rules, err := ParseRulesIn(dir, []string{"a/", "-! *.log"}, nil, []string{"P,p /x", ":n .f"})
	if err != nil {
		f.Fatal(err)
	}
	all, err := rules.Folders(f.Context(), dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Join(all.Texts(), []byte("\n")))
	f.Add([]byte("g\x00-1\x00\x00a/\ni\x00!d\x00b\nr\x00+n\x00c/\x00\x00/*\nf\x00.\x00h0\x000-0\nf\x00a/b\x00-1\x000-0,0-0"))
	f.Fuzz(func(t *testing.T, texts []byte) {
		got, err := ReadFolderRules(bytes.Split(texts, []byte("\n")))
		if err != nil {
			return
		}
		got.Protected("a/b/c", true)
		got.In("a").Doomed().Excluded("a/x.log", false)
		if !got.Protected(".godeploy", true) || !got.Protected("a/.git", true) {
			t.Error(".godeploy or .git is not protected")
		}
		again, err := ReadFolderRules(got.Texts())
		if err != nil || !slices.EqualFunc(again.Texts(), got.Texts(), bytes.Equal) {
			t.Errorf("written again it is another: %v", err)
		}
	})
}

func TestScanFollowsFilesOfRulesAndIgnoreFiles(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{".gitignore": "*.log\n/dist\n", "a.log": "", "dist/a": "", "app/.gitignore": "!a.log\n", "app/a.log": "", "app/b.log": "", "app/.deploy": "- /data\n- .deploy\n",
		"app/data/x": "", "app/sub/data/y": "", "lib/a.py": "", "lib/.deploy": "- *.py\n"})
	rules, err := ReadRules(RuleOptions{Dir: dir, Filter: []string{"dir-merge .deploy"}, Gitignore: true})
	ok(t, err)
	src, err := Scan(t.Context(), dir, ScanOptions{Rules: rules})
	ok(t, err)
	defer func() { ok(t, src.Close()) }()
	want := []string{".gitignore", "app", "app/.gitignore", "app/a.log", "app/sub", "app/sub/data", "app/sub/data/y", "lib", "lib/.deploy"}
	if got := paths(src.Manifest); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	putIn(t, dir, map[string]string{"lib/deep/.deploy": "nonsense\n"})
	if _, err := Scan(t.Context(), dir, ScanOptions{Rules: rules}); err == nil || !strings.Contains(err.Error(), filepath.Join("lib", "deep", ".deploy")+":1: rule \"nonsense\"") {
		t.Errorf("got %v", err)
	}
}

// TestNamesOfFoldersAreNoPatterns is a difference from rsync, which puts the name in front of the pattern.
func TestNamesOfFoldersAreNoPatterns(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"[q]/.f": "- /a\n", "[q]/a": "", "[q]/b": "", "q/a": ""})
	rules, err := ParseRulesIn(dir, nil, nil, []string{":e .f"})
	ok(t, err)
	w, err := walkRules(dir, rules)
	ok(t, err)
	slices.Sort(w.paths)
	if want := []string{"[q]", "[q]/b", "q", "q/a"}; !slices.Equal(w.paths, want) {
		t.Errorf("got %q, want %q", w.paths, want)
	}
}

package filesync

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"godeploy/internal/fault"
)

// gitRules adds the rules of an ignore file in the folder that is being entered.
func (p *ruleParser) gitRules(parent *gitRules, text []byte) *gitRules {
	rules, dense := parseIgnores(text)
	if dense > 0 {
		p.problems = append(p.problems, tooDense(p.shown(ignoreFile), dense))
	}
	if len(rules) == 0 {
		return parent
	}
	return &gitRules{parent: parent, rules: rules, base: p.base}
}

// repositoryRules reads what holds at a source before its own ignore file: the repository's exclude
// file and the ignore files above the source. A source in no repository has none of these. The
// result is never nil.
func repositoryRules(dir string) (*gitRules, error) {
	g := &gitRules{}
	abs, err := filepath.Abs(dir)
	if dir == "" || err != nil {
		return g, err
	}
	steps, git := repository(abs)
	if git == "" {
		return g, nil
	}
	var problems []error
	add := func(file string, below []string) {
		rules, err := readIgnores(file)
		if problems = append(problems, err); len(rules) > 0 {
			g = &gitRules{parent: g, rules: rules, above: strings.Join(append(slices.Clone(below), ""), "/")}
		}
	}
	add(filepath.Join(git, "info", "exclude"), steps)
	for i := range steps {
		add(filepath.Join(abs, strings.Repeat("../", len(steps)-i), ignoreFile), steps[i:])
	}
	return g, errors.Join(problems...)
}

// repository finds the git repository a folder lies in: the folders from its top to this one, and
// where git keeps what all its worktrees share. git is "" when there is none.
func repository(dir string) (steps []string, git string) {
	for {
		if git = gitFolder(filepath.Join(dir, ".git")); git != "" {
			slices.Reverse(steps)
			return steps, git
		}
		above := filepath.Dir(dir)
		if above == dir {
			return nil, ""
		}
		steps = append(steps, filepath.Base(dir))
		dir = above
	}
}

// gitFolder follows a .git, which in a worktree or submodule is a file that says where, to the
// folder that all worktrees share. It gives "" when that is no repository.
func gitFolder(path string) string {
	if text, err := readSmall(path); err == nil {
		named, is := strings.CutPrefix(string(text), "gitdir: ")
		if !is {
			return ""
		}
		path = beside(filepath.Dir(path), named)
	}
	if text, err := readSmall(filepath.Join(path, "commondir")); err == nil {
		path = beside(path, string(text))
	}
	if info, err := os.Stat(filepath.Join(path, "HEAD")); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return path
}

// beside reads a path out of a file of git's, which is relative to dir when it is not absolute.
func beside(dir, text string) string {
	text = strings.TrimRight(text, "\r\n")
	if filepath.IsAbs(text) {
		return text
	}
	return filepath.Join(dir, text)
}

func readIgnores(file string) ([]gitRule, error) {
	text, err := readSmall(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotFile) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.ConfigValue, "ignore file %s cannot be read", file).Wrap(plain(err))
	}
	rules, dense := parseIgnores(text)
	if dense > 0 {
		return nil, tooDense(file, dense)
	}
	return rules, nil
}

func tooDense(file string, line int) error {
	return fault.New(fault.ConfigValue, "pattern has more than %d stars", maxStars).At(fault.Pos{File: file, Line: line})
}

// readSmall reads a file of git's own. A link there is no file, as git has it for ignore files.
func readSmall(name string) ([]byte, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNotFile
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	return readBounded(f)
}

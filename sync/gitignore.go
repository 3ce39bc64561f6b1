package filesync

import (
	"bytes"
	"strings"
)

// gitRules are the patterns of one ignore file; those of the files that stand above it follow.
type gitRules struct {
	parent *gitRules
	rules  []gitRule
	base   string // folder of the file below the source, with a slash at its end; "" at the source and above
	above  string // from the folder of the file to the source, with a slash at its end
}

// gitRule is one pattern of an ignore file.
type gitRule struct {
	pattern string // without the marks around it
	plain   int    // bytes of it before the first wildcard
	keep    bool   // !: what matches is not ignored
	dirOnly bool
	name    bool // has no slash: only the last component counts
	suffix  bool // is a star and plain text
}

// ignored says whether git would ignore a path below none that it ignores: the last pattern that
// matches decides, that of the nearest file first.
func (g *gitRules) ignored(path, name string, dir bool) bool {
	for ; g != nil; g = g.parent {
		for i := len(g.rules) - 1; i >= 0; i-- {
			r := &g.rules[i]
			if r.dirOnly && !dir {
				continue
			}
			if r.name && r.matchesName(name) || !r.name && r.matchesPath(g.above+strings.TrimPrefix(path, g.base)) {
				return !r.keep
			}
		}
	}
	return false
}

func (r *gitRule) matchesName(name string) bool {
	switch {
	case r.plain == len(r.pattern):
		return name == r.pattern
	case r.suffix:
		return strings.HasSuffix(name, r.pattern[1:])
	}
	return gitmatch(r.pattern, name)
}

// matchesPath matches a path relative to the folder of the ignore file. The plain text in front is
// compared first, without its last byte, which says where a path element begins.
func (r *gitRule) matchesPath(path string) bool {
	pattern, plain := r.pattern, r.plain
	if strings.HasPrefix(pattern, "/") {
		pattern, plain = pattern[1:], max(plain-1, 0)
	}
	if plain == 0 {
		return gitmatch(pattern, path)
	}
	if !strings.HasPrefix(path, pattern[:plain]) {
		return false
	}
	if len(pattern) == plain {
		return len(path) == plain
	}
	return gitmatch(pattern[plain-1:], path[plain-1:])
}

// parseIgnores reads an ignore file. Every content is one: what git does not understand matches
// nothing. dense is the first line, from 1, with more stars than are matched in bounded time, or 0.
func parseIgnores(text []byte) (rules []gitRule, dense int) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	for n := 1; len(text) > 0; n++ {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		pattern := ignorePattern(line)
		if starRuns(pattern) > maxStars {
			return nil, n
		}
		if r := newGitRule(pattern); r.pattern != "" {
			rules = append(rules, r)
		}
	}
	return rules, 0
}

// ignorePattern takes off a line what does not belong to the pattern: a CR at the end, what follows
// a zero byte, blanks at the end that no backslash keeps.
func ignorePattern(line []byte) string {
	line = bytes.TrimSuffix(line, []byte("\r"))
	line, _, _ = bytes.Cut(line, []byte("\x00"))
	end := 0 // of what is kept
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case ' ':
			continue
		case '\\':
			if i++; i == len(line) {
				return string(line)
			}
		}
		end = i + 1
	}
	return string(line[:end])
}

func newGitRule(text string) gitRule {
	pattern, keep := strings.CutPrefix(text, "!")
	wild := strings.IndexAny(pattern, `*?[\`)
	r := gitRule{keep: keep}
	r.suffix = wild == 0 && pattern[0] == '*' && !strings.ContainsAny(pattern[1:], `*?[\`)
	r.pattern, r.dirOnly = strings.CutSuffix(pattern, "/")
	r.name = !strings.Contains(r.pattern, "/")
	r.plain = len(r.pattern)
	if wild >= 0 {
		r.plain = min(wild, r.plain)
	}
	return r
}

package filesync

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"godeploy/internal/fault"
)

// Bounds of what rules are read from.
const (
	maxPattern   = 4096    // bytes of a pattern; no path rsync sends is longer
	maxRules     = 10_000  // of all lists and files together
	maxRuleFile  = 1 << 20 // bytes of a merged file
	maxRuleDepth = 8       // merged files that merge files
)

// ParseRules reads rsync's rules as godeploy.toml has them. filter holds full rules ("- *.log",
// "+ /keep/", "!"), exclude and include hold patterns, which may begin with "- " or "+ " as rsync's
// own options allow. They apply in this order: what is always left out, filter, include, exclude;
// the first that matches decides. The errors name the pattern; all of them are joined.
//
// A merge rule needs a folder to read from: see ParseRulesIn.
func ParseRules(exclude, include, filter []string) (*Rules, error) {
	return ParseRulesIn("", exclude, include, filter)
}

// ParseRulesIn is ParseRules for rules that may merge files, which are looked for below dir.
func ParseRulesIn(dir string, exclude, include, filter []string) (*Rules, error) {
	p := ruleParser{dir: dir}
	for _, s := range filter {
		p.filter(s, 0)
	}
	for _, s := range include {
		p.pattern(s, true)
	}
	for _, s := range exclude {
		p.pattern(s, false)
	}
	if err := errors.Join(p.problems...); err != nil {
		return nil, err
	}
	return &Rules{rules: append(always(), p.rules...)}, nil
}

// ruleParser gathers rules and what is wrong with them.
type ruleParser struct {
	dir      string
	rules    []rule
	problems []error
}

func (p *ruleParser) refuse(text, format string, args ...any) {
	if len(p.problems) < 100 {
		p.problems = append(p.problems, fault.New(fault.ConfigValue, "rule %q "+format, append([]any{text}, args...)...))
	}
}

func (p *ruleParser) add(text string, r rule) {
	switch {
	case len(text) > maxPattern:
		p.refuse(text[:64]+"…", "is longer than %d bytes", maxPattern)
	case strings.Contains(text, "\x00"):
		p.refuse(text, "holds a zero byte, which no name can")
	case len(p.rules) >= maxRules:
		p.problems = append(p.problems[:min(len(p.problems), 99)], fault.New(fault.ConfigValue, "rules are more than %d", maxRules))
	default:
		p.rules = append(p.rules, r)
	}
}

// pattern reads an item of exclude or include.
func (p *ruleParser) pattern(s string, include bool) {
	text := s
	switch {
	case s == "":
		return
	case s == "!":
		p.rules = nil
		return
	case strings.HasPrefix(s, "- "):
		s, include = s[2:], false
	case strings.HasPrefix(s, "+ "):
		s, include = s[2:], true
	}
	if s == "" {
		p.refuse(text, "has no pattern")
		return
	}
	r := newRule(s)
	r.include = include
	p.add(text, r)
}

// ruleName says what the word or letter in front of a rule means: its letter, or 0.
func ruleName(word string) byte {
	switch word {
	case "-", "+", ".", ":", "H", "S", "P", "R", "!":
		return word[0]
	case "exclude":
		return '-'
	case "include":
		return '+'
	case "merge":
		return '.'
	case "dir-merge":
		return ':'
	case "hide":
		return 'H'
	case "show":
		return 'S'
	case "protect":
		return 'P'
	case "risk":
		return 'R'
	case "clear":
		return '!'
	}
	return 0
}

// cutRule takes a rule apart: its letter, its modifiers, its pattern. A letter of 0 is no rule.
func cutRule(s string) (letter byte, modifiers, pattern string) {
	head, pattern := s, ""
	if i := strings.IndexAny(s, " _"); i >= 0 {
		head, pattern = s[:i], s[i+1:]
	}
	word, modifiers, comma := strings.Cut(head, ",")
	if letter = ruleName(word); letter != 0 || comma || head == "" {
		return letter, modifiers, pattern
	}
	return ruleName(head[:1]), head[1:], pattern
}

// filter reads one full rule.
func (p *ruleParser) filter(s string, depth int) {
	if s == "" {
		return
	}
	letter, modifiers, pattern := cutRule(s)
	switch letter {
	case 0:
		p.refuse(s, `is none of rsync's: it begins with "- ", "+ ", "merge ", "hide ", "show ", "protect ", "risk " or "!"`)
	case '!':
		if s != "!" && s != "clear" {
			p.refuse(s, "has something after the !, which stands alone")
			return
		}
		p.rules = nil
	case ':':
		p.problems = append(p.problems, fault.New(fault.ConfigNotBuilt, "rule %q (dir-merge) is not built yet", s).
			Hint("name each file with merge"))
	case '.':
		p.merge(s, modifiers, pattern, depth)
	default:
		p.plain(s, letter, modifiers, pattern)
	}
}

// plain reads a rule that has a pattern.
func (p *ruleParser) plain(s string, letter byte, modifiers, pattern string) {
	if pattern == "" {
		p.refuse(s, "has no pattern")
		return
	}
	r := newRule(pattern)
	r.include = letter == '+' || letter == 'S' || letter == 'R'
	side := letter == 'H' || letter == 'S' || letter == 'P' || letter == 'R'
	r.receiver = letter == 'P' || letter == 'R'
	sender, drop := false, false
	for _, m := range modifiers {
		switch {
		case m == '!':
			r.negate = true
		case m == 's' && !side:
			sender = true
		case m == 'r' && !side:
			r.receiver = true
		case m == 'x': // about attributes, which are never sent
			drop = true
		case m == 'p': // about deletions only
		default:
			p.refuse(s, "has a modifier %q that is unknown or not built yet", m)
			return
		}
	}
	if sender && r.receiver {
		sender, r.receiver = false, false
	}
	r.sender = sender || letter == 'H' || letter == 'S'
	if !drop {
		p.add(s, r)
	}
}

// merge reads the rules of a file.
func (p *ruleParser) merge(s, modifiers, name string, depth int) {
	list := modifiers == "-" || modifiers == "+"
	switch {
	case modifiers != "" && !list:
		p.refuse(s, "has a modifier that is unknown or not built yet: only - and + go with merge")
	case p.dir == "":
		p.refuse(s, "merges a file, which cannot be done here")
	case depth >= maxRuleDepth:
		p.refuse(s, "merges files more than %d deep", maxRuleDepth)
	case !filepath.IsLocal(filepath.FromSlash(name)):
		p.refuse(s, "names a file that is not below the source")
	default:
		text, err := readRuleFile(filepath.Join(p.dir, filepath.FromSlash(name)))
		if err != nil {
			p.refuse(s, "cannot be read: %v", err)
			return
		}
		p.lines(text, modifiers, depth+1)
	}
}

// lines reads a merged file: comments and empty lines are nothing, blanks belong to the pattern.
func (p *ruleParser) lines(text []byte, modifiers string, depth int) {
	for line := range bytes.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		switch {
		case line[0] == '#' || line[0] == ';' || len(p.rules) > maxRules:
		case modifiers != "":
			r := newRule(string(line))
			r.include = modifiers == "+"
			p.add(string(line), r)
		default:
			p.filter(string(line), depth)
		}
	}
}

func readRuleFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
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
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRuleFile+1))
	if err == nil && len(text) > maxRuleFile {
		err = errors.New("is larger than 1 MiB")
	}
	return text, err
}

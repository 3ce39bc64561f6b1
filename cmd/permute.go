package cmd

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// A line is a command line with its words sorted. urfave/cli v2 stops at the first word that is not
// a flag, so that `release prod --dry-run` would be a real release with two arguments; sorting the
// words beforehand lets flags stand anywhere.
type line struct {
	leaf    leaf
	global  []string // canonical --name=value, for the root
	own     []string // canonical --name=value, for the command
	words   []string // what is neither a flag nor its value, the command's own path taken off
	rest    []string // what follows "--"
	hasRest bool
	help    bool
	version bool
}

// argv gives the words in the one order in which urfave/cli reads all of them.
func (l line) argv() []string {
	return slices.Concat([]string{"godeploy"}, l.global, l.leaf.path, l.own, []string{"--"}, l.words)
}

// spelling is how one flag may be written.
type spelling struct {
	name     string // canonical
	takes    bool   // a value
	bare     string // value of an optionalFlag without one
	optional bool
	global   bool
}

// spellings maps every "--name" and "-n" to its flag; the command's own win over the global ones.
func spellings(own []cli.Flag) map[string]spelling {
	table := map[string]spelling{}
	addSpellings(table, globalFlags(), true)
	addSpellings(table, own, false)
	return table
}

func addSpellings(table map[string]spelling, flags []cli.Flag, global bool) {
	for _, f := range flags {
		names := f.Names()
		s := spelling{name: names[0], global: global}
		if o, ok := f.(*optionalFlag); ok {
			s.optional, s.bare = true, o.Bare
		} else if d, ok := f.(cli.DocGenerationFlag); ok {
			s.takes = d.TakesValue()
		}
		for _, n := range names {
			table[dashed(n)] = s
		}
	}
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// scanner sorts the words of one line by one table of flags.
type scanner struct {
	table map[string]spelling
	left  []string
	line  line
	bad   []error // every complaint, first one first
}

// permute finds the command that the line means and sorts the words for it.
func permute(tree []*command, args []string) (line, error) {
	var found *scanner
	for _, l := range leaves(tree) {
		s := scan(args, l)
		if !startsWith(s.line.words, l.path, tree) {
			continue
		}
		if found == nil || len(l.path) > len(found.line.leaf.path) {
			found = s
		}
	}
	if found == nil {
		return withoutCommand(tree, args)
	}
	found.line.words = found.line.words[len(found.line.leaf.path):]
	if len(found.bad) > 0 && !found.line.help {
		return found.line, found.bad[0]
	}
	return found.line, nil
}

// startsWith compares words with a path, aliases included.
func startsWith(words, path []string, tree []*command) bool {
	for i, name := range path {
		if i >= len(words) {
			return false
		}
		c := named(tree, words[i])
		if c == nil || c.Name != name {
			return false
		}
		tree = c.Sub
	}
	return true
}

// scan sorts the words as if they were meant for l.
func scan(args []string, l leaf) *scanner {
	s := &scanner{table: spellings(flagsOf(l)), left: args, line: line{leaf: l}}
	for len(s.left) > 0 {
		word := s.left[0]
		s.left = s.left[1:]
		switch {
		case word == "--":
			s.line.rest, s.line.hasRest, s.left = s.left, true, nil
		case strings.HasPrefix(word, "--"):
			s.long(word)
		case strings.HasPrefix(word, "-") && word != "-":
			s.short(word)
		default:
			s.line.words = append(s.line.words, word)
		}
	}
	return s
}

func flagsOf(l leaf) []cli.Flag {
	if l.cmd == nil {
		return nil
	}
	return l.cmd.Flags
}

// long takes one word that starts with two dashes.
func (s *scanner) long(word string) {
	name, value, given := strings.Cut(word, "=")
	sp, ok := s.table[name]
	switch {
	case !ok:
		s.bad = append(s.bad, s.unknown(name, value))
	case given:
		s.emit(sp, value)
	case sp.takes:
		s.next(sp, name)
	default:
		s.emit(sp, bareValue(sp))
	}
}

// short takes one word that starts with one dash: -n, -yv, -vv, -P4, -P=4, -P 4.
func (s *scanner) short(word string) {
	if _, ok := s.table["-"+word]; ok {
		s.bad = append(s.bad, usagef("%s is written with two dashes", word).Hint("write -%s", word))
		return
	}
	for letters := word[1:]; letters != ""; {
		name := "-" + letters[:1]
		sp, ok := s.table[name]
		if !ok {
			s.bad = append(s.bad, s.unknown(wholeShort(word, name), ""))
			return
		}
		letters = letters[1:]
		if value, given := strings.CutPrefix(letters, "="); given {
			s.emit(sp, value)
			return
		}
		if !sp.takes {
			s.emit(sp, bareValue(sp))
			continue
		}
		if letters == "" {
			s.next(sp, name)
		} else {
			s.emit(sp, letters)
		}
		return
	}
}

// wholeShort names what was typed when it is no cluster of known letters: "-timeout" reads better than "-t".
func wholeShort(word, letter string) string {
	if strings.HasPrefix(word, letter) {
		return word
	}
	return letter
}

func bareValue(sp spelling) string {
	if sp.optional {
		return sp.bare
	}
	return "true"
}

// next takes the following word as the value. A word that looks like a flag is no value: `-l -n prod`
// is a forgotten pattern, not a pattern named "-n"; --limit=-n can still say so.
func (s *scanner) next(sp spelling, name string) {
	if len(s.left) == 0 || (strings.HasPrefix(s.left[0], "-") && s.left[0] != "-") {
		s.bad = append(s.bad, usagef("%s needs a value", name).Hint("write %s=VALUE", dashed(sp.name)))
		return
	}
	s.emit(sp, s.left[0])
	s.left = s.left[1:]
}

func (s *scanner) emit(sp spelling, value string) {
	text := "--" + sp.name + "=" + value
	switch {
	case sp.global && sp.name == "help":
		s.line.help = true
	case sp.global && sp.name == "version":
		s.line.version = true
	case sp.global:
		s.line.global = append(s.line.global, text)
	default:
		s.line.own = append(s.line.own, text)
	}
}

// unknown says that no such flag exists, and which one may be meant.
func (s *scanner) unknown(name, value string) error {
	f := usagef("unknown flag %s%s", name, s.of())
	if value == "" && len(s.left) > 0 && !strings.HasPrefix(s.left[0], "-") {
		value = s.left[0]
	}
	if hint := foreignFlag(name, value); hint != "" {
		return f.Hint("%s", hint)
	}
	if near := nearest(name, keysOf(s.table)); near != "" {
		return f.Hint("did you mean %s?", near)
	}
	return f.Try("godeploy help%s", spaced(s.line.leaf.name()))
}

func (s *scanner) of() string {
	if name := s.line.leaf.name(); name != "" {
		return " for godeploy " + name
	}
	return ""
}

// withoutCommand is for a line that names no command: only help and version are good.
func withoutCommand(tree []*command, args []string) (line, error) {
	s := scan(args, leaf{})
	switch {
	case s.line.version:
		return s.line, nil
	case len(s.line.words) == 0 && len(s.bad) > 0:
		return s.line, s.bad[0]
	case len(s.line.words) == 0:
		s.line.help = true
		return s.line, nil
	}
	if group := named(tree, s.line.words[0]); group != nil {
		return groupLine(s.line, group)
	}
	if s.line.help {
		return s.line, nil
	}
	return s.line, unknownCommand(tree, s.line.words[0])
}

// groupLine is for "keys" without a verb of its own, or with a wrong one.
func groupLine(l line, group *command) (line, error) {
	if len(group.Sub) == 0 { // a flag that takes a value stands before the verb and swallowed a word
		return l, usagef("the flags before %q cannot be read", group.Name).Hint("write the command first")
	}
	l.leaf = leaf{path: []string{group.Name}, cmd: group}
	if l.help || len(l.words) == 1 {
		l.help = true
		return l, nil
	}
	return l, unknownCommand(group.Sub, l.words[1])
}

package cmd

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"godeploy/internal/fault"

	"github.com/urfave/cli/v2"
)

func usagef(format string, args ...any) *fault.Error { return fault.New(fault.Usage, format, args...) }

// usageError turns what urfave/cli says about a flag's value into ours. Unknown flags never get so
// far: permute has refused them.
func usageError(_ *cli.Context, err error, _ bool) error {
	text := err.Error() // `invalid value "x" for flag -parallel: parse error`, or without "flag" for booleans
	before, after, ok := strings.Cut(strings.Replace(text, " for flag -", " for -", 1), " for -")
	if !ok {
		return usagef("%s", text)
	}
	name, _, _ := strings.Cut(after, ":")
	return usagef("%s for --%s", before, name).Hint("%s", valueHint(name))
}

func valueHint(name string) string {
	switch name {
	case "timeout":
		return `a duration is written like "90s" or "10m"`
	case "parallel":
		return "it takes a whole number"
	default:
		return fmt.Sprintf("see what --%s takes: godeploy help", name)
	}
}

func badFlag(name, want string) error {
	return usagef("--%s has a value it cannot take", name).Hint("it takes %s", want)
}

func oneOf(s string, all []string) bool { return slices.Contains(all, s) }

func keysOf(table map[string]spelling) []string { return slices.Sorted(maps.Keys(table)) }

func spaced(s string) string {
	if s == "" {
		return ""
	}
	return " " + s
}

// foreignFlag knows the words of other tools. They get a hint and no alias: the same word would mean
// something slightly different.
func foreignFlag(name, value string) string {
	switch name {
	case "--check", "-C":
		return "a preview is --dry-run (-n)"
	case "--forks", "-f", "--max-concurrent":
		return "hosts at once are --parallel N (-P)"
	case "--hosts", "--host", "-i", "--inventory", "--only-machines", "--roles", "-r":
		return "choose hosts with --limit PATTERN (-l), the file with --config FILE (-c)"
	case "--force":
		return "there is no --force: the flag that is meant stands in the message that refused"
	case "--confirmed", "--auto-confirm", "--now", "--assume-yes":
		return "answer questions with --yes (-y)"
	case "--detailed-exitcode":
		return "write --exit-code"
	case "--destination", "-d", "--stage", "--env", "-e":
		if value == "" {
			value = "prod"
		}
		return fmt.Sprintf("the environment is a word of its own: godeploy COMMAND %s", value)
	default:
		return ""
	}
}

// foreignCommand is the same for verbs.
func foreignCommand(word string) string {
	switch word {
	case "deploy", "push", "up", "ship":
		return "release"
	case "run", "adhoc", "ad-hoc", "invoke":
		return "exec"
	case "plan":
		return "release --dry-run"
	case "key", "ssh-copy-id":
		return "keys"
	case "trust":
		return "keys trust"
	case "validate", "lint", "syntax-check":
		return "check"
	case "unlock":
		return "lock release"
	case "hosts", "list-hosts":
		return "inventory show"
	case "undo", "revert":
		return "rollback"
	default:
		return ""
	}
}

func unknownCommand(tree []*command, word string) error {
	f := usagef("unknown command %q", word)
	if ours := foreignCommand(word); ours != "" {
		return f.Hint("godeploy's word for it is %q", ours).Try("godeploy %s", ours)
	}
	if near := nearest(word, names(tree)); near != "" {
		return f.Hint("did you mean %q?", near)
	}
	return f.Try("godeploy help")
}

func names(tree []*command) []string {
	var all []string
	for _, c := range tree {
		if c.Group != "" {
			all = append(all, c.Name)
		}
	}
	return all
}

// nearest gives the candidate that differs least from word, or "" when none is near: at most a third
// of its letters, and at most three, may differ.
func nearest(word string, candidates []string) string {
	best, least := "", min(3, (len(word)+2)/3)+1
	for _, c := range candidates {
		if len(c) < 3 { // "-n" is near to everything
			continue
		}
		if d := distance(word, c); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with a neighbour.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	if len(x) > 64 || len(y) > 64 {
		return 64
	}
	var before, above []int
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(x); i++ {
		before, above, row = above, row, make([]int, len(y)+1)
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, above[j]+1, above[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(y)]
}

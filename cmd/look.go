package cmd

import (
	"fmt"
	"slices"
	"strings"
)

func outputModes() []string { return []string{"auto", "tty", "plain", "json", "github", "gitlab"} }

// look is how output is drawn: settled once, before the first line.
type look struct {
	mode    string // tty, plain, json, github or gitlab
	colour  bool   // on stderr
	ascii   bool
	verbose int
	quiet   bool
	terse   bool // only warnings and errors of the story are shown
	lines   bool // the command tells a story: in json mode stdout is JSON lines
}

// newLook obeys, in this order, the flags, NO_COLOR, FORCE_COLOR, TERM and what stderr is.
func newLook(o options, sys System) look {
	l := look{mode: o.Output, verbose: o.Verbose, quiet: o.Quiet}
	if l.mode == "" || l.mode == "auto" {
		l.mode = autoMode(sys)
	}
	l.colour = wantsColour(o.Color, sys)
	l.ascii = o.ASCII || !utf8Locale(sys)
	return l
}

func autoMode(sys System) string {
	switch {
	case sys.Env("GITHUB_ACTIONS") == "true":
		return "github"
	case sys.Env("GITLAB_CI") == "true":
		return "gitlab"
	case sys.StderrTTY && sys.Env("TERM") != "dumb" && sys.Env("CI") == "":
		return "tty"
	default:
		return "plain"
	}
}

func wantsColour(flag string, sys System) bool {
	switch {
	case flag == "always":
		return true
	case flag == "never" || sys.Env("NO_COLOR") != "":
		return false
	case truthy(sys.Env("FORCE_COLOR")) || truthy(sys.Env("CLICOLOR_FORCE")):
		return true
	default:
		return sys.StderrTTY && sys.Env("TERM") != "dumb"
	}
}

// utf8Locale asks the variables in the order of locale(7). An empty one is as good as unset; with none
// at all, as in a container, the terminal is taken for a modern one.
func utf8Locale(sys System) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := sys.Env(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return true
}

// The colours, as SGR codes.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	bold   = "1"
	faint  = "2"
)

// paint colours text that is clean already.
func (l look) paint(code, text string) string {
	if !l.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// someOf joins names for a person: "a, b and 3 more".
func someOf(all []string, limit int) string {
	switch n := len(all); {
	case n == 0:
		return ""
	case n > limit:
		return fmt.Sprintf("%s and %d more", strings.Join(all[:limit], ", "), n-limit)
	case n == 1:
		return all[0]
	default:
		return strings.Join(all[:n-1], ", ") + " and " + all[n-1]
	}
}

func sorted(all []string) []string {
	slices.Sort(all)
	return all
}

// plural gives "1 host" or "3 hosts".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

package tune

import (
	"fmt"
	"strings"
)

// mark is how the first line of each of our files begins; a file without it is somebody else's.
const mark = "# Written by godeploy tune for "

// beforeMark begins the lines that keep what a setting was before it was ours.
const beforeMark = "# before: "

// Ours reports whether a file was written by tune, and for which app.
func Ours(content string) (app string, ours bool) {
	rest, ours := strings.CutPrefix(content, mark)
	app, _, _ = strings.Cut(rest, ";")
	return app, ours
}

func header(app string) string {
	return mark + app + "; the next run overwrites what is changed here.\n"
}

// sysctlText is the file of kernel settings, "" for none. before has what each setting was.
func sysctlText(app string, want, before map[string]string) string {
	if len(want) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(header(app))
	for _, key := range sortedKeys(want) {
		fmt.Fprintf(&b, "%s%s = %s\n%s = %s\n", beforeMark, key, before[key], key, want[key])
	}
	return b.String()
}

// settings reads "key = value" lines as sysctl.d(5) has them: comments begin with # or ;, a "-" before the
// key allows a failure, "/" and "." are one. A later line wins.
func settings(content string) map[string]string {
	found := map[string]string{}
	for line := range strings.Lines(content) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok {
			found[sysctlKey(strings.TrimPrefix(strings.TrimSpace(key), "-"))] = oneBlank(value)
		}
	}
	return found
}

// sysctlKey gives a setting its name with dots.
func sysctlKey(key string) string {
	dot, slash := strings.IndexByte(key, '.'), strings.IndexByte(key, '/')
	if slash < 0 || dot >= 0 && dot < slash {
		return key
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '/':
			return '.'
		case '.':
			return '/'
		}
		return r
	}, key)
}

// before reads what our own file says the settings were before.
func before(content string) map[string]string {
	var lines strings.Builder
	for line := range strings.Lines(content) {
		if rest, ok := strings.CutPrefix(line, beforeMark); ok {
			lines.WriteString(rest)
		}
	}
	return settings(lines.String())
}

// limitsText is the file of pam_limits(8), "" for none. root needs lines of its own: * does not mean it.
func limitsText(app string, want map[string]uint64) string {
	if len(want) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(header(app))
	for _, name := range sortedKeys(want) {
		for _, who := range []string{"*", "root"} {
			fmt.Fprintf(&b, "%s soft %s %d\n%s hard %s %d\n", who, name, want[name], who, name, want[name])
		}
	}
	return b.String()
}

// unitText is the drop-in of a unit, "" for none.
func unitText(app string, want map[string]uint64) string {
	if len(want) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(header(app) + "[Service]\n")
	for _, name := range sortedKeys(want) {
		if l, ok := limitNamed(name); ok {
			fmt.Fprintf(&b, "%s=%d\n", l.unit, want[name]*l.factor)
		}
	}
	return b.String()
}

func splitLines(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }

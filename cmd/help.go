package cmd

import (
	"context"
	"fmt"
	"strings"

	"godeploy/inventory"

	"github.com/urfave/cli/v2"
)

func helpCommand() *command {
	return &command{
		Name: "help", Group: groupStart, Usage: "explain a command or an error code", Args: "[COMMAND | CODE]", MaxArgs: 2,
		Examples: []string{"godeploy help keys trust", "godeploy help ssh-hostkey-changed", "godeploy exec --help", "godeploy help --man | man -l -"},
		Flags:    []cli.Flag{&cli.BoolFlag{Name: "man", Usage: "print the manual page, for man(1)"}},
		Run: func(_ context.Context, c *call) error {
			if c.flags.Bool("man") {
				return c.print("%s", manual(version().Version))
			}
			return c.helpOn(c.words)
		},
	}
}

func (c *call) helpOn(words []string) error {
	if len(words) == 0 {
		return c.printHelp(leaf{})
	}
	if page, ok := explain(words[0]); ok && len(words) == 1 {
		_, err := fmt.Fprintf(c.sys.Stdout, "%s\n", page)
		return err
	}
	tree := commands()
	at := leaf{}
	for _, w := range words {
		next := named(tree, w)
		if next == nil {
			return unknownCommand(tree, w)
		}
		at = leaf{path: append(at.path, next.Name), cmd: next}
		tree = next.Sub
	}
	return c.printHelp(at)
}

// printHelp writes help to stdout: it was asked for.
func (c *call) printHelp(l leaf) error {
	text := shortHelp(commands())
	if l.cmd != nil {
		text = commandHelp(l)
	} else {
		text += c.firstSteps()
	}
	_, err := fmt.Fprint(c.sys.Stdout, text)
	return err
}

// firstSteps is for a folder without a file; it names only commands that are there.
func (c *call) firstSteps() string {
	if _, err := inventory.Find(c.sys.Dir); err == nil {
		return ""
	}
	var ways []string
	for _, w := range [][2]string{{"init", "start with: godeploy init"}, {"demo", "look around: godeploy demo"}} {
		if named(commands(), w[0]) != nil {
			ways = append(ways, w[1])
		}
	}
	if len(ways) == 0 {
		return ""
	}
	return "\nThere is no godeploy.toml here. " + strings.Join(ways, ", or ") + "\n"
}

// shortHelp is what `godeploy` alone prints.
func shortHelp(tree []*command) string {
	var b strings.Builder
	b.WriteString("godeploy puts a web application on its servers over SSH, and takes it back when it fails.\n\n")
	b.WriteString("  godeploy check                  is godeploy.toml right? (touches no server)\n")
	b.WriteString("  godeploy keys trust prod        read the servers' host keys once\n")
	b.WriteString("  godeploy exec prod -- uptime    run a command on every server\n")
	for _, g := range groups() {
		var rows [][2]string
		for _, c := range tree {
			if c.Group == g {
				rows = append(rows, [2]string{joined(" ", c.Name, c.Args), c.Usage})
			}
		}
		section(&b, g, rows)
	}
	section(&b, "FLAGS, anywhere on the line", flagRows(fiveFlags()))
	b.WriteString("\nMore: godeploy help COMMAND, godeploy help ERROR-CODE\n")
	return b.String()
}

// fiveFlags are the global flags that people use most; the others stand in the help of each command.
func fiveFlags() []cli.Flag {
	var out []cli.Flag
	for _, f := range globalFlags() {
		if oneOf(f.Names()[0], []string{"limit", "dry-run", "yes", "json", "verbose"}) {
			out = append(out, f)
		}
	}
	return out
}

func section(b *strings.Builder, title string, rows [][2]string) {
	if len(rows) == 0 {
		return
	}
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	width = min(width, 30)
	fmt.Fprintf(b, "\n%s\n", title)
	for _, r := range rows {
		if len(r[0]) > width {
			fmt.Fprintf(b, "  %s\n  %-*s  %s\n", r[0], width, "", r[1])
			continue
		}
		fmt.Fprintf(b, "  %-*s  %s\n", width, r[0], r[1])
	}
}

// commandHelp is the page of one command: examples first.
func commandHelp(l leaf) string {
	var b strings.Builder
	fmt.Fprintf(&b, "godeploy %s: %s\n", l.name(), l.cmd.Usage)
	if len(l.cmd.Examples) > 0 {
		b.WriteString("\n")
	}
	for _, e := range l.cmd.Examples {
		fmt.Fprintf(&b, "  %s\n", e)
	}
	if l.cmd.Run != nil {
		fmt.Fprintf(&b, "\nusage: godeploy %s\n", joined(" ", l.name(), l.cmd.Args))
	}
	if l.cmd.About != "" {
		fmt.Fprintf(&b, "\n%s\n", l.cmd.About)
	}
	var subs [][2]string
	for _, s := range l.cmd.Sub {
		subs = append(subs, [2]string{joined(" ", l.name(), s.Name, s.Args), s.Usage})
	}
	section(&b, "COMMANDS", subs)
	section(&b, "FLAGS", flagRows(l.cmd.Flags))
	section(&b, "GLOBAL FLAGS", flagRows(globalFlags()))
	return b.String()
}

// flagRows shows flags as people write them: "-l, --limit PATTERN".
func flagRows(flags []cli.Flag) [][2]string {
	var rows [][2]string
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		value, usage := placeholder(d.GetUsage())
		rows = append(rows, [2]string{flagNames(f) + flagValue(f, value), joined(" ", usage, envNote(f.Names()[0]))})
	}
	return rows
}

func flagNames(f cli.Flag) string {
	var short, long []string
	for _, n := range f.Names() {
		if len(n) == 1 {
			short = append(short, dashed(n))
		} else {
			long = append(long, dashed(n))
		}
	}
	return strings.Join(append(short, long...), ", ")
}

func flagValue(f cli.Flag, value string) string {
	if _, ok := f.(*optionalFlag); ok {
		return "[=" + orElse(value, "VALUE") + "]"
	}
	if d, ok := f.(cli.DocGenerationFlag); ok && d.TakesValue() {
		return " " + orElse(value, "VALUE")
	}
	return ""
}

// placeholder takes the `NAME` of the value out of a usage line, as urfave/cli does.
func placeholder(usage string) (name, text string) {
	before, rest, ok := strings.Cut(usage, "`")
	if !ok {
		return "", usage
	}
	name, after, _ := strings.Cut(rest, "`")
	return name, before + name + after
}

func envNote(name string) string {
	for _, pair := range fromEnvironment() {
		if pair[0] == name {
			return "[" + pair[1] + "]"
		}
	}
	return ""
}

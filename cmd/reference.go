package cmd

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// Flag is one flag, for documentation.
type Flag struct {
	Names []string // with their dashes
	Value string   // what stands behind it: " N", "[=DURATION]", or ""
	Usage string
}

// Command is one command, for documentation.
type Command struct {
	Name  string // "keys trust"
	Args  string
	Usage string
	About string
	Flags []Flag // its own
	// Examples are whole command lines.
	Examples []string
}

// Reference lists every command that people can see, in the order of the help, and the global flags.
// Documentation and its tests read it; it is a copy.
func Reference() (commandsOut []Command, global []Flag) {
	for _, l := range leaves(commands()) {
		if l.cmd.Group == "" {
			continue
		}
		commandsOut = append(commandsOut, Command{Name: l.name(), Args: l.cmd.Args, Usage: l.cmd.Usage, About: l.cmd.About,
			Flags: flagDocs(l.cmd.Flags), Examples: l.cmd.Examples})
	}
	return commandsOut, flagDocs(globalFlags())
}

func flagDocs(flags []cli.Flag) []Flag {
	var all []Flag
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		var names []string
		for _, n := range f.Names() {
			names = append(names, dashed(n))
		}
		value, usage := placeholder(d.GetUsage())
		all = append(all, Flag{Names: names, Value: flagValue(f, value), Usage: joined(" ", usage, envNote(f.Names()[0]))})
	}
	return all
}

// ErrorsPage is docs/errors.md: a paragraph for each error code.
func ErrorsPage() string { return errorsPage() }

// CommandsPage is docs/cli.md: every command and every flag.
func CommandsPage() string {
	all, global := Reference()
	var b strings.Builder
	b.WriteString(cliIntroduction)
	b.WriteString("\n## Flags for every command\n\n")
	writeFlags(&b, global)
	for _, c := range all {
		fmt.Fprintf(&b, "\n## godeploy %s\n\n%s.\n\n", joined(" ", c.Name, strings.ReplaceAll(c.Args, "...", "…")), sentence(c.Usage))
		if c.About != "" {
			b.WriteString(c.About + "\n\n")
		}
		if len(c.Flags) > 0 {
			writeFlags(&b, c.Flags)
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "```sh\n%s\n```\n", strings.Join(c.Examples, "\n"))
	}
	return b.String()
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func writeFlags(b *strings.Builder, flags []Flag) {
	b.WriteString("| flag | meaning |\n|---|---|\n")
	for _, f := range flags {
		fmt.Fprintf(b, "| `%s%s` | %s |\n", strings.Join(f.Names, ", "), f.Value, strings.ReplaceAll(f.Usage, "|", `\|`))
	}
}

const cliIntroduction = `# The command line

` + "`godeploy COMMAND [ENV] [words] [flags]`" + `

- Flags may stand anywhere on the line, before or behind the command; short ones may be joined (` + "`-yv`" + `, ` + "`-vv`" + `, ` + "`-P4`" + `).
  A flag that does not exist is an error, never an argument. What follows ` + "`--`" + ` is never read as a flag.
- The first word behind the command is the environment if it names one. Else it is ` + "`GODEPLOY_ENV`" + `, ` + "`default_env`" + ` or the only one in
  the file, and the word is the command's own.
- A flag wins over its environment variable (in brackets below), and that over the file. ` + "`--yes`" + ` has no variable, on purpose.
- Data goes to stdout, the story of the run to stderr. With ` + "`--json`" + `, commands that act write JSON lines to stdout (json.md), commands
  that only ask write one JSON document.
- The exit code says in which state the fleet is: exit-codes.md. Errors have a code of their own: errors.md, or ` + "`godeploy help CODE`" + `.
- Output is drawn live on a terminal, in folded sections on GitHub and GitLab, else as plain lines. NO_COLOR, FORCE_COLOR, TERM=dumb and
  CI are obeyed.
- In a GitHub job a run is added to the summary of the job, and the steps behind it find ` + "`release`, `status` and `exit`" + ` in its outputs.
- The first Ctrl-C (or SIGTERM) stops at the next safe point, the second one at once; after SIGTERM that comes by itself after 5 s.
- Every run of a command that acts is recorded in ` + "`.godeploy/runs`" + ` (the last 50); ` + "`-l @failed`" + ` takes the hosts that failed in the last one.
`

package cmd

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// command is one verb of godeploy. What stands here is all there is to know about it: the help, the
// parsing, the docs test and the completion read the same value.
type command struct {
	Name     string
	Aliases  []string
	Group    string // heading in the help; "" hides the command
	Usage    string // one line
	About    string // more lines, for `godeploy help NAME`
	Examples []string
	Args     string // what stands behind the verb, as the help shows it: "[ENV] [ID]"

	Env     bool // the first word is the environment if it names one
	MaxArgs int  // how many words may follow ENV; -1 is any number
	Rest    bool // takes what follows "--"
	Changes bool // changes servers: says which environment it took
	Story   bool // tells a run in events: --json means JSON lines, not one document
	Terse   bool // what the hosts print is the result: of the story only warnings are shown, unless -v

	Flags []cli.Flag
	Sub   []*command
	Run   func(ctx context.Context, c *call) error // nil only for a group
}

// The headings of the help, in their order.
const (
	groupStart   = "START"
	groupAccess  = "ACCESS"
	groupServers = "SERVERS"
	groupRelease = "RELEASE"
	groupTraffic = "TRAFFIC"
	groupFile    = "FILE"
)

func groups() []string {
	return []string{groupStart, groupAccess, groupServers, groupRelease, groupTraffic, groupFile}
}

// commands is the whole tree, in the order of the help.
func commands() []*command {
	return slices.Concat(
		[]*command{demoCommand(), initCommand(), checkCommand(), doctorCommand(), completionCommand(), versionCommand(), helpCommand()},
		[]*command{keysCommand(), sshCommand(), execCommand()},
		[]*command{statusCommand(), logsCommand(), startCommand(), stopCommand(), restartCommand(), lockCommand()},
		[]*command{setupCommand(), tuneCommand()},
		[]*command{syncCommand(), releaseCommand(), rollbackCommand(), releasesCommand(), hooksCommand()},
		[]*command{nginxCommand(), balancerCommand()},
		[]*command{inventoryCommand()},
		[]*command{helperCommand(), demoAppCommand(), completeCommand()},
	)
}

// leaf is a command that can run, with the words that lead to it.
type leaf struct {
	path []string
	cmd  *command
}

func (l leaf) name() string { return strings.Join(l.path, " ") }

// leaves lists what can run, in order.
func leaves(tree []*command) []leaf {
	var all []leaf
	for _, c := range tree {
		if c.Run != nil {
			all = append(all, leaf{path: []string{c.Name}, cmd: c})
		}
		for _, s := range leaves(c.Sub) {
			all = append(all, leaf{path: append([]string{c.Name}, s.path...), cmd: s.cmd})
		}
	}
	return all
}

// named finds a command by name or alias.
func named(tree []*command, word string) *command {
	for _, c := range tree {
		if c.Name == word || slices.Contains(c.Aliases, word) {
			return c
		}
	}
	return nil
}

// optionalFlag is a flag whose value may be left out: "--lock-wait" or "--lock-wait=15m". The value
// is never the next word, so that "--lock-wait prod" cannot swallow the environment.
type optionalFlag struct {
	*cli.StringFlag
	Bare string // the value of the flag without one
}

// newApp builds the urfave/cli application. It parses and nothing else: help, version, completion
// and the printing of errors are ours, since urfave's go to stdout, exit on their own, or run the
// command (docs/architecture.md, "The face").
func newApp(tree []*command, run func(leaf, *cli.Context) error) *cli.App {
	app := &cli.App{
		Name: "godeploy", HideHelp: true, HideVersion: true, DisableSliceFlagSeparator: true,
		Flags: globalFlags(), Writer: io.Discard, ErrWriter: io.Discard,
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    usageError,
		CommandNotFound: func(*cli.Context, string) {},
		Action:          func(*cli.Context) error { return nil },
	}
	for _, c := range tree {
		app.Commands = append(app.Commands, newCommand(c, nil, run))
	}
	return app
}

func newCommand(c *command, above []string, run func(leaf, *cli.Context) error) *cli.Command {
	here := leaf{path: append(slices.Clone(above), c.Name), cmd: c}
	out := &cli.Command{
		Name: c.Name, Aliases: c.Aliases, Usage: c.Usage, HideHelp: true, Flags: c.Flags,
		OnUsageError: usageError,
		Action:       func(ctx *cli.Context) error { return run(here, ctx) },
	}
	for _, s := range c.Sub {
		out.Subcommands = append(out.Subcommands, newCommand(s, here.path, run))
	}
	return out
}

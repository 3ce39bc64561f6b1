package cmd

import (
	"time"

	"github.com/urfave/cli/v2"
)

// options are the global flags, as every command sees them.
type options struct {
	Config   string
	Limit    []string
	Yes      bool
	DryRun   bool
	Parallel int
	Output   string
	Verbose  int
	Quiet    bool
	Color    string
	ASCII    bool
	NoInput  bool
	AskSudo  bool
	Timeout  time.Duration
	Log      string
}

// globalFlags may stand anywhere on the line. A command's own flag of the same name comes first.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "read this `FILE`, not the nearest godeploy.toml"},
		&cli.StringSliceFlag{Name: "limit", Aliases: []string{"l"}, Usage: "only hosts that match `PATTERN`"},
		&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "answer yes to questions"},
		&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "do everything up to the first change and print the plan"},
		&cli.IntFlag{Name: "parallel", Aliases: []string{"P"}, Value: 16, Usage: "work on `N` hosts at once"},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "auto", Usage: "`MODE`: auto, tty, plain, json, github or gitlab"},
		&cli.BoolFlag{Name: "json", Usage: "short for --output json"},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Count: new(int), Usage: "show commands; -vv their output too; -vvv what ssh does"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "show errors and the last line only"},
		&cli.StringFlag{Name: "color", Value: "auto", Usage: "`WHEN`: auto, always or never"},
		&cli.BoolFlag{Name: "no-color", Usage: "short for --color never"},
		&cli.BoolFlag{Name: "ascii", Usage: "draw with ASCII only"},
		&cli.BoolFlag{Name: "no-input", Usage: "never ask: fail and name the flag instead"},
		&cli.BoolFlag{Name: "ask-sudo", Usage: "become root on the hosts by sudo, with a password that is asked for once"},
		&cli.DurationFlag{Name: "timeout", Usage: "give up after `DURATION`, as an interrupt would"},
		&cli.StringFlag{Name: "log", Usage: "also write the run as JSON lines to `FILE`"},
		&cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "show help for the command on this line"},
		&cli.BoolFlag{Name: "version", Aliases: []string{"V"}, Usage: "show the version"},
	}
}

// fromEnvironment says which global flags an environment variable sets when the line does not.
// --yes has none, on purpose: a forgotten variable must not answer questions.
func fromEnvironment() [][2]string {
	return [][2]string{
		{"config", "GODEPLOY_CONFIG"},
		{"limit", "GODEPLOY_LIMIT"},
		{"parallel", "GODEPLOY_PARALLEL"},
		{"output", "GODEPLOY_OUTPUT"},
		{"no-input", "GODEPLOY_NO_INPUT"},
		{"timeout", "GODEPLOY_TIMEOUT"},
	}
}

func readOptions(c *cli.Context) options {
	o := options{
		Config: c.String("config"), Limit: c.StringSlice("limit"), Yes: c.Bool("yes"), DryRun: c.Bool("dry-run"),
		Parallel: c.Int("parallel"), Output: c.String("output"), Verbose: c.Count("verbose"),
		Quiet: c.Bool("quiet"), Color: c.String("color"), ASCII: c.Bool("ascii"), NoInput: c.Bool("no-input"), AskSudo: c.Bool("ask-sudo"),
		Timeout: c.Duration("timeout"), Log: c.String("log"),
	}
	if c.Bool("json") {
		o.Output = "json"
	}
	if c.Bool("no-color") {
		o.Color = "never"
	}
	return o
}

// check refuses values that no flag type refuses by itself.
func (o options) check() error {
	switch {
	case o.Parallel < 1 || o.Parallel > 1024:
		return badFlag("parallel", "a number from 1 to 1024")
	case !oneOf(o.Output, outputModes()):
		return badFlag("output", "auto, tty, plain, json, github or gitlab")
	case !oneOf(o.Color, []string{"auto", "always", "never"}):
		return badFlag("color", "auto, always or never")
	case o.Timeout < 0:
		return badFlag("timeout", `a duration such as "10m"`)
	}
	return nil
}

package cmd

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"godeploy/internal/fault"

	"github.com/urfave/cli/v2"
)

func releaseFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "batch"},
		&cli.BoolFlag{Name: "again"},
		&cli.StringSliceFlag{Name: "exclude"},
		&optionalFlag{StringFlag: &cli.StringFlag{Name: "lock-wait"}, Bare: "15m"},
	}
}

func benchFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "requests", Aliases: []string{"n"}},
		&cli.IntFlag{Name: "concurrency", Aliases: []string{"c"}},
	}
}

// A flag means the same wherever it stands: this is the trap that made `release prod --dry-run` a real release.
func TestFlagsMeanTheSameInEveryPosition(t *testing.T) {
	t.Parallel()
	flags := [][]string{{"--dry-run"}, {"-y"}, {"-n"}, {"-vv"}, {"-yv"}, {"--json"}, {"--limit", "app1"}, {"-l", "app*"}, {"-lapp1"}, {"-P4"},
		{"--parallel=4"}, {"--batch", "2"}, {"--again"}, {"--lock-wait"}, {"--lock-wait=3m"}, {"--exclude", "*,v"}, {"--yes=false"}}
	for _, extra := range flags {
		words := []string{"release", "prod"}
		var want string
		for at := 0; at <= len(words); at++ {
			args := slices.Concat(words[:at], extra, words[at:])
			seen, err := parse(args...)
			if err != nil {
				t.Errorf("%q: %v", args, err)
				continue
			}
			got := describe(seen)
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%q: got %s, want %s", args, got, want)
			}
		}
		if bare, _ := parse(words...); describe(bare) == want && extra[0] != "--yes=false" {
			t.Errorf("%q changes nothing", extra)
		}
	}
}

func describe(c *call) string {
	if c.flags == nil {
		return "not run"
	}
	var b strings.Builder
	b.WriteString(c.leaf.name() + " " + strings.Join(c.words, ","))
	for _, n := range []string{"batch", "again", "lock-wait"} {
		b.WriteString(" " + n + "=" + c.flags.String(n))
	}
	b.WriteString(strings.Join(c.flags.StringSlice("exclude"), "|"))
	o := c.opt
	b.WriteString(strings.Join(o.Limit, "|"))
	for _, on := range []bool{o.Yes, o.DryRun, o.Output == "json", o.Parallel == 4, c.flags.Bool("again")} {
		if on {
			b.WriteString("1")
		} else {
			b.WriteString("0")
		}
	}
	b.WriteString(strings.Repeat("v", o.Verbose))
	return b.String()
}

// Every command that exists takes every global flag in front of it, in the middle and at the end.
func TestEveryCommandTakesGlobalFlagsEverywhere(t *testing.T) {
	t.Parallel()
	tree := commands()
	for _, l := range leaves(tree) {
		own := spellings(l.cmd.Flags)
		for _, g := range globalFlags() {
			name := g.Names()[0]
			if own["--"+name].name != name || !own["--"+name].global || name == "help" || name == "version" {
				continue
			}
			word := "--" + name
			if own[word].takes {
				word += "=1"
			}
			for at := 0; at <= len(l.path); at++ {
				args := slices.Concat(l.path[:at], []string{word}, l.path[at:])
				got, err := permute(tree, args)
				if err != nil || got.leaf.name() != l.name() || len(got.global) != 1 || len(got.words) != 0 {
					t.Errorf("%q: got %q with %q, %q: %v", args, got.leaf.name(), got.global, got.words, err)
				}
			}
		}
	}
}

func TestCommandsOwnShortFlagsWinOverGlobalOnes(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"bench", "-n", "100", "prod", "-c", "4"}, {"-n100", "-c4", "bench", "prod"}, {"-n", "100", "bench", "prod", "-c=4"}} {
		seen, err := parse(args...)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		if n, c := seen.flags.Int("requests"), seen.flags.Int("concurrency"); n != 100 || c != 4 || seen.opt.DryRun || seen.opt.Config != "" {
			t.Errorf("%q: got -n %d -c %d, dry run %v, config %q", args, n, c, seen.opt.DryRun, seen.opt.Config)
		}
	}
	seen, err := parse("bench", "--dry-run", "--config", "x.toml", "-n", "5")
	if err != nil || !seen.opt.DryRun || seen.opt.Config != "x.toml" || seen.flags.Int("requests") != 5 {
		t.Errorf("long names of the global flags are lost: %+v, %v", seen.opt, err)
	}
}

func TestWordsAfterTwoDashesAreKeptApart(t *testing.T) {
	t.Parallel()
	seen, err := parse("run", "prod", "--", "rm", "-rf", "--dry-run", "--", "--generate-bash-completion")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"rm", "-rf", "--dry-run", "--", "--generate-bash-completion"}; !slices.Equal(seen.rest, want) || !seen.hasRest {
		t.Errorf("rest: got %q, want %q", seen.rest, want)
	}
	if seen.opt.DryRun || !slices.Equal(seen.words, []string{"prod"}) {
		t.Errorf("the command's own words became ours: %+v %q", seen.opt, seen.words)
	}
}

func TestLinesThatAreRefused(t *testing.T) {
	t.Parallel()
	tests := []struct{ line, msg, hint string }{
		{"release prod --dry-rnu", "unknown flag --dry-rnu for godeploy release", "did you mean --dry-run?"},
		{"release prod -x", "unknown flag -x", ""},
		{"release prod -1", "unknown flag -1", ""},
		{"release -dry-run prod", "-dry-run is written with two dashes", "write --dry-run"},
		{"release prod --check", "unknown flag --check", "--dry-run"},
		{"release prod -C", "unknown flag -C", "--dry-run"},
		{"release prod --forks 4", "unknown flag --forks", "--parallel"},
		{"release --hosts=app1 prod", "unknown flag --hosts", "--limit"},
		{"release -i hosts.ini prod", "unknown flag -i", "--limit"},
		{"release prod --force", "unknown flag --force", "there is no --force"},
		{"release --destination staging", "unknown flag --destination", "godeploy COMMAND staging"},
		{"release -d staging", "unknown flag -d", "godeploy COMMAND staging"},
		{"release prod --confirmed", "unknown flag --confirmed", "--yes"},
		{"relase prod", `unknown command "relase"`, `did you mean "release"?`},
		{"deploy prod", `unknown command "deploy"`, `"release"`},
		{"plan prod", `unknown command "plan"`, "release --dry-run"},
		{"release prod app1", `takes no further word, but got "app1"`, "usage: godeploy release"},
		{"release prod --batch", "--batch needs a value", "--batch=VALUE"},
		{"release --limit -n prod", "--limit needs a value", "--limit=VALUE"},
		{"release prod -P many", `invalid value "many" for --parallel`, "whole number"},
		{"release prod --timeout 5", `invalid value "5" for --timeout`, `"90s"`},
		{"release prod -P 0", "--parallel has a value it cannot take", "1 to 1024"},
		{"release prod -o xml", "--output has a value it cannot take", "json"},
		{"release prod --again=perhaps", `invalid boolean value "perhaps" for --again`, ""},
		{"release -- --dry-run", `"--dry-run" looks like a flag`, "before --"},
		{"keys trsut prod", `unknown command "trsut"`, `"trust"`},
		{"bogus --help-me", `unknown command "bogus"`, ""},
	}
	for _, tt := range tests {
		seen, err := parse(strings.Fields(tt.line)...)
		if err == nil {
			t.Errorf("%q ran as %q", tt.line, describe(seen))
			continue
		}
		var f *fault.Error
		if !errors.As(err, &f) || f.Code != fault.Usage || codeOf(err) != exitUsage {
			t.Errorf("%q: %v is no usage fault", tt.line, err)
			continue
		}
		if !strings.Contains(f.Msg, tt.msg) || !strings.Contains(f.Cause, tt.hint) {
			t.Errorf("%q: got %q, hint %q; want %q, hint %q", tt.line, f.Msg, f.Cause, tt.msg, tt.hint)
		}
		if seen.flags != nil {
			t.Errorf("%q: the command ran", tt.line)
		}
	}
}

func TestHelpIsHelpWhereverItStands(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"-h", "--help", "", "release -h", "-h release", "release prod --bogus --help", "release prod -yh", "keys", "keys --help", "keys trust prod -h"} {
		if seen, err := parse(strings.Fields(line)...); !errors.Is(err, errHelp) || seen.flags != nil {
			t.Errorf("%q: got %v, want help and nothing run", line, err)
		}
	}
	if _, err := parse("run", "prod", "--", "ls", "-h"); err != nil {
		t.Errorf("-h behind -- belongs to the command: %v", err)
	}
}

func TestAliasesLeadToTheirCommand(t *testing.T) {
	t.Parallel()
	seen, err := parse("keys", "-y", "ls", "prod")
	if err != nil || seen.leaf.name() != "keys list" || !seen.opt.Yes || !slices.Equal(seen.words, []string{"prod"}) {
		t.Errorf("got %q %q, %v", seen.leaf.name(), seen.words, err)
	}
}

// A value that reads like a command is no command.
func TestValuesThatAreNamedLikeCommands(t *testing.T) {
	t.Parallel()
	seen, err := parse("--config", "release", "--batch", "keys", "release", "bench")
	if err != nil || seen.opt.Config != "release" || seen.flags.String("batch") != "keys" || !slices.Equal(seen.words, []string{"bench"}) {
		t.Errorf("got config %q, words %q, %v", seen.opt.Config, seen.words, err)
	}
}

func FuzzPermute(f *testing.F) {
	for _, s := range []string{"release prod --dry-run", "-n -- --", "keys trust -yv=", "--=", "-", "bench -n", "--limit", "-é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, " ")
		l, err := permute(testTree(&call{}), args)
		if err != nil {
			return
		}
		// What stands behind "--" is never looked at, and no word is lost or made up.
		if at := slices.Index(args, "--"); l.hasRest && !slices.Equal(l.rest, args[at+1:]) {
			t.Errorf("%q: rest is %q", args, l.rest)
		}
		for _, w := range l.words {
			if !slices.Contains(args, w) {
				t.Errorf("%q: %q was made up", args, w)
			}
		}
		if slices.Contains(args, "--dry-run") && !l.hasRest && !l.help && !l.version && !slices.Contains(l.global, "--dry-run=true") {
			t.Errorf("%q: the dry run is lost: %q", args, l.global)
		}
	})
}

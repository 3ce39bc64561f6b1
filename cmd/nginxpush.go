package cmd

import (
	"context"
	"fmt"
	"strings"

	"godeploy/deploy"
	"godeploy/deploy/balance"
	"godeploy/deploy/overssh"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"

	"github.com/urfave/cli/v2"
)

func nginxPushCommand() *command {
	return &command{
		Name: "push", Group: groupTraffic, Usage: "bring the nginx file to every nginx host, or to none", Args: "[ENV]", Env: true, Changes: true, Story: true,
		Examples: []string{"godeploy nginx push prod", "godeploy nginx push prod --dry-run", "godeploy nginx push prod --overwrite"},
		About: "nginx tests the file on each host beside the live one. Then host after host swaps it in, reloads, and counts when\n" +
			"new workers answer with it; when one does not, all go back. Servers that are drained stay drained. A file that\n" +
			"somebody has edited is named and left alone (docs/nginx.md).",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "overwrite", Usage: "replace a file that was edited, or that godeploy has not written"}},
		Run:   runNginxPush,
	}
}

func nginxDiffCommand() *command {
	return &command{
		Name: "diff", Group: groupTraffic, Usage: "what nginx push would change, line by line", Args: "[ENV]", Env: true, Terse: true,
		Examples: []string{"godeploy nginx diff prod", "godeploy nginx diff prod --exit-code", "godeploy nginx diff prod --json"},
		About:    "Changes nothing. Exit 0 whatever it finds; with --exit-code 3 when a file or what nginx has loaded differs.",
		Flags:    []cli.Flag{&cli.BoolFlag{Name: "exit-code", Usage: "exit 3 when something differs"}},
		Run:      runNginxDiff,
	}
}

// frontHosts gives the balancer's hosts of the environment that --limit leaves.
func (c *call) frontHosts() ([]inventory.Host, error) {
	chosen, err := c.hosts()
	if err != nil {
		return nil, err
	}
	var hosts []inventory.Host
	for _, h := range chosen {
		if h.HasRole(c.env.Balancer.Kind) {
			hosts = append(hosts, h)
		}
	}
	if len(c.env.FrontHosts()) == 0 {
		return nil, fault.New(fault.ConfigMissing, "%s has no host of role %s", c.env.Name, c.env.Balancer.Kind).
			Try("godeploy inventory show %s", c.env.Name)
	}
	if len(hosts) == 0 {
		return nil, fault.New(fault.LimitEmpty, "no host of %s with the role %s is left to act on", c.env.Name, c.env.Balancer.Kind).
			Try("godeploy inventory show %s", c.env.Name)
	}
	return hosts, nil
}

func runNginxPush(ctx context.Context, c *call) error {
	if c.opt.DryRun {
		return runNginxDiff(ctx, c)
	}
	if _, err := balance.Render(c.env, balance.State{}); err != nil {
		return err
	}
	hosts, err := c.frontHosts()
	if err != nil {
		return err
	}
	if left := len(c.env.FrontHosts()) - len(hosts); left > 0 {
		return usagef("a push goes to every %s host, and --limit leaves out %s", c.env.BalancerTitle(), plural(left, "host")).
			Hint("hosts that differ would send the same visitor to different servers")
	}
	if err := c.agree(ctx, "push "+c.env.BalancerTitle()+"'s file to", len(hosts)); err != nil {
		return err
	}
	return c.act(ctx, hosts, func(fleet *deploy.Fleet, report event.Reporter) error {
		n := &balance.Tier{Env: c.env, Hosts: fleet.Hosts, Report: report}
		holder := fleet.Holder
		holder.Command, holder.Since = c.leaf.name(), fleet.Now()
		if err := n.Lock(ctx, holder); err != nil {
			return err
		}
		live, err := n.Look(ctx)
		if err != nil {
			return err
		}
		pushed, err := n.Push(ctx, balance.StateOf(live), balance.PushOptions{Overwrite: c.flags.Bool("overwrite")})
		return c.endPush(pushed, err)
	})
}

// endPush says what a push did, and gives the exit code for the state that it left.
func (c *call) endPush(p balance.Pushed, err error) error {
	switch {
	case err == nil && len(p.Changed) == 0:
		c.conclude("%s nothing to push: %s of %s have the file, and have loaded it", c.mark(true), plural(len(p.Unchanged), c.env.BalancerTitle()+" host"), c.env.Name)
		return nil
	case err == nil:
		c.conclude("%s pushed to %s of %s", c.mark(true), plural(len(p.Changed), c.env.BalancerTitle()+" host"), c.env.Name)
		return nil
	case len(p.Broken) > 0:
		c.conclude("%s neither the new file nor the old one could be loaded on %s: look there now", c.mark(false), someOf(p.Broken, 5))
		return &outcome{Code: exitMixed, Err: err, Result: "mixed"}
	case len(p.Undone) > 0:
		c.conclude("%s every %s host of %s is back on the file that it had", c.mark(false), c.env.BalancerTitle(), c.env.Name)
		return &outcome{Code: exitWholeOnOld, Err: err, Result: "rolled_back"}
	}
	c.conclude("%s no %s host of %s was changed", c.mark(false), c.env.BalancerTitle(), c.env.Name)
	return unchanged(err)
}

// frontDiff is one nginx host of `nginx diff --json`.
type frontDiff struct {
	Host    string      `json:"host"`
	Same    bool        `json:"same"`   // what push would bring is there, untouched
	Loaded  bool        `json:"loaded"` // and the workers have loaded it
	Problem string      `json:"problem,omitempty"`
	Files   []frontFile `json:"files"`
}

type frontFile struct {
	Path  string   `json:"path"`
	State string   `json:"state"` // same, differs, missing, edited, foreign
	Diff  []string `json:"diff"`
}

func runNginxDiff(ctx context.Context, c *call) error {
	hosts, err := c.frontHosts()
	if err != nil {
		return err
	}
	pool := c.connect(event.Discard{})
	defer pool.Close() // nothing was changed over it
	connected, err := c.connector(pool, event.Discard{}).Connect(ctx, hosts)
	if err != nil {
		return err
	}
	defer overssh.Close(connected)
	n := &balance.Tier{Env: c.env, Hosts: connected, Report: event.Discard{}}
	live, err := n.Look(ctx)
	if err != nil {
		return err
	}
	files, err := balance.Render(c.env, balance.StateOf(live))
	if err != nil {
		return err
	}
	list, same := diffsOf(live, files), true
	for _, d := range list {
		same = same && d.Same && d.Loaded
	}
	if c.looks().mode == "json" {
		err = c.document(list)
	} else {
		err = c.showDiffs(list)
	}
	if err == nil && !same && c.flags.Bool("exit-code") {
		return exitWith(exitDifferences, nil)
	}
	return err
}

func diffsOf(live []balance.Live, files []balance.File) []frontDiff {
	list := make([]frontDiff, len(live))
	for i, l := range live {
		d := frontDiff{Host: l.Host, Same: true, Loaded: l.Has(files)}
		for k, f := range files {
			one := frontFile{Path: f.Path, State: "same", Diff: textDiff(string(l.Files[k].Content), string(f.Content))}
			switch have := l.Files[k]; {
			case !have.Exists:
				one.State = "missing"
			case !have.Ours:
				one.State = "foreign"
			case !have.Stamp.Intact:
				one.State = "edited"
			case len(one.Diff) > 0:
				one.State = "differs"
			}
			d.Same = d.Same && one.State == "same"
			d.Files = append(d.Files, one)
		}
		if l.Problem != nil {
			d.Problem, d.Loaded = l.Problem.Error(), false
		}
		list[i] = d
	}
	return list
}

func (c *call) showDiffs(list []frontDiff) error {
	out := c.looks()
	out.colour = wantsColour(c.opt.Color, c.sys) && (c.sys.StdoutTTY || c.opt.Color == "always")
	var b strings.Builder
	for _, d := range list {
		for _, f := range d.Files {
			if f.State == "same" {
				continue
			}
			fmt.Fprintln(&b, out.paint(bold, fmt.Sprintf("%s %s (%s)", d.Host, f.Path, f.State)))
			for _, line := range f.Diff {
				b.WriteString(paintDiff(out, clean(line)) + "\n")
			}
		}
		switch {
		case d.Problem != "":
			c.conclude("%s %s: %s", c.mark(false), d.Host, clean(d.Problem))
		case d.Same && !d.Loaded:
			c.conclude("%s %s has the file, but %s has not loaded it", c.mark(false), d.Host, c.env.BalancerTitle())
		case d.Same:
			c.conclude("%s %s has what godeploy.toml says", c.mark(true), d.Host)
		}
	}
	_, err := fmt.Fprint(c.sys.Stdout, b.String())
	return err
}

func paintDiff(l look, line string) string {
	switch {
	case strings.HasPrefix(line, "+"):
		return l.paint(green, line)
	case strings.HasPrefix(line, "-"):
		return l.paint(red, line)
	case strings.HasPrefix(line, "@@"):
		return l.paint(faint, line)
	}
	return line
}

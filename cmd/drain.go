package cmd

import (
	"context"
	"slices"
	"strings"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"

	"github.com/urfave/cli/v2"
)

func nginxDrainCommand() *command {
	return &command{
		Name: "drain", Group: groupTraffic, Usage: "take servers out of nginx and wait for their open requests", Args: "[ENV] HOST...",
		Env: true, MaxArgs: -1, Changes: true, Story: true,
		Examples: []string{"godeploy nginx drain prod app3", "godeploy nginx drain prod app3 --wait 60s --reason 'new disk'"},
		About: "Marks the servers down on every nginx host or on none, and returns when no request is open there any more.\n" +
			"They stay out, also through releases, until nginx undrain. Servers that are out already count: more than\n" +
			"[release] max_unavailable allows are refused, and so is the last one that answers. Exit 8 when requests were\n" +
			"still open after --wait: the servers are drained all the same, and the same line waits again.",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "wait", Usage: "wait so long for open requests; default: [release] drain_wait"},
			&cli.StringFlag{Name: "reason", Usage: "`TEXT` that is shown to others"},
		},
		Run: runDrain,
	}
}

func nginxUndrainCommand() *command {
	return &command{
		Name: "undrain", Group: groupTraffic, Usage: "put servers back into nginx once they are healthy", Args: "[ENV] HOST...",
		Env: true, MaxArgs: -1, Changes: true, Story: true,
		Examples: []string{"godeploy nginx undrain prod app3", "godeploy nginx undrain prod app3 --warm 2m", "godeploy nginx undrain prod app3 --weight 5"},
		About: "Each server must serve its release, proven and healthy, before any nginx host sends requests to it again.\n" +
			"With --warm it gets a tenth of its weight first and the whole in the end. With --weight it keeps that weight\n" +
			"until it is undrained again.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "weight", Usage: "put them back with weight `N` instead of their own"},
			&cli.DurationFlag{Name: "warm", Usage: "raise the weight over this time"},
		},
		Run: runUndrain,
	}
}

func runDrain(ctx context.Context, c *call) error {
	env := *c.env // this run's own copy
	c.env = &env
	if c.flags.IsSet("wait") {
		if env.Release.DrainWait = c.flags.Duration("wait"); env.Release.DrainWait < 0 {
			return badFlag("wait", `a duration such as "30s"`)
		}
	}
	reason := c.flags.String("reason")
	if len(reason) > 500 || strings.ContainsFunc(reason, func(r rune) bool { return r < ' ' }) {
		return badFlag("reason", "one line of at most 500 bytes")
	}
	return c.byHand(ctx, "Drain", func(ctx context.Context, f *deploy.Fleet) (*deploy.Result, error) { return f.Drain(ctx, reason) })
}

func runUndrain(ctx context.Context, c *call) error {
	warm := deploy.Warmth{Weight: c.flags.Int("weight"), Over: c.flags.Duration("warm")}
	switch {
	case c.flags.IsSet("weight") && (warm.Weight < 1 || warm.Weight > 65535):
		return badFlag("weight", "a number from 1 to 65535")
	case warm.Over < 0:
		return badFlag("warm", `a duration such as "2m"`)
	case warm.Over > 0 && warm.Weight > 0:
		return usagef("--warm and --weight exclude each other")
	}
	return c.byHand(ctx, "Undrain", func(ctx context.Context, f *deploy.Fleet) (*deploy.Result, error) { return f.Undrain(ctx, warm) })
}

// byHand drains or undrains the servers that the words name.
func (c *call) byHand(ctx context.Context, doing string, act func(context.Context, *deploy.Fleet) (*deploy.Result, error)) error {
	hosts, err := c.namedServers()
	if err != nil {
		return err
	}
	if err := c.agree(ctx, doing, len(hosts)); err != nil {
		return err
	}
	return c.act(ctx, hosts, func(fleet *deploy.Fleet, report event.Reporter) error {
		result, err := act(ctx, fleet)
		done := map[string]string{"Drain": "out of service", "Undrain": "in service again"}[doing]
		if result.Verdict == deploy.Done {
			c.conclude("%s %s: %s, %s", c.mark(err == nil), strings.Join(hostNames(hosts), " "), done, took(result.Took))
			if doing == "Drain" {
				c.conclude("  back:  godeploy %s undrain %s %s", c.leaf.path[0], c.env.Name, strings.Join(hostNames(hosts), " "))
			}
		} else {
			c.conclude("%s %s: not %s", c.mark(false), strings.Join(hostNames(hosts), " "), done)
		}
		return c.end(report, result, err)
	})
}

// namedServers gives the balanced hosts that the words name, in file order.
func (c *call) namedServers() ([]inventory.Host, error) {
	balanced := c.env.BalancedHosts()
	if len(c.words) == 0 {
		return nil, usagef("godeploy %s needs the name of a server", c.leaf.name()).
			Hint("servers of %s: %s", c.env.Name, strings.Join(hostNames(balanced), ", "))
	}
	for _, w := range c.words {
		if !slices.Contains(hostNames(balanced), w) {
			return nil, fault.New(fault.HostUnknown, "%q is no server that %s sends requests to", w, c.env.BalancerTitle()).
				Hint("servers of %s: %s", c.env.Name, strings.Join(hostNames(balanced), ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(balanced), func(h inventory.Host) bool { return !slices.Contains(c.words, h.Name) }), nil
}

package cmd

import (
	"context"
	"fmt"

	"godeploy/deploy"
	"godeploy/internal/event"

	"github.com/urfave/cli/v2"
)

func rollbackCommand() *command {
	return &command{
		Name: "rollback", Group: groupRelease, Usage: "take the servers back to an earlier release", Args: "[ENV] [ID|~N]",
		Env: true, MaxArgs: 1, Changes: true, Story: true,
		Examples: []string{"godeploy rollback prod", "godeploy rollback prod ~2", "godeploy rollback prod 20261121-181530-b01d77a"},
		About: "Without an id: the healthy release before the present one that every server still has. Nothing is sent; the\n" +
			"same waves, proof and health checks as for a release. once hooks are never undone. With [release] migrations\n" +
			"a release is refused whose recorded schema is not the database's.",
		Flags: append(waveFlags(),
			&cli.StringFlag{Name: "reason", Usage: "`TEXT` told to the hooks"},
			&cli.BoolFlag{Name: "accept-schema-ahead", Usage: "go back although the database's schema is newer than the release"},
		),
		Run: runRollback,
	}
}

func runRollback(ctx context.Context, c *call) error {
	if err := c.applyWaves(); err != nil {
		return err
	}
	hosts, err := c.serviceHosts()
	if err != nil {
		return err
	}
	if err := c.agree(ctx, "Roll back", len(hosts)); err != nil {
		return err
	}
	ask := ""
	if len(c.words) > 0 {
		ask = c.words[0]
	}
	return c.act(ctx, hosts, func(fleet *deploy.Fleet, report event.Reporter) error {
		fleet.AcceptSchemaAhead = c.flags.Bool("accept-schema-ahead")
		result, err := fleet.Rollback(ctx, ask, c.flags.String("reason"))
		c.sayRolledBack(result, err)
		return c.end(report, result, err)
	})
}

func (c *call) sayRolledBack(r *deploy.Result, err error) {
	if r.Verdict == deploy.Done {
		servers := fmt.Sprintf("%d of %d servers", len(r.Fleet()[r.Release]), len(r.Hosts))
		c.conclude("%s Rolled %s back to %s in %s", c.mark(true), r.Env, r.Release, took(r.Took))
		c.conclude("  %s; it was on %s", servers, r.Previous)
		c.conclude("  forward again:  godeploy rollback %s %s", r.Env, r.Previous)
	} else {
		c.sayFailed("rolled back", r)
	}
	if err == nil {
		_ = c.print("%s\n", r.Release) // a closed stdout is no reason to fail
	}
}

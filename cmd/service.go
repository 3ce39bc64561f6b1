package cmd

import (
	"context"

	"godeploy/deploy"
	"godeploy/internal/event"

	"github.com/urfave/cli/v2"
)

func startCommand() *command {
	return serviceCommand("start", "start the service and prove that it serves", "",
		func(ctx context.Context, f *deploy.Fleet, _ *call) (*deploy.Result, error) { return f.Start(ctx) })
}

func stopCommand() *command {
	return serviceCommand("stop", "stop the service", "",
		func(ctx context.Context, f *deploy.Fleet, _ *call) (*deploy.Result, error) { return f.Stop(ctx) })
}

func restartCommand() *command {
	cmd := serviceCommand("restart", "restart the service in waves and prove that it serves",
		"--graceful restarts by [process] graceful, for gunicorn a HUP: no request is lost, and it is done only when the\n"+
			"old workers are gone and new ones run in the current release.",
		func(ctx context.Context, f *deploy.Fleet, c *call) (*deploy.Result, error) {
			return f.Restart(ctx, c.flags.Bool("graceful"))
		})
	cmd.Examples = []string{"godeploy restart prod --graceful", "godeploy restart --graceful", "godeploy restart prod -l app2"}
	cmd.Flags = append(cmd.Flags, &cli.BoolFlag{Name: "graceful", Usage: "without losing a request"}, noDrainFlag())
	return cmd
}

func serviceCommand(name, usage, about string, act func(context.Context, *deploy.Fleet, *call) (*deploy.Result, error)) *command {
	return &command{
		Name: name, Group: groupServers, Usage: usage, Args: "[ENV]", About: about,
		Env: true, Changes: true, Story: true,
		Examples: []string{"godeploy " + name + " prod", "godeploy " + name + " prod -l app2"},
		Flags:    []cli.Flag{&cli.StringFlag{Name: "batch", Usage: "act on `N` servers at a time, or a share such as 25%"}},
		Run:      func(ctx context.Context, c *call) error { return runService(ctx, c, name, act) },
	}
}

func runService(ctx context.Context, c *call, name string, act func(context.Context, *deploy.Fleet, *call) (*deploy.Result, error)) error {
	if err := c.applyWaves(); err != nil {
		return err
	}
	hosts, err := c.serviceHosts()
	if err != nil {
		return err
	}
	if err := c.agree(ctx, name, len(hosts)); err != nil {
		return err
	}
	return c.act(ctx, hosts, func(fleet *deploy.Fleet, report event.Reporter) error {
		result, err := act(ctx, fleet, c)
		if result.Verdict == deploy.Done {
			c.conclude("%s %s: %s of %s in %s", c.mark(true), name, plural(len(result.Hosts), "server"), c.env.Name, took(result.Took))
		} else {
			c.sayFailed(name+"ed", result)
		}
		return c.end(report, result, err)
	})
}

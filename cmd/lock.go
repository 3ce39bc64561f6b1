package cmd

import (
	"context"
	"time"

	"godeploy/deploy"
	"godeploy/internal/event"
)

func lockCommand() *command {
	return &command{
		Name: "lock", Group: groupServers, Usage: "who is changing the servers", Args: "status | release [ENV]",
		Examples: []string{"godeploy lock status prod", "godeploy lock release prod -l app2"},
		Sub: []*command{
			{
				Name: "status", Group: groupServers, Usage: "who holds the lock on each server", Args: "[ENV]", Env: true, Terse: true,
				Examples: []string{"godeploy lock status prod", "godeploy lock status prod --json"},
				Run:      runLockStatus,
			},
			{
				Name: "release", Group: groupServers, Usage: "remove locks that dead runs left", Args: "[ENV]", Env: true, Changes: true, Story: true,
				Examples: []string{"godeploy lock release prod", "godeploy lock release prod -l app2"},
				About: "Only where no helper runs can a lock outlive its run: there it is a folder. A lock that a helper holds ends\n" +
					"with its run and is never removed by anybody else. Look at lock status first: the run may be alive.",
				Run: runLockRelease,
			},
		},
	}
}

type lockView struct {
	Host    string `json:"host"`
	Held    bool   `json:"held"`
	By      string `json:"by,omitempty"`
	Command string `json:"command,omitempty"`
	Release string `json:"release,omitempty"`
	Since   string `json:"since,omitempty"`
}

func runLockStatus(ctx context.Context, c *call) error {
	list, err := c.askStatus(ctx)
	if err != nil {
		return err
	}
	views := []lockView{}
	rows := [][]string{}
	for _, s := range c.answered(list) {
		v := lockView{Host: s.Host, Held: s.Holder != nil}
		if h := s.Holder; h != nil {
			v.By, v.Command, v.Release, v.Since = h.Who, h.Command, h.Release, h.Since.UTC().Format(time.RFC3339)
		}
		views = append(views, v)
		rows = append(rows, []string{v.Host, orElse(v.By, "free"), v.Command, v.Release, v.Since})
	}
	if c.looks().mode == "json" {
		return c.document(views)
	}
	return table(c.sys.Stdout, []string{"HOST", "LOCK", "COMMAND", "RELEASE", "SINCE"}, rows)
}

func runLockRelease(ctx context.Context, c *call) error {
	hosts, err := c.serviceHosts()
	if err != nil {
		return err
	}
	if err := c.confirm(ctx, "Remove the locks of "+plural(len(hosts), "server")+" of "+c.env.Name+", whoever holds them?"); err != nil {
		return err
	}
	return c.act(ctx, hosts, func(fleet *deploy.Fleet, _ event.Reporter) error { return deploy.BreakLocks(ctx, fleet) })
}

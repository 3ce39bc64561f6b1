package cmd

import (
	"context"

	"godeploy/deploy"
)

func hooksCommand() *command {
	return &command{
		Name: "hooks", Group: groupRelease, Usage: "your own scripts, as godeploy runs them", Args: "list [ENV]",
		Examples: []string{"godeploy hooks list", "godeploy hooks list prod -l app2"},
		Sub: []*command{{
			Name: "list", Group: groupRelease, Usage: "the hooks in the order of a release: where, as whom, in which folder, for how long", Args: "[ENV]", Env: true,
			Examples: []string{"godeploy hooks list", "godeploy hooks list prod -l app2", "godeploy hooks list prod --json"},
			About: "Asks no server. A setup hook runs in godeploy setup; start, stop and restart hooks take the place of the manager's\n" +
				"own way; a once hook runs on the first of its servers. Each gets GODEPLOY_*, which docs/release.md lists.",
			Run: runHooksList,
		}},
	}
}

func runHooksList(_ context.Context, c *call) error {
	hosts, err := c.serviceHosts()
	if err != nil {
		return err
	}
	lines := deploy.HookLines(c.env, hosts)
	if c.looks().mode == "json" {
		if lines == nil {
			lines = []deploy.HookLine{}
		}
		return c.document(lines)
	}
	if len(lines) == 0 {
		c.conclude("no hooks for these servers of %s", c.env.Name)
		return nil
	}
	var rows [][]string
	for _, l := range lines {
		where := someOf(l.Hosts, 4)
		if l.Name == "once" && len(l.Hosts) > 1 {
			where = "one of " + where
		}
		user := orElse(l.User, "the login")
		if l.Hosts == nil {
			where, user = "here", "you"
		}
		rows = append(rows, []string{l.Name, where, user, l.Dir, l.Timeout, l.Run})
	}
	return table(c.sys.Stdout, []string{"HOOK", "WHERE", "AS", "IN", "LIMIT", "RUNS"}, rows)
}

package cmd

import (
	"context"
	"strings"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/wire"
	"godeploy/inventory"

	"github.com/urfave/cli/v2"
)

func syncCommand() *command {
	return &command{
		Name: "sync", Group: groupRelease, Usage: "send the code here to the servers, and switch nothing", Args: "[ENV]",
		Env: true, Changes: true, Story: true,
		Examples: []string{"godeploy sync prod", "godeploy sync prod --to /opt/swiper --delete --dry-run", "godeploy sync --list --exclude '*.map'"},
		About: "Brings what changed to every server as a staged release: beside what serves, which does not see it. A release\n" +
			"of the same tree then has little left to send. stdout is the id of the staged release.\n" +
			"With --to PATH, or layout inplace, the folder itself is made what you have here, file by file, each complete\n" +
			"before it is put in place. There nothing is deleted without --delete, or delete = true in the file for layout\n" +
			"inplace; what is excluded is never deleted. No hook runs.\n" +
			"Exit 0 done or nothing to do, 3 differences (--dry-run --exit-code), 4 a server cannot be reached,\n" +
			"5 failed and nothing that serves was changed, 6 failed and a folder in place was, 7 somebody else is at it,\n" +
			"64 nothing touched.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "make `PATH` on every server what is here, in place"},
			&cli.BoolFlag{Name: "delete", Usage: "in place: delete there what is not here"},
			&cli.BoolFlag{Name: "no-delete", Usage: "in place: delete nothing"},
			&cli.StringFlag{Name: "max-delete", Usage: "in place: refuse to delete more than `N` things, or a share such as 10%"},
			&cli.BoolFlag{Name: "list", Usage: "list every change and the reason for it"},
			&cli.StringFlag{Name: "verify", Usage: "`WHAT` is hashed again on the server: changed or all"},
			&cli.StringSliceFlag{Name: "exclude", Usage: "leave out what `PATTERN` matches, as rsync would; before those of the file"},
			&cli.StringSliceFlag{Name: "include", Usage: "keep what `PATTERN` matches; before those of the file"},
			&cli.StringSliceFlag{Name: "filter", Usage: "a filter `RULE` of rsync's; before those of the file"},
			&cli.StringFlag{Name: "rate", Usage: "send no more than `RATE` in all, such as 20MB/s"},
			&cli.BoolFlag{Name: "rehash", Usage: "read every file here, whatever the cache of hashes says"},
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "`TEXT` kept with the staged release"},
			&cli.BoolFlag{Name: "exit-code", Usage: "with --dry-run: exit 3 when there are differences"},
		},
		Run: runSync,
	}
}

func runSync(ctx context.Context, c *call) error {
	if err := c.applySync(); err != nil {
		return err
	}
	hosts, err := c.serviceHosts()
	if err != nil {
		return err
	}
	place, err := c.placing(ctx)
	if err != nil {
		return err
	}
	if !c.opt.DryRun {
		if err := c.agree(ctx, c.doing(place), len(hosts)); err != nil {
			return err
		}
	}
	git := readGit(ctx, c.file.Dir)
	report, err := c.begin(event.Event{Hosts: hostNames(hosts), Commit: git.commit, Branch: git.branch})
	if err != nil {
		return err
	}
	tree := c.scanAhead(ctx, report)
	defer tree.close()
	fleet, done, err := c.fleet(ctx, report, hosts)
	if err != nil {
		return err
	}
	defer done()
	result, err := fleet.Sync(ctx, deploy.SyncWant{
		Scan: tree.wait, Commit: git.commit, Branch: git.branch, Message: c.flags.String("message"),
		Place: place, DryRun: c.opt.DryRun, List: c.flags.Bool("list"),
	})
	c.listChanges(result)
	c.saySynced(result, err)
	return c.endSync(report, result, err)
}

// applySync puts the flags over the file's values; the environment is this run's own copy.
func (c *call) applySync() error {
	env := *c.env
	c.env = &env
	s := &env.Sync
	s.Exclude = append(c.flags.StringSlice("exclude"), s.Exclude...)
	s.Include = append(c.flags.StringSlice("include"), s.Include...)
	s.Filter = append(c.flags.StringSlice("filter"), s.Filter...)
	if v := c.flags.String("verify"); v != "" {
		if !oneOf(v, []string{"changed", "all"}) {
			return badFlag("verify", "changed or all")
		}
		s.Verify = v
	}
	if v := c.flags.String("rate"); v != "" {
		if err := s.Bandwidth.UnmarshalText([]byte(v)); err != nil {
			return usagef("--rate %q %v", v, err)
		}
	}
	if v := c.flags.String("max-delete"); v != "" {
		if err := s.MaxDelete.UnmarshalText([]byte(v)); err != nil {
			return usagef("--max-delete %q %v", v, err)
		}
	}
	if c.flags.Bool("delete") && c.flags.Bool("no-delete") {
		return usagef("--delete and --no-delete are one too many")
	}
	return c.applyTo()
}

// applyTo takes the folder of --to for the app's path.
func (c *call) applyTo() error {
	to := c.flags.String("to")
	if to == "" {
		return nil
	}
	to = strings.TrimSuffix(to, "/")
	if err := inventory.CheckAppPath(strings.ReplaceAll(to, "{{.Host.Name}}", "host")); err != nil {
		return usagef("--to %q %v", to, err).Hint("an absolute path on the servers, at least two levels deep, no folder of the system's")
	}
	c.env.App.Path, c.env.App.Layout = to, "inplace"
	return nil
}

// placing says how files are brought in place, nil when a release is staged.
func (c *call) placing(ctx context.Context) (*deploy.Placing, error) {
	if c.env.App.Layout != "inplace" {
		for _, name := range []string{"delete", "no-delete", "max-delete"} {
			if c.flags.IsSet(name) {
				return nil, usagef("--%s is for files in place", name).
					Hint("a staged release is a new folder that holds exactly what you have here: nothing is deleted").
					Try("godeploy sync %s --to %s --%s", c.env.Name, c.env.App.Path, name)
			}
		}
		return nil, nil
	}
	rules, err := c.rules()
	if err != nil {
		return nil, err
	}
	folders, err := rules.Folders(ctx, c.sourceDir())
	if err != nil {
		return nil, err
	}
	limit := c.env.Sync.MaxDelete
	return &deploy.Placing{
		Delete: c.deletes(), Limit: wire.Share{N: limit.N, Percent: limit.Percent, Set: limit != inventory.Share{}},
		Verify: c.env.Sync.Verify, Rules: folders.Texts(), Source: originOf(c.sourceDir()),
	}, nil
}

// deletes: in place nothing goes that nobody asked for. The default of [sync] delete speaks of releases,
// which are new folders; for layout inplace the file has to say it, and for --to the command line.
func (c *call) deletes() bool {
	switch {
	case c.flags.Bool("delete"):
		return true
	case c.flags.Bool("no-delete") || c.flags.String("to") != "":
		return false
	}
	return c.env.Sync.Delete && c.file.Origin(c.env.Name, "sync.delete").Line > 0
}

// doing is the question's beginning.
func (c *call) doing(place *deploy.Placing) string {
	switch {
	case place == nil:
		return "Send to"
	case place.Delete:
		return "Change " + c.env.App.Path + " in place, and delete there what is not here, on"
	}
	return "Change " + c.env.App.Path + " in place on"
}

// endSync tells the result and turns it into the exit code.
func (c *call) endSync(report event.Reporter, r *deploy.SyncResult, err error) error {
	sum := r.Sum()
	report.Report(event.Event{
		Type: event.RunEnd, Release: r.Staged(), Result: string(r.Verdict), MS: r.Took.Milliseconds(),
		Bytes: sum.Sent, Changed: sum.Changed + sum.Made + sum.Touched, Deleted: sum.Deleted,
	})
	switch {
	case err != nil && r.Verdict == deploy.Mixed:
		return &outcome{Code: exitMixed, Err: err, Result: string(r.Verdict)}
	case err != nil && r.Verdict == deploy.WholeOld:
		return &outcome{Code: exitWholeOnOld, Err: err, Result: string(r.Verdict)}
	case err != nil:
		return unchanged(err)
	case r.DryRun && c.flags.Bool("exit-code") && r.Differs():
		return exitWith(exitDifferences, nil)
	}
	return nil
}

package cmd

import (
	"context"
	"fmt"
	"strings"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
	filesync "godeploy/sync"

	"github.com/urfave/cli/v2"
)

func releaseCommand() *command {
	return &command{
		Name: "release", Group: groupRelease, Usage: "bring the code here out on the servers", Args: "[ENV]",
		Env: true, Changes: true, Story: true,
		Examples: []string{"godeploy release prod", "godeploy release prod --dry-run", "godeploy release staging --yes --message 'new search'"},
		About: "Sends what changed, builds and checks it on every server beside what serves, then switches them in waves:\n" +
			"link, restart, proof that the new code serves, health. If any of it fails, every server goes back to what it\n" +
			"had. The same tree again releases nothing. stdout is the release id alone.\n" +
			"Exit 0 released or nothing to do, 4 a server cannot be reached, 5 failed and whole on the old release,\n" +
			"6 failed and mixed, 7 somebody else is at it, 64 nothing touched.",
		Flags: append(waveFlags(),
			&cli.BoolFlag{Name: "again", Usage: "release even when nothing has changed"},
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "`TEXT` kept with the release"},
			&cli.BoolFlag{Name: "any-branch", Usage: "release from a branch that the file does not allow"},
			&optionalFlag{StringFlag: &cli.StringFlag{Name: "resume", Usage: "go on with a release that failed, or is not everywhere: the last one, or `ID`"}, Bare: lastRun},
			&cli.BoolFlag{Name: "pause", Usage: "ask after the canary whether to go on"},
			&cli.BoolFlag{Name: "exit-code", Usage: "with --dry-run: exit 3 when there is something to release"},
		),
		Run: runRelease,
	}
}

// waveFlags override how a release or rollback goes over the servers.
func waveFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "strategy", Usage: "`HOW` servers switch: rolling, canary or all"},
		&cli.StringFlag{Name: "batch", Usage: "switch `N` servers at a time, a share such as 25%, or a ramp 1,30%,100%"},
		&cli.StringFlag{Name: "canary", Usage: "`HOST` that switches first, alone"},
		&cli.StringFlag{Name: "on-failure", Usage: "`WHAT` a failure leads to: rollback, stop or continue"},
		noDrainFlag(),
		&cli.IntFlag{Name: "max-failures", Value: -1, Usage: "go on while at most `N` servers of all have failed"},
		&cli.StringSliceFlag{Name: "quarantine", Usage: "`HOST` that may be out of reach: go on without it and say that it is behind; repeatable"},
	}
}

func noDrainFlag() cli.Flag {
	return &cli.BoolFlag{Name: "no-drain", Usage: "leave the servers in the balancer while they are restarted"}
}

// applyWaves puts the flags over the file's values; the environment is this run's own copy.
func (c *call) applyWaves() error {
	env := *c.env
	c.env = &env
	if s := c.flags.String("canary"); s != "" {
		env.Release.Strategy, env.Release.Canary = "canary", s
	}
	if s := c.flags.String("strategy"); s != "" {
		env.Release.Strategy = s
	}
	if s := c.flags.String("batch"); s != "" {
		batch, err := parseBatch(s)
		if err != nil {
			return err
		}
		env.Release.Batch = batch
	}
	if s := c.flags.String("on-failure"); s != "" {
		env.Release.OnFailure = s
	}
	if n := c.flags.Int("max-failures"); n >= 0 {
		env.Release.MaxFailures = n
	}
	return checkWaves(env.Release.Strategy, env.Release.OnFailure, env.Release.Canary, env.ReleaseHosts())
}

func checkWaves(strategy, onFailure, canary string, hosts []inventory.Host) error {
	if !oneOf(strategy, []string{"rolling", "canary", "all"}) {
		return usagef("--strategy is rolling, canary or all, not %q", strategy)
	}
	if !oneOf(onFailure, []string{"rollback", "stop", "continue"}) {
		return usagef("--on-failure is rollback, stop or continue, not %q", onFailure)
	}
	if strategy != "canary" {
		return nil
	}
	for _, h := range hosts {
		if h.Name == canary {
			return nil
		}
	}
	return usagef("strategy canary needs a --canary that a release goes to, not %q", canary)
}

func runRelease(ctx context.Context, c *call) error {
	if err := c.applyWaves(); err != nil {
		return err
	}
	hosts, err := c.serviceHosts()
	if err != nil {
		return err
	}
	resume, err := c.resumed()
	if err != nil {
		return err
	}
	if err := c.mayPause(); err != nil {
		return err
	}
	git := readGit(ctx, c.file.Dir)
	if err := c.branchAllowed(git); err != nil {
		return err
	}
	if !c.opt.DryRun {
		if err := c.agree(ctx, "Release to", len(hosts)); err != nil {
			return err
		}
	}
	report, err := c.begin(event.Event{Hosts: hostNames(hosts), Commit: git.commit, Branch: git.branch})
	if err != nil {
		return err
	}
	var src *filesync.Source
	defer func() {
		if src != nil {
			_ = src.Close() // it was only read
		}
	}()
	scan := func(ctx context.Context) (_ *filesync.Source, err error) {
		src, err = c.scan(ctx, report)
		return src, err
	}
	want := deploy.Want{Scan: scan, Commit: git.commit, Branch: git.branch, Message: c.flags.String("message"), Again: c.flags.Bool("again"), Resume: resume}
	fleet, done, err := c.fleet(ctx, report, hosts)
	if err != nil {
		return err
	}
	defer done()
	if c.flags.Bool("pause") {
		fleet.Canary = c.askCanary
	}
	if c.opt.DryRun {
		plan, err := fleet.DryRun(ctx, want)
		if err != nil {
			return unchanged(err)
		}
		return c.showPlan(plan)
	}
	if s := c.statics(report); s != nil {
		defer s.close()
		fleet.Statics = s
	}
	result, err := fleet.Release(ctx, want)
	c.sayReleased(result, err)
	return c.end(report, result, err)
}

func (c *call) branchAllowed(g gitState) error {
	if c.env.Branch == "" || g.branch == c.env.Branch || c.flags.Bool("any-branch") {
		return nil
	}
	return fault.New(fault.BranchRefused, "%s is released from branch %s, this is %s", c.env.Name, c.env.Branch, orElse(g.branch, "no branch")).
		At(c.file.Origin(c.env.Name, "branch")).
		Try("git checkout %s", c.env.Branch).Try("godeploy release %s --any-branch", c.env.Name)
}

// showPlan prints what a release would do: data, so it goes to stdout.
func (c *call) showPlan(p *deploy.Plan) error {
	if c.looks().mode == "json" {
		if err := c.planEvents(p); err != nil {
			return err
		}
	} else if err := c.planText(p); err != nil {
		return err
	}
	if c.flags.Bool("exit-code") && !p.Nothing {
		return exitWith(exitDifferences, nil)
	}
	return nil
}

func (c *call) planEvents(p *deploy.Plan) error {
	for _, h := range p.Hosts {
		c.told().Report(event.Event{Type: event.PlanHost, Host: h.Host, Release: p.Release, Previous: h.Current, Bytes: h.Send, Msg: "restart: " + h.Restart})
		for _, change := range h.Changes {
			c.told().Report(event.Event{Type: event.PlanFile, Host: h.Host, Op: string(change.Op), Path: change.Path, Bytes: change.Size})
		}
	}
	return nil
}

func (c *call) planText(p *deploy.Plan) error {
	var b strings.Builder
	fmt.Fprintf(&b, "release %s to %s: %s, %s\n", p.Release, p.Env, plural(p.Files, "file"), deploy.Size(p.Bytes))
	if p.Nothing {
		b.WriteString("nothing would be released: every server has this tree\n")
	}
	b.WriteString("\n")
	rows := [][]string{}
	for _, h := range p.Hosts {
		rows = append(rows, []string{h.Host, h.Address, h.Role, orElse(h.Current, "none"), changesText(h), sendText(h)})
	}
	if err := table(&b, []string{"HOST", "ADDRESS", "ROLE", "CURRENT", "CHANGES", "SIZE"}, rows); err != nil {
		return err
	}
	c.planFiles(&b, p)
	planRestarts(&b, p)
	b.WriteString("\nsteps\n")
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "  %-12s %-10s %s\n", s.Phase, s.Where, clean(s.What))
	}
	b.WriteString("\nwaves\n")
	for i, wave := range p.Waves {
		fmt.Fprintf(&b, "  %d  %s\n", i+1, strings.Join(wave, " "))
	}
	if len(p.Stuck) > 0 {
		fmt.Fprintf(&b, "  -  %s: no wave may take them, too many servers are out of service\n", strings.Join(p.Stuck, " "))
	}
	return c.print("%s", b.String())
}

// planRestarts says how the service is restarted, hosts that are alike on one line.
func planRestarts(b *strings.Builder, p *deploy.Plan) {
	var ways []string
	on := map[string][]string{}
	for _, h := range p.Hosts {
		if on[h.Restart] == nil {
			ways = append(ways, h.Restart)
		}
		on[h.Restart] = append(on[h.Restart], h.Host)
	}
	b.WriteString("\nrestart\n")
	for _, way := range ways {
		fmt.Fprintf(b, "  %s: %s\n", strings.Join(on[way], " "), cleanLine(way))
	}
}

// planFiles lists the files of the first host's changes; with more hosts they are mostly the same.
func (c *call) planFiles(b *strings.Builder, p *deploy.Plan) {
	const most = 20
	if len(p.Hosts) == 0 || len(p.Hosts[0].Changes) == 0 {
		return
	}
	fmt.Fprintf(b, "\nfiles on %s\n", p.Hosts[0].Host)
	for i, change := range p.Hosts[0].Changes {
		if i == most && c.opt.Verbose == 0 {
			fmt.Fprintf(b, "  and %d more (-v lists them)\n", len(p.Hosts[0].Changes)-most)
			return
		}
		fmt.Fprintf(b, "  %-7s %s\n", change.Op, cleanLine(change.Path))
	}
}

func changesText(h deploy.PlanHost) string {
	if h.Send < 0 {
		return "unknown"
	}
	return fmt.Sprint(len(h.Changes))
}

func sendText(h deploy.PlanHost) string {
	if h.Send < 0 {
		return "unknown"
	}
	return deploy.Size(h.Send)
}

// sayReleased gives the last lines for a person, and the id for a script.
func (c *call) sayReleased(r *deploy.Result, err error) {
	servers := fmt.Sprintf("%d of %d servers", len(r.Fleet()[r.Release]), len(r.Hosts))
	switch r.Verdict {
	case deploy.Done:
		c.conclude("%s Released %s to %s in %s", c.mark(true), r.Release, r.Env, took(r.Took))
		c.conclude("  %s; %d of %s changed, %s sent", servers, r.Stats.Changed, plural(r.Stats.Files, "file"), deploy.Size(r.Stats.Sent))
		switch {
		case r.Proven:
			c.conclude("  undo:  godeploy rollback %s", r.Env)
		case r.Previous != "":
			c.conclude("  undo:  godeploy rollback %s %s", r.Env, r.Previous)
		}
		c.sayBehind(r)
	case deploy.Nothing:
		c.conclude("%s Nothing to release: %s serve %s, healthy", c.mark(true), servers, r.Release)
		c.conclude("  anyway:  godeploy release %s --again", r.Env)
	default:
		c.sayFailed("released", r)
	}
	if err == nil {
		_ = c.print("%s\n", r.Release) // a closed stdout is no reason to fail a release that is out
	}
}

// sayFailed says in which state a run that failed has left the fleet, and the ways on.
func (c *call) sayFailed(what string, r *deploy.Result) {
	switch r.Verdict {
	case deploy.WholeOld:
		c.conclude("%s Not %s. %s is whole on %s (%d of %d servers)", c.mark(false), what, r.Env, orElse(r.Previous, "no release"),
			len(r.Fleet()[r.Previous]), len(r.Hosts))
		if r.Once {
			c.conclude("  note: the once hooks ran and are not undone")
		}
		c.sayResume(what, r)
	case deploy.Mixed:
		c.conclude("%s %s is MIXED", c.mark(false), r.Env)
		for _, h := range r.Hosts {
			c.conclude("    %-12s %-24s %s", h.Host, orElse(h.Release, "none"), outcomeText(h))
		}
		c.sayBehind(r)
		c.conclude("  look:     godeploy status %s", r.Env)
		if r.Command == "release" && r.Release != "" {
			c.conclude("  forward:  godeploy release %s --resume%s", r.Env, leaving(r))
		} else {
			c.conclude("  forward:  godeploy release %s", r.Env)
		}
		c.conclude("  back:     godeploy rollback %s %s", r.Env, orElse(r.Previous, ""))
	default:
		c.conclude("%s Not %s; nothing was changed on %s", c.mark(false), what, r.Env)
	}
}

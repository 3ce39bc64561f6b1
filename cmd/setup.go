package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"godeploy/deploy"
	"godeploy/deploy/setup"
	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
)

func setupCommand() *command {
	return &command{
		Name: "setup", Group: groupServers, Usage: "make servers ready for a first release: packages, user, folders, venv, unit", Args: "[ENV]",
		Env: true, Changes: true, Story: true,
		Examples: []string{"godeploy setup prod --dry-run --diff", "godeploy setup prod", "godeploy setup prod --only dirs,unit -l app2", "godeploy setup prod --adopt"},
		About: "Changes only what is not as godeploy.toml has it, shows before and after, and does nothing a second time.\n" +
			"Packages are installed only when [setup] packages names them. A unit of your own is never written over. The setup\n" +
			"hook runs at the end, each time. Needs root, or sudo = true with a login that may run any command. See docs/setup.md.\n" +
			"Exit 0 done, 5 a step failed before anything was changed, 6 some steps are done and the next run goes on from there.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "only", Usage: "only `GROUPS` of steps, such as dirs,unit: " + strings.Join(setup.Groups(), ", ")},
			&cli.BoolFlag{Name: "adopt", Usage: "take over code that lies straight in the app's path as a first release, while it runs"},
			&cli.BoolFlag{Name: "unadopt", Usage: "give back what --adopt took over"},
			&cli.BoolFlag{Name: "diff", Usage: "show the lines of the files that change"},
			&cli.BoolFlag{Name: "exit-code", Usage: "with --dry-run: exit 3 when something would change"},
		},
		Run: runSetup,
	}
}

// settingUp is one run of setup: hosts, what each shall have, and what became of each.
type settingUp struct {
	c      *call
	setter *setup.Setter
	groups []string
	hosts  []deploy.Host
	want   []setup.Want
	out    []setup.Outcome
	adopt  setup.AdoptWant
}

func runSetup(ctx context.Context, c *call) error {
	if c.flags.Bool("adopt") && c.flags.Bool("unadopt") {
		return usagef("--adopt and --unadopt contradict each other")
	}
	groups := setup.Groups()
	if only := c.flags.String("only"); only != "" {
		groups = strings.Split(only, ",")
		if err := setup.CheckGroups(groups); err != nil {
			return err
		}
	}
	hosts, err := c.hosts()
	if err != nil {
		return err
	}
	if !c.opt.DryRun {
		if err := c.agree(ctx, "Set up", len(hosts)); err != nil {
			return err
		}
	}
	return c.act(ctx, hosts, func(fleet *deploy.Fleet, report event.Reporter) error {
		s := &settingUp{c: c, setter: c.setter(report), groups: groups, hosts: fleet.Hosts, out: make([]setup.Outcome, len(fleet.Hosts))}
		now := c.sys.Now().UTC()
		s.adopt = setup.AdoptWant{ID: now.Format("20060102-150405") + "-0000000", By: c.holder().Who, Now: now} // its tree was not hashed
		for _, h := range fleet.Hosts {
			s.want = append(s.want, setup.WantOf(c.env, h.Inventory()))
		}
		return s.run(ctx, report)
	})
}

func (c *call) setter(report event.Reporter) *setup.Setter {
	return &setup.Setter{
		Root: c.root,
		Tell: func(h deploy.Host, format string, args ...any) {
			report.Report(event.Event{Type: event.Info, Host: h.Inventory().Name, Step: "setup", Msg: "setup: " + fmt.Sprintf(format, args...)})
		},
		Hook: func(ctx context.Context, h deploy.Host) (int, error) { return c.setupHooks(ctx, h, report) },
	}
}

// setupHooks runs the setup hooks on one host, in the app's folder.
func (c *call) setupHooks(ctx context.Context, h deploy.Host, report event.Reporter) (int, error) {
	inv := h.Inventory()
	env := c.env.On(inv)
	place := hooks.Place{Host: inv.Name, Phase: "setup", Dir: env.App.Path, Env: deploy.ToldOf(env, inv, "", "setup").Environ()}
	ran := 0
	for _, one := range env.Hooks.Setup {
		if !c.hookRunsOn(one, inv) {
			continue
		}
		if err := hooks.Run(ctx, deploy.HookOf(env, "setup", one), place, deploy.HostRunner{Host: h, Sudo: env.SSH.Sudo}, report); err != nil {
			return ran, err
		}
		ran++
	}
	return ran, nil
}

// hookRunsOn reports whether a hook's "on" chooses the host.
func (c *call) hookRunsOn(hook inventory.Hook, h inventory.Host) bool {
	if hook.On == "" {
		return true
	}
	chosen, err := c.env.Select([]string{hook.On}, nil) // an "on" that chooses nobody runs nowhere
	return err == nil && slices.ContainsFunc(chosen, func(o inventory.Host) bool { return o.Name == h.Name })
}

func (s *settingUp) run(ctx context.Context, report event.Reporter) error {
	err := s.each(func(i int) (setup.Outcome, error) {
		return s.plan(ctx, i)
	})
	if err != nil {
		return unchanged(err)
	}
	s.show(report)
	if s.c.opt.DryRun {
		if s.c.flags.Bool("exit-code") && s.steps() > 0 {
			return exitWith(exitDifferences, nil)
		}
		return nil
	}
	err = s.each(func(i int) (setup.Outcome, error) {
		if err := s.lock(ctx, s.hosts[i]); err != nil {
			return setup.Outcome{}, err
		}
		if !s.adopting() {
			return s.setter.Apply(ctx, s.hosts[i], s.want[i], s.groups)
		}
		out, err := s.plan(ctx, i)
		if err == nil {
			err = s.setter.Steps(ctx, s.hosts[i], &out)
		}
		return out, err
	})
	return s.verdict(report, err)
}

func (s *settingUp) adopting() bool { return s.c.flags.Bool("adopt") || s.c.flags.Bool("unadopt") }

func (s *settingUp) plan(ctx context.Context, i int) (setup.Outcome, error) {
	h, w := s.hosts[i], s.want[i]
	switch {
	case !s.adopting():
		return s.setter.Plan(ctx, h, w, s.groups)
	case !w.IsApp:
		return setup.Outcome{}, nil
	}
	return s.setter.PlanAdopt(ctx, h, w, s.adopt, s.c.flags.Bool("unadopt"))
}

// lock keeps releases away meanwhile. Without the helper there is none before the app's folder is there.
func (s *settingUp) lock(ctx context.Context, h deploy.Host) error {
	holder := s.c.holder()
	holder.Command, holder.Since = "setup", s.c.sys.Now()
	state, err := h.State(ctx, nil)
	if fault.Is(err, fault.ConfigValue) {
		return nil // the app's user is not there yet, so nobody can be releasing
	}
	if err != nil || !state.Exists || !state.Writable {
		return err
	}
	var held *wire.Holder
	if held, err = h.Lock(ctx, holder); err == nil && held != nil {
		err = fault.New(fault.LockHeld, "the host is being changed by %s (%s)", held.Who, held.Command)
	}
	return err
}

// each works on all hosts and waits for all; what a host came to is kept also when it failed.
func (s *settingUp) each(do func(i int) (setup.Outcome, error)) error {
	errs := make([]error, len(s.hosts))
	var group errgroup.Group
	group.SetLimit(s.c.opt.Parallel)
	for i, h := range s.hosts {
		group.Go(func() error {
			var err error
			s.out[i], err = do(i)
			errs[i] = fault.OnHost(h.Inventory().Name, err)
			return nil
		})
	}
	_ = group.Wait() // errors are in errs
	return errors.Join(errs...)
}

func (s *settingUp) steps() int {
	n := 0
	for _, o := range s.out {
		n += len(o.Plan.Steps)
	}
	return n
}

// show prints what is different, before anything is changed.
func (s *settingUp) show(report event.Reporter) {
	var rows [][]string
	for i, h := range s.hosts {
		name := h.Inventory().Name
		for _, step := range s.out[i].Plan.Steps {
			rows = append(rows, []string{name, step.Group, step.What, orElse(step.Before, "none"), step.After})
			report.Report(event.Event{Type: event.PlanFile, Host: name, Step: "setup", Op: "update", Path: step.What,
				Why: step.Group + ": " + orElse(step.Before, "none") + " -> " + step.After})
		}
		for _, note := range s.out[i].Plan.Notes {
			report.Report(event.Event{Type: event.Warn, Host: name, Step: "setup", Msg: "setup: " + note})
		}
	}
	if len(rows) == 0 {
		return
	}
	var b strings.Builder
	_ = table(&b, []string{"HOST", "GROUP", "WHAT", "BEFORE", "AFTER"}, rows) // a builder takes everything
	_ = s.c.print("%s", b.String())
	if s.c.flags.Bool("diff") {
		s.diffs()
	}
}

func (s *settingUp) diffs() {
	for i, h := range s.hosts {
		for _, step := range s.out[i].Plan.Steps {
			if step.Diff != "" {
				_ = s.c.print("\n--- %s:%s\n%s", h.Inventory().Name, step.What, clean(step.Diff))
			}
		}
	}
}

func (s *settingUp) verdict(report event.Reporter, err error) error {
	done, ran := 0, 0
	for _, o := range s.out {
		done, ran = done+o.Done, ran+o.Hooks
	}
	if err != nil {
		if done == 0 && ran == 0 {
			return unchanged(err)
		}
		return &outcome{Code: exitMixed, Err: err, Result: "mixed"}
	}
	told := fmt.Sprintf("%s, %s on %s of %s", plural(done, "change"), plural(ran, "hook run"), plural(len(s.hosts), "server"), s.c.env.Name)
	s.c.conclude("%s Set up: %s", s.c.mark(true), told)
	report.Report(event.Event{Type: event.RunEnd, Result: "ok", Changed: done})
	return nil
}

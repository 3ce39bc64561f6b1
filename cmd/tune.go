package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"godeploy/deploy"
	"godeploy/deploy/overssh"
	"godeploy/deploy/tune"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
	"godeploy/sshx"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
)

func tuneCommand() *command {
	return &command{
		Name: "tune", Group: groupServers, Usage: "set limits and kernel settings to [tune], and verify them where they count", Args: "[ENV]",
		Env: true, Changes: true, Story: true,
		Examples: []string{"godeploy tune prod --dry-run --diff", "godeploy tune prod", "godeploy tune prod --restart -l role:app", "godeploy tune prod --revert"},
		About: "Writes files of its own only (60-godeploy.conf below sysctl.d, limits.d and the unit's drop-ins), sets the\n" +
			"kernel's values at once, and keeps them only when a second login to the server works; else the server itself\n" +
			"puts everything back. Then it looks at the running processes and open queues, and names what must restart.\n" +
			"Needs root, or sudo = true with a login that may run any command. docs/tuning.md tells more.\n" +
			"Exit 0 done, 5 undone everywhere, 6 some servers are tuned and others not, 64 a value was refused, nothing touched.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "diff", Usage: "show the lines of the files that change"},
			&cli.BoolFlag{Name: "restart", Usage: "restart what must restart for a value to count, server after server"},
			&cli.BoolFlag{Name: "revert", Usage: "take away what tune has set; settings become what they were before"},
			&cli.BoolFlag{Name: "exit-code", Usage: "exit 3 when something would change, or a value does not hold where it counts"},
		},
		Run: runTune,
	}
}

// tuning is one run of tune: hosts, what each shall have, and what became of each.
type tuning struct {
	c     *call
	tuner *tune.Tuner
	hosts []deploy.Host
	want  []tune.Want
	out   []tune.Outcome
}

func runTune(ctx context.Context, c *call) error {
	hosts, want, err := c.tuned()
	if err != nil {
		return err
	}
	if !c.opt.DryRun {
		if err := c.agree(ctx, "Tune", len(hosts)); err != nil {
			return err
		}
	}
	report, err := c.begin(event.Event{Hosts: hostNames(hosts)})
	if err != nil {
		return err
	}
	pool := c.connect(report)
	defer pool.Close() // the run is over
	connector := c.connector(pool, report)
	connected, err := connector.Connect(ctx, hosts)
	if err != nil {
		return err
	}
	t := &tuning{c: c, hosts: connected, want: want, out: make([]tune.Outcome, len(hosts))}
	defer func() { overssh.Close(t.hosts) }()
	fresh := c.fresh(report)
	defer fresh.Close()
	t.tuner = c.tuner(report, c.connector(fresh, event.Discard{}))
	return t.run(ctx, report)
}

// tuned gives the hosts that [tune] says something about, and what.
func (c *call) tuned() ([]inventory.Host, []tune.Want, error) {
	all, err := c.hosts()
	if err != nil {
		return nil, nil, err
	}
	var hosts []inventory.Host
	var want []tune.Want
	for _, h := range all {
		w := tune.WantOf(c.env.On(h), h)
		if c.flags.Bool("revert") {
			w = w.Nothing()
		} else if w.Empty() {
			continue
		}
		hosts, want = append(hosts, h), append(want, w)
	}
	if len(hosts) == 0 {
		return nil, nil, fault.New(fault.LimitEmpty, "[tune] says nothing about any of these hosts").
			Hint("[tune.limits] and [tune.sysctl] are for all hosts, [role.NAME.tune] for those of a role")
	}
	return hosts, want, nil
}

// fresh is a pool whose connections are new logins, never sessions on a connection of ssh's that stands.
func (c *call) fresh(report event.Reporter) *sshx.Pool { return c.pool(report, false) }

func (c *call) tuner(report event.Reporter, again *overssh.Connector) *tune.Tuner {
	return &tune.Tuner{
		Root:    c.root,
		AppPath: func(h deploy.Host) string { return c.env.On(h.Inventory()).App.Path },
		Again: func(ctx context.Context, h deploy.Host) (deploy.Host, error) {
			return again.Again(ctx, h.Inventory())
		},
		Tell: func(h deploy.Host, format string, args ...any) {
			report.Report(event.Event{Type: event.Info, Host: h.Inventory().Name, Step: "tune", Msg: "tune: " + fmt.Sprintf(format, args...)})
		},
	}
}

func (c *call) root(h deploy.Host) deploy.Root { return deploy.Root{Host: h, Sudo: c.env.SSH.Sudo} }

// run plans for every host before it changes any, then changes the first alone and the others after it.
func (t *tuning) run(ctx context.Context, report event.Reporter) error {
	if err := t.each(ctx, 0, t.tuner.Plan); err != nil {
		return unchanged(err)
	}
	if t.c.opt.DryRun {
		t.show(report, true)
		return t.exitCode()
	}
	err := t.apply(ctx)
	if err == nil && t.c.flags.Bool("restart") {
		err = t.restart(ctx, report)
	}
	if err == nil {
		t.show(report, false)
	}
	return t.verdict(report, err)
}

// each does something on the hosts from the given one on, and waits for all of them.
func (t *tuning) each(ctx context.Context, from int, do func(context.Context, deploy.Host, tune.Want) (tune.Outcome, error)) error {
	errs := make([]error, len(t.hosts))
	var group errgroup.Group
	group.SetLimit(t.c.opt.Parallel)
	for i := from; i < len(t.hosts); i++ {
		group.Go(func() error {
			out, err := do(ctx, t.hosts[i], t.want[i])
			if err == nil {
				t.out[i] = out
			}
			errs[i] = fault.OnHost(t.hosts[i].Inventory().Name, err)
			return nil
		})
	}
	_ = group.Wait() // errors are in errs
	return errors.Join(errs...)
}

func (t *tuning) apply(ctx context.Context) error {
	act := func(ctx context.Context, h deploy.Host, w tune.Want) (tune.Outcome, error) {
		if err := t.lock(ctx, h); err != nil {
			return tune.Outcome{}, err
		}
		return t.tuner.Apply(ctx, h, w)
	}
	first := &tuning{c: t.c, tuner: t.tuner, hosts: t.hosts[:1], want: t.want[:1], out: t.out[:1]}
	if err := first.each(ctx, 0, act); err != nil {
		return err
	}
	return t.each(ctx, 1, act)
}

// lock keeps releases away meanwhile. Without the helper the lock lies in the app's folder, and a host that has
// none, such as one for nginx, has no release to keep away.
func (t *tuning) lock(ctx context.Context, h deploy.Host) error {
	if h.Facts().Hash == "" {
		state, err := h.State(ctx, nil)
		if err != nil || !state.Exists || !state.Writable {
			return err
		}
	}
	holder := t.c.holder()
	holder.Command, holder.Since = "tune", t.c.sys.Now()
	return tune.Lock(ctx, h, holder)
}

// restart restarts what must be, nginx by a reload and the app as `godeploy restart` does, and looks again.
func (t *tuning) restart(ctx context.Context, report event.Reporter) error {
	var app []deploy.Host
	var mu sync.Mutex
	err := t.each(ctx, 0, func(ctx context.Context, h deploy.Host, w tune.Want) (tune.Outcome, error) {
		i := slices.Index(t.hosts, h)
		for _, unit := range tune.Restarts(t.out[i].Found) {
			if unit != tune.NginxUnit {
				mu.Lock()
				app = append(app, h)
				mu.Unlock()
			} else if err := t.tuner.ReloadNginx(ctx, h, w, t.out[i].Have); err != nil {
				return t.out[i], err
			}
		}
		return t.out[i], nil
	})
	if err != nil || len(app) == 0 && !t.anyRestart() {
		return err
	}
	if len(app) > 0 {
		slices.SortFunc(app, func(a, b deploy.Host) int { return slices.Index(t.hosts, a) - slices.Index(t.hosts, b) })
		// Only these ways open the listening socket anew; after a HUP its queue would be as it was.
		graceful := strings.EqualFold(t.c.env.Process.Graceful, "usr2")
		if _, err := t.c.over(app, report).Restart(ctx, graceful); err != nil {
			return err
		}
	}
	return t.each(ctx, 0, func(ctx context.Context, h deploy.Host, w tune.Want) (tune.Outcome, error) {
		now, err := t.tuner.Plan(ctx, h, w)
		was := t.out[slices.Index(t.hosts, h)]
		now.Plan, now.Changed = was.Plan, was.Changed
		return now, err
	})
}

func (t *tuning) anyRestart() bool {
	return slices.ContainsFunc(t.out, func(o tune.Outcome) bool { return len(tune.Restarts(o.Found)) > 0 })
}

// verdict turns what became of the hosts into the exit code.
func (t *tuning) verdict(report event.Reporter, err error) error {
	changed := 0
	for _, o := range t.out {
		if o.Changed {
			changed++
		}
	}
	if err != nil {
		if code := codeOf(err); changed == 0 && code != exitUnexpected {
			return err
		}
		if changed > 0 {
			return &outcome{Code: exitMixed, Err: err, Result: "mixed"}
		}
		return &outcome{Code: exitWholeOnOld, Err: err, Result: "rolled_back"}
	}
	what := "changed"
	if changed == 0 {
		t.c.conclude("%s Nothing to change on %s of %s", t.c.mark(true), plural(len(t.hosts), "server"), t.c.env.Name)
	} else {
		t.c.conclude("%s %s %s of %s; a second login worked on each", t.c.mark(true), what, plural(changed, "server"), t.c.env.Name)
	}
	report.Report(event.Event{Type: event.RunEnd, Result: "ok", Changed: changed})
	return t.exitCode()
}

func (t *tuning) exitCode() error {
	if !t.c.flags.Bool("exit-code") {
		return nil
	}
	for _, o := range t.out {
		differs := t.c.opt.DryRun && !o.Plan.Nothing()
		if differs || slices.ContainsFunc(o.Found, func(f tune.Finding) bool { return !f.OK }) {
			return exitWith(exitDifferences, nil)
		}
	}
	return nil
}

package cmd

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/deploy/overssh"
	"godeploy/deploy/process"
	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
	"godeploy/sshx"
	filesync "godeploy/sync"
)

// fleet connects the hosts that a command acts on, all of them or none, and makes them ready for a
// run. done closes all of it; what still runs on a host ends then, and its lock is free.
func (c *call) fleet(ctx context.Context, report event.Reporter, hosts []inventory.Host) (fleet *deploy.Fleet, done func(), err error) {
	pool := c.connect(report)
	connector := c.connector(pool, report)
	connected, absent, err := c.reach(ctx, connector, hosts)
	if err != nil {
		_ = pool.Close() // err tells more
		return nil, nil, err
	}
	fleet = c.over(connected, report)
	fleet.Absent = absent
	fleet.Again = func(ctx context.Context, h inventory.Host) (deploy.Host, error) {
		one, errs := connector.ConnectSome(ctx, []inventory.Host{h})
		return one[0], errs[0]
	}
	done = func() { overssh.Close(allHosts(fleet)); _ = pool.Close() } // the run is over either way
	if err := c.withFront(ctx, connector, fleet, report); err != nil {
		done()
		return nil, nil, err
	}
	return fleet, done, nil
}

func (c *call) connector(pool *sshx.Pool, report event.Reporter) *overssh.Connector {
	lanes, _ := strconv.Atoi(c.sys.Env("GODEPLOY_LANES")) // anything else is by the round trip
	return &overssh.Connector{
		Env: c.env, Helpers: overssh.Helpers(), Parallel: c.opt.Parallel, Report: report, Lanes: lanes, Sudo: c.sudoPassword(),
		Dial: func(ctx context.Context, h inventory.Host) (*sshx.Conn, error) {
			t, err := c.target(h)
			if err != nil {
				return nil, err
			}
			return pool.Dial(ctx, t)
		},
	}
}

// over is a run over connected hosts.
func (c *call) over(connected []deploy.Host, report event.Reporter) *deploy.Fleet {
	return &deploy.Fleet{
		Env: c.env, Hosts: connected, Service: process.New(c.env, report), Local: hooks.Local{Environ: c.sys.Environ},
		Report: report, Parallel: c.opt.Parallel, Holder: c.holder(), Now: c.sys.Now, Dir: c.file.Dir,
		RunLog: c.runLog(), Mask: &c.mask, Known: func(root filesync.Hash) *filesync.Manifest { return filesync.Recall(c.cacheDir(), root) },
	}
}

// act begins the story of a command, connects the hosts and runs it over them; everything is closed
// when it has ended.
func (c *call) act(ctx context.Context, hosts []inventory.Host, run func(*deploy.Fleet, event.Reporter) error) error {
	report, err := c.begin(event.Event{Hosts: hostNames(hosts)})
	if err != nil {
		return err
	}
	fleet, done, err := c.fleet(ctx, report, hosts)
	if err != nil {
		return err
	}
	defer done()
	return run(fleet, report)
}

// holder says who takes the locks.
func (c *call) holder() wire.Holder {
	machine, err := os.Hostname()
	if err != nil {
		machine = "unknown"
	}
	return wire.Holder{Who: orElse(c.sys.User, "unknown") + "@" + machine, PID: os.Getpid(), Run: newRunID(c.sys.Now())}
}

// serviceHosts gives the hosts that release, rollback and the service commands act on: those of
// [release] roles, as --limit leaves them.
func (c *call) serviceHosts() ([]inventory.Host, error) {
	chosen, err := c.hosts()
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, h := range chosen {
		wanted[h.Name] = true
	}
	var hosts []inventory.Host
	for _, h := range c.env.ReleaseHosts() {
		if wanted[h.Name] {
			hosts = append(hosts, h)
		}
	}
	if len(hosts) == 0 {
		return nil, fault.New(fault.LimitEmpty, "no host of %s is left to act on", c.env.Name).
			Hint("[release] roles are %s", strings.Join(c.env.Release.Roles, ", ")).
			Try("godeploy inventory show %s", c.env.Name)
	}
	return hosts, nil
}

// agree asks before an environment with confirm = true is changed.
func (c *call) agree(ctx context.Context, doing string, hosts int) error {
	if !c.env.Confirm {
		return nil
	}
	return c.confirm(ctx, fmt.Sprintf("%s %s of %s?", doing, plural(hosts, "server"), c.env.Name))
}

// end tells the result of a run over the fleet and turns it into the exit code.
func (c *call) end(report event.Reporter, r *deploy.Result, err error) error {
	report.Report(event.Event{
		Type: event.RunEnd, Release: r.Release, Previous: r.Previous, Result: string(r.Verdict), Fleet: r.Fleet(), Outcomes: r.Outcomes(), Behind: r.Behind,
		MS: r.Took.Milliseconds(), Bytes: r.Stats.Sent,
	})
	switch r.Verdict {
	case deploy.Done, deploy.Nothing:
		return err // only a local_after hook can have failed by now
	case deploy.Mixed:
		return &outcome{Code: exitMixed, Err: err, Result: string(r.Verdict)}
	case deploy.WholeOld:
		return &outcome{Code: exitWholeOnOld, Err: err, Result: string(r.Verdict)}
	}
	return unchanged(err)
}

// unchanged is for a run that stopped before its first change: what speaks for itself keeps its code,
// and anything else left the fleet whole on what it had.
func unchanged(err error) error {
	if code := codeOf(err); code != exitUnexpected {
		return err
	}
	return &outcome{Code: exitWholeOnOld, Err: err, Result: string(deploy.Refused)}
}

// took is a duration as a person reads it: 1.2s, 1m02s.
func took(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}

func hostNames(hosts []inventory.Host) []string {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Name
	}
	return names
}

package balance

import (
	"bytes"
	"context"
	"slices"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
)

// TierKind is the balancer hosts of an environment as a Drainer changes them.
type TierKind struct {
	Env    *inventory.Env
	Report event.Reporter
}

var _ Kind = TierKind{}

func (k TierKind) over(hosts []deploy.Host) *Tier {
	return &Tier{Env: k.Env, Hosts: hosts, Report: k.Report}
}

// Ready implements Kind: the balancer runs, what it would load now is sound, and nobody has edited the file.
func (k TierKind) Ready(ctx context.Context, hosts []deploy.Host) error {
	n := k.over(hosts)
	live, err := n.Look(ctx)
	if err != nil {
		return err
	}
	return n.each(ctx, func(_ context.Context, i int, _ deploy.Host) error {
		if live[i].Problem != nil {
			return live[i].Problem
		}
		for _, f := range live[i].Files {
			if err := f.Drift(); err != nil {
				return err
			}
		}
		return k.current(n, live[i])
	})
}

// current refuses a host whose files are not what godeploy.toml makes of its state: a drain changes who is
// in service and brings nothing else along.
func (k TierKind) current(n *Tier, l Live) error {
	files, err := n.render(l.State())
	if err != nil {
		return err
	}
	for i, f := range files {
		if l.Files[i].Exists && bytes.Equal(l.Files[i].Content, f.Content) {
			continue
		}
		return fault.New(n.root().code(fault.NginxOutdated), "%s is as godeploy left it, and godeploy.toml makes another one now", f.Path).
			Hint("since the last push godeploy.toml was changed, or godeploy was renewed; a drain brings nothing else along, so push first").
			Try("godeploy %s diff %s", n.root().section(), k.Env.Name).Try("godeploy %s push %s", n.root().section(), k.Env.Name)
	}
	return nil
}

// Live implements Kind.
func (k TierKind) Live(ctx context.Context, hosts []deploy.Host) ([]Seen, error) {
	n := k.over(hosts)
	list := make([]Seen, len(hosts))
	err := n.each(ctx, func(ctx context.Context, i int, h deploy.Host) error {
		f, err := n.readLive(ctx, h, n.siteFile())
		if err != nil || !f.Exists {
			return err
		}
		if err := f.Drift(); err != nil {
			return err
		}
		files := []LiveFile{f} // a host that cannot be asked has not loaded it, as far as is known
		list[i] = Seen{Known: true, State: Live{Files: files}.State(), Loaded: f.Stamp.Mark == "" || n.engine().running(ctx, h, files) == f.Stamp.Mark}
		return nil
	})
	return list, err
}

// Push implements Kind.
func (k TierKind) Push(ctx context.Context, hosts []deploy.Host, state State) error {
	_, err := k.over(hosts).Push(ctx, state, PushOptions{})
	return err
}

// Settled implements Kind.
func (k TierKind) Settled(ctx context.Context, hosts []deploy.Host) (bool, error) {
	n := k.over(hosts)
	settled := make([]bool, len(hosts))
	err := n.each(ctx, func(ctx context.Context, i int, h deploy.Host) (err error) {
		settled[i], err = n.engine().settled(ctx, h)
		return err
	})
	return !slices.Contains(settled, false), err
}

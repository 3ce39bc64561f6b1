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

// NginxKind is the nginx hosts of an environment as a Drainer changes them.
type NginxKind struct {
	Env    *inventory.Env
	Report event.Reporter
}

var _ Kind = NginxKind{}

func (k NginxKind) over(hosts []deploy.Host) *Nginx {
	return &Nginx{Env: k.Env, Hosts: hosts, Report: k.Report}
}

// Ready implements Kind: nginx runs, what it would load now is sound, and nobody has edited the file.
func (k NginxKind) Ready(ctx context.Context, hosts []deploy.Host) error {
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
func (k NginxKind) current(n *Nginx, l Live) error {
	files, err := n.render(l.State())
	if err != nil {
		return err
	}
	for i, f := range files {
		if l.Files[i].Exists && bytes.Equal(l.Files[i].Content, f.Content) {
			continue
		}
		return fault.New(fault.NginxDrift, "%s is not what godeploy.toml makes", f.Path).
			Hint("a drain would bring the rest of it along; push it first").
			Try("godeploy nginx diff %s", k.Env.Name).Try("godeploy nginx push %s", k.Env.Name)
	}
	return nil
}

// Live implements Kind.
func (k NginxKind) Live(ctx context.Context, hosts []deploy.Host) ([]Seen, error) {
	n := k.over(hosts)
	list := make([]Seen, len(hosts))
	err := n.each(ctx, func(ctx context.Context, i int, h deploy.Host) error {
		f, err := n.readLive(ctx, h, k.Env.NginxFile())
		if err != nil || !f.Exists {
			return err
		}
		if err := f.Drift(); err != nil {
			return err
		}
		running, _ := n.ask(ctx, h) // a host that cannot be asked has not loaded it, as far as is known
		list[i] = Seen{Known: true, State: Live{Files: []LiveFile{f}}.State(), Loaded: f.Stamp.Mark == "" || running == f.Stamp.Mark}
		return nil
	})
	return list, err
}

// Push implements Kind.
func (k NginxKind) Push(ctx context.Context, hosts []deploy.Host, state State) error {
	_, err := k.over(hosts).Push(ctx, state, PushOptions{})
	return err
}

// Settled implements Kind: no worker is left that finishes what it had before a reload.
func (k NginxKind) Settled(ctx context.Context, hosts []deploy.Host) (bool, error) {
	n := k.over(hosts)
	settled := make([]bool, len(hosts))
	err := n.each(ctx, func(ctx context.Context, i int, h deploy.Host) error {
		all, master, problem, err := n.root().masterIn(ctx, h)
		if err != nil {
			return err
		}
		_, leaving := workersOf(all, master)
		settled[i] = len(leaving) == 0
		return problem
	})
	return !slices.Contains(settled, false), err
}

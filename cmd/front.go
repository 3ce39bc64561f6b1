package cmd

import (
	"context"
	"errors"
	"slices"

	"godeploy/deploy"
	"godeploy/deploy/balance"
	"godeploy/deploy/overssh"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
)

// drains reports whether the command takes servers out of the balancer.
func (c *call) drains() bool {
	switch c.leaf.name() {
	case "release", "rollback", "restart":
		return c.env.Drains() != "" && !c.flags.Bool("no-drain") && !c.opt.DryRun
	case "nginx drain", "nginx undrain", "balancer drain", "balancer undrain":
		return true
	}
	return false
}

// gates reports whether the command watches the new servers by the balancers' logs.
func (c *call) gates() bool {
	return c.leaf.name() == "release" && c.env.Release.Gate != "" && !c.opt.DryRun
}

// withFront connects the balancer's hosts, all of them, for a command that has to do with them. A host that
// is both is connected once.
func (c *call) withFront(ctx context.Context, connector *overssh.Connector, fleet *deploy.Fleet, report event.Reporter) error {
	if !c.drains() && !c.gates() {
		return nil
	}
	if _, err := c.env.Servers(); err != nil {
		return err
	}
	front, err := c.connectFront(ctx, connector, fleet.Hosts)
	if err != nil {
		return err
	}
	fleet.Front = front
	if c.drains() {
		fleet.Balancer = c.drainer(report)
	}
	if c.gates() {
		goals, err := inventory.ParseGate(c.env.Release.Gate)
		if err != nil { // the file was checked
			return err
		}
		fleet.Gate = &balance.Watcher{Env: c.env, Goals: goals, Bake: c.env.Release.Bake, Report: report}
	}
	return nil
}

func (c *call) drainer(report event.Reporter) *balance.Drainer {
	return &balance.Drainer{Env: c.env, Kind: balance.TierKind{Env: c.env, Report: report}, Report: report,
		Wait: c.env.Release.DrainWait, Strict: c.leaf.path[0] == "nginx" || c.leaf.path[0] == "balancer"}
}

// connectFront gives the balancer's hosts in file order; those that are connected already as they are.
func (c *call) connectFront(ctx context.Context, connector *overssh.Connector, already []deploy.Host) ([]deploy.Host, error) {
	hosts := c.env.FrontHosts()
	if len(hosts) == 0 {
		return nil, fault.New(fault.ConfigMissing, "%s has no host of role %s", c.env.Name, c.env.Balancer.Kind).
			Hint("a balancer is drained on its own hosts; set [release] drain = \"off\" where there is none")
	}
	front := make([]deploy.Host, len(hosts))
	var missing []inventory.Host
	for i, h := range hosts {
		for _, one := range already {
			if one.Inventory().Name == h.Name {
				front[i] = one
			}
		}
		if front[i] == nil {
			missing = append(missing, h)
		}
	}
	fresh, errs := connector.ConnectSome(ctx, missing)
	if err := errors.Join(errs...); err != nil {
		overssh.Close(slices.DeleteFunc(fresh, func(h deploy.Host) bool { return h == nil }))
		return nil, err
	}
	for i := range front {
		if front[i] == nil {
			front[i], fresh = fresh[0], fresh[1:]
		}
	}
	return front, nil
}

// allHosts are the hosts of a run and those of its balancer, each once.
func allHosts(fleet *deploy.Fleet) []deploy.Host {
	all := slices.Clone(fleet.Hosts)
	for _, h := range fleet.Front {
		if !slices.Contains(all, h) {
			all = append(all, h)
		}
	}
	return all
}

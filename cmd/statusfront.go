package cmd

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"godeploy/deploy"
	"godeploy/deploy/tune"
	"godeploy/inventory"
)

// frontStatus is one nginx host of `status --json`.
type frontStatus struct {
	Host        string  `json:"host"`
	Connections *int    `json:"connections,omitempty"` // from other machines; left out when the host cannot tell
	Problem     string  `json:"problem,omitempty"`     // why the host could not be asked
	Vitals      *vitals `json:"vitals,omitempty"`      // nginx's processes and queues, and the machine's
}

// fronts are the chosen nginx hosts that godeploy configures, but for those that run the app too.
func (c *call) fronts() []inventory.Host {
	chosen, err := c.hosts()
	if err != nil || c.env.Nginx == nil {
		return nil
	}
	apps := c.env.ReleaseHosts()
	return slices.DeleteFunc(chosen, func(h inventory.Host) bool {
		return !h.HasRole("nginx") || slices.ContainsFunc(apps, func(app inventory.Host) bool { return app.Name == h.Name })
	})
}

// askFronts looks at the nginx hosts. One that cannot be asked is told as such.
func (v *statusView) askFronts(ctx context.Context) []frontStatus {
	list := make([]frontStatus, len(v.fronts))
	var group errgroup.Group
	group.SetLimit(v.c.opt.Parallel)
	for i, h := range v.fronts {
		list[i].Host = h.Name
		if v.frontErrs[i] != nil {
			list[i].Problem = v.frontErrs[i].Error()
			continue
		}
		group.Go(func() error {
			env := v.c.env.On(h)
			w := tune.WantOf(env, h)
			have, err := tune.Glance(ctx, v.c.root(v.front[i]), env.App.Path, w)
			if err != nil {
				list[i].Problem = err.Error()
				return nil
			}
			list[i].Vitals = vitalsOf(w, have, true)
			list[i].Connections = connections(ctx, v.front[i], list[i].Vitals.Queues)
			return nil
		})
	}
	_ = group.Wait() // always nil
	return list
}

// connections counts what other machines have open at the queues, nil when that cannot be seen.
func connections(ctx context.Context, h deploy.Host, queues []queueVitals) *int {
	counter, ok := h.(deploy.SocketCounter)
	var ports []int
	for _, q := range queues {
		port, err := strconv.Atoi(q.Address[strings.LastIndexByte(q.Address, ':')+1:])
		if err == nil && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	if !ok || len(ports) == 0 {
		return nil
	}
	reply, err := counter.Sockets(ctx, ports...)
	if err != nil {
		return nil
	}
	n := reply.More
	for _, peer := range reply.Peers {
		if at, err := netip.ParseAddr(peer.Address); err != nil || !at.IsLoopback() {
			n += peer.Count
		}
	}
	return &n
}

// frontTable shows the nginx hosts below the table of vitals.
func (c *call) frontTable(r statusReport) error {
	var rows [][]string
	for _, f := range r.Fronts {
		v := f.Vitals
		if v == nil {
			c.conclude("%s %s: %s", c.mark(false), f.Host, clean(f.Problem))
			continue
		}
		master, open := "none", "?"
		if v.Master > 0 {
			master = strconv.Itoa(v.Master)
		}
		if f.Connections != nil {
			open = strconv.Itoa(*f.Connections)
		}
		rows = append(rows, []string{f.Host, master, strconv.Itoa(len(v.Workers)), ageText(v.Age), open, queueText(v.Queues), fmt.Sprint(v.Overflows),
			v.Load, strconv.Itoa(v.CPUs), v.Memory.used(), c.limitsText(f.Host, v)})
	}
	if len(rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(c.sys.Stdout); err != nil {
		return err
	}
	return table(c.sys.Stdout, []string{"NGINX", "MASTER", "WORKERS", "AGE", "CONNECTIONS", "QUEUE", "OVERFLOWS", "LOAD", "CPUS", "MEMORY", "LIMITS"}, rows)
}

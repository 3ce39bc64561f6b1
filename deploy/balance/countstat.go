package balance

import (
	"context"
	"net/netip"

	"godeploy/deploy"
	"godeploy/inventory"
)

// counting is where it is counted what servers answer: the access logs, or HAProxy's own counters. Use it for
// one thing at a time.
type counting interface {
	// more adds what came since it was asked last, or since it began.
	more(ctx context.Context, to Counts) error
}

// countingOf counts on all hosts from now on.
func countingOf(ctx context.Context, env *inventory.Env, front []deploy.Host) (counting, error) {
	if env.Balancer.Kind == "haproxy" {
		c := &statCounting{tier: &Tier{Env: env, Hosts: front}}
		return c, c.more(ctx, Counts{})
	}
	site, err := env.NginxSite()
	if err != nil {
		return nil, err
	}
	tails, err := tailsOf(ctx, env, front, site.AccessLog, 0)
	return logCounting{env, tails}, err
}

type logCounting struct {
	env   *inventory.Env
	tails []*tail
}

func (c logCounting) more(ctx context.Context, to Counts) error {
	return readAll(ctx, c.env, c.tails, to.Add)
}

// statCounting asks the runtime sockets. A worker begins at 0: what one that was replaced had counted since
// it was asked last is lost.
type statCounting struct {
	tier *Tier
	last []map[string]runtimeServer // host by host
}

func (c *statCounting) more(ctx context.Context, to Counts) error {
	site, err := c.tier.Env.HaproxySite()
	if err != nil {
		return err
	}
	if c.last == nil {
		c.last = make([]map[string]runtimeServer, len(c.tier.Hosts))
	}
	now := make([][]runtimeServer, len(c.tier.Hosts))
	err = c.tier.each(ctx, func(ctx context.Context, i int, h deploy.Host) (err error) {
		now[i], err = haproxy{c.tier}.runtime(ctx, h, site)
		return err
	})
	if err != nil {
		return err
	}
	ends := map[string]netip.AddrPort{}
	for _, s := range site.Upstream.Servers {
		ends[s.Name] = netip.AddrPortFrom(s.Address, uint16(s.Port))
	}
	for i, list := range now {
		before := c.last[i]
		c.last[i] = map[string]runtimeServer{}
		for _, s := range list {
			c.last[i][s.name] = s
			if end, ok := ends[s.name]; ok {
				to.of(end).Join(s.since(before[s.name]))
			}
		}
	}
	return nil
}

// since is what a server did after an earlier look.
func (s runtimeServer) since(before runtimeServer) Count {
	if s.requests < before.requests { // another worker
		before = runtimeServer{}
	}
	return Count{Requests: int(s.requests - before.requests), Failed: int(max(s.failed-before.failed, 0)), Refused: int(max(s.refused-before.refused, 0))}
}

package balance

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"godeploy/deploy"
)

// ServerStatus is one server as the balancers have it.
type ServerStatus struct {
	Server   string
	Endpoint string
	Weight   int // its own
	Now      int // the weight that counts, as all balancers have it; the smallest where they differ
	Backup   bool
	// Up names the balancers that send requests to it, Down those that do not.
	Up, Down []string
	Why      string // why it is out, or has another weight
	Count    Count  // by the access logs, of what Status has read
}

// Logged says what the counts of a Status were made of.
type Logged struct {
	Requests int
	Since    time.Time // of the oldest line; zero where HAProxy has counted
}

// statusBytes is how much of the end of each access log a Status reads.
const statusBytes = 4 << 20

// Status asks the balancers for every server; it changes nothing and takes no lock.
func (d *Drainer) Status(ctx context.Context, front []deploy.Host) ([]ServerStatus, Logged, error) {
	servers, err := d.Env.Servers()
	if err != nil {
		return nil, Logged{}, err
	}
	meant, live, err := d.Look(ctx, front)
	if err != nil {
		return nil, Logged{}, err
	}
	counts, logged, err := d.counted(ctx, front)
	var list []ServerStatus
	for _, s := range servers {
		one := standing(s.Name, s.Weight, hostNames(front), meant, live)
		one.Endpoint, one.Backup = s.Endpoint(), s.Backup
		one.Count = counts.Of([]netip.AddrPort{netip.AddrPortFrom(s.Address, uint16(s.Port))})
		list = append(list, one)
	}
	return list, logged, err
}

// counted gives what the servers have answered: by the end of the access logs, or by HAProxy since its last
// reload.
func (d *Drainer) counted(ctx context.Context, front []deploy.Host) (Counts, Logged, error) {
	counts, logged := Counts{}, Logged{}
	if d.Env.Balancer.Kind == "haproxy" {
		err := (&statCounting{tier: &Tier{Env: d.Env, Hosts: front}}).more(ctx, counts)
		for _, one := range counts {
			logged.Requests += one.Requests
		}
		return counts, logged, err
	}
	site, err := d.Env.NginxSite()
	if err != nil {
		return nil, Logged{}, err
	}
	tails, err := tailsOf(ctx, d.Env, front, site.AccessLog, statusBytes)
	if err != nil {
		return nil, Logged{}, err
	}
	err = readAll(ctx, d.Env, tails, func(r Request) {
		logged.Requests++
		if logged.Since.IsZero() || r.At.Before(logged.Since) {
			logged.Since = r.At
		}
		counts.Add(r)
	})
	return counts, logged, err
}

// standing is what a server's note and the balancers' files say of it.
func standing(server string, weight int, front []string, meant Record, live []Seen) ServerStatus {
	one := ServerStatus{Server: server, Weight: weight, Now: weight}
	for i, l := range live {
		if !l.Known || l.State.Down[server] {
			one.Down = append(one.Down, front[i])
		} else {
			one.Up = append(one.Up, front[i])
		}
		if w := l.State.Warm[server]; w > 0 {
			one.Now = min(one.Now, w)
		}
	}
	unknown := slices.ContainsFunc(live, func(l Seen) bool { return !l.Known })
	switch out, drained := meant.Out[server]; {
	case drained:
		one.Why = because(out)
	case len(one.Up) > 0 && len(one.Down) > 0 && !unknown:
		one.Why = "a run has ended between the balancers; the next command that drains or releases makes them equal"
	case unknown:
		one.Why = "not every balancer knows the app: a push tells them"
	case len(one.Down) > 0:
		one.Why = "a run has ended before it was put back; the next command does it"
	case one.Now != weight:
		one.Why = "it was put back with weight by hand, or is being warmed in"
	}
	return one
}

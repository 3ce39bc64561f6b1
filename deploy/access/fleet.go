package access

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"godeploy/internal/event"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// Account is a login to a host, over which files of keys are read and replaced. A deploy.Host that
// deploy/overssh has connected is one.
type Account interface {
	KeyFile(ctx context.Context, req wire.KeyFileRequest) (wire.KeyFileReply, error)
	Exec(ctx context.Context, req wire.ExecRequest, output func(stream string, p []byte)) (wire.ExecReply, error)
	Facts() wire.HelloReply
	Close() error
}

// Door logs in to hosts. Each call makes a new connection, through the host's jump hosts; the caller closes
// what it gives. A refused login is a fault of code ssh-auth.
type Door interface {
	// Any logs in with whatever works: the agent, key files, a password where one may be asked for.
	Any(ctx context.Context, h inventory.Host) (Account, error)
	// Without logs in with no password and none of the keys that gone names, at no hop of the way.
	Without(ctx context.Context, h inventory.Host, gone func(blob []byte) bool) (Account, error)
	// Only logs in with this one key at every hop of the way, runs a command that does nothing, and leaves.
	Only(ctx context.Context, h inventory.Host, k Key) error
}

// Fleet is the hosts whose keys are looked after. It may be used from one goroutine at a time.
type Fleet struct {
	Env      *inventory.Env
	Door     Door
	Report   event.Reporter
	Parallel int
	// AsRoot: Door logs in as root, and the account that is looked after is the host's own user.
	AsRoot bool
	// File is where the keys are, relative to the account's home or absolute, %u and %h filled in; "" asks
	// sshd, and where that cannot be asked means .ssh/authorized_keys.
	File string
	Now  func() time.Time
}

// user is the account for a request: "" is the one that is logged in to.
func (f *Fleet) user(h inventory.Host) string {
	if f.AsRoot {
		return h.User
	}
	return ""
}

// each does something on every host, jump hosts before the hosts behind them. The errors have the places of
// the hosts: a failure on one stops no other, but those behind a jump host where do failed are still tried,
// for there may be another way to them.
func (f *Fleet) each(ctx context.Context, hosts []inventory.Host, do func(ctx context.Context, i int, h inventory.Host) error) error {
	errs := make([]error, len(hosts))
	for _, rank := range Ranks(f.Env, hosts) {
		var group errgroup.Group
		group.SetLimit(max(f.Parallel, 1))
		for _, h := range rank {
			i := slices.IndexFunc(hosts, func(o inventory.Host) bool { return o.Name == h.Name })
			group.Go(func() error {
				errs[i] = do(ctx, i, h)
				return nil // every host's error counts, not the first
			})
		}
		_ = group.Wait() // always nil
	}
	return errors.Join(errs...)
}

// Ranks parts hosts by how many others stand before them, the nearest first: in this order keys are brought
// to them, so that the way to the next ones is open.
func Ranks(env *inventory.Env, hosts []inventory.Host) [][]inventory.Host {
	var out [][]inventory.Host
	for _, h := range hosts {
		depth := depthOf(env, h, 0)
		for len(out) <= depth {
			out = append(out, nil)
		}
		out[depth] = append(out[depth], h)
	}
	return slices.DeleteFunc(out, func(rank []inventory.Host) bool { return len(rank) == 0 })
}

// depthOf is the length of the longest way to a host. The inventory has refused circles and chains of more
// than eight; the bound here only keeps a defect there from becoming an endless loop.
func depthOf(env *inventory.Env, h inventory.Host, above int) int {
	deepest := 0
	for _, chain := range h.Jump {
		for _, name := range chain {
			if hop, ok := env.Host(name); ok && above < 16 {
				deepest = max(deepest, 1+depthOf(env, hop, above+1))
			}
		}
		deepest = max(deepest, len(chain))
	}
	return deepest
}

// WithJumps adds the jump hosts that lead to the hosts, for a key that is on a host and not on the way to it
// lets nobody in.
func WithJumps(env *inventory.Env, hosts []inventory.Host) []inventory.Host {
	all := slices.Clone(hosts)
	for i := 0; i < len(all); i++ { // all grows: a jump host may itself be reached through one
		for _, chain := range all[i].Jump {
			for _, name := range chain {
				hop, ok := env.Host(name)
				if ok && !slices.ContainsFunc(all, func(h inventory.Host) bool { return h.Name == name }) {
					all = append(all, hop)
				}
			}
		}
	}
	return all
}

// Forwards gives the addresses that a key has to be allowed to reach from a host so that all of godeploy
// works with it: the sshd of each host that lies behind it, and what its own health check asks.
func Forwards(env *inventory.Env, h inventory.Host) []string {
	var opens []string
	for _, other := range env.Hosts {
		for _, chain := range other.Jump {
			for i, name := range chain {
				if name != h.Name {
					continue
				}
				next := other
				if i+1 < len(chain) {
					next, _ = env.Host(chain[i+1]) // the inventory has checked the chain
				}
				opens = append(opens, net.JoinHostPort(next.Address, strconv.Itoa(cmp.Or(next.Port, 22))))
			}
		}
	}
	if asked := healthAddress(env, h); asked != "" {
		opens = append(opens, asked)
	}
	slices.Sort(opens)
	return slices.Compact(opens)
}

// healthAddress is what the health check of a host connects to, "" when it has none.
func healthAddress(env *inventory.Env, h inventory.Host) string {
	serves := slices.ContainsFunc(env.ReleaseHosts(), func(o inventory.Host) bool { return o.Name == h.Name })
	if env.Health.URL == "" || !serves {
		return ""
	}
	text, err := env.Render("health.url", env.Health.URL, h, "")
	if err != nil {
		return "" // the inventory has rendered it once already
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	port := cmp.Or(u.Port(), map[bool]string{true: "443", false: "80"}[u.Scheme == "https"])
	return net.JoinHostPort(u.Hostname(), port)
}

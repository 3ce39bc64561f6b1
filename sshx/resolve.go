package sshx

import (
	"context"
	"slices"
	"time"

	"godeploy/internal/fault"
)

// maxHops bounds a way, its own jump hosts and those of ssh_config together.
const maxHops = 8

// resolve fills in what ssh_config says of a target. What the target names itself stays: port, user, jump
// hosts, pinned key. Its address is the name that ssh(1) would be given.
func (p *Pool) resolve(ctx context.Context, t Target) (Target, error) {
	r := resolver{pool: p, ctx: ctx}
	own := len(t.Jumps) > 0 || t.Direct
	t, err := r.settle(t)
	if err != nil {
		return t, err
	}
	if own {
		t.conf.jump, t.conf.command, t.conf.controlPath = nil, "", ""
	}
	ways := t.Jumps
	if len(t.conf.jump) > 0 {
		ways = [][]Target{nil}
		for _, text := range t.conf.jump {
			hop, err := parseHop(text)
			if err != nil {
				return t, configFault(t.Address, err.Error())
			}
			ways[0] = append(ways[0], hop)
		}
	}
	t.Jumps = make([][]Target, len(ways))
	for i, chain := range ways {
		if t.Jumps[i], err = r.chain(chain, maxHops); err != nil {
			return t, err
		}
	}
	return t, nil
}

// resolver resolves one target and those on the way to it.
type resolver struct {
	pool *Pool
	ctx  context.Context
}

// settle resolves a target by itself.
func (r *resolver) settle(t Target) (Target, error) {
	if err := checkTarget(t); err != nil {
		return t, err
	}
	said, err := r.pool.o.Config.of(r.ctx, t.Address, t.Port, t.User)
	if err != nil {
		if e, ok := err.(*fault.Error); ok { // one answer serves many hosts
			own := *e
			return t, own.On(t.Name)
		}
		return t, err
	}
	t.conf, t.Address, t.Port, t.User = said, said.hostName, said.port, said.user
	if t.User == "" {
		t.User = r.pool.o.User
	}
	if t.User == "" {
		return t, fault.New(fault.SSHRefused, "%s has no user to log in as", t.Name).On(t.Name)
	}
	return t, checkTarget(t)
}

// chain resolves jump hosts. Before the outermost come those that ssh_config has for it, as with ssh -J;
// the others are reached over the one before.
func (r *resolver) chain(hops []Target, left int) ([]Target, error) {
	var all []Target
	for i, hop := range hops {
		if left--; left < 0 {
			return nil, fault.New(fault.SSHJump, "%s is more than %d jump hosts away", hop.Name, maxHops).On(hop.Name).
				Hint("the ProxyJump lines of ssh_config lead in a circle")
		}
		own := hop.Direct
		hop, err := r.settle(hop)
		if err != nil {
			return nil, err
		}
		if i == 0 && !own && len(hop.conf.jump) > 0 {
			before, err := r.before(hop, left)
			if err != nil {
				return nil, err
			}
			all = append(all, before...)
		} else if i > 0 || own {
			hop.conf.command, hop.conf.controlPath = "", ""
		}
		all = append(all, hop)
	}
	return all, nil
}

// before gives the jump hosts that ssh_config has for a jump host.
func (r *resolver) before(hop Target, left int) ([]Target, error) {
	var outer []Target
	for _, text := range hop.conf.jump {
		t, err := parseHop(text)
		if err != nil {
			return nil, configFault(hop.Address, err.Error())
		}
		outer = append(outer, t)
	}
	return r.chain(outer, left)
}

// limit is how long connecting and key exchange may take.
func (p *Pool) limit(t Target) time.Duration {
	if t.conf.connectTime > 0 {
		return t.conf.connectTime
	}
	return p.o.Timeout
}

// conduct is how the target's connection is kept.
func (p *Pool) conduct(t Target) conduct {
	if t.conf.alive <= 0 {
		return conduct{keepAlive: p.o.KeepAlive, answer: p.o.KeepAlive}
	}
	return conduct{keepAlive: t.conf.alive, answer: t.conf.alive * time.Duration(max(1, t.conf.aliveCount))}
}

// knownHosts are the files for a target: the project's, and then those that ssh_config names or the usual ones.
func (p *Pool) knownHosts(t Target) *KnownHosts {
	files := p.o.KnownHosts
	if len(t.conf.known) > 0 {
		files = t.conf.known
	}
	if p.o.ProjectHosts != "" {
		files = slices.Concat([]string{p.o.ProjectHosts}, files)
	}
	return p.known.read(files)
}

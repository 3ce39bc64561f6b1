package deploy

import (
	"bytes"
	"context"

	"godeploy/internal/wire"
	"godeploy/inventory"
	filesync "godeploy/sync"
)

// Plan is what a release would do, as plain data: what --dry-run prints.
type Plan struct {
	Command  string     `json:"command"`
	Env      string     `json:"env"`
	App      string     `json:"app"`
	Release  string     `json:"release"`
	Files    int        `json:"files"`
	Bytes    int64      `json:"bytes"`
	Hosts    []PlanHost `json:"hosts"`
	Waves    [][]string `json:"waves"`
	Stuck    []string   `json:"stuck,omitempty"` // hosts that no wave may take: too many are out of service
	Steps    []PlanStep `json:"steps"`
	Previous string     `json:"previous,omitempty"`
	Nothing  bool       `json:"nothing"` // every host has this tree as current
}

// PlanHost is one host's part of a Plan.
type PlanHost struct {
	Host    string            `json:"host"`
	Address string            `json:"address"`
	Role    string            `json:"role"`
	Weight  int               `json:"weight"`
	Current string            `json:"current,omitempty"`
	Changes []filesync.Change `json:"changes,omitempty"` // against current, where the host could tell
	Send    int64             `json:"send"`              // bytes of files that are new or changed
	Restart string            `json:"restart"`           // how the service is restarted, and why so
}

// PlanStep is one step of a Plan, in order.
type PlanStep struct {
	Phase string `json:"phase"`
	Where string `json:"where"` // here, each host, one host
	What  string `json:"what"`
}

// DryRun does everything a release does up to the first change, and gives the plan. It takes no lock and
// runs no hook, local ones neither.
func (f *Fleet) DryRun(ctx context.Context, want Want) (*Plan, error) {
	r := f.newRun("release")
	var err error
	if r.source, err = want.Scan(ctx); err != nil {
		return nil, err
	}
	r.describe(want)
	plan := newPlan(f.Env, f.Hosts, r.release, r.source.Manifest)
	err = r.phase(ctx, "check", "check: "+plural(len(r.members), "host"), func(ctx context.Context, m *member) error {
		if err := r.readState(ctx, m); err != nil {
			return err
		}
		return r.ready(ctx, m)
	})
	if err != nil {
		return plan, err
	}
	plan.Waves, plan.Stuck = r.rollout().Plan(r.standing())
	plan.Nothing = true
	err = each(ctx, r.members, r.Parallel, func(ctx context.Context, m *member) error {
		if err := r.compare(ctx, m, plan); err != nil {
			return err
		}
		way, err := r.Service.Way(ctx, m.Host, r.Env.Release.Restart != "full")
		plan.Hosts[indexOf(r.members, m)].Restart = way
		return err
	})
	for _, m := range r.members {
		now, ok := find(m.state, m.state.Current)
		plan.Nothing = plan.Nothing && ok && now.Root == r.release.Root && now.Config == r.release.Config && r.maySecretsStay(now)
		plan.Previous = m.state.Current
	}
	return plan, err
}

// compare fills one host's line of the plan. A manifest that is missing or too large to be read in
// one message leaves Changes empty: the release itself does not need it here.
func (r *run) compare(ctx context.Context, m *member, plan *Plan) error {
	line := &plan.Hosts[indexOf(r.members, m)]
	line.Current = m.state.Current
	had := &filesync.Manifest{}
	if m.state.Current != "" {
		reply, err := m.File(ctx, wire.FileRequest{Path: m.env.App.Path + "/.godeploy/manifests/" + m.state.Current})
		if err != nil || !reply.Exists {
			line.Send = -1
			return nil
		}
		if had, err = filesync.Decode(bytes.NewReader(reply.Content)); err != nil {
			line.Send = -1
			return nil
		}
	}
	line.Changes = filesync.Diff(had, r.source.Manifest)
	for _, c := range line.Changes {
		if c.Op == filesync.Create || c.Op == filesync.Update {
			line.Send += c.Size
		}
	}
	return nil
}

func newPlan(env *inventory.Env, hosts []Host, rel wire.Release, m *filesync.Manifest) *Plan {
	p := &Plan{Command: "release", Env: env.Name, App: env.App.Name, Release: rel.ID, Bytes: m.Bytes()}
	var list []string
	for _, h := range hosts {
		host := h.Inventory()
		list = append(list, host.Name)
		line := PlanHost{Host: host.Name, Address: host.Address, Weight: host.Weight}
		if len(host.Roles) > 0 {
			line.Role = host.Roles[0]
		}
		p.Hosts = append(p.Hosts, line)
	}
	for _, e := range m.Entries {
		if e.Kind == filesync.File {
			p.Files++
		}
	}
	total := max(len(env.ReleaseHosts()), len(list))
	p.Waves, p.Stuck = RolloutOf(env.Release, total).Plan(Standing{Pending: list})
	p.Steps = steps(env)
	return p
}

// steps says in order what a release of this environment runs.
func steps(env *inventory.Env) []PlanStep {
	var list []PlanStep
	add := func(phase, where string, hooks []inventory.Hook) {
		for _, h := range hooks {
			list = append(list, PlanStep{Phase: phase, Where: where, What: h.Run})
		}
	}
	add("local_before", "here", env.Hooks.LocalBefore)
	if env.Secrets.Command != "" {
		list = append(list, PlanStep{"secrets", "here", env.Secrets.Command})
	}
	list = append(list, PlanStep{"sync", "each host", "send what changed into releases/"})
	add("build", "each host", env.Hooks.Release)
	list = append(list, PlanStep{"build", "each host", "check that the new code imports"})
	add("once", "one host", env.Hooks.Once)
	if env.Release.Migrations != "" {
		list = append(list, PlanStep{"once", "one host", env.Release.Migrations})
	}
	list = append(list, PlanStep{"switch", "each wave", "current, restart (" + env.Release.Restart + "), proof, health"})
	add("after", "each wave", env.Hooks.After)
	add("local_after", "here", env.Hooks.LocalAfter)
	return list
}

func indexOf(members []*member, m *member) int {
	for i, one := range members {
		if one == m {
			return i
		}
	}
	return 0
}

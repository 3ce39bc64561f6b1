package deploy

import (
	"context"
	"slices"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// Warmer is a Balancer that can put a server back with less than its own weight.
type Warmer interface {
	// PutBack puts servers back with another weight than their own, which they keep; 0 is their own.
	PutBack(ctx context.Context, front []Host, servers []string, weight int) error
	// WarmIn puts a server back with a part of its weight that grows to the whole over a time.
	WarmIn(ctx context.Context, front []Host, server string, over time.Duration) error
}

// Warmth says how servers are put back by hand: the zero value is with their own weight, at once.
type Warmth struct {
	Weight int           // the weight that they get and keep, above 0
	Over   time.Duration // how long their weight grows to their own, above 0
}

// Drain takes the fleet's hosts out of the balancer until somebody undrains them, and waits for the requests
// that are open there. What is out of service already counts: more than [release] max_unavailable allows
// are refused. To drain what is drained waits again. Result as of Release; no host's current is moved.
func (f *Fleet) Drain(ctx context.Context, reason string) (*Result, error) {
	return f.byHand(ctx, "nginx drain", func(ctx context.Context, r *run) error {
		for _, m := range r.members {
			if !r.Balancer.Stands(m.name) {
				return fault.New(fault.HostUnknown, "the balancer sends no requests to %s", m.name).On(m.name).
					Try("godeploy nginx status %s", r.Env.Name)
			}
		}
		if err := r.mayDrain(); err != nil {
			return err
		}
		why := wire.Drained{By: r.Holder.Who, Run: r.Holder.Run, Since: r.Now().UTC(), Reason: reason, Hand: true}
		var hosts []Host
		for _, m := range r.members {
			m.drained = &why
			hosts = append(hosts, m.Host)
			if m.state.Exists {
				r.noteDrained(ctx, m, &why)
			}
		}
		return r.Balancer.Drain(ctx, r.Front, hosts, why)
	})
}

// mayDrain counts who would be out of service.
func (r *run) mayDrain() error {
	s := r.standing()
	fresh := 0
	for _, m := range r.members {
		if !slices.Contains(s.Out, m.name) {
			fresh++
		}
	}
	if most := r.rollout().Most; most > 0 && fresh > 0 && len(s.Out)+fresh > most {
		return r.tooManyOut(names(r.members))
	}
	return nil
}

// Undrain puts the fleet's hosts back into the balancer, whoever has drained them, once each of them serves
// its release, proven and healthy. Result as of Release.
func (f *Fleet) Undrain(ctx context.Context, warm Warmth) (*Result, error) {
	return f.byHand(ctx, "nginx undrain", func(ctx context.Context, r *run) error {
		err := r.phase(ctx, "check", "check: "+plural(len(r.members), "host"), func(ctx context.Context, m *member) error {
			now, ok := find(m.state, m.state.Current)
			if !ok {
				return fault.New(fault.ReleaseUnknown, "the host has no release to serve").Try("godeploy release %s", r.Env.Name)
			}
			if err := r.Service.Serves(ctx, m.Host, now.ID); err != nil {
				return err
			}
			return r.healthy(ctx, m)
		})
		if err != nil {
			return err
		}
		if err := r.undrainBy(ctx, warm); err != nil {
			return err
		}
		for _, m := range r.members {
			m.drained = nil
			r.noteDrained(ctx, m, nil)
		}
		return nil
	})
}

func (r *run) undrainBy(ctx context.Context, warm Warmth) error {
	w, ok := r.Balancer.(Warmer)
	switch {
	case ok && warm.Over > 0:
		return each(ctx, r.members, 1, func(ctx context.Context, m *member) error {
			return w.WarmIn(ctx, r.Front, m.name, warm.Over)
		})
	case ok && warm.Weight > 0:
		return w.PutBack(ctx, r.Front, names(r.members), warm.Weight)
	}
	return r.Balancer.Undrain(ctx, r.Front, names(r.members))
}

// byHand is the frame of the two: lock, learn, act, and say what is true.
func (f *Fleet) byHand(ctx context.Context, name string, act func(context.Context, *run) error) (*Result, error) {
	r := f.newRun(name)
	err := r.prepareHand(ctx)
	if err == nil {
		r.result.Verdict = Done
		if err = act(ctx, r); err != nil && !fault.Is(err, fault.DrainOpen) {
			r.result.Verdict = Refused // all of the balancer's hosts, or none
		}
	}
	result := r.finish(err)
	r.audit(ctx)
	return result, err
}

func (r *run) prepareHand(ctx context.Context) error {
	if err := r.learn(ctx); err != nil {
		return err
	}
	if err := r.frontReady(ctx); err != nil {
		return err
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	if err := r.learn(ctx); err != nil { // what a run that died had left is put right by now
		return err
	}
	return r.learnDrains(ctx)
}

package deploy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// Balancer is what stands before the app hosts: it takes servers out and puts them back, on all of its
// hosts or on none. deploy/balance has the kinds. A run asks it one thing at a time; front are its hosts,
// connected, in file order.
type Balancer interface {
	// Ready says, before anything is changed, whether servers can be drained on its hosts.
	Ready(ctx context.Context, front []Host) error
	// Stands reports whether requests are spread over a server at all. It is known once Ready was asked.
	Stands(server string) bool
	// Drains gives the servers that are out, by name. It is asked under the locks, and first makes the
	// hosts agree where a run that died has left them apart.
	Drains(ctx context.Context, front []Host) (map[string]wire.Drained, error)
	// Drain takes servers out and waits until no request is open there, or its time is up. It notes on
	// its hosts what it is about to do before it does it.
	Drain(ctx context.Context, front, servers []Host, why wire.Drained) error
	// Undrain puts servers back, which are known to be well.
	Undrain(ctx context.Context, front []Host, servers []string) error
}

// frontReady asks the balancer before anything is changed.
func (r *run) frontReady(ctx context.Context) error {
	if r.Balancer == nil {
		return nil
	}
	return r.Balancer.Ready(ctx, r.Front)
}

// lockFront takes the app's lock on the balancer's own hosts, after those of the app and in the order of
// their names.
func (r *run) lockFront(ctx context.Context, holder wire.Holder) error {
	for _, h := range Sorted(r.Front) {
		if slices.ContainsFunc(r.members, func(m *member) bool { return m.Host == h }) {
			continue
		}
		if err := r.lockOne(ctx, h, holder); err != nil {
			return err
		}
	}
	return nil
}

// Sorted gives hosts in the order of their names, in which locks are taken.
func Sorted(hosts []Host) []Host {
	return slices.SortedFunc(slices.Values(hosts), func(a, b Host) int {
		return cmp.Compare(a.Inventory().Name, b.Inventory().Name)
	})
}

// heal learns which hosts are drained and puts those back that a run which died has left so, where they
// serve well. The others of these go first, and are put back when they serve the release.
func (r *run) heal(ctx context.Context) error {
	if r.Balancer == nil {
		return nil
	}
	if err := r.learnDrains(ctx); err != nil {
		return err
	}
	err := each(ctx, r.members, r.Parallel, func(ctx context.Context, m *member) error {
		if m.drained != nil && !m.drained.Hand {
			m.unfit = !r.servesWell(ctx, m)
		}
		return nil
	})
	return errors.Join(err, r.putBack(ctx, r.members))
}

// learnDrains asks the balancer which servers are out. What a host has noted of itself and the balancer
// does not say is no longer true.
func (r *run) learnDrains(ctx context.Context) error {
	drains, err := r.Balancer.Drains(ctx, r.Front)
	if err != nil {
		return err
	}
	for name, d := range drains {
		picked := r.pick([]string{name})
		if len(picked) == 0 {
			r.outside = append(r.outside, name)
			continue
		}
		picked[0].drained, picked[0].unfit = &d, true
	}
	slices.Sort(r.outside)
	return each(ctx, r.members, r.Parallel, func(ctx context.Context, m *member) error {
		if m.drained == nil && m.state.Drained != nil {
			r.noteDrained(ctx, m, nil)
		}
		return nil
	})
}

// servesWell reports whether a host serves what it has, proven and healthy.
func (r *run) servesWell(ctx context.Context, m *member) bool {
	now, ok := find(m.state, m.state.Current)
	return ok && !doubted(now) && !m.state.Journal.Open() && r.serves(ctx, m, now.ID) == nil
}

// through takes the hosts of a wave out of the balancer and lets each have its turn.
func (r *run) through(ctx context.Context, wave []*member, turn func(context.Context, *member) error) error {
	if err := r.drain(ctx, wave); err != nil {
		return err
	}
	return each(ctx, wave, len(wave), turn)
}

// drain takes those hosts of a wave out of the balancer that are not out yet. When no server would be
// left it takes out none: a graceful restart loses less than no server at all.
func (r *run) drain(ctx context.Context, wave []*member) error {
	if r.Balancer == nil {
		return nil
	}
	todo := slices.DeleteFunc(slices.Clone(wave), func(m *member) bool { return m.drained != nil || !r.Balancer.Stands(m.name) })
	if len(todo) == 0 {
		return nil
	}
	if !r.othersServe(wave) {
		for _, m := range todo {
			r.note(m, "drain", "no: no other server would be left")
		}
		return nil
	}
	why := wire.Drained{By: r.Holder.Who, Run: r.Holder.Run, Since: r.Now().UTC(), Reason: strings.TrimSpace(r.result.Command + " " + r.release.ID)}
	err := each(ctx, todo, len(todo), func(ctx context.Context, m *member) error {
		m.drained = &why // from here on it may be out
		return r.writeDrained(ctx, m, &why)
	})
	if err != nil {
		return err
	}
	hosts := make([]Host, len(todo))
	for i, m := range todo {
		hosts[i] = m.Host
	}
	return r.Balancer.Drain(ctx, r.Front, hosts, why)
}

// othersServe reports whether a server is in service that is not one of the wave, as far as the run knows.
func (r *run) othersServe(wave []*member) bool {
	for _, h := range r.Env.ReleaseHosts() {
		if slices.Contains(r.Absent, h.Name) || slices.Contains(r.outside, h.Name) || slices.Contains(names(wave), h.Name) ||
			!r.Balancer.Stands(h.Name) {
			continue
		}
		picked := r.pick([]string{h.Name})
		if len(picked) == 0 || picked[0].drained == nil && !picked[0].out() {
			return true
		}
	}
	return false
}

// putBack puts hosts back into the balancer that a run has taken out and that serve well: after their
// turn, after they were undone, or because their turn never came. The others stay out until the next
// command. It goes on when the run was stopped.
func (r *run) putBack(ctx context.Context, members []*member) error {
	back := slices.DeleteFunc(slices.Clone(members), func(m *member) bool { return m.drained == nil || m.drained.Hand || !m.fit() })
	if len(back) == 0 {
		return nil
	}
	ctx, cancel := r.cleanup(ctx)
	defer cancel()
	if err := r.Balancer.Undrain(ctx, r.Front, names(back)); err != nil {
		r.stuck = true
		return err
	}
	return each(ctx, back, r.Parallel, func(ctx context.Context, m *member) error {
		m.drained = nil
		r.noteDrained(ctx, m, nil)
		return nil
	})
}

// fit reports whether a host may get requests again.
func (m *member) fit() bool {
	switch m.outcome {
	case Healthy, RolledBack:
		return true
	case Unchanged, Staged:
		return !m.touched && !m.unfit
	}
	return false
}

// leftOut reports whether a host is out of the balancer that nobody has asked to be.
func (r *run) leftOut() bool {
	return r.result.Verdict != Refused && slices.ContainsFunc(r.members, func(m *member) bool { return m.drained != nil && !m.drained.Hand })
}

// noteDrained is writeDrained where it is no more than a note: what cannot be written is told.
func (r *run) noteDrained(ctx context.Context, m *member, why *wire.Drained) {
	if err := r.writeDrained(ctx, m, why); err != nil {
		r.Report.Report(event.Event{Type: event.Warn, Host: m.name, Phase: "drain", Msg: "drain: " + err.Error(), Error: err.Error()})
	}
}

func (r *run) writeDrained(ctx context.Context, m *member, why *wire.Drained) error {
	return NoteDrained(ctx, m.Host, m.env.App.Path, why)
}

// NoteDrained writes on an app host why it is out of the balancer, for whoever looks at its status; nil
// says that it is not. path is the app's. A host without a release has no place for it.
func NoteDrained(ctx context.Context, h Host, path string, why *wire.Drained) error {
	var text []byte
	if why != nil {
		var err error
		if text, err = json.Marshal(why); err != nil {
			return fault.New(fault.Internal, "the note cannot be written").Wrap(err)
		}
	}
	_, err := h.File(ctx, wire.FileRequest{Path: path + "/" + wire.DrainedFile, Write: true, Content: text, Mode: 0o644})
	if err != nil {
		return fmt.Errorf("note that the host is drained: %w", err)
	}
	return nil
}

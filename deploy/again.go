package deploy

import (
	"context"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

const (
	// againTime bounds the tries to reach a host whose connection was lost: its helper has up to 30 s
	// until it sees that, and as long again to finish or undo.
	againTime  = 75 * time.Second
	againFirst = 250 * time.Millisecond // pause after the first try that failed; each next one is twice as long
	againMost  = 5 * time.Second
)

// reconnect connects a host anew whose connection was lost, takes its lock and learns what is true
// there. Until then nobody knows what it serves.
func (r *run) reconnect(ctx context.Context, m *member) error {
	if r.Again == nil {
		return fault.New(fault.SSHLost, "the connection was lost; what the host serves is not known").
			Try("godeploy status %s -l %s", r.Env.Name, m.name)
	}
	_ = m.Close() // it is lost already
	ctx, cancel := context.WithTimeoutCause(ctx, againTime,
		fault.New(fault.SSHLost, "the host was not reached again within %s; what it serves is not known", againTime))
	defer cancel()
	pause := againFirst
	for try := 1; ; try++ {
		err := r.meetAgain(ctx, m)
		if err == nil {
			r.note(m, "undo", "connected again, current is %s", orNone(m.now))
			return nil
		}
		if fault.Is(err, fault.LockHeld) || ctx.Err() != nil {
			return err
		}
		r.Report.Report(event.Event{Type: event.Retry, Host: m.name, Phase: "undo", Try: try, Error: err.Error()})
		if err := Pause(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, againMost)
	}
}

// meetAgain is one try of reconnect.
func (r *run) meetAgain(ctx context.Context, m *member) error {
	host, err := r.Again(ctx, m.Inventory())
	if err != nil {
		return err
	}
	r.replace(m, host)
	for {
		held, err := m.Lock(ctx, r.holder())
		if err != nil {
			return err
		}
		if held == nil {
			break
		}
		if held.Run != r.Holder.Run || held.Who != r.Holder.Who { // not the helper of the lost connection
			return r.heldBy(m.name, *held)
		}
		if err := Pause(ctx, againFirst); err != nil {
			return err
		}
	}
	if err := r.recover(ctx, m); err != nil {
		return err
	}
	state, err := m.State(ctx, nil)
	if err == nil {
		m.now = state.Current
	}
	return err
}

// replace puts a new connection in the place of the lost one, for the caller of the run to close.
func (r *run) replace(m *member, host Host) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, list := range [][]Host{r.Hosts, r.Front} {
		for i, h := range list {
			if h == m.Host {
				list[i] = host
			}
		}
	}
	m.Host = host
}

// recover finishes or undoes on a host what a run that died has left there. The lock is held.
func (r *run) recover(ctx context.Context, m *member) error {
	j, ok := m.Host.(Journaled)
	if !ok {
		return nil
	}
	got, err := j.Recover(ctx)
	if err != nil || got.Did == "" || got.Did == "nothing" {
		return err
	}
	msg := "check: what a run that died had left was " + got.Did + "; current is " + orNone(got.Current)
	if got.Did == "kept" {
		msg = "check: a run that died has left the host at " + orNone(got.Current) + ", and it could not be put right there: " + got.Why
	}
	r.Report.Report(event.Event{Type: event.Warn, Host: m.name, Phase: "check", Msg: msg, Release: got.Current})
	return nil
}

// arm opens the host's journal before current moves, with what the host can do by itself.
func (r *run) arm(ctx context.Context, m *member, to, back string) error {
	j, ok := m.Host.(Journaled)
	if !ok {
		return nil
	}
	req := wire.ArmRequest{Site: SiteOf(r.Env, m.Inventory()), Holder: r.holder(), To: to, Back: back}
	if a, ok := r.Service.(Aftermather); ok {
		var err error
		if req.Aftermath, err = a.Aftermath(ctx, m.Host); err != nil {
			return err
		}
	}
	return j.Arm(ctx, req)
}

// reach notes a step in the host's journal, where it keeps one.
func reach(ctx context.Context, m *member, step wire.Step) error {
	if j, ok := m.Host.(Journaled); ok {
		return j.Reach(ctx, step)
	}
	return nil
}

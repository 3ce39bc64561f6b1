package helper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

func (h *host) arm(ctx context.Context, req wire.ArmRequest) (any, error) {
	return h.locked(ctx, req.Site, func(s *Site) (any, error) {
		if err := s.Arm(req, h.boot(), time.Now()); err != nil {
			return nil, err
		}
		h.armed.put(req.Site)
		return nil, nil
	})
}

func (h *host) reach(ctx context.Context, req wire.StepRequest) (any, error) {
	return h.locked(ctx, req.Site, func(s *Site) (any, error) {
		err := s.Reach(req.Step, h.locks.run(req.Site))
		if err == nil && req.Step != wire.StepDone { // by another connection of the same run, or opened again
			h.armed.put(req.Site)
		}
		return nil, err
	})
}

func (h *host) recover(ctx context.Context, req wire.RecoverRequest) (any, error) {
	return h.locked(ctx, req.Site, func(s *Site) (any, error) {
		return s.Recover(&aftermath{ctx: ctx, programs: h.programs, site: s})
	})
}

func (h *host) audit(ctx context.Context, req wire.AuditRequest) (any, error) {
	return h.locked(ctx, req.Site, func(s *Site) (any, error) { return nil, s.Audit(ctx, req.Entry) })
}

// leave finishes or undoes what the controller has left between the switch and the proof, host by host of
// those it armed here. The locks are still held. What does not come out stays in the journal for the next
// command.
func (h *host) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wire.MaxAftermath)
	defer cancel()
	for _, s := range h.armed.take() {
		_, _ = h.recover(ctx, wire.RecoverRequest{Site: s}) // nobody is left to hear it
	}
}

// aftermath are the hands of recovery: programs, /proc and a request.
type aftermath struct {
	ctx      context.Context // of this one recovery
	programs *programs
	site     *Site
}

// stop ends the service.
func (m *aftermath) stop(a *wire.Aftermath) error {
	ctx, cancel := context.WithTimeout(m.ctx, budget(a))
	defer cancel()
	return m.run(ctx, a, a.Stop, "")
}

// budget is the time that all of it has.
func budget(a *wire.Aftermath) time.Duration {
	if a.Within <= 0 || a.Within > wire.MaxAftermath {
		return wire.MaxAftermath
	}
	return a.Within
}

// serve tries the graceful way first, within half of the time, and in full when that does not do.
func (m *aftermath) serve(a *wire.Aftermath, id, left string) error {
	ctx, cancel := context.WithTimeout(m.ctx, budget(a))
	defer cancel()
	var err error
	if len(a.Graceful) > 0 {
		half, cancel := context.WithTimeout(ctx, budget(a)/2)
		err = m.restart(half, a, a.Graceful, id, left)
		cancel()
		if err == nil {
			return nil
		}
	}
	if len(a.Full) > 0 {
		return m.restart(ctx, a, a.Full, id, left)
	}
	if err == nil {
		err = errors.New("the host was not told how its service is restarted")
	}
	return err
}

// restart runs the list and proves that the release serves.
func (m *aftermath) restart(ctx context.Context, a *wire.Aftermath, argv []string, id, left string) error {
	before := m.standing("")
	if err := m.run(ctx, a, argv, id); err != nil {
		return err
	}
	if a.Proof && id != "" {
		if err := m.prove(ctx, id, left, before); err != nil {
			return err
		}
	}
	return healthy(ctx, a, id)
}

// run runs one list to its end.
func (m *aftermath) run(ctx context.Context, a *wire.Aftermath, argv []string, id string) error {
	env := map[string]string{}
	maps.Copy(env, a.Env)
	env["GODEPLOY_RELEASE"] = id
	req := wire.ExecRequest{Argv: argv, Env: env, User: a.User, Keep: true}
	if m.site.has(currentLink) {
		req.Dir = m.site.Path + "/" + currentLink
	}
	var said tail
	reply, err := m.programs.run(ctx, req, said.add)
	if err != nil {
		return fmt.Errorf("%s: %w", argv[0], err)
	}
	if reply.Exit != 0 {
		return fault.New(fault.RestartFailed, "%s exited with %d: %s", argv[0], reply.Exit, said.text())
	}
	return nil
}

// tail keeps the end of what a program says.
type tail []byte

func (t *tail) add(_ byte, p []byte) error {
	*t = append(*t, p...)
	*t = (*t)[max(len(*t)-300, 0):]
	return nil
}

func (t *tail) text() string {
	return strings.ToValidUTF8(strings.Join(strings.Fields(string(*t)), " "), "?")
}

// prove waits until a process that was not there before stands in the release, and none that does the
// work stands in the one that was left. A main process may stand anywhere: its folder does not tell what
// its workers have loaded.
func (m *aftermath) prove(ctx context.Context, id, left string, before map[stat]bool) error {
	for {
		fresh, stale := false, false
		for s := range m.standing(id) {
			fresh = fresh || !before[s]
		}
		if left != "" && left != id {
			stale = m.works(left)
		}
		if fresh && !stale {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			if stale {
				return fmt.Errorf("processes still work in %s", left)
			}
			return fmt.Errorf("no new process works in %s", id)
		}
	}
}

// standing gives the processes that stand in a release, "" for any.
func (m *aftermath) standing(id string) map[stat]bool {
	root := m.root() + "/" + releasesDir + "/"
	if id != "" {
		root += id + "/"
	}
	in := map[stat]bool{}
	for _, s := range allStats() {
		if s.state != 'Z' && strings.HasPrefix(workingDir(s.pid)+"/", root) {
			in[s.identity()] = true
		}
	}
	return in
}

func (m *aftermath) root() string {
	if m.site.Physical != "" {
		return m.site.Physical
	}
	return m.site.Path
}

// works reports whether a process without children stands in a release.
func (m *aftermath) works(id string) bool {
	in := m.standing(id)
	if len(in) == 0 {
		return false
	}
	parents := map[int]bool{}
	for _, s := range allStats() {
		if s.state != 'Z' {
			parents[s.ppid] = true
		}
	}
	for s := range in {
		if !parents[s.pid] {
			return true
		}
	}
	return false
}

// pause waits, or ends with the context's cause.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

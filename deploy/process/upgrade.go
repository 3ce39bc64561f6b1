package process

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/hooks"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// atOnce is how long a gunicorn that was told USR2 may have no second one before that counts as ended.
const atOnce = 3 * time.Second

// upgrade starts a second gunicorn beside the first (USR2) and ends the first only when the second is
// proven: until then both serve, and when new code does not boot the old one never noticed.
func (s *Service) upgrade(ctx context.Context, h deploy.Host, id string, f found, before []wire.Proc) error {
	master := before[0]
	if err := s.endSecond(ctx, h, f, master); err != nil {
		return err
	}
	if err := s.manager.signal(ctx, h, master, "USR2"); err != nil {
		return err
	}
	next, err := s.second(ctx, h, f, before)
	if err != nil {
		return s.explain(ctx, h, err)
	}
	want := s.expected(ctx, h, next.Args)
	see := func(ctx context.Context) (found, []wire.Proc, error) {
		procs, err := h.Procs(ctx, next.PID)
		return found{PID: next.PID, Running: next.Args, Want: want}, procs, err
	}
	a := awaited{id: id, see: see, limit: bootTime, late: "its workers did not come up", steady: s.boots(h, 2*time.Second), quiet: true}
	a.wanted = func(procs []wire.Proc) (bool, error) {
		if len(procs) == 0 || procs[0].Start != next.Start {
			return false, fault.New(fault.RestartFailed, "the new gunicorn ended; the old one, process %d, serves on", master.PID)
		}
		return true, nil
	}
	if err := s.await(ctx, h, a); err != nil {
		return s.keepOld(ctx, h, f, master, err)
	}
	return s.handOver(ctx, h, id, f, master, next)
}

// second waits for the gunicorn that USR2 starts. It writes its number beside the pid file, with ".2".
func (s *Service) second(ctx context.Context, h deploy.Host, f found, before []wire.Proc) (wire.Proc, error) {
	master, deadline, sign := before[0], time.Now().Add(bootTime), time.Now()
	for {
		if next, ok, err := s.beside(ctx, h, f, master); ok || err != nil {
			return next, err
		}
		procs, err := h.Procs(ctx, master.PID)
		if err != nil {
			return wire.Proc{}, err
		}
		if len(procs) == 0 || procs[0].Start != master.Start {
			return wire.Proc{}, fault.New(fault.RestartFailed, "gunicorn, process %d, ended on USR2", master.PID)
		}
		if slices.ContainsFunc(procs[1:], func(p wire.Proc) bool { return !among(before, p) }) {
			sign = time.Now()
		}
		if now := time.Now(); now.Sub(sign) > atOnce || now.After(deadline) {
			return wire.Proc{}, fault.New(fault.RestartFailed, "the new gunicorn ended at once; the old one, process %d, serves on", master.PID).
				Fact("no process wrote %s.2", f.PIDFile)
		}
		if err := deploy.Pause(ctx, pollEvery); err != nil {
			return wire.Proc{}, err
		}
	}
}

// beside gives the second gunicorn of an upgrade that is under way, if there is one.
func (s *Service) beside(ctx context.Context, h deploy.Host, f found, master wire.Proc) (wire.Proc, bool, error) {
	if f.PIDFile == "" {
		return wire.Proc{}, false, nil
	}
	reply, err := h.File(ctx, wire.FileRequest{Path: f.PIDFile + ".2"})
	if err != nil || !reply.Exists {
		return wire.Proc{}, false, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(reply.Content)))
	if err != nil || pid < 2 {
		return wire.Proc{}, false, nil
	}
	procs, err := h.Procs(ctx, pid)
	if err != nil || len(procs) == 0 || procs[0].PPID != master.PID {
		return wire.Proc{}, false, err
	}
	return procs[0], true, nil
}

// endSecond ends the second gunicorn of an upgrade that a run before this one has left: the first would
// not hear of another.
func (s *Service) endSecond(ctx context.Context, h deploy.Host, f found, master wire.Proc) error {
	next, ok, err := s.beside(ctx, h, f, master)
	if err != nil || !ok {
		return err
	}
	s.tell(h, "restart", "process %d, a second gunicorn that an upgrade has left, is ended", next.PID)
	return s.end(ctx, h, next, "TERM")
}

// keepOld ends the second gunicorn after it was not proven, so that the first serves alone.
func (s *Service) keepOld(ctx context.Context, h deploy.Host, f found, master wire.Proc, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commandTime)
	defer cancel()
	if err := s.endSecond(ctx, h, f, master); err != nil {
		s.tell(h, "restart", "the new gunicorn could not be ended: %v", err)
	}
	return cause
}

// handOver ends the first gunicorn. The pid file names the second before that: systemd reads it when its
// main process ends, and takes the unit for ended when nobody is named there.
func (s *Service) handOver(ctx context.Context, h deploy.Host, id string, f found, master, next wire.Proc) error {
	c := hooks.Command{
		Shell: `printf '%d\n' "$GODEPLOY_PID" >"$GODEPLOY_PIDFILE.new" && mv -f "$GODEPLOY_PIDFILE.new" "$GODEPLOY_PIDFILE"`,
		Dir:   "/", User: f.User, Timeout: commandTime,
		Env: map[string]string{"GODEPLOY_PID": strconv.Itoa(next.PID), "GODEPLOY_PIDFILE": f.PIDFile},
	}
	said := ""
	ended, err := deploy.HostRunner{Host: h, Sudo: s.env.SSH.Sudo}.Run(ctx, c, func(_ string, p []byte) {
		said += string(p[:min(len(p), max(4096-len(said), 0))])
	})
	if err == nil && ended.Exit != 0 {
		err = fault.New(fault.RestartFailed, "the pid file %s cannot be written", f.PIDFile).Fact("| %s", strings.TrimSpace(said))
	}
	if err != nil {
		return s.keepOld(ctx, h, f, master, err)
	}
	if err := s.end(ctx, h, master, "TERM"); err != nil {
		return err
	}
	return s.await(ctx, h, awaited{id: id, see: s.seen(h), limit: bootTime, late: "its manager lost sight of it",
		wanted: func(procs []wire.Proc) (bool, error) {
			return len(procs) > 0 && procs[0].PID == next.PID && procs[0].Start == next.Start, nil
		}})
}

// end asks a process to end and waits; one that has not ended after [process] stop_timeout is killed.
func (s *Service) end(ctx context.Context, h deploy.Host, p wire.Proc, signal string) error {
	if err := s.kill(ctx, h, p, signal); err != nil {
		return err
	}
	deadline := time.Now().Add(s.env.Process.StopTimeout)
	for killed := false; ; {
		now, err := h.Procs(ctx, p.PID)
		if err != nil || len(now) == 0 || now[0].Start != p.Start {
			return err
		}
		if !killed && time.Now().After(deadline) {
			killed = true
			s.tell(h, "stop", "process %d did not end in %s and is killed", p.PID, s.env.Process.StopTimeout)
			if err := s.kill(ctx, h, p, "KILL"); err != nil {
				return err
			}
		}
		if err := deploy.Pause(ctx, pollEvery); err != nil {
			return err
		}
	}
}

// kill signals a process of the service's that need not be its main one. One that has ended meanwhile is
// no error.
func (s *Service) kill(ctx context.Context, h deploy.Host, p wire.Proc, name string) error {
	var err error
	owner := deploy.OwnerUser(s.env)
	switch uid := h.Facts().UID; {
	case uid == 0 || uid == p.UID || !s.env.SSH.Sudo:
		err = h.Signal(ctx, wire.SignalRequest{PID: p.PID, Start: p.Start, Signal: name})
	case owner != "": // whose shell sudo has to allow anyway
		_, err = output(ctx, h, "sudo", "-n", "-u", owner, "--", "/bin/sh", "-c", `kill -"$1" "$2"`, "sh", name, strconv.Itoa(p.PID))
	default:
		_, err = output(ctx, h, "sudo", "-n", "kill", "-"+name, strconv.Itoa(p.PID))
	}
	if err != nil {
		if now, look := h.Procs(ctx, p.PID); look == nil && (len(now) == 0 || now[0].Start != p.Start) {
			return nil
		}
	}
	return err
}

// among reports whether a process is one of those that were seen.
func among(seen []wire.Proc, p wire.Proc) bool {
	return slices.ContainsFunc(seen, func(o wire.Proc) bool { return o.PID == p.PID && o.Start == p.Start })
}

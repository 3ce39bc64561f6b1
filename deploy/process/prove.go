package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// pollEvery is the time between two looks at /proc.
const pollEvery = 100 * time.Millisecond

// errEnded says that the main process was gone before it could be told anything.
var errEnded = errors.New("the main process has ended by itself")

// hup tells a server to load its code anew and proves that it did: the main process is the same, every old
// worker is gone, and every new one runs in the release.
func (s *Service) hup(ctx context.Context, h deploy.Host, id string, before []wire.Proc) error {
	master := before[0]
	if err := s.manager.signal(ctx, h, master, "HUP"); err != nil {
		if now, look := h.Procs(ctx, master.PID); look == nil && (len(now) == 0 || now[0].Start != master.Start) {
			return errEnded
		}
		return err
	}
	return s.renewed(ctx, h, id, before)
}

// renewed waits until a main process that stays has new workers, all of them. Old ones that have not ended
// in their time are killed: they would serve the old code for ever.
func (s *Service) renewed(ctx context.Context, h deploy.Host, id string, before []wire.Proc) error {
	master, grace, killed := before[0], time.Now().Add(s.env.Process.StopTimeout), false
	want := s.expected(ctx, h, master.Args)
	// The process itself is looked at, not its manager: gunicorn writes its pid file anew on HUP, and for
	// a moment there is none.
	see := func(ctx context.Context) (found, []wire.Proc, error) {
		procs, err := h.Procs(ctx, master.PID)
		return found{PID: master.PID, Running: master.Args, Want: want}, procs, err
	}
	a := awaited{id: id, see: see, limit: s.env.Process.StopTimeout + bootTime, steady: s.boots(h, steady),
		late: fmt.Sprintf("the old workers are still there after %s", s.env.Process.StopTimeout)}
	a.wanted = func(procs []wire.Proc) (bool, error) {
		if len(procs) == 0 || procs[0].PID != master.PID || procs[0].Start != master.Start {
			return false, fault.New(fault.RestartFailed, "the %s master ended when it was told to reload", s.env.Process.Server).
				Hint("new code that does not boot ends the master")
		}
		var old []wire.Proc
		for _, p := range procs[1:] {
			if among(before[1:], p) {
				old = append(old, p)
			}
		}
		if len(old) > 0 && !killed && time.Now().After(grace) {
			killed = true
			s.killOld(ctx, h, old)
		}
		return len(old) == 0, nil
	}
	return s.await(ctx, h, a)
}

func (s *Service) killOld(ctx context.Context, h deploy.Host, old []wire.Proc) {
	for _, p := range old {
		s.tell(h, "restart", "worker %d did not end in %s and is killed", p.PID, s.env.Process.StopTimeout)
		if err := s.kill(ctx, h, p, "KILL"); err != nil {
			s.tell(h, "restart", "worker %d cannot be killed: %v", p.PID, err)
		}
	}
}

// proveNew waits until a service that was started or restarted serves the release by processes that
// were not there before.
func (s *Service) proveNew(ctx context.Context, h deploy.Host, id string, before []wire.Proc) error {
	return s.await(ctx, h, awaited{id: id, see: s.seen(h), limit: bootTime, late: "it did not come up", steady: s.boots(h, steady),
		wanted: func(procs []wire.Proc) (bool, error) {
			if len(procs) == 0 {
				return false, nil
			}
			same := len(before) > 0 && procs[0].PID == before[0].PID && procs[0].Start == before[0].Start
			return !same, nil
		}})
}

// proveHooked is for the user's own restart: what runs, old or new, has to serve the release. A gunicorn
// that preloads the app has to be a new one.
func (s *Service) proveHooked(ctx context.Context, h deploy.Host, id string, before found, master []wire.Proc) error {
	if before.PID > 0 && s.preloads(ctx, h, before) {
		return s.proveNew(ctx, h, id, master)
	}
	return s.proveServing(ctx, h, id)
}

// proveServing waits until what runs, old or new, serves the release.
func (s *Service) proveServing(ctx context.Context, h deploy.Host, id string) error {
	return s.await(ctx, h, awaited{id: id, see: s.seen(h), limit: bootTime, late: "it does not serve the release", steady: s.boots(h, steady),
		wanted: func(procs []wire.Proc) (bool, error) { return len(procs) > 0, nil }})
}

// view gives the service as it is now, with its main process and that one's children.
type view func(ctx context.Context) (found, []wire.Proc, error)

// seen is the view by way of the manager.
func (s *Service) seen(h deploy.Host) view {
	return func(ctx context.Context) (found, []wire.Proc, error) { return s.look(ctx, h) }
}

// steady is how long the processes must be the same before they count: a worker that dies of its code was
// seen to run.
const steady = 300 * time.Millisecond

// settled is how long all workers may be the same ones in another release until nothing else is expected
// of them: they stay where they were started.
const settled = 5 * time.Second

// awaited is what a service is to become.
type awaited struct {
	id     string
	see    view
	wanted func([]wire.Proc) (bool, error) // beside being complete and in the release
	limit  time.Duration
	late   string        // what is wrong when the time is up and nothing else is known
	steady time.Duration // how long it must be so
	quiet  bool          // a step on the way: nothing is proven yet
}

// await looks at the service until the processes are as wanted and run in the release. Where the
// manager knows no process, the health check alone decides.
func (s *Service) await(ctx context.Context, h deploy.Host, a awaited) error {
	if _, ok := s.manager.(scripts); ok {
		return nil
	}
	dir, err := s.realDir(ctx, h, a.id)
	if err != nil {
		return err
	}
	if a.id == "" {
		dir = "" // what ran before godeploy came may run anywhere
	}
	deadline := time.Now().Add(a.limit)
	var same, astray []wire.Proc // since when they are the same: as wanted, or as wanted but elsewhere
	var since, lost, stood time.Time
	for last := a.late; ; {
		f, procs, err := a.see(ctx)
		if err != nil {
			return err
		}
		ok, err := a.wanted(procs)
		if err != nil {
			return s.explain(ctx, h, err)
		}
		if ok {
			last = s.short(f, procs)
		}
		if ok && last == "" {
			last = s.elsewhere(ctx, h, procs, dir)
		}
		if !ok || last != "" {
			same = nil
		} else if !alike(same, procs) {
			same, since = procs, time.Now()
		}
		if same != nil && time.Since(since) >= a.steady {
			s.proven(h, a, f, procs)
			return nil
		}
		if !ok || last == "" || !alike(astray, procs) {
			astray, lost = procs, time.Now()
		}
		if !f.Gone || stood.IsZero() {
			stood = time.Now()
		}
		if f.State == "failed" || f.Gone && time.Since(stood) > settled || time.Now().After(deadline) || len(astray) > 1 && f.Want <= len(astray)-1 && time.Since(lost) > settled {
			return s.explain(ctx, h, s.unproven(h, a.id, f, cmp.Or(last, a.late)))
		}
		if err := deploy.Pause(ctx, pollEvery); err != nil {
			return err
		}
	}
}

// alike reports whether two looks saw the same processes.
func alike(a, b []wire.Proc) bool {
	return len(a) == len(b) && len(a) > 0 && !slices.ContainsFunc(b, func(p wire.Proc) bool { return !among(a, p) })
}

func (s *Service) unproven(h deploy.Host, id string, f found, last string) error {
	if f.PID == 0 {
		return fault.New(fault.RestartFailed, "the service does not run (%s)", f.State)
	}
	return fault.New(fault.ReleaseNotLive, "the service does not serve %s", id).
		Fact("%s", last).
		Hint("start gunicorn with --chdir %s/current on its command line, without --preload", s.env.App.Path)
}

// looks is how often Serves looks before it believes that a service is down: a worker that is replaced
// as usual is missing for a moment.
const looks = 10

// Serves implements deploy.Service.
func (s *Service) Serves(ctx context.Context, h deploy.Host, id string) error {
	s = s.on(h)
	if _, ok := s.manager.(scripts); ok {
		return nil
	}
	for try := 1; ; try++ {
		err := s.serves(ctx, h, id)
		if err == nil || try == looks {
			return err
		}
		if err := deploy.Pause(ctx, pollEvery); err != nil {
			return err
		}
	}
}

func (s *Service) serves(ctx context.Context, h deploy.Host, id string) error {
	f, procs, err := s.look(ctx, h)
	if err != nil {
		return err
	}
	dir, err := s.realDir(ctx, h, id)
	if err != nil {
		return err
	}
	if f.PID == 0 {
		return s.unproven(h, id, f, "no worker runs")
	}
	if last := s.short(f, procs); last != "" {
		return s.unproven(h, id, f, last)
	}
	if f.Older > 0 {
		return s.unproven(h, id, f, fmt.Sprintf("process %d, an older gunicorn, serves beside it", f.Older))
	}
	if last := s.elsewhere(ctx, h, procs, dir); last != "" {
		return s.unproven(h, id, f, last)
	}
	return nil
}

// elsewhere says which serving process does not run in the release, "" when all do.
func (s *Service) elsewhere(ctx context.Context, h deploy.Host, procs []wire.Proc, dir string) string {
	if dir == "" {
		return ""
	}
	serving := procs
	if len(procs) > 1 {
		serving = procs[1:] // a master's own folder does not tell what its workers loaded
	}
	for _, p := range serving {
		cwd := s.cwd(ctx, h, p)
		switch {
		case cwd == "":
			return fmt.Sprintf("the working folder of process %d cannot be seen; log in as its user, or set sudo = true", p.PID)
		case cwd == dir || strings.HasPrefix(cwd, dir+"/"):
		case s.env.Process.Server == "custom" && !strings.HasPrefix(cwd, parent(dir)+"/"):
			// a server that does not run inside any release: /proc cannot tell, health must
		default:
			return fmt.Sprintf("process %d runs in %s", p.PID, cwd)
		}
	}
	return ""
}

// cwd is a process's working folder; another user's can only be seen as root.
func (s *Service) cwd(ctx context.Context, h deploy.Host, p wire.Proc) string {
	if p.CWD != "" || h.Facts().UID == 0 || !s.env.SSH.Sudo {
		return p.CWD
	}
	out, err := output(ctx, h, "sudo", "-n", "readlink", fmt.Sprintf("/proc/%d/cwd", p.PID))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(out)
}

// realDir is the release's folder without links in it, as /proc shows it.
func (s *Service) realDir(ctx context.Context, h deploy.Host, id string) (string, error) {
	out, err := output(ctx, h, "readlink", "-f", "--", s.env.App.Path+"/releases/"+id)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(out), nil
}

func (s *Service) proven(h deploy.Host, a awaited, f found, procs []wire.Proc) {
	if a.quiet {
		return
	}
	e := event.Event{Type: event.Proof, Host: h.Inventory().Name, Phase: "switch", Release: a.id, Msg: "proof: " + shape(procs) + " in " + a.id}
	for _, p := range procs {
		e.Facts = append(e.Facts, fmt.Sprintf("process %d of %d, started at tick %d, in %s", p.PID, p.PPID, p.Start, cmp.Or(p.CWD, "a folder that this login may not see")))
	}
	if f.Want > 1 {
		e.Facts = append(e.Facts, fmt.Sprintf("%d workers are configured", f.Want))
	}
	s.report.Report(e)
}

// shape says what a server consists of: a process, or a main process and its workers.
func shape(procs []wire.Proc) string {
	switch n := len(procs) - 1; n {
	case 0:
		return fmt.Sprintf("process %d runs", procs[0].PID)
	case 1:
		return fmt.Sprintf("main process %d, 1 worker,", procs[0].PID)
	default:
		return fmt.Sprintf("main process %d, %d workers, all", procs[0].PID, n)
	}
}

func parent(dir string) string {
	if i := strings.LastIndexByte(dir, '/'); i > 0 {
		return dir[:i]
	}
	return dir
}

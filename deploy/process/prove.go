package process

import (
	"context"
	"errors"
	"fmt"
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

// hup tells a gunicorn master to load its code anew and proves that it did: the master is the same,
// every old worker is gone, and every new one runs in the release.
func (s *Service) hup(ctx context.Context, h deploy.Host, id string, before []wire.Proc) error {
	master := before[0]
	old := map[int]uint64{}
	for _, p := range before[1:] {
		old[p.PID] = p.Start
	}
	if err := s.manager.signal(ctx, h, master, "HUP"); err != nil {
		if now, look := h.Procs(ctx, master.PID); look == nil && (len(now) == 0 || now[0].Start != master.Start) {
			return errEnded
		}
		return err
	}
	stale := fmt.Sprintf("the old workers are still there after %s", s.env.Process.StopTimeout)
	// The process itself is looked at, not its manager: gunicorn writes its pid file anew on HUP, and for
	// a moment there is none.
	see := func(ctx context.Context) (found, []wire.Proc, error) {
		procs, err := h.Procs(ctx, master.PID)
		return found{PID: master.PID}, procs, err
	}
	return s.await(ctx, h, id, see, s.env.Process.StopTimeout+bootTime, stale, func(procs []wire.Proc) (bool, error) {
		if len(procs) == 0 || procs[0].PID != master.PID || procs[0].Start != master.Start {
			return false, fault.New(fault.RestartFailed, "the gunicorn master ended on HUP").
				Hint("new code that does not boot ends the master")
		}
		for _, p := range procs[1:] {
			if start, was := old[p.PID]; was && start == p.Start {
				return false, nil
			}
		}
		return len(procs) > 1, nil
	})
}

// proveNew waits until a service that was started or restarted serves the release by processes that
// were not there before.
func (s *Service) proveNew(ctx context.Context, h deploy.Host, id string, before []wire.Proc) error {
	return s.await(ctx, h, id, s.seen(h), bootTime, "it did not come up", func(procs []wire.Proc) (bool, error) {
		if len(procs) == 0 {
			return false, nil
		}
		same := len(before) > 0 && procs[0].PID == before[0].PID && procs[0].Start == before[0].Start
		return !same && s.complete(procs), nil
	})
}

// proveServing waits until what runs, old or new, serves the release: after the user's own restart.
func (s *Service) proveServing(ctx context.Context, h deploy.Host, id string) error {
	return s.await(ctx, h, id, s.seen(h), bootTime, "it does not serve the release", func(procs []wire.Proc) (bool, error) {
		return len(procs) > 0 && s.complete(procs), nil
	})
}

// view gives the service as it is now, with its main process and that one's children.
type view func(ctx context.Context) (found, []wire.Proc, error)

// seen is the view by way of the manager.
func (s *Service) seen(h deploy.Host) view {
	return func(ctx context.Context) (found, []wire.Proc, error) { return s.look(ctx, h) }
}

// complete reports whether a server has all the processes it needs to serve.
func (s *Service) complete(procs []wire.Proc) bool {
	return s.env.Process.Server == "custom" || len(procs) > 1
}

// await looks at the service until the processes are as wanted and run in the release. Where the
// manager knows no process, the health check alone decides.
func (s *Service) await(ctx context.Context, h deploy.Host, id string, see view, limit time.Duration, late string, wanted func([]wire.Proc) (bool, error)) error {
	if _, ok := s.manager.(scripts); ok {
		return nil
	}
	dir, err := s.realDir(ctx, h, id)
	if err != nil {
		return err
	}
	if id == "" {
		dir = "" // what ran before godeploy came may run anywhere
	}
	deadline := time.Now().Add(limit)
	last := late
	for {
		f, procs, err := see(ctx)
		if err != nil {
			return err
		}
		ok, err := wanted(procs)
		if err != nil {
			return s.explain(ctx, h, err)
		}
		if ok {
			if last = s.elsewhere(ctx, h, procs, dir); last == "" {
				s.proven(h, id, procs)
				return nil
			}
		}
		if f.State == "failed" || time.Now().After(deadline) {
			return s.explain(ctx, h, s.unproven(h, id, f, last))
		}
		if err := deploy.Pause(ctx, pollEvery); err != nil {
			return err
		}
	}
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
const looks = 3

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
	if f.PID == 0 || !s.complete(procs) {
		return s.unproven(h, id, f, "no worker runs")
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

func (s *Service) proven(h deploy.Host, id string, procs []wire.Proc) {
	s.report.Report(event.Event{Type: event.Proof, Host: h.Inventory().Name, Phase: "switch", Release: id,
		Msg: "proof: " + shape(procs) + " in " + id})
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

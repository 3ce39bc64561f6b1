// Package process drives the app's process on a host by [process] of the file: systemd, a pid file,
// or the user's own hooks. A restart counts when it is proven: the processes that serve are new and
// run in the release, as /proc shows it. A signal's exit status proves nothing.
package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// bootTime bounds how long a server may take from its start or signal until its workers run.
const bootTime = 60 * time.Second

// Service implements deploy.Service for one environment. It is safe for concurrent use on different
// hosts.
type Service struct {
	env     *inventory.Env
	report  event.Reporter
	manager manager
	trials  *trials
}

// manager is who starts and stops the process: systemd, a pid file, or hooks alone.
type manager interface {
	// ready finds, before any change, what would keep the manager from working.
	ready(ctx context.Context, h deploy.Host) error
	// find gives the main process, 0 when none runs, and how it was started.
	find(ctx context.Context, h deploy.Host) (found, error)
	start(ctx context.Context, h deploy.Host) error
	stop(ctx context.Context, h deploy.Host) error
	restart(ctx context.Context, h deploy.Host) error
	signal(ctx context.Context, h deploy.Host, p wire.Proc, name string) error
	// why gives lines that explain a failure: the journal, the log.
	why(ctx context.Context, h deploy.Host) []string
}

// found is what a manager knows of the service right now.
type found struct {
	PID     int      // of the main process; 0 when none runs
	State   string   // active, inactive, failed, unknown
	Command []string // how it would be started, if that is known
	Running []string // how what runs was started, if that can be seen
	Dir     string   // the folder it would be started in, if that is known
	Environ []string // KEY=VALUE it was started with, if that is known
	User    string   // whom it runs as, "" when that is not known or the login
	PIDFile string   // where its number is kept, for its manager to read; "" when nowhere
	Workers int      // children that the main process has
	Want    int      // workers that it should have; 0 and 1 are "at least one"
	Older   int      // a gunicorn that serves beside it, which it was to take over from; 0 is none
	// Reloads says that its unit knows how to reload it, Activated that systemd holds its listener, and
	// Stalls that it boots for longer than requests should wait.
	Reloads, Activated, Stalls bool
	// Preloads says that gunicorn loads the app before it makes workers.
	Preloads bool
	// Booting says that the main process stands but nothing serves: it is on its way up, or down.
	Booting bool
	// Gone says that the number its manager keeps is nobody's: it was started once, and has ended.
	Gone bool
	// Secret says that the service is started with the secrets of the release that is current.
	Secret bool
}

// New gives the service of an environment.
func New(env *inventory.Env, report event.Reporter) *Service {
	return newService(env, report, &trials{})
}

func newService(env *inventory.Env, report event.Reporter, t *trials) *Service {
	s := &Service{env: env, report: report, trials: t}
	switch env.Process.Manager {
	case "pidfile":
		s.manager = pidfile{s}
	case "command":
		s.manager = scripts{s}
	default:
		s.manager = systemd{s}
	}
	return s
}

// on gives the service as one host sees it: app.path may hold the host's name.
func (s *Service) on(h deploy.Host) *Service {
	env := s.env.On(h.Inventory())
	if env == s.env {
		return s
	}
	return newService(env, s.report, s.trials)
}

// Ready implements deploy.Service.
func (s *Service) Ready(ctx context.Context, h deploy.Host) error {
	s = s.on(h)
	if err := s.manager.ready(ctx, h); err != nil {
		return err
	}
	return s.refuse(ctx, h)
}

// refuse refuses a way to restart that [process] graceful asks for and that is known not to work for what
// runs, or would be started.
func (s *Service) refuse(ctx context.Context, h deploy.Host) error {
	mode := strings.ToLower(s.env.Process.Graceful)
	if mode == "auto" || mode == "restart" || mode == "" || s.byHooks() {
		return nil
	}
	f, _, err := s.look(ctx, h)
	if err != nil {
		return err
	}
	f.Preloads = s.preloads(ctx, h, f)
	if why := cannot(mode, s.env.Process, f, s.env.App.Path+"/current"); why != "" {
		return fault.New(fault.ConfigValue, "graceful = %q cannot work: %s", mode, why).On(h.Inventory().Name).
			Hint("set [process] graceful = \"auto\", which takes the best way that there is")
	}
	return nil
}

// byHooks reports whether the user's own hooks restart the service.
func (s *Service) byHooks() bool {
	_, all := s.manager.(scripts)
	return all || len(s.env.Hooks.Restart) > 0
}

// State implements deploy.Service.
func (s *Service) State(ctx context.Context, h deploy.Host) (string, error) {
	s = s.on(h)
	f, err := s.manager.find(ctx, h)
	return f.State, err
}

// Start implements deploy.Service. A service that runs already is left alone when it serves id.
func (s *Service) Start(ctx context.Context, h deploy.Host, id string) error {
	s = s.on(h)
	f, err := s.manager.find(ctx, h)
	if err != nil {
		return err
	}
	if f.PID > 0 {
		return s.Serves(ctx, h, id)
	}
	if list := s.env.Hooks.Start; len(list) > 0 {
		err = s.hooks(ctx, h, "start", id, list, false)
	} else {
		err = s.manager.start(ctx, h)
	}
	if err != nil {
		return err
	}
	return s.proveNew(ctx, h, id, nil)
}

// Stop implements deploy.Service. A service that does not run is stopped already.
func (s *Service) Stop(ctx context.Context, h deploy.Host) error {
	s = s.on(h)
	if list := s.env.Hooks.Stop; len(list) > 0 {
		return s.hooks(ctx, h, "stop", "", list, false)
	}
	return s.manager.stop(ctx, h)
}

// Restart implements deploy.Service. What does not run is started, whatever was asked for.
func (s *Service) Restart(ctx context.Context, h deploy.Host, id string, graceful bool) error {
	s = s.on(h)
	before, master, err := s.look(ctx, h)
	if err != nil {
		return err
	}
	if list := s.env.Hooks.Restart; len(list) > 0 {
		if err := s.hooks(ctx, h, "restart", id, list, graceful); err != nil {
			return err
		}
		return s.proveHooked(ctx, h, id, before, master)
	}
	if _, ok := s.manager.(scripts); ok {
		return s.fullRestart(ctx, h, id)
	}
	if before.PID == 0 {
		return s.Start(ctx, h, id)
	}
	before, master, err = s.alone(ctx, h, before, master)
	if err != nil {
		return err
	}
	before.Stalls, before.Preloads = s.stalls(h), s.preloads(ctx, h, before)
	choice := choose(s.env.Process, before, s.env.App.Path+"/current", graceful)
	s.tell(h, "restart", "%s", choice)
	return s.by(ctx, h, id, choice, before, master)
}

// Way implements deploy.Service.
func (s *Service) Way(ctx context.Context, h deploy.Host, graceful bool) (string, error) {
	s = s.on(h)
	if s.byHooks() {
		return "by your own hooks, since the file has them", nil
	}
	f, _, err := s.look(ctx, h)
	switch {
	case err != nil:
		return "", err
	case f.PID == 0:
		return "started, since it does not run", nil
	}
	f.Stalls, f.Preloads = s.stalls(h), s.preloads(ctx, h, f)
	current := s.env.App.Path + "/current"
	now := choose(s.env.Process, f, current, graceful)
	f.Stalls = s.mayStall()
	if slow := choose(s.env.Process, f, current, graceful); slow.How != now.How {
		return fmt.Sprintf("%s; %s if the trial boot takes longer than %s", now, slow.how(), s.env.Release.StallBudget), nil
	}
	return now.String(), nil
}

// by restarts in the way that was chosen, and proves it.
func (s *Service) by(ctx context.Context, h deploy.Host, id string, c choice, before found, procs []wire.Proc) error {
	var sockets listening
	if c.How != viaRestart {
		sockets = s.listens(ctx, h)
	}
	var err error
	switch c.How {
	case viaHUP:
		if err = s.hup(ctx, h, id, procs); errors.Is(err, errEnded) {
			// A service that fails and is started again and again has a main process for moments only.
			s.tell(h, "restart", "in full, since process %d has ended by itself", procs[0].PID)
			err, procs = s.anew(ctx, h, id, nil), nil
		}
	case viaUSR2:
		err = s.upgrade(ctx, h, id, before, procs)
	case viaReload:
		err = s.reload(ctx, h, id, procs)
	default:
		err = s.anew(ctx, h, id, procs)
	}
	if err == nil {
		s.kept(ctx, h, id, sockets)
	}
	return err
}

// anew ends the service and starts it.
func (s *Service) anew(ctx context.Context, h deploy.Host, id string, before []wire.Proc) error {
	if err := s.fullRestart(ctx, h, id); err != nil {
		return s.explain(ctx, h, err)
	}
	return s.proveNew(ctx, h, id, before)
}

// reload is the unit's own. A service with workers has new ones after it; of one without, only where it
// runs and its health can tell.
func (s *Service) reload(ctx context.Context, h deploy.Host, id string, before []wire.Proc) error {
	m, ok := s.manager.(systemd)
	if !ok {
		return fault.New(fault.ConfigValue, "graceful = \"reload\" needs manager = \"systemd\"")
	}
	if err := m.systemctl(ctx, h, "reload", m.unit()); err != nil {
		return s.explain(ctx, h, err)
	}
	if len(before) > 1 {
		return s.renewed(ctx, h, id, before)
	}
	return s.proveServing(ctx, h, id)
}

func (s *Service) fullRestart(ctx context.Context, h deploy.Host, id string) error {
	if len(s.env.Hooks.Start) == 0 && len(s.env.Hooks.Stop) == 0 {
		return s.manager.restart(ctx, h)
	}
	if err := s.Stop(ctx, h); err != nil {
		return err
	}
	if list := s.env.Hooks.Start; len(list) > 0 {
		return s.hooks(ctx, h, "start", id, list, false)
	}
	return s.manager.start(ctx, h)
}

// look finds the service and, when it runs, its main process with its children.
func (s *Service) look(ctx context.Context, h deploy.Host) (found, []wire.Proc, error) {
	f, err := s.manager.find(ctx, h)
	if err != nil || f.PID == 0 {
		return f, nil, err
	}
	procs, err := h.Procs(ctx, f.PID)
	if err != nil || len(procs) == 0 {
		f.PID = 0
		return f, procs, err
	}
	f.Running, f.Workers = procs[0].Args, len(procs)-1
	f.Booting = s.booting(f)
	f.Want = s.expected(ctx, h, f.begun(s.env.Process, s.env.App.Path+"/current"))
	f.Older, err = s.older(ctx, h, procs[0])
	return f, procs, err
}

// older gives the gunicorn that a gunicorn was to take over from, 0 when there is none: a run that was
// killed in the middle of an upgrade leaves two that serve.
func (s *Service) older(ctx context.Context, h deploy.Host, p wire.Proc) (int, error) {
	if s.env.Process.Server != "gunicorn" || p.PPID < 2 {
		return 0, nil
	}
	above, err := h.Procs(ctx, p.PPID)
	if err != nil || len(above) == 0 || !isGunicorn(above[0].Args) {
		return 0, err
	}
	return p.PPID, nil
}

// alone ends a gunicorn that serves beside the main one, and looks again.
func (s *Service) alone(ctx context.Context, h deploy.Host, f found, procs []wire.Proc) (found, []wire.Proc, error) {
	if f.Older == 0 {
		return f, procs, nil
	}
	above, err := h.Procs(ctx, f.Older)
	if err != nil || len(above) == 0 {
		return f, procs, err
	}
	s.tell(h, "restart", "process %d, which an upgrade was to end, is ended", f.Older)
	if err := s.end(ctx, h, above[0], "TERM"); err != nil {
		return f, procs, err
	}
	return s.look(ctx, h)
}

// booting reports whether a service has a main process that cannot take a signal yet or any more: until
// gunicorn has its handlers, HUP ends it.
func (s *Service) booting(f found) bool {
	return f.State == "activating" || f.State == "deactivating" ||
		f.Workers == 0 && s.env.Process.Server != "custom" && !s.masterless(f.Running)
}

// hooks runs the user's own start, stop or restart instead of the manager's.
func (s *Service) hooks(ctx context.Context, h deploy.Host, name, id string, list []inventory.Hook, graceful bool) error {
	told := deploy.ToldOf(s.env, h.Inventory(), id, "switch")
	told.Graceful = graceful
	if err := s.recall(ctx, h, id, &told); err != nil {
		return err
	}
	place := hooks.Place{Host: h.Inventory().Name, Phase: "switch", Dir: s.env.App.Path + "/current", Env: told.Environ()}
	for _, one := range list {
		hook := deploy.HookOf(s.env, name, one)
		hook.Keep = name != "stop"
		if err := hooks.Run(ctx, hook, place, deploy.HostRunner{Host: h, Sudo: s.env.SSH.Sudo}, s.report); err != nil {
			return err
		}
	}
	return nil
}

// recall tells hooks what the host has on record of the release at hand; "" is the live one.
func (s *Service) recall(ctx context.Context, h deploy.Host, id string, told *hooks.Told) error {
	state, err := h.State(ctx, nil)
	if err != nil {
		return err
	}
	if state.Holder != nil {
		told.User = state.Holder.Who
	}
	for _, r := range state.Releases {
		if r.ID == cmp.Or(id, state.Current) {
			told.Release, told.Previous = r.ID, r.Previous
			told.Commit, told.Branch, told.Message = r.Commit, r.Branch, r.Message
		}
	}
	return nil
}

// tell reports one line about a host.
func (s *Service) tell(h deploy.Host, step, format string, args ...any) {
	s.report.Report(event.Event{Type: event.Info, Host: h.Inventory().Name, Phase: "switch", Step: step,
		Msg: step + ": " + fmt.Sprintf(format, args...)})
}

// explain adds to an error what the manager's log says.
func (s *Service) explain(ctx context.Context, h deploy.Host, err error) error {
	all := fault.All(err)
	if len(all) == 0 || len(all[0].Facts) > 1 {
		return err
	}
	for _, line := range s.manager.why(ctx, h) {
		all[0].Fact("| %s", line)
	}
	return all[0]
}

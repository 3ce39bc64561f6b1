// Package process drives the app's process on a host by [process] of the file: systemd, a pid file,
// or the user's own hooks. A restart counts when it is proven: the processes that serve are new and
// run in the release, as /proc shows it. A signal's exit status proves nothing.
package process

import (
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
	// Booting says that the main process stands but nothing serves: it is on its way up, or down.
	Booting bool
	// Secret says that the service is started with the secrets of the release that is current.
	Secret bool
}

// New gives the service of an environment.
func New(env *inventory.Env, report event.Reporter) *Service {
	s := &Service{env: env, report: report}
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
	return New(env, s.report)
}

// Ready implements deploy.Service.
func (s *Service) Ready(ctx context.Context, h deploy.Host) error {
	s = s.on(h)
	if err := s.refuseHUP(); err != nil {
		return err
	}
	return s.manager.ready(ctx, h)
}

// refuseHUP refuses a restart by signal that is known to keep the old code: with --preload the
// master has imported the app, and its new workers are forked from that (gunicorn#394).
func (s *Service) refuseHUP() error {
	p := s.env.Process
	if p.Graceful == "hup" && strings.Contains(p.Command, "--preload") {
		return fault.New(fault.ConfigValue, "graceful = \"hup\" cannot serve new code when gunicorn runs with --preload").
			Hint("remove --preload, or set [process] graceful = \"restart\"")
	}
	return nil
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
		return s.proveServing(ctx, h, id)
	}
	if _, ok := s.manager.(scripts); ok {
		return s.fullRestart(ctx, h)
	}
	if before.PID == 0 {
		return s.Start(ctx, h, id)
	}
	choice := choose(s.env.Process, before, s.env.App.Path+"/current", graceful)
	s.tell(h, "restart", "%s, since %s", map[string]string{viaHUP: "by HUP", viaRestart: "in full"}[choice.How], choice.Why)
	if choice.How == viaHUP {
		err := s.hup(ctx, h, id, master)
		if !errors.Is(err, errEnded) {
			return err
		}
		// A service that fails and is started again and again has a main process for moments only.
		s.tell(h, "restart", "in full, since process %d has ended by itself", master[0].PID)
		master = nil
	}
	if err := s.fullRestart(ctx, h); err != nil {
		return s.explain(ctx, h, err)
	}
	return s.proveNew(ctx, h, id, master)
}

func (s *Service) fullRestart(ctx context.Context, h deploy.Host) error {
	if len(s.env.Hooks.Start) == 0 && len(s.env.Hooks.Stop) == 0 {
		return s.manager.restart(ctx, h)
	}
	if err := s.Stop(ctx, h); err != nil {
		return err
	}
	if list := s.env.Hooks.Start; len(list) > 0 {
		return s.hooks(ctx, h, "start", "", list, false)
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
	if len(procs) == 0 {
		f.PID = 0
	} else {
		f.Running = procs[0].Args
		f.Booting = s.booting(f, procs)
	}
	return f, procs, err
}

// booting reports whether a service has a main process that cannot take a signal yet or any more: until
// gunicorn has its handlers, HUP ends it.
func (s *Service) booting(f found, procs []wire.Proc) bool {
	return f.State == "activating" || f.State == "deactivating" || !s.complete(procs)
}

// hooks runs the user's own start, stop or restart instead of the manager's.
func (s *Service) hooks(ctx context.Context, h deploy.Host, name, id string, list []inventory.Hook, graceful bool) error {
	told := deploy.ToldOf(s.env, h.Inventory(), id, "switch")
	told.Graceful = graceful
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

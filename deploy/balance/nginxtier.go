package balance

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/templates"
)

// nginx is the engine for [balancer] kind = "nginx".
type nginx struct{ *Tier }

var _ engine = nginx{}

func (n nginx) look(ctx context.Context, h deploy.Host, l *Live) error {
	var all []process
	var err error
	if all, l.master, l.Problem, err = n.root().masterIn(ctx, h); err != nil {
		return err
	}
	if l.Problem == nil {
		var leaving []process
		l.workers, leaving = workersOf(all, l.master)
		l.Leaving = len(leaving)
	}
	s, err := n.root().sh(ctx, h, nil, liveScript, n.Env.Nginx.Conf)
	if err != nil {
		return err
	}
	if s.exit != 0 { // which says more than that nginx is stopped: it may be why
		l.Problem = testFault(fault.NginxBroken, s, "the configuration of nginx is broken as it is")
	}
	if l.Problem == nil {
		l.Running = n.running(ctx, h, l.Files)
	}
	return nil
}

func (n nginx) running(ctx context.Context, h deploy.Host, _ []LiveFile) string {
	mark, _ := n.ask(ctx, h) // "" when it cannot be asked: it is not known to run then
	return mark
}

func (n nginx) may(ctx context.Context, h deploy.Host, l Live) error {
	site, err := n.Env.NginxSite()
	if err != nil {
		return err
	}
	wanted := site.Listen
	if site.Redirect > 0 {
		wanted = append(wanted, templates.NginxListen{Port: site.Redirect})
	}
	return n.root().portsFree(ctx, h, l.master, wanted)
}

// settled implements engine: no worker is left that finishes what it had before a reload.
func (n nginx) settled(ctx context.Context, h deploy.Host) (bool, error) {
	all, master, problem, err := n.root().masterIn(ctx, h)
	if err != nil {
		return false, err
	}
	_, leaving := workersOf(all, master)
	return len(leaving) == 0, problem
}

func (n nginx) test(ctx context.Context, h deploy.Host, _ Live, files []File) error {
	s, err := n.tested(ctx, h, files)
	if err != nil {
		return err
	}
	switch s.exit {
	case 0:
	case 96:
		return testFault(fault.NginxRefused, s, "nginx refuses the new configuration")
	case 98:
		return fault.New(fault.NginxFailed, "the files cannot be tested: no mount namespace can be made there, and one lies outside of nginx's folder")
	default:
		return testFault(fault.NginxFailed, s, "the new configuration cannot be tested")
	}
	for _, f := range files {
		if !strings.Contains(s.out, "# configuration file "+f.Path+":") {
			return fault.New(fault.NginxRefused, "nginx does not read %s", f.Path).
				Hint("no include of %s matches it", n.Env.Nginx.Conf)
		}
	}
	return nil
}

// tested runs the trial, in a mount namespace or on a copy.
func (n nginx) tested(ctx context.Context, h deploy.Host, files []File) (said, error) {
	args := append([]string{n.Env.Nginx.Conf}, pathsOf(files)...)
	argv := append([]string{"unshare", "-m", "--propagation", "private", "/bin/sh", "-c", tryScript, "sh"}, args...)
	s, err := n.root().run(ctx, h, nil, argv...)
	if err != nil || s.exit != 97 && s.exit != 127 && !strings.HasPrefix(s.err, "unshare:") {
		return s, err
	}
	return n.root().sh(ctx, h, nil, copyScript, args...)
}

// load implements engine. A reload that fails looks from outside
// like one that went well: only new workers, and what they answer, are a proof.
func (n nginx) load(ctx context.Context, h deploy.Host, l Live, to templates.Stamp) error {
	master := l.master
	all, err := n.root().processes(ctx, h, "nginx")
	if err != nil {
		return err
	}
	before, _ := workersOf(all, master)
	if err := n.root().do(ctx, h, nil, hupScript, strconv.Itoa(master.pid), master.start, "HUP"); err != nil {
		return err
	}
	settle := n.Settle
	if settle == 0 {
		settle = settleTime
	}
	limited, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	if err := n.newWorkers(limited, h, master, before); err != nil {
		return n.notReloaded(ctx, h, err)
	}
	if to.Mark == noProbe {
		return nil
	}
	if err := n.loaded(limited, h, to.Mark); err != nil {
		return n.notReloaded(ctx, h, err)
	}
	return nil
}

// newWorkers waits until a master has workers, and none that take connections of those before.
func (n nginx) newWorkers(ctx context.Context, h deploy.Host, master process, before []process) error {
	for {
		all, err := n.root().processes(ctx, h, "nginx")
		if err != nil {
			return err
		}
		if serving, _ := workersOf(all, master); renewed(serving, before) {
			return nil
		}
		if deploy.Pause(ctx, pollTime) != nil {
			return errors.New("no new workers came")
		}
	}
}

// notReloaded says why, in nginx's own words where it has any.
func (n nginx) notReloaded(ctx context.Context, h deploy.Host, cause error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if fault.Is(cause, fault.SSHLost) {
		return cause
	}
	f := fault.New(fault.NginxReload, "nginx did not take the new configuration").Wrap(cause)
	if s, err := n.root().sh(ctx, h, nil, logScript); err == nil {
		for line := range strings.Lines(s.out) {
			f.Fact("| %s", strings.TrimSpace(line))
		}
	}
	return f
}

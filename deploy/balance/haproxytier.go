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

// haproxy is the engine for [balancer] kind = "haproxy". Who is in service stands in the file, so that it
// holds through a reload and a reboot; where nothing else changes it is told to the running workers by the
// runtime socket, and nothing is reloaded.
type haproxy struct{ *Tier }

var _ engine = haproxy{}

func (n haproxy) look(ctx context.Context, h deploy.Host, l *Live) error {
	stands, err := n.stands(ctx, h)
	if err != nil {
		return err
	}
	l.master, l.workers, l.Leaving, l.Problem = stands.master, stands.current, len(stands.leaving), stands.problem
	if l.Problem != nil {
		return nil
	}
	s, err := n.root().sh(ctx, h, nil, haproxyLiveScript, haproxySources(l.master.title)...)
	if err != nil {
		return err
	}
	if s.exit != 0 {
		l.Problem = haproxyFault(fault.HaproxyBroken, s, "the configuration of HAProxy is broken as it is")
		return nil
	}
	l.Running = n.running(ctx, h, l.Files)
	return nil
}

// stands is how the processes of a host stand.
type stands struct {
	master           process
	current, leaving []process
	problem          error // why there is no one master with a worker
}

// stands asks for the processes. A worker that follows another while they are listed can be missed: that none
// is there is believed only after a while.
func (n haproxy) stands(ctx context.Context, h deploy.Host) (stands, error) {
	for try := 0; ; try++ {
		all, err := n.root().processes(ctx, h, "haproxy")
		if err != nil {
			return stands{}, err
		}
		var s stands
		if s.master, s.problem = haproxyMaster(all, n.Env.Balancer.File); s.problem != nil {
			return s, nil
		}
		if s.current, s.leaving = haproxyWorkers(all, s.master); len(s.current) > 0 {
			return s, nil
		}
		if try == 10 {
			s.problem = fault.New(fault.HaproxyStopped, "HAProxy runs without a worker").Hint("start it: systemctl restart haproxy")
			return s, nil
		}
		if err := deploy.Pause(ctx, pollTime); err != nil {
			return s, err
		}
	}
}

// running puts the mark together: what the file that was loaded says of itself, and what the socket says of
// the servers. Where nobody can ask the socket, the servers are as they were when the file was loaded.
func (n haproxy) running(ctx context.Context, h deploy.Host, _ []LiveFile) string {
	site, err := n.Env.HaproxySite()
	if err != nil {
		return ""
	}
	mark, _ := n.asked(ctx, h, site) // "" when it cannot be asked: it is not known to run then
	still, _, ok := strings.Cut(mark, ".")
	if !ok {
		return ""
	}
	if servers, err := n.runtime(ctx, h, site); err == nil {
		return still + "." + templates.StateMark(stateOf(servers, site.Upstream.Servers))
	}
	return mark
}

func (n haproxy) asked(ctx context.Context, h deploy.Host, site templates.HaproxySite) (string, error) {
	return askMark(ctx, h, site.Listen[0], site.Certificate != "", "godeploy.invalid", templates.HaproxyProbePath)
}

func (n haproxy) may(ctx context.Context, h deploy.Host, l Live) error {
	site, err := n.Env.HaproxySite()
	if err != nil {
		return err
	}
	wanted := site.Listen
	if site.Redirect > 0 {
		wanted = append(wanted, templates.NginxListen{Port: site.Redirect})
	}
	return n.root().portsFree(ctx, h, l.workers[0], wanted)
}

// settled implements engine: no request is open on a server that is out, and no worker is left that finishes
// what it had before a reload.
func (n haproxy) settled(ctx context.Context, h deploy.Host) (bool, error) {
	now, err := n.stands(ctx, h)
	if err != nil || now.problem != nil {
		return false, errors.Join(err, now.problem)
	}
	if len(now.leaving) > 0 {
		return false, nil
	}
	site, err := n.Env.HaproxySite()
	if err != nil {
		return false, err
	}
	servers, err := n.runtime(ctx, h, site)
	if err != nil {
		return true, nil // then it was drained by a reload, and the worker of before it has gone
	}
	for _, s := range servers {
		if s.down() && s.open > 0 {
			return false, nil
		}
	}
	return true, nil
}

func (n haproxy) test(ctx context.Context, h deploy.Host, l Live, files []File) error {
	s, err := n.root().sh(ctx, h, nil, haproxyTryScript, append([]string{files[0].Path}, haproxySources(l.master.title)...)...)
	switch {
	case err != nil:
		return err
	case s.exit == 96:
		return haproxyFault(fault.HaproxyRefused, s, "HAProxy refuses the new configuration")
	case s.exit != 0:
		return haproxyFault(fault.HaproxyFailed, s, "the new configuration cannot be tested")
	}
	return nil
}

// load implements engine. A state of the servers alone is told to the socket; everything else is a reload,
// which HAProxy does without losing a connection: the new worker takes the listening sockets over.
func (n haproxy) load(ctx context.Context, h deploy.Host, l Live, to templates.Stamp) error {
	settle := n.Settle
	if settle == 0 {
		settle = settleTime
	}
	limited, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	still, _, _ := strings.Cut(to.Mark, ".")
	if now, _, ok := strings.Cut(n.running(limited, h, nil), "."); ok && now == still && n.tell(limited, h, to) == nil {
		return nil
	}
	before, err := n.stands(limited, h)
	if err != nil {
		return err
	}
	if err := n.root().do(ctx, h, nil, hupScript, strconv.Itoa(l.master.pid), l.master.start, "USR2"); err != nil {
		return err
	}
	if err := n.newWorker(limited, h, l.master, append(before.current, before.leaving...), to.Mark); err != nil {
		return n.notReloaded(ctx, h, err)
	}
	return nil
}

// newWorker waits until a master has a worker that it did not have before, and the mark is answered.
func (n haproxy) newWorker(ctx context.Context, h deploy.Host, master process, before []process, mark string) error {
	for {
		now, err := n.stands(ctx, h)
		if err != nil {
			return err
		}
		err = errors.New("no new worker came")
		if renewed(now.current, before) {
			if mark == noProbe || n.running(ctx, h, nil) == mark {
				return nil
			}
			err = errors.New("the new worker does not answer with the new file")
		}
		if deploy.Pause(ctx, pollTime) != nil {
			return err
		}
	}
}

// notReloaded says why, in HAProxy's own words where it has any.
func (n haproxy) notReloaded(ctx context.Context, h deploy.Host, cause error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if fault.Is(cause, fault.SSHLost) {
		return cause
	}
	f := fault.New(fault.HaproxyReload, "HAProxy did not take the new configuration").Wrap(cause)
	if s, err := n.root().sh(ctx, h, nil, haproxyLogScript); err == nil {
		for line := range strings.Lines(s.out) {
			f.Fact("| %s", strings.TrimSpace(line))
		}
	}
	return f
}

// haproxyFault says what haproxy -c has against a configuration.
func haproxyFault(code fault.Code, s said, format string, args ...any) *fault.Error {
	f := fault.New(code, format, args...)
	told := 0
	for line := range strings.Lines(s.out + s.err) {
		if strings.Contains(line, "[ALERT]") && told < 4 {
			f.Fact("| %s", strings.TrimSpace(line))
			told++
		}
	}
	if told == 0 {
		for _, line := range s.lines(4) {
			f.Fact("| %s", line)
		}
	}
	return f
}

package balance

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/templates"
)

const (
	pollTime   = 100 * time.Millisecond
	settleTime = 30 * time.Second
	undoTime   = time.Minute // for all that is undone on one host
)

// noProbe in the place of a mark asks nothing: new workers are proof enough.
const noProbe = "-"

// PushOptions say how files are pushed.
type PushOptions struct {
	Overwrite bool // take the place of files that somebody has edited, or that godeploy has not written
}

// Pushed says what a push did, host by host, in the order of the hosts.
type Pushed struct {
	Changed   []string // have the new files and have loaded them
	Unchanged []string // had them before
	Undone    []string // had them for a moment, and are on what they had before
	Broken    []string // could neither be brought forward nor back: a person is needed
}

// Whole reports whether every host has what all others have.
func (p Pushed) Whole() bool {
	return len(p.Broken) == 0 && (len(p.Changed) == 0 || len(p.Undone) == 0)
}

// Push brings the files of a state to every host, or to none: nginx tests them on each host before a live
// file is touched; then host after host swaps them in, reloads, and counts when new workers have taken the
// place of the old ones and answer with the new file. A host on which that fails, and all before it, go
// back to what they had. The error says why nothing, or not everything, was done; while Pushed is empty but
// for Unchanged, no host was changed. The lock of every host must be held.
func (n *Nginx) Push(ctx context.Context, state State, o PushOptions) (Pushed, error) {
	files, err := n.render(state)
	if err != nil {
		return Pushed{}, err
	}
	live, err := n.Look(ctx)
	if err != nil {
		return Pushed{}, err
	}
	if err := n.mayPush(ctx, live, files, o); err != nil {
		return Pushed{}, err
	}
	p := &push{Nginx: n, files: files, live: live}
	if err := p.try(ctx); err != nil {
		return Pushed{Unchanged: p.pushed.Unchanged}, err
	}
	return p.bring(ctx)
}

// mayPush looks for everything that stands against a push, on every host.
func (n *Nginx) mayPush(ctx context.Context, live []Live, files []File, o PushOptions) error {
	site, err := n.Env.NginxSite()
	if err != nil {
		return err
	}
	wanted := site.Listen
	if site.Redirect > 0 {
		wanted = append(wanted, templates.NginxListen{Port: site.Redirect})
	}
	return n.each(ctx, func(ctx context.Context, i int, h deploy.Host) error {
		if live[i].Problem != nil {
			return live[i].Problem
		}
		for _, f := range live[i].Files {
			err := f.Drift()
			if foreign := f.Stamp.App != "" && !f.Ours; err != nil && (!o.Overwrite || foreign) {
				return err
			}
		}
		if live[i].Has(files) {
			return nil
		}
		return n.root().portsFree(ctx, h, live[i].master, wanted)
	})
}

// push is one push on its way.
type push struct {
	*Nginx
	files  []File
	live   []Live
	todo   []int // hosts that need it
	pushed Pushed
}

func (p *push) paths() []string {
	paths := make([]string, len(p.files))
	for i, f := range p.files {
		paths[i] = f.Path
	}
	return paths
}

func (p *push) name(i int) string { return p.Hosts[i].Inventory().Name }

// try stages the files on every host that needs them and lets nginx test them there. When it fails
// anywhere, what was staged is taken away.
func (p *push) try(ctx context.Context) error {
	for i := range p.Hosts {
		if p.live[i].Has(p.files) {
			p.pushed.Unchanged = append(p.pushed.Unchanged, p.name(i))
		} else {
			p.todo = append(p.todo, i)
		}
	}
	needs := map[int]bool{}
	for _, i := range p.todo {
		needs[i] = true
	}
	err := p.each(ctx, func(ctx context.Context, i int, h deploy.Host) error {
		if !needs[i] {
			return nil
		}
		return p.tryOn(ctx, h)
	})
	if err == nil {
		return nil
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	_ = p.each(clean, func(ctx context.Context, i int, h deploy.Host) error { // err tells more
		return p.root().do(ctx, h, nil, dropScript, p.paths()...)
	})
	return err
}

func (p *push) tryOn(ctx context.Context, h deploy.Host) error {
	for _, f := range p.files {
		if err := p.root().do(ctx, h, f.Content, stageScript, f.Path); err != nil {
			return err
		}
	}
	s, err := p.tested(ctx, h)
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
	for _, f := range p.files {
		if !strings.Contains(s.out, "# configuration file "+f.Path+":") {
			return fault.New(fault.NginxRefused, "nginx does not read %s", f.Path).
				Hint("no include of %s matches it", p.Env.Nginx.Conf)
		}
	}
	return nil
}

// tested runs the trial, in a mount namespace or on a copy.
func (p *push) tested(ctx context.Context, h deploy.Host) (said, error) {
	args := append([]string{p.Env.Nginx.Conf}, p.paths()...)
	argv := append([]string{"unshare", "-m", "--propagation", "private", "/bin/sh", "-c", tryScript, "sh"}, args...)
	s, err := p.root().run(ctx, h, nil, argv...)
	if err != nil || s.exit != 97 && s.exit != 127 && !strings.HasPrefix(s.err, "unshare:") {
		return s, err
	}
	return p.root().sh(ctx, h, nil, copyScript, args...)
}

// bring swaps and reloads, host after host, and undoes all of it when one fails.
func (p *push) bring(ctx context.Context) (Pushed, error) {
	for at, i := range p.todo {
		err := context.Cause(ctx)
		if err == nil {
			err = p.bringOn(ctx, p.Hosts[i], p.live[i])
		} else {
			at--
		}
		if err == nil {
			p.pushed.Changed = append(p.pushed.Changed, p.name(i))
			continue
		}
		return p.pushed, errors.Join(fault.OnHost(p.name(i), err), p.undo(ctx, at))
	}
	return p.pushed, nil
}

// undo brings the first hosts of todo, up to and with the one at, back to what they had, and takes away
// what was staged on the others.
func (p *push) undo(ctx context.Context, at int) error {
	p.pushed.Changed = nil
	var errs []error
	for k, i := range p.todo {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
		if k > at {
			_ = p.root().do(clean, p.Hosts[i], nil, dropScript, p.paths()...) // nothing there was changed
		} else if err := p.back(clean, p.Hosts[i], p.live[i]); err != nil {
			p.pushed.Broken = append(p.pushed.Broken, p.name(i))
			errs = append(errs, fault.OnHost(p.name(i), err))
		} else {
			p.pushed.Undone = append(p.pushed.Undone, p.name(i))
		}
		cancel()
	}
	return errors.Join(errs...)
}

func (p *push) bringOn(ctx context.Context, h deploy.Host, l Live) error {
	began := time.Now()
	if err := p.root().do(ctx, h, nil, swapScript, p.paths()...); err != nil {
		return err
	}
	stamp, _ := templates.ReadStamp(p.files[0].Content)
	if err := p.reload(ctx, h, l.master, stamp.Mark); err != nil {
		return err
	}
	p.note(h, "%s is live, new workers answer, %.1fs", p.files[0].Path, time.Since(began).Seconds())
	return nil
}

// back puts the files of before in place and loads them.
func (p *push) back(ctx context.Context, h deploy.Host, l Live) error {
	if err := p.root().do(ctx, h, nil, restoreScript, p.paths()...); err != nil {
		return err
	}
	probe := l.Running
	if probe == "" { // what it served before does not say which file it is, or nothing listened there
		probe = noProbe
	}
	if err := p.reload(ctx, h, l.master, probe); err != nil {
		return err
	}
	p.note(h, "the files of before are back, and loaded")
	return nil
}

// reload lets a master load its files and waits for the proof of it. A reload that fails looks from outside
// like one that went well: only new workers, and what they answer, are a proof.
func (n *Nginx) reload(ctx context.Context, h deploy.Host, master process, mark string) error {
	all, err := n.root().processes(ctx, h)
	if err != nil {
		return err
	}
	before, _ := workersOf(all, master)
	if err := n.root().do(ctx, h, nil, hupScript, strconv.Itoa(master.pid), master.start); err != nil {
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
	if mark == noProbe {
		return nil
	}
	if err := n.loaded(limited, h, mark); err != nil {
		return n.notReloaded(ctx, h, err)
	}
	return nil
}

// newWorkers waits until a master has workers, and none that take connections of those before.
func (n *Nginx) newWorkers(ctx context.Context, h deploy.Host, master process, before []process) error {
	for {
		all, err := n.root().processes(ctx, h)
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
func (n *Nginx) notReloaded(ctx context.Context, h deploy.Host, cause error) error {
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

package balance

import (
	"context"
	"errors"
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
func (n *Tier) Push(ctx context.Context, state State, o PushOptions) (Pushed, error) {
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
	p := &push{Tier: n, files: files, live: live}
	if err := p.try(ctx); err != nil {
		return Pushed{Unchanged: p.pushed.Unchanged}, err
	}
	return p.bring(ctx)
}

// mayPush looks for everything that stands against a push, on every host.
func (n *Tier) mayPush(ctx context.Context, live []Live, files []File, o PushOptions) error {
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
		return n.engine().may(ctx, h, live[i])
	})
}

// push is one push on its way.
type push struct {
	*Tier
	files  []File
	live   []Live
	todo   []int // hosts that need it
	pushed Pushed
}

func (p *push) paths() []string { return pathsOf(p.files) }

func pathsOf(files []File) []string {
	paths := make([]string, len(files))
	for i, f := range files {
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
		return p.tryOn(ctx, h, p.live[i])
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

func (p *push) tryOn(ctx context.Context, h deploy.Host, l Live) error {
	for _, f := range p.files {
		if err := p.root().do(ctx, h, f.Content, stageScript, f.Path); err != nil {
			return err
		}
	}
	return p.engine().test(ctx, h, l, p.files)
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
	if err := p.engine().load(ctx, h, l, stamp); err != nil {
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
	before := templates.Stamp{Mark: l.Running}
	if len(l.Files) > 0 {
		before.Down, before.Warm = l.Files[0].Stamp.Down, l.Files[0].Stamp.Warm
	}
	if before.Mark == "" { // what it served before does not say which file it is, or nothing listened there
		before.Mark = noProbe
	}
	if err := p.engine().load(ctx, h, l, before); err != nil {
		return err
	}
	p.note(h, "the files of before are back, and loaded")
	return nil
}

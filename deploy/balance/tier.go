package balance

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
	"godeploy/templates"
)

// Tier is the balancer hosts of an environment, connected, of whatever kind they are. Look changes nothing;
// Push wants the lock of each host to be held, see Lock. Use it for one thing at a time.
type Tier struct {
	Env    *inventory.Env
	Hosts  []deploy.Host
	Report event.Reporter
	// Settle bounds the wait for the workers of a reload; 0 is half a minute.
	Settle time.Duration
}

// engine is one kind of balancer: what it does on one host. Tier does it on all of them, or on none.
type engine interface {
	// look says how the balancer of a host stands: all of a Live but its files, which it is given.
	look(ctx context.Context, h deploy.Host, l *Live) error
	// running gives the mark of what the workers of a host work by, "" when they do not say.
	running(ctx context.Context, h deploy.Host, files []LiveFile) string
	// may says what else stands against bringing files to a host.
	may(ctx context.Context, h deploy.Host, l Live) error
	// test lets the balancer of a host judge the files that are staged there, and touches no live one.
	test(ctx context.Context, h deploy.Host, l Live, files []File) error
	// load lets it work by the files that now lie in their places, and waits for the proof of it: the mark
	// of to, or just new workers where that is noProbe.
	load(ctx context.Context, h deploy.Host, l Live, to templates.Stamp) error
	// settled reports whether nothing on a host still works by what was before the last load.
	settled(ctx context.Context, h deploy.Host) (bool, error)
}

func (n *Tier) engine() engine {
	if n.Env.Balancer.Kind == "haproxy" {
		return haproxy{n}
	}
	return nginx{n}
}

func (n *Tier) root() root { return root{n.Env} }

// each does one thing on every host, all at once; every host's error counts.
func (n *Tier) each(ctx context.Context, do func(context.Context, int, deploy.Host) error) error {
	errs := make([]error, len(n.Hosts))
	var group errgroup.Group
	group.SetLimit(16)
	for i, h := range n.Hosts {
		group.Go(func() error {
			if errs[i] = context.Cause(ctx); errs[i] == nil {
				errs[i] = fault.OnHost(h.Inventory().Name, do(ctx, i, h))
			}
			return nil
		})
	}
	_ = group.Wait() // always nil
	return errors.Join(errs...)
}

// lockPatience is how long a lock is asked for again that somebody has: one that was just killed lets go
// within moments.
const lockPatience = 2 * time.Second

// Lock takes the app's lock on every host, in the order of their names, all or none: a host's Close lets go
// of it. Somebody else's is a fault of code lock-held.
func (n *Tier) Lock(ctx context.Context, holder wire.Holder) error {
	for _, h := range deploy.Sorted(n.Hosts) {
		deadline := time.Now().Add(lockPatience)
		held, err := h.Lock(ctx, holder)
		for err == nil && held != nil && time.Now().Before(deadline) {
			if err = deploy.Pause(ctx, lockPatience/10); err == nil {
				held, err = h.Lock(ctx, holder)
			}
		}
		if err != nil {
			return fault.OnHost(h.Inventory().Name, err)
		}
		if held != nil {
			return fault.New(fault.LockHeld, "%s is locked on %s by %s (%s)", n.Env.Name, h.Inventory().Name, held.Who, held.Command).
				On(h.Inventory().Name).Hint("the lock is held by a live run and ends with it").
				Try("godeploy status %s", n.Env.Name)
		}
	}
	return nil
}

func (n *Tier) note(h deploy.Host, format string, args ...any) {
	n.Report.Report(event.Event{Type: event.Info, Host: h.Inventory().Name, Phase: n.Env.Balancer.Kind, Msg: n.Env.Balancer.Kind + ": " + fault.New("", format, args...).Msg})
}

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
)

// Nginx is the nginx hosts of an environment, connected. Look changes nothing; Push wants the lock of each
// host to be held, see Lock. Use it for one thing at a time.
type Nginx struct {
	Env    *inventory.Env
	Hosts  []deploy.Host
	Report event.Reporter
	// Settle bounds the wait for the workers of a reload; 0 is half a minute.
	Settle time.Duration
}

func (n *Nginx) root() root { return root{n.Env} }

// each does one thing on every host, all at once; every host's error counts.
func (n *Nginx) each(ctx context.Context, do func(context.Context, int, deploy.Host) error) error {
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
func (n *Nginx) Lock(ctx context.Context, holder wire.Holder) error {
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

func (n *Nginx) note(h deploy.Host, format string, args ...any) {
	n.Report.Report(event.Event{Type: event.Info, Host: h.Inventory().Name, Phase: "nginx", Msg: "nginx: " + fault.New("", format, args...).Msg})
}

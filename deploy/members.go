package deploy

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// member is one host in the course of a run. Only the goroutine that works on the host at the moment
// changes it; phases are separated by waiting for all.
type member struct {
	Host
	name     string
	env      *inventory.Env // as this host sees it
	state    wire.State
	outcome  Outcome
	previous string // current before the run
	back     string // what an undo returns to: previous, unless that was never proven here
	now      string // current as far as is known
	failed   bool
	turned   bool          // had its turn, or needs none
	touched  bool          // current may have moved
	drained  *wire.Drained // why it is out of the balancer, nil when it is not
	unfit    bool          // was drained before the run, and did not serve well then
	ran      bool          // its service ran before its first release was switched to
	began    time.Time
	took     time.Duration
}

func newMembers(env *inventory.Env, hosts []Host) []*member {
	members := make([]*member, len(hosts))
	for i, h := range hosts {
		members[i] = &member{Host: h, name: h.Inventory().Name, env: env.On(h.Inventory()), outcome: Unchanged}
	}
	return members
}

// each does one thing on every member, at most parallel at a time, and waits for all: one host's
// failure never hides another's. The errors are joined in the order of the members.
func each(ctx context.Context, members []*member, parallel int, do func(context.Context, *member) error) error {
	errs := make([]error, len(members))
	var group errgroup.Group
	group.SetLimit(max(parallel, 1))
	for i, m := range members {
		group.Go(func() error {
			if errs[i] = context.Cause(ctx); errs[i] == nil {
				errs[i] = fault.OnHost(m.name, do(ctx, m))
			}
			return nil
		})
	}
	_ = group.Wait() // always nil
	return errors.Join(once(errs, context.Cause(ctx))...)
}

// once keeps an error that is the reason for all the others, an interruption, one time only.
func once(errs []error, cause error) []error {
	seen := false
	return slices.DeleteFunc(errs, func(err error) bool {
		if cause == nil || !errors.Is(err, cause) {
			return false
		}
		again := seen
		seen = true
		return again
	})
}

func names(members []*member) []string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = m.name
	}
	return list
}

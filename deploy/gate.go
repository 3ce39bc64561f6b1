package deploy

import (
	"context"

	"godeploy/internal/fault"
)

// Gate watches, after each wave, how the servers of the new release do beside those of the old one.
type Gate interface {
	// Watch returns when the new servers have met their goals for as long as they must, and with a fault of
	// code gate-failed when they do not. old may be empty: no server is left on the old release.
	Watch(ctx context.Context, front []Host, fresh, old []string) error
}

// bake lets the gate watch those hosts that serve the release and get requests.
func (r *run) bake(ctx context.Context) error {
	if r.Gate == nil {
		return nil
	}
	var fresh, old []string
	for _, m := range r.members {
		switch {
		case m.drained != nil:
		case m.outcome == Healthy && m.now == r.release.ID:
			fresh = append(fresh, m.name)
		case !m.turned && !m.out():
			old = append(old, m.name)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	return r.Gate.Watch(ctx, r.Front, fresh, old)
}

// gated reports whether an error says that the new release does worse than it may: whatever the number of
// failures that a run takes, it is not brought out any further.
func gated(err error) bool { return fault.Is(err, fault.GateFailed) }

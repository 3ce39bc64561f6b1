package deploy

import (
	"context"
	"errors"

	"godeploy/internal/fault"
)

// errTakenBack is why a release is undone that nothing was wrong with: whoever watched the canary said so.
var errTakenBack = errors.New("whoever watched the canary said so")

// pause asks after the first wave whether the release goes on, when that was wanted.
func (r *run) pause(ctx context.Context, wave []*member) error {
	if r.Canary == nil || r.Env.Release.Strategy != "canary" || len(r.standing().Pending) == 0 {
		return nil
	}
	goOn, err := r.Canary(ctx, names(wave), r.look)
	if err == nil && !goOn {
		err = fault.New(fault.Interrupted, "the release was taken back").Wrap(errTakenBack)
	}
	return err
}

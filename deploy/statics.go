package deploy

import (
	"context"

	"godeploy/internal/wire"
)

// Statics brings a release's static files to where the balancer serves them, so that a page of the new code
// finds its files wherever it is asked for.
type Statics interface {
	// Bring puts the files beside those of the releases before. It is asked once, when every host has the
	// release and none has switched to it; an error ends the run there.
	Bring(ctx context.Context, release wire.Release) error
	// Prune takes away what only releases need that nobody can go back to. It is asked when every host
	// serves the new release; it reports its own troubles, for the release stands.
	Prune(ctx context.Context)
}

// bringStatics is the last step before the first switch.
func (r *run) bringStatics(ctx context.Context) error {
	if r.Statics == nil {
		return nil
	}
	return r.Statics.Bring(ctx, r.release)
}

package cmd

import (
	"errors"
	"time"

	"godeploy/deploy"
)

// veil hides the secrets of a run from all outputs behind it, people's and machines' alike.
type veil struct {
	mask  *deploy.Mask
	sinks []sink
}

func (v veil) show(r record) {
	r.Event = v.mask.HideEvent(r.Event)
	for _, k := range v.sinks {
		k.show(r)
	}
}

func (v veil) tick(now time.Time) {
	for _, k := range v.sinks {
		k.tick(now)
	}
}

func (v veil) close() error {
	var all []error
	for _, k := range v.sinks {
		all = append(all, k.close())
	}
	return errors.Join(all...)
}

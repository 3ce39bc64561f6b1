package balance

import (
	"context"
	"fmt"
	"time"

	"godeploy/deploy"
	"godeploy/internal/event"
)

// warmSteps are the shares of its own weight that a server gets in turn, in hundredths, before it gets all.
func warmSteps() []int { return []int{10, 25, 50} }

// WarmIn puts a server back that is known to be well, with a part of its weight first that grows to the
// whole over a time. When it is stopped, the next command gives the server its own weight.
func (d *Drainer) WarmIn(ctx context.Context, front []deploy.Host, server string, over time.Duration) error {
	h, ok := d.Env.Host(server)
	if !ok || !d.Stands(server) {
		return nil
	}
	if err := d.know(ctx, front); err != nil {
		return err
	}
	steps := warmSteps()
	for _, share := range steps {
		weight := max(h.Weight*share/100, 1)
		if weight < h.Weight {
			if err := d.carry(ctx, front, d.meant.ramps(server, weight)); err != nil {
				return err
			}
			d.Report.Report(event.Event{Type: event.Info, Host: server, Phase: "drain",
				Msg: fmt.Sprintf("drain: in service again with weight %d of %d", weight, h.Weight)})
		}
		if err := deploy.Pause(ctx, over/time.Duration(len(steps))); err != nil {
			return err
		}
	}
	return d.PutBack(ctx, front, []string{server}, 0)
}

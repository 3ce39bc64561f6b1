package balance

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
)

// Watcher is [release] gate: it counts by the balancers' access logs, or their own counters, what new and old servers answer. It
// implements deploy.Gate, for one run.
type Watcher struct {
	Env    *inventory.Env
	Goals  []inventory.Goal
	Bake   time.Duration
	Report event.Reporter

	before Count // of the old servers, as they were when there were some last
}

var _ deploy.Gate = (*Watcher)(nil)

// readEvery is the time between two looks at the logs.
const readEvery = time.Second

// Watch implements deploy.Gate. What is beyond doubt ends it early.
func (w *Watcher) Watch(ctx context.Context, front []deploy.Host, fresh, old []string) error {
	servers, err := w.Env.Servers()
	if err != nil || len(w.Goals) == 0 {
		return err
	}
	ends := func(names []string) []netip.AddrPort {
		var list []netip.AddrPort
		for _, s := range servers {
			if slices.Contains(names, s.Name) {
				list = append(list, netip.AddrPortFrom(s.Address, uint16(s.Port)))
			}
		}
		return list
	}
	freshAt, oldAt := ends(fresh), ends(old)
	if len(freshAt) == 0 {
		return nil
	}
	answers, err := countingOf(ctx, w.Env, front)
	if err != nil {
		return err
	}
	w.Report.Report(event.Event{Type: event.Info, Phase: "gate", Hosts: fresh,
		Msg: "gate: " + strings.Join(fresh, ", ") + " watched for " + w.Bake.String() + ": " + w.Env.Release.Gate})
	counts, end := Counts{}, time.Now().Add(w.Bake)
	for {
		if err := deploy.Pause(ctx, min(readEvery, max(time.Until(end), 0))); err != nil {
			return err
		}
		if err := answers.more(ctx, counts); err != nil {
			return err
		}
		over := !time.Now().Before(end)
		if err := w.judge(counts.Of(freshAt), counts.Of(oldAt), fresh, !over); err != nil || over {
			return err
		}
	}
}

// judge gives the fault of a gate that was missed.
func (w *Watcher) judge(is, was Count, fresh []string, early bool) error {
	if was.Requests > 0 {
		w.before = was
	}
	found := JudgeGate(w.Goals, is, w.before, early)
	if broken := brokenOf(found); len(broken) > 0 {
		var goals []string
		for _, f := range broken {
			goals = append(goals, f.Goal.String())
		}
		e := fault.New(fault.GateFailed, "%s miss the gate: %s", strings.Join(fresh, ", "), strings.Join(goals, ", ")).On(fresh...)
		for _, f := range broken {
			e.Fact("%s: %s", f.Goal.Metric, f.Told)
		}
		return e.Hint("the figures are those of the balancers")
	}
	if !early {
		w.tell(found)
	}
	return nil
}

func (w *Watcher) tell(found []Finding) {
	for _, f := range found {
		e := event.Event{Type: event.Info, Phase: "gate", Msg: "gate: " + f.Goal.String() + " holds: " + f.Told}
		if f.Blind != "" {
			e.Type, e.Msg = event.Warn, "gate: "+f.Goal.String()+" was not judged: "+f.Blind
		}
		w.Report.Report(e)
	}
}

// tailsOf follows the logs of all hosts from so many bytes before their end.
func tailsOf(ctx context.Context, env *inventory.Env, front []deploy.Host, path string, before int64) ([]*tail, error) {
	tails := make([]*tail, len(front))
	var group errgroup.Group
	group.SetLimit(16)
	for i, h := range front {
		tails[i] = &tail{host: h, path: path}
		group.Go(func() error { return tails[i].end(ctx, root{env}, before) })
	}
	return tails, group.Wait()
}

// readAll reads on in all logs, piece by piece up to what was there when it began.
func readAll(ctx context.Context, env *inventory.Env, tails []*tail, take func(Request)) error {
	const pieces = 8 // what comes faster than it can be read is read the next time
	for _, t := range tails {
		for range pieces {
			n, err := t.read(ctx, root{env}, take)
			if err != nil {
				return err
			}
			if n < maxPiece/2 {
				break
			}
		}
	}
	return nil
}

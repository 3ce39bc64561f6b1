package deploy

import (
	"slices"

	"godeploy/inventory"
)

// Rollout decides which hosts switch next. It is plain data and does nothing itself.
type Rollout struct {
	Canary string          // switches first and alone; "" for none
	Batch  inventory.Batch // hosts at a time, or a ramp
	Total  int             // hosts of the fleet, of which Batch and Most are shares
	Most   int             // hosts that may be out of service at once; 0 is no bound
}

// rampShare is how much of a fleet a ramp may have out of service when the file does not say.
const rampShare = 25

// RolloutOf is the rollout that [release] asks for over a fleet of total hosts. Strategy "all", and a
// fleet of one, are the consent to take every host at once.
func RolloutOf(r inventory.Release, total int) Rollout {
	p := Rollout{Batch: r.Batch, Total: max(total, 1)}
	if r.Strategy == "canary" {
		p.Canary = r.Canary
	}
	switch {
	case r.Strategy == "all" || total <= 1:
		p.Batch = inventory.Batch{{N: 100, Percent: true}}
	case r.MaxUnavailable.N > 0:
		p.Most = r.MaxUnavailable.Of(total)
	case r.Batch.IsRamp():
		p.Most = inventory.Share{N: rampShare, Percent: true}.Of(total)
	default:
		p.Most = p.size(0)
	}
	return p
}

// Standing is how far a rollout has come.
type Standing struct {
	Pending []string // not switched yet, in file order
	Done    int      // hosts that serve the release
	// Out names the hosts that are out of service right now, whether they are pending or not: drained
	// or failed in this run or an earlier one, or not reachable.
	Out []string
	// Stay names those of Out that no turn brings back: somebody has drained them by hand.
	Stay []string
}

// Next gives the hosts that switch next: none when all have, or when no host can be spared. A host that
// is out of service already goes before those that serve, since its switch takes nothing away; also
// before the canary, when that one cannot be spared until then.
func (p Rollout) Next(s Standing) []string {
	isOut := func(host string) bool { return slices.Contains(s.Out, host) }
	spare := len(s.Pending)
	if p.Most > 0 {
		spare = max(p.Most-len(s.Out), 0)
	}
	if slices.Contains(s.Pending, p.Canary) && (spare > 0 || isOut(p.Canary)) {
		return []string{p.Canary}
	}
	wave := s.Pending
	if down := onlySome(wave, isOut); p.Most > 0 && len(down) > 0 {
		wave = down
	} else {
		wave = except(wave, func(host string) bool { return host == p.Canary && p.Most > 0 })
		wave = wave[:min(len(wave), spare)]
	}
	return slices.Clone(wave[:min(len(wave), p.size(s.Done))])
}

// size is how many hosts a wave may have when done hosts have switched: of a ramp, as many as are
// missing to the next share.
func (p Rollout) size(done int) int {
	if len(p.Batch) == 0 {
		return 1
	}
	if !p.Batch.IsRamp() {
		return p.Batch[0].Of(p.Total)
	}
	for _, share := range p.Batch {
		if target := share.Of(p.Total); target > done {
			return target - done
		}
	}
	return p.Total
}

// Plan gives all waves as they come when nothing fails, and the hosts that no wave may take because too
// many are out of service.
func (p Rollout) Plan(s Standing) (waves [][]string, stuck []string) {
	for {
		wave := p.Next(s)
		if len(wave) == 0 {
			return waves, s.Pending
		}
		waves = append(waves, wave)
		taken := func(host string) bool { return slices.Contains(wave, host) }
		back := func(host string) bool { return taken(host) && !slices.Contains(s.Stay, host) }
		s = Standing{Pending: except(s.Pending, taken), Out: except(s.Out, back), Stay: s.Stay, Done: s.Done + len(wave)}
	}
}

func onlySome(list []string, want func(string) bool) []string {
	return except(list, func(s string) bool { return !want(s) })
}

func except(list []string, drop func(string) bool) []string {
	return slices.DeleteFunc(slices.Clone(list), drop)
}

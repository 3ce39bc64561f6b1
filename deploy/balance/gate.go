package balance

import (
	"fmt"
	"math"
	"time"

	"godeploy/inventory"
)

// Finding is what came of one goal.
type Finding struct {
	Goal inventory.Goal
	// Broken: the new servers miss the goal, by more than chance explains.
	Broken bool
	// Blind says why the goal cannot be judged: too few requests, or no old server to compare with.
	Blind string
	Told  string // the figures, for people
}

const (
	// fewest is how many requests of each side a comparison of times needs.
	fewest = 50
	// sure is how many standard deviations above its limit a share must lie at the end of the watch.
	sure = 2
	// soon is the same before the end: a release that is clearly broken is not watched any longer.
	soon = 4
)

// JudgeGate compares new servers with old ones. early is for a look before the end of the watch: it finds
// only what is beyond doubt. A limit of its own that the old servers miss too is judged by them: a release
// is not to blame for a database that is away, and must not be kept from mending it.
func JudgeGate(goals []inventory.Goal, fresh, old Count, early bool) []Finding {
	var list []Finding
	for _, g := range goals {
		f := Finding{Goal: g}
		switch g.Metric {
		case "5xx":
			f.share(fresh.Failed, fresh.Requests, old.Failed, old.Requests, early)
		case "4xx":
			f.share(fresh.Refused, fresh.Requests, old.Refused, old.Requests, early)
		default:
			f.time(fresh, old, early)
		}
		list = append(list, f)
	}
	return list
}

// share judges how many answers of all were bad.
func (f *Finding) share(bad, all, oldBad, oldAll int, early bool) {
	f.Told = fmt.Sprintf("%s of %d requests, old servers %s of %d", percent(bad, all), all, percent(oldBad, oldAll), oldAll)
	limit := f.Goal.Share
	switch {
	case all == 0:
		f.Blind = "no request came"
		return
	case f.Goal.Times > 0 && oldAll == 0:
		f.Blind = "no request came to an old server"
		return
	case f.Goal.Times > 0:
		limit = f.Goal.Times * likely(oldBad, oldAll)
	case oldAll > 0:
		limit = max(limit, float64(oldBad)/float64(oldAll))
	}
	sigmas := float64(sure)
	if early {
		sigmas = soon
	}
	expected := limit * float64(all)
	f.Broken = float64(bad) > expected+sigmas*math.Sqrt(max(expected, 0.25)) && bad > 1
}

// likely is a share, where none were bad as if half of one had been: a multiple of nothing would let no
// bad answer pass.
func likely(bad, all int) float64 { return max(float64(bad), 0.5) / float64(all) }

// time judges how long answers took.
func (f *Finding) time(fresh, old Count, early bool) {
	q := map[string]float64{"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}[f.Goal.Metric]
	is, was := fresh.Quantile(q), old.Quantile(q)
	f.Told = fmt.Sprintf("%s over %d requests, old servers %s over %d", short(is), fresh.Requests, short(was), old.Requests)
	limit := f.Goal.Took
	switch {
	case fresh.Requests < fewest:
		f.Blind = fmt.Sprintf("fewer than %d requests came", fewest)
		return
	case f.Goal.Times > 0 && old.Requests < fewest:
		f.Blind = fmt.Sprintf("fewer than %d requests came to the old servers", fewest)
		return
	case f.Goal.Times > 0:
		limit = time.Duration(f.Goal.Times * float64(was))
	case old.Requests >= fewest:
		limit = max(limit, was)
	}
	if early { // workers that have just begun are slow at first
		return
	}
	// A bucket's width is no difference, nor is one of two milliseconds.
	f.Broken = float64(is) > float64(limit)*growth && is-limit > 2*time.Millisecond
}

func percent(n, of int) string {
	if of == 0 {
		return "none"
	}
	return fmt.Sprintf("%.2f%%", 100*float64(n)/float64(of))
}

func short(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }

// brokenOf gives those goals that were missed.
func brokenOf(list []Finding) []Finding {
	var broken []Finding
	for _, f := range list {
		if f.Broken {
			broken = append(broken, f)
		}
	}
	return broken
}

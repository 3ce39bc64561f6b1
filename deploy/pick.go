package deploy

import (
	"slices"
	"strconv"
	"strings"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// Prunable picks what may go so that at most keep releases stay beside a newer one: never previous,
// never one in use, and never the last healthy one. Failed and unfinished releases go first, so that
// they push no good one out. releases are sorted by sequence number.
func Prunable(releases []wire.Release, keep int, previous string, inUse ...string) []string {
	var gone []string
	healthy := 0
	left := len(releases)
	for _, one := range releases {
		if one.Mark == wire.MarkHealthy {
			healthy++
		}
	}
	drop := func(good bool) {
		for _, one := range releases {
			isGood := one.Mark == wire.MarkHealthy
			if left <= keep || isGood != good || one.ID == previous || slices.Contains(inUse, one.ID) || (good && healthy <= 1) {
				continue
			}
			gone, left = append(gone, one.ID), left-1
			if good {
				healthy--
			}
		}
	}
	drop(false)
	drop(true)
	return gone
}

// Fallback picks what a host returns to when a run fails: what it has now. When that was never proven
// there, since the run that brought it was killed, or is not there any more, it is the proven release
// before it, if there is one. "" where current leads nowhere and nothing is left to go back to.
func Fallback(s wire.State) string {
	now, ok := find(s, s.Current)
	if !s.Dangling && (!ok || !doubted(now)) {
		return s.Current
	}
	if before, has := find(s, now.Previous); has && before.Mark == wire.MarkHealthy {
		return before.ID
	}
	for _, one := range slices.Backward(s.Releases) {
		if one.Mark == wire.MarkHealthy && (!ok || one.Seq < now.Seq) {
			return one.ID
		}
	}
	if s.Dangling {
		return ""
	}
	return s.Current
}

// doubted reports whether a release that is current was never seen to serve. One without a mark was
// brought by other means, and nothing speaks against it.
func doubted(one wire.Release) bool { return one.Mark != wire.MarkHealthy && one.Mark != "" }

// Target picks the release that a rollback goes to: one that is named, one ~N steps back, or the
// healthy one before what most hosts have now. Every host must have it. states are per host, in file
// order; each is sorted by sequence number.
func Target(names []string, states []wire.State, ask string) (wire.Release, error) {
	if ValidID(ask) {
		return named(names, states, ask)
	}
	steps, err := distance(ask)
	if err != nil {
		return wire.Release{}, err
	}
	now := latestCurrent(states)
	candidates := common(states, now)
	if len(candidates) < steps {
		return wire.Release{}, fault.New(fault.RollbackNone, "there is no healthy release %s before %s on every host", backWord(steps), orNone(now.ID)).
			Hint("a release can be gone back to while every host still has it; [app] keep says how many stay").
			Try("godeploy releases")
	}
	return candidates[len(candidates)-steps], nil
}

func named(names []string, states []wire.State, id string) (wire.Release, error) {
	var lacking []string
	var found wire.Release
	for i, s := range states {
		one, ok := find(s, id)
		if !ok {
			lacking = append(lacking, names[i])
			continue
		}
		if err := unfit(one, names[i]); err != nil {
			return found, err
		}
		found = one
	}
	if len(lacking) > 0 {
		return found, fault.New(fault.ReleaseUnknown, "release %s is not on %s", id, strings.Join(lacking, ", ")).
			On(lacking...).Try("godeploy releases")
	}
	return found, nil
}

// unfit says why a release that is there cannot be gone to: its record on that host speaks against it.
func unfit(one wire.Release, host string) error {
	why := ""
	switch one.Mark {
	case wire.MarkBad:
		why = "was marked bad: it failed when it was brought out"
	case wire.MarkStaged:
		why = "was sent but never finished: its hooks and checks may not have run"
	default:
		return nil
	}
	return fault.New(fault.RollbackNone, "release %s %s", one.ID, why).On(host).Try("godeploy releases")
}

// distance reads "", "~1", "~2", …
func distance(ask string) (int, error) {
	if ask == "" {
		return 1, nil
	}
	n, err := strconv.Atoi(strings.TrimPrefix(ask, "~"))
	if !strings.HasPrefix(ask, "~") || err != nil || n < 1 || n > 1000 {
		return 0, fault.New(fault.Usage, "%q is neither a release id nor a distance such as ~1", ask).
			Try("godeploy releases")
	}
	return n, nil
}

// latestCurrent is the newest of the releases that hosts have as current.
func latestCurrent(states []wire.State) wire.Release {
	var latest wire.Release
	for _, s := range states {
		if one, ok := find(s, s.Current); ok && one.Seq > latest.Seq {
			latest = one
		}
	}
	return latest
}

// common gives the releases older than now that are on every host and healthy on each, oldest first.
func common(states []wire.State, now wire.Release) []wire.Release {
	if len(states) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(states[0].Releases), func(one wire.Release) bool {
		if one.Seq >= now.Seq {
			return true
		}
		for _, s := range states {
			if has, ok := find(s, one.ID); !ok || has.Mark != wire.MarkHealthy {
				return true
			}
		}
		return false
	})
}

func backWord(steps int) string {
	if steps == 1 {
		return "to go back to"
	}
	return strconv.Itoa(steps) + " steps back"
}

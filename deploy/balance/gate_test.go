package balance

import (
	"testing"
	"time"

	"godeploy/inventory"
)

// counted is a Count of n requests of which some failed, each of which took so long.
func counted(n, failed int, took time.Duration) Count {
	var c Count
	for i := range n {
		status := 200
		if i < failed {
			status = 500
		}
		c.Add(Try{Status: status, Took: took})
	}
	return c
}

func TestGate(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		gate          string
		fresh, old    Count
		broken, blind bool
		early         bool
	}{
		"2 % of 500s":                         {gate: "5xx < 0.5%", fresh: counted(1000, 20, ms), old: counted(3000, 0, ms), broken: true},
		"2 % of 500s, soon":                   {gate: "5xx < 0.5%", fresh: counted(1000, 20, ms), old: counted(3000, 0, ms), broken: true, early: true},
		"below the limit":                     {gate: "5xx < 0.5%", fresh: counted(1000, 4, ms), old: counted(3000, 0, ms)},
		"a little above may be chance":        {gate: "5xx < 0.5%", fresh: counted(1000, 7, ms), old: counted(3000, 0, ms)},
		"no doubt at the end, some before":    {gate: "5xx < 0.5%", fresh: counted(1000, 12, ms), old: counted(3000, 0, ms), broken: true},
		"some doubt before the end":           {gate: "5xx < 0.5%", fresh: counted(1000, 12, ms), old: counted(3000, 0, ms), early: true},
		"one bad answer is none":              {gate: "5xx < 0.5%", fresh: counted(3, 1, ms), old: counted(3, 0, ms)},
		"few requests, all bad":               {gate: "5xx < 0.5%", fresh: counted(4, 4, ms), broken: true},
		"the old ones are as bad":             {gate: "5xx < 0.5%", fresh: counted(1000, 50, ms), old: counted(1000, 48, ms)},
		"the old ones are bad, this is worse": {gate: "5xx < 0.5%", fresh: counted(1000, 150, ms), old: counted(1000, 48, ms), broken: true},
		"no request":                          {gate: "5xx < 0.5%", old: counted(1000, 0, ms), blind: true},
		"twice the old ones":                  {gate: "5xx < 2x", fresh: counted(1000, 40, ms), old: counted(1000, 10, ms), broken: true},
		"not quite twice":                     {gate: "5xx < 2x", fresh: counted(1000, 18, ms), old: counted(1000, 10, ms)},
		"a multiple of nothing":               {gate: "5xx < 2x", fresh: counted(1000, 2, ms), old: counted(1000, 0, ms)},
		"a multiple of nobody":                {gate: "5xx < 2x", fresh: counted(1000, 20, ms), blind: true},
		"slower":                              {gate: "p95 < 1.5x", fresh: counted(100, 0, 40*ms), old: counted(100, 0, 20*ms), broken: true},
		"slower, which may end":               {gate: "p95 < 1.5x", fresh: counted(100, 0, 40*ms), old: counted(100, 0, 20*ms), early: true},
		"as fast":                             {gate: "p95 < 1.5x", fresh: counted(100, 0, 22*ms), old: counted(100, 0, 20*ms)},
		"faster than can be told":             {gate: "p95 < 1.5x", fresh: counted(100, 0, 2*ms), old: counted(100, 0, ms)},
		"too few to tell":                     {gate: "p95 < 1.5x", fresh: counted(10, 0, 40*ms), old: counted(100, 0, 20*ms), blind: true},
		"nobody to compare with":              {gate: "p95 < 1.5x", fresh: counted(100, 0, 40*ms), blind: true},
		"a time of its own":                   {gate: "p95 < 30ms", fresh: counted(100, 0, 40*ms), old: counted(100, 0, 20*ms), broken: true},
		"a time that the old ones miss":       {gate: "p95 < 30ms", fresh: counted(100, 0, 40*ms), old: counted(100, 0, 45*ms)},
	} {
		goals, err := inventory.ParseGate(c.gate)
		if err != nil {
			t.Fatal(err)
		}
		got := JudgeGate(goals, c.fresh, c.old, c.early)[0]
		if got.Broken != c.broken || (got.Blind != "") != c.blind || got.Told == "" {
			t.Errorf("%s: got %+v, want broken %v, blind %v", name, got, c.broken, c.blind)
		}
	}
}

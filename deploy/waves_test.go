package deploy

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"godeploy/inventory"
)

// sizes reads "1", "25%" or "1 30% 100%".
func sizes(t interface{ Fatal(...any) }, text string) inventory.Batch {
	var b inventory.Batch
	for _, word := range strings.Fields(text) {
		var s inventory.Share
		if err := s.UnmarshalText([]byte(word)); err != nil {
			t.Fatal(err)
		}
		b = append(b, s)
	}
	return b
}

func TestWaves(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		hosts    string
		strategy string
		batch    string
		most     string // max_unavailable
		out      string
		want     string
		stuck    string
	}{
		{"one at a time", "a b c", "rolling", "1", "", "", "a|b|c", ""},
		{"two at a time", "a b c", "rolling", "2", "", "", "a b|c", ""},
		{"a share", "a b c d e f g h", "rolling", "25%", "", "", "a b|c d|e f|g h", ""},
		{"all at once", "a b c", "all", "1", "", "", "a b c", ""},
		{"one host is its own consent", "a", "rolling", "1", "1", "", "a", ""},
		{"more than there are", "a b", "rolling", "9", "", "", "a b", ""},
		{"never more than max_unavailable", "a b c d", "rolling", "3", "2", "", "a b|c d", ""},
		{"canary first and alone", "a b c d", "canary c", "2", "", "", "c|a b|d", ""},
		{"canary not chosen", "a b", "canary z", "2", "", "", "a b", ""},
		{"a ramp", "a b c d e f g h i j", "rolling", "1 30% 100%", "10", "", "a|b c|d e f g h i j", ""},
		{"a ramp takes a quarter at most", "a b c d e f g h i j", "rolling", "1 30% 100%", "", "", "a|b c|d e|f g|h i|j", ""},
		{"a canary and a ramp", "a b c d", "canary d", "2 100%", "4", "", "d|a|b c", ""},
		{"what is out goes first", "a b c", "rolling", "1", "", "c", "c|a|b", ""},
		{"what is out takes nothing away", "a b c d", "rolling", "2", "2", "c d", "c d|a b", ""},
		{"one that is out elsewhere takes from the rest", "a b c", "rolling", "2", "2", "x", "a|b|c", ""},
		{"none can be spared", "a b", "rolling", "1", "", "x", "", "a b"},
		{"only the one that is out may go", "a b", "rolling", "1", "", "x a", "a", "b"},
		{"what is out goes before a canary that cannot be spared", "a b c", "canary a", "1", "", "b", "b|a|c", ""},
		{"a canary that can be spared goes first", "a b c", "canary a", "1", "2", "b", "a|b|c", ""},
		{"no hosts", "", "rolling", "2", "", "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			strategy, canary, _ := strings.Cut(tt.strategy, " ")
			r := inventory.Release{Strategy: strategy, Canary: canary, Batch: sizes(t, tt.batch)}
			if tt.most != "" {
				r.MaxUnavailable = sizes(t, tt.most)[0]
			}
			hosts := strings.Fields(tt.hosts)
			waves, stuck := RolloutOf(r, len(hosts)).Plan(Standing{Pending: hosts, Out: strings.Fields(tt.out)})
			var parts []string
			for _, wave := range waves {
				parts = append(parts, strings.Join(wave, " "))
			}
			if got := strings.Join(parts, "|"); got != tt.want || strings.Join(stuck, " ") != tt.stuck {
				t.Errorf("got %q and %v stuck, want %q and %q", got, stuck, tt.want, tt.stuck)
			}
		})
	}
}

// Whatever the file says and whichever hosts are out or fail for good on the way: no host has two turns,
// no more hosts are out of service than allowed, and when nothing fails every host has its turn.
func TestARolloutKeepsItsPromises(t *testing.T) {
	t.Parallel()
	batches := []string{"1", "2", "5", "1%", "25%", "50%", "100%", "1 30% 100%", "2 50% 100%", "1 2 3 100%", "10% 100%"}
	names := strings.Fields("a b c d e f g h i j k l")
	rapid.Check(t, func(rt *rapid.T) {
		hosts := names[:rapid.IntRange(0, len(names)).Draw(rt, "hosts")]
		r := inventory.Release{
			Strategy: rapid.SampledFrom([]string{"rolling", "canary"}).Draw(rt, "strategy"),
			Canary:   rapid.SampledFrom(names).Draw(rt, "canary"),
			Batch:    sizes(rt, rapid.SampledFrom(batches).Draw(rt, "batch")),
		}
		if rapid.Bool().Draw(rt, "bound") {
			r.MaxUnavailable = sizes(rt, rapid.SampledFrom([]string{"1", "2", "4", "25%", "100%"}).Draw(rt, "most"))[0]
		}
		p := RolloutOf(r, len(hosts))
		s := Standing{Pending: slices.Clone(hosts), Out: onlySome(names, func(string) bool { return rapid.IntRange(0, 9).Draw(rt, "out") == 0 })}
		before := slices.Clone(s.Out)
		for turns := 0; ; turns++ {
			wave := p.Next(s)
			if len(wave) == 0 {
				break
			}
			taken := func(h string) bool { return slices.Contains(wave, h) }
			if len(onlySome(s.Pending, taken)) != len(wave) || turns > len(hosts) {
				rt.Fatalf("wave %v of pending %v", wave, s.Pending)
			}
			away := len(except(wave, func(h string) bool { return slices.Contains(s.Out, h) }))
			if p.Most > 0 && away > 0 && len(s.Out)+away > p.Most {
				rt.Fatalf("%v beside %v out, of %d allowed", wave, s.Out, p.Most)
			}
			if slices.Contains(wave, p.Canary) && len(wave) > 1 && p.Most > 0 {
				rt.Fatalf("the canary goes with %v", wave)
			}
			s.Pending = except(s.Pending, taken)
			for _, h := range wave {
				s.Out = except(s.Out, func(o string) bool { return o == h })
				if rapid.IntRange(0, 4).Draw(rt, "fate") == 0 {
					s.Out = append(s.Out, h)
				} else {
					s.Done++
				}
			}
		}
		if len(s.Pending) > 0 && p.Most == 0 || len(s.Pending) > 0 && len(s.Out) < p.Most && len(before) < p.Most {
			rt.Fatalf("%v left, %v out of %d allowed", s.Pending, s.Out, p.Most)
		}
	})
}

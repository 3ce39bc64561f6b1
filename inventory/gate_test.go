package inventory

import (
	"testing"
	"time"
)

func TestParseGate(t *testing.T) {
	t.Parallel()
	got, err := ParseGate(" 5xx < 0.5%, p95<1.5x ,p99 < 800ms, 4xx < 2x, p50 < 1.5s")
	want := []Goal{{Metric: "5xx", Share: 0.005}, {Metric: "p95", Times: 1.5}, {Metric: "p99", Took: 800 * time.Millisecond},
		{Metric: "4xx", Times: 2}, {Metric: "p50", Took: 1500 * time.Millisecond}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("got %v, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
		if again, err := ParseGate(got[i].String()); err != nil || again[0] != got[i] {
			t.Errorf("%s reads back as %v, %v", got[i], again, err)
		}
	}
	if got, err := ParseGate("  "); err != nil || got != nil {
		t.Errorf("nothing: got %v, %v", got, err)
	}
	for _, bad := range []string{"5xx", "5xx > 1%", "5xx < 0%", "5xx < 101%", "5xx < 3ms", "p95 < 3%", "p95 < -1x", "p95 < 1e3ms", "p96 < 1x",
		"5xx < 1%,", "5xx < 1%, 5xx < 2%", "p95 < 1.5x; rm -rf /", "rps < 3x"} {
		if got, err := ParseGate(bad); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
	if _, err := ParseGate("p95 < 1.5x, p95 < 300ms"); err != nil {
		t.Errorf("one limit of each kind: %v", err)
	}
}

// FuzzParseGate: it never panics, and what it reads is what it writes.
func FuzzParseGate(f *testing.F) {
	f.Add("5xx < 0.5%, p95 < 1.5x")
	f.Add("p99 < 800ms")
	f.Fuzz(func(t *testing.T, text string) {
		goals, err := ParseGate(text)
		if err != nil {
			return
		}
		for _, g := range goals {
			if again, err := ParseGate(g.String()); err != nil || len(again) != 1 || again[0].Metric != g.Metric {
				t.Errorf("%q gives %s, which reads as %v, %v", text, g, again, err)
			}
		}
	})
}

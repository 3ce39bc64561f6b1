package balance

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestReadRequest(t *testing.T) {
	t.Parallel()
	const head = `203.0.113.100 - - [2026-11-23T20:00:00+00:00] "GET / HTTP/1.1" 200 12 "-" "curl"`
	cases := map[string]string{
		head + ` upstream="10.0.0.1:9000" upstream_status="200" upstream_time="0.012" time=0.013 at=1795464000.123`:                "[{10.0.0.1:9000 200 12ms}]",
		head + ` upstream="10.0.0.1:9000, 10.0.0.2:9000" upstream_status="502, 200" upstream_time="0.000, 0.020" time=0.02 at=1.5`: "[{10.0.0.1:9000 502 0s} {10.0.0.2:9000 200 20ms}]",
		head + ` upstream="10.0.0.1:9000 : [2001:db8::1]:9000" upstream_status="200 : -" upstream_time="0.001 : -" time=0.02 at=1`: "[{10.0.0.1:9000 200 1ms} {[2001:db8::1]:9000 0 0s}]",
		head + ` upstream="-" upstream_status="-" upstream_time="-" time=0.000 at=1795464000.123`:                                  "[]",
		head + ` upstream="swiper_servers" upstream_status="502" upstream_time="0.000" time=0.000 at=1`:                            "[]",
		// what a client sends is escaped by nginx, so that the last one counts
		`1.2.3.4 - - "GET / upstream=\x221.1.1.1:80\x22 at=9" upstream="10.0.0.1:9000" upstream_status="500" upstream_time="0.001" time=0 at=2`: "[{10.0.0.1:9000 500 1ms}]",
	}
	for line, want := range cases {
		r, ok := ReadRequest([]byte(line + "\n"))
		if got := fmt.Sprint(r.Tries); !ok || got != want {
			t.Errorf("%s\n got %s, %v, want %s", line, got, ok, want)
		}
	}
	r, _ := ReadRequest([]byte(head + ` upstream="-" upstream_status="-" upstream_time="-" time=0.000 at=1795464000.123`))
	if want := time.UnixMilli(1795464000123); !r.At.Equal(want) {
		t.Errorf("at %v, want %v", r.At, want)
	}
	for _, bad := range []string{"", head, head + ` upstream="10.0.0.1:9000"`, head + ` upstream="x" upstream_status="1" upstream_time="1"`,
		head + ` upstream="x" upstream_status="1" upstream_time="1" time=1 at=NaN`, head + ` upstream="x" upstream_status="1" upstream_time="1" time=1 at=-1`} {
		if r, ok := ReadRequest([]byte(bad)); ok {
			t.Errorf("%q: got %+v", bad, r)
		}
	}
}

// FuzzReadRequest: no line makes it panic, and what it counts is bounded by the line.
func FuzzReadRequest(f *testing.F) {
	f.Add([]byte(`x upstream="10.0.0.1:9000, 10.0.0.2:1" upstream_status="502, 200" upstream_time="0.000, 0.020" time=0.02 at=1.5`))
	f.Add([]byte(` upstream="" upstream_status="" upstream_time="" at=0`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, ok := ReadRequest(line)
		if !ok {
			return
		}
		if !bytes.Contains(line, []byte(` upstream="`)) || len(r.Tries) > maxTries {
			t.Errorf("%q gives %+v", line, r)
		}
		c := Counts{}
		c.Add(r)
		for s, one := range c {
			if one.Requests < one.Failed+one.Refused || one.Quantile(0.99) <= 0 {
				t.Errorf("%q: %s counts %d, %d, %d", line, s, one.Requests, one.Failed, one.Refused)
			}
		}
	})
}

func TestCountsAreRightToATwentieth(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var c Count
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(random.ExpFloat64() * float64(40*time.Millisecond))
		all = append(all, d)
		c.Add(Try{Status: 200, Took: d})
	}
	slices.Sort(all)
	for _, q := range []float64{0.5, 0.9, 0.95, 0.99} {
		exact := all[int(q*10_000)-1]
		if got := c.Quantile(q); got < exact || float64(got) > float64(exact)*growth*1.001 {
			t.Errorf("p%g: got %v, want %v", q*100, got, exact)
		}
	}
	a, b := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:1")
	counts := Counts{}
	counts.Add(Request{Tries: []Try{{Server: a, Status: 502}, {Server: b, Status: 404}}})
	counts.Add(Request{Tries: []Try{{Server: a}}})
	if sum := counts.Of([]netip.AddrPort{a, b}); sum.Requests != 3 || sum.Failed != 2 || sum.Refused != 1 {
		t.Errorf("got %d, %d, %d", sum.Requests, sum.Failed, sum.Refused)
	}
	if (&Count{}).Quantile(0.5) != 0 {
		t.Error("nothing took some time")
	}
}

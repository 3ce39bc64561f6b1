package balance

import (
	"bytes"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Request is what one line of the access log says of a request: the servers it was given to, in order,
// with the answer of each. One that was answered from a file was given to none.
type Request struct {
	At    time.Time
	Tries []Try
}

// Try is one server's part in a request.
type Try struct {
	Server netip.AddrPort
	Status int // 0 when the server gave no answer
	Took   time.Duration
}

const (
	maxLogLine = 64 << 10
	maxTries   = 64
)

// ReadRequest reads a line of the access log that is written with templates.NginxLogTail; ok is false for
// any other line. nginx never writes a quote that came from a client, so what a client sends cannot pass
// for the tail.
func ReadRequest(line []byte) (r Request, ok bool) {
	if len(line) > maxLogLine {
		return r, false
	}
	begin := bytes.LastIndex(line, []byte(` upstream="`))
	if begin < 0 {
		return r, false
	}
	fields := map[string]string{}
	rest := string(line[begin:])
	for _, name := range []string{"upstream", "upstream_status", "upstream_time"} {
		value, after, found := quoted(rest, name)
		if !found {
			return r, false
		}
		fields[name], rest = value, after
	}
	_, at, found := strings.Cut(rest, " at=")
	seconds, err := strconv.ParseFloat(strings.TrimSpace(at), 64)
	if !found || err != nil || !(seconds >= 0 && seconds < 1<<33) {
		return r, false
	}
	r.At = time.UnixMilli(int64(math.Round(seconds * 1000)))
	r.Tries = tries(parts(fields["upstream"]), parts(fields["upstream_status"]), parts(fields["upstream_time"]))
	return r, true
}

// quoted takes ` name="value"` off the front.
func quoted(text, name string) (value, rest string, ok bool) {
	after, ok := strings.CutPrefix(text, " "+name+`="`)
	if !ok {
		return "", "", false
	}
	return strings.Cut(after, `"`)
}

// parts splits what nginx joins: by ", " for the servers tried one after the other, and by " : " where an
// internal redirect began anew.
func parts(value string) []string {
	if value == "" || value == "-" {
		return nil
	}
	return strings.Split(strings.ReplaceAll(value, " : ", ", "), ", ")
}

func tries(servers, statuses, times []string) []Try {
	var list []Try
	for i, server := range servers {
		at, err := netip.ParseAddrPort(server)
		if err != nil || len(list) == maxTries { // the name of the upstream: no server was left to try
			continue
		}
		t := Try{Server: at}
		if i < len(statuses) {
			t.Status, _ = strconv.Atoi(statuses[i]) // "-" is no answer
		}
		if i < len(times) {
			if s, err := strconv.ParseFloat(times[i], 64); err == nil && s >= 0 && s < 1<<30 {
				t.Took = time.Duration(s * float64(time.Second))
			}
		}
		list = append(list, t)
	}
	return list
}

// Count sums what one server, or several, did. The zero Count is ready for use.
type Count struct {
	Requests int
	Failed   int // answers from 500 on, and none at all
	Refused  int // answers from 400 to 499
	times    [buckets]int
}

// The answer times are counted in buckets that grow by a twentieth each: what is told of them is right to
// that, whatever their number.
const (
	buckets = 400
	growth  = 1.05
)

// Add counts one try.
func (c *Count) Add(t Try) {
	c.Requests++
	switch {
	case t.Status >= 500 || t.Status == 0:
		c.Failed++
	case t.Status >= 400:
		c.Refused++
	}
	c.times[bucket(t.Took)]++
}

// Join adds what another Count has.
func (c *Count) Join(o Count) {
	c.Requests += o.Requests
	c.Failed += o.Failed
	c.Refused += o.Refused
	for i, n := range o.times {
		c.times[i] += n
	}
}

func bucket(d time.Duration) int {
	ms := float64(d) / float64(time.Millisecond)
	if ms <= 1 {
		return 0
	}
	return min(int(math.Ceil(math.Log(ms)/math.Log(growth))), buckets-1)
}

// Quantile is the time within which that share of the requests was answered, 0 without any. What took
// less than a millisecond counts as one.
func (c *Count) Quantile(q float64) time.Duration {
	if c.Requests == 0 {
		return 0
	}
	rank, seen := int(math.Ceil(q*float64(c.Requests))), 0
	for i, n := range c.times {
		if seen += n; seen >= max(rank, 1) {
			return time.Duration(math.Pow(growth, float64(i)) * float64(time.Millisecond))
		}
	}
	return time.Duration(math.Pow(growth, buckets-1) * float64(time.Millisecond))
}

// Counts is what the balancers say of each server.
type Counts map[netip.AddrPort]*Count

// Add counts all tries of a request.
func (c Counts) Add(r Request) {
	for _, t := range r.Tries {
		c.of(t.Server).Add(t)
	}
}

// of gives the count of one server, to be added to.
func (c Counts) of(server netip.AddrPort) *Count {
	one := c[server]
	if one == nil {
		one = &Count{}
		c[server] = one
	}
	return one
}

// Of sums the counts of some servers.
func (c Counts) Of(servers []netip.AddrPort) Count {
	var sum Count
	for _, s := range servers {
		if one := c[s]; one != nil {
			sum.Join(*one)
		}
	}
	return sum
}

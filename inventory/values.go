package inventory

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Rate is bytes a second; 0 is no limit.
type Rate int64

// UnmarshalText reads "0", "500KiB/s", "20MB/s" or "1.5GB/s"; a bare number other than 0 is refused.
func (r *Rate) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if s == "0" {
		*r = 0
		return nil
	}
	units := []struct {
		suffix string
		factor float64
	}{
		{"KiB/s", 1 << 10}, {"MiB/s", 1 << 20}, {"GiB/s", 1 << 30},
		{"kB/s", 1e3}, {"KB/s", 1e3}, {"MB/s", 1e6}, {"GB/s", 1e9}, {"B/s", 1},
	}
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(n*u.factor >= 1 && n*u.factor <= 1e15) {
			break
		}
		*r = Rate(n * u.factor)
		return nil
	}
	return badValue(`is not a rate such as "20MB/s", "500KiB/s" or "0"`)
}

// String gives the rate in a form that UnmarshalText reads.
func (r Rate) String() string {
	switch {
	case r == 0:
		return "0"
	case r%1e6 == 0:
		return fmt.Sprintf("%dMB/s", r/1e6)
	case r%(1<<10) == 0:
		return fmt.Sprintf("%dKiB/s", r>>10)
	}
	return fmt.Sprintf("%dB/s", int64(r))
}

// Share is a number of hosts (or files), or a percentage of them. The zero Share is "not set".
type Share struct {
	N       int
	Percent bool
}

// UnmarshalText reads a number from 1 up, or a percentage from "1%" to "100%".
func (s *Share) UnmarshalText(text []byte) error {
	number, percent := strings.CutSuffix(string(text), "%")
	limit := 100_000
	if percent {
		limit = 100
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > limit || number[0] == '+' {
		return badValue(`must be a number such as "2", or a percentage from "1%%" to "100%%"`)
	}
	*s = Share{N: n, Percent: percent}
	return nil
}

// Of gives how many of total it is: at least 1, at most total, percentages rounded down.
func (s Share) Of(total int) int {
	n := s.N
	if s.Percent {
		n = total * s.N / 100
	}
	return min(max(n, 1), max(total, 1))
}

// String gives "2", "25%", or "" when not set.
func (s Share) String() string {
	switch {
	case s.N == 0:
		return ""
	case s.Percent:
		return strconv.Itoa(s.N) + "%"
	}
	return strconv.Itoa(s.N)
}

// Batch is the size of a wave, or, with more than one entry, a ramp: the share of the fleet on the
// new release after each wave.
type Batch []Share

// IsRamp reports whether the batch is a ramp.
func (b Batch) IsRamp() bool { return len(b) > 1 }

// String gives the batch as the file has it.
func (b Batch) String() string {
	if len(b) == 1 {
		return b[0].String()
	}
	parts := make([]string, len(b))
	for i, s := range b {
		parts[i] = s.String()
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// WaveSize gives how many of total hosts may be worked on at once: the batch, but never more than
// max_unavailable; all of them with strategy all. A ramp counts with its first entry.
func (r Release) WaveSize(total int) int {
	if r.Strategy == "all" || len(r.Batch) == 0 {
		return max(total, 1)
	}
	size := r.Batch[0].Of(total)
	if r.MaxUnavailable.N > 0 {
		size = min(size, r.MaxUnavailable.Of(total))
	}
	return size
}

// StatusRange is a set of HTTP statuses.
type StatusRange []StatusSpan

// StatusSpan is the statuses from From to To, both included.
type StatusSpan struct{ From, To int }

// UnmarshalText reads "200", "200-299" or "200,204,300-399".
func (r *StatusRange) UnmarshalText(text []byte) error {
	var spans StatusRange
	for part := range strings.SplitSeq(string(text), ",") {
		low, high, ranged := strings.Cut(strings.TrimSpace(part), "-")
		if !ranged {
			high = low
		}
		from, err := strconv.Atoi(low)
		to, err2 := strconv.Atoi(high)
		if err != nil || err2 != nil || from < 100 || to > 599 || from > to {
			return badValue(`must be HTTP statuses from 100 to 599, such as "200-299" or "200,204"`)
		}
		spans = append(spans, StatusSpan{from, to})
	}
	*r = spans
	return nil
}

// Has reports whether the status is in the set.
func (r StatusRange) Has(status int) bool {
	for _, s := range r {
		if s.From <= status && status <= s.To {
			return true
		}
	}
	return false
}

// String gives the set in a form that UnmarshalText reads.
func (r StatusRange) String() string {
	parts := make([]string, len(r))
	for i, s := range r {
		parts[i] = strconv.Itoa(s.From)
		if s.To != s.From {
			parts[i] += "-" + strconv.Itoa(s.To)
		}
	}
	return strings.Join(parts, ",")
}

// Workers is a number of workers, PerCPU times the CPUs of the host plus Fixed. The zero Workers is
// "not set".
type Workers struct{ PerCPU, Fixed int }

// UnmarshalText reads "4", "cpu", "2*cpu" or "2*cpu+1".
func (w *Workers) UnmarshalText(text []byte) error {
	s := strings.ReplaceAll(string(text), " ", "")
	bad := badValue(`must be a number of workers such as 4, or "2*cpu+1"`)
	factor, rest, isCPU := strings.Cut(s, "cpu")
	fixed := factor
	got := Workers{}
	if isCPU {
		got.PerCPU, fixed = 1, strings.TrimPrefix(rest, "+")
		if factor != "" {
			n, err := strconv.Atoi(strings.TrimSuffix(factor, "*"))
			if err != nil || !strings.HasSuffix(factor, "*") || n < 1 || n > 64 {
				return bad
			}
			got.PerCPU = n
		}
		if rest == "" {
			*w = got
			return nil
		}
	}
	n, err := strconv.ParseUint(fixed, 10, 16)
	if err != nil || n > 1024 || (!isCPU && n == 0) || (isCPU && rest[0] != '+') {
		return bad
	}
	got.Fixed = int(n)
	*w = got
	return nil
}

// Of gives the number of workers on a host with so many CPUs; 0 when not set.
func (w Workers) Of(cpus int) int { return w.PerCPU*cpus + w.Fixed }

// String gives the number in a form that UnmarshalText reads, "" when not set.
func (w Workers) String() string {
	switch {
	case w == Workers{}:
		return ""
	case w.PerCPU == 0:
		return strconv.Itoa(w.Fixed)
	case w.Fixed == 0:
		return fmt.Sprintf("%d*cpu", w.PerCPU)
	}
	return fmt.Sprintf("%d*cpu+%d", w.PerCPU, w.Fixed)
}

// Chain is one way to a host: the hosts to go through, outermost first.
type Chain []string

// UnmarshalText reads "gate" or "gate,ngx1".
func (c *Chain) UnmarshalText(text []byte) error {
	var chain Chain
	for part := range strings.SplitSeq(string(text), ",") {
		name := strings.TrimSpace(part)
		if err := checkHostName(name); err != nil {
			return badValue(`must be names of hosts, a chain being one string such as "gate,ngx1"`)
		}
		chain = append(chain, name)
	}
	if len(chain) > maxChain {
		return badValue("has more than %d hosts in one chain", maxChain)
	}
	*c = chain
	return nil
}

// String gives the chain as the file has it.
func (c Chain) String() string { return strings.Join(c, ",") }

// Sysctl is the value of a kernel setting: a number, or words.
type Sysctl string

// UnmarshalText reads a value of one line.
func (s *Sysctl) UnmarshalText(text []byte) error {
	if err := checkLine(string(text)); err != nil {
		return err
	}
	if len(text) == 0 || len(text) > 4096 {
		return badValue("must be a number or words")
	}
	*s = Sysctl(text)
	return nil
}

// parseDuration reads "10s", "1m30s"; a unit is needed, even for "0s".
func parseDuration(text string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return 0, badValue("needs a unit").hinted("write \"%ss\"", text)
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, badValue(`must be a time such as "500ms", "10s" or "1m30s"`)
	}
	return d, nil
}

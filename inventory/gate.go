package inventory

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Goal is one condition of [release] gate: new servers stay below a limit.
type Goal struct {
	Metric string // 5xx, 4xx: share of the answers; p50, p90, p95, p99: time of an answer
	// Times is the limit as a multiple of what the old servers show, 0 for a limit of its own.
	Times float64
	Share float64       // limit of a share, 0 to 1
	Took  time.Duration // limit of a time
}

// String writes the goal as it stands in the file.
func (g Goal) String() string {
	switch {
	case g.Times > 0:
		return fmt.Sprintf("%s < %gx", g.Metric, g.Times)
	case g.Took > 0:
		return fmt.Sprintf("%s < %s", g.Metric, g.Took)
	}
	return fmt.Sprintf("%s < %g%%", g.Metric, g.Share*100)
}

// maxGoals is how many goals one gate may have.
const maxGoals = 16

// ParseGate reads goals such as "5xx < 0.5%, p95 < 1.5x, p99 < 800ms"; an empty text has none. The error
// is the rest of a sentence about the text.
func ParseGate(text string) ([]Goal, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var goals []Goal
	for part := range strings.SplitSeq(text, ",") {
		g, err := parseGoal(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(goals, func(o Goal) bool { return o.Metric == g.Metric && (o.Times > 0) == (g.Times > 0) }) {
			return nil, badValue("has two goals for %s", g.Metric)
		}
		if goals = append(goals, g); len(goals) > maxGoals {
			return nil, badValue("has more than %d goals", maxGoals)
		}
	}
	return goals, nil
}

func parseGoal(text string) (Goal, error) {
	m := regexp.MustCompile(`^(5xx|4xx|p50|p90|p95|p99)\s*<\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)(%|x|ms|s)$`).FindStringSubmatch(text)
	if m == nil {
		return Goal{}, badValue(`has %q, which is no goal`, text).hinted(`a goal is written like "5xx < 0.5%%", "p95 < 1.5x" or "p99 < 800ms"`)
	}
	g := Goal{Metric: m[1]}
	n, err := strconv.ParseFloat(m[2], 64)
	if err != nil || n <= 0 {
		return Goal{}, badValue("has %q, whose limit is not above 0", text)
	}
	share := strings.HasSuffix(g.Metric, "xx")
	switch unit := m[3]; {
	case unit == "x":
		g.Times = n
	case share && unit == "%" && n <= 100:
		g.Share = n / 100
	case !share && unit == "ms":
		g.Took = time.Duration(n * float64(time.Millisecond))
	case !share && unit == "s":
		g.Took = time.Duration(n * float64(time.Second))
	default:
		return Goal{}, badValue("has %q, whose unit does not fit", text).hinted("a share is in %% of at most 100, a time in ms or s, either in x as a multiple of the old servers")
	}
	return g, nil
}

func checkGate(s string) error {
	_, err := ParseGate(s)
	return err
}

package cmd

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"godeploy/internal/event"
)

// state is what the live display knows of a run. learn changes it, frame draws it; neither does I/O.
type state struct {
	start, now time.Time
	phases     []phaseState
	hosts      []hostState
}

type phaseState struct {
	name, text  string
	began       time.Time
	took        time.Duration
	ended, fail bool
}

type hostState struct {
	name, text  string
	began       time.Time
	took        time.Duration
	ended       bool
	result      string
	done, total int64 // of what is not counted in bytes
	pace        pace  // of what is
}

func (s *state) learn(e event.Event) {
	s.now = e.Time
	switch e.Type {
	case event.PhaseStart:
		s.phases = append(s.phases, phaseState{name: e.Phase, text: strings.TrimPrefix(cleanLine(e.Msg), e.Phase+": "), began: e.Time})
		s.resetHosts(e.Hosts)
	case event.PhaseEnd:
		s.endPhase(e)
	case event.RunStart, event.RunEnd:
		for _, h := range e.Hosts {
			s.host(h)
		}
	}
	if e.Host != "" {
		s.host(e.Host).learn(e)
	}
}

func (s *state) endPhase(e event.Event) {
	for i := range s.phases {
		p := &s.phases[i]
		if p.name == e.Phase && !p.ended {
			p.ended, p.fail = true, e.Result == "failed" || e.Error != ""
			p.took = time.Duration(e.MS) * time.Millisecond
			if e.Msg != "" {
				p.text = strings.TrimPrefix(strings.TrimPrefix(cleanLine(e.Msg), e.Phase+" ok: "), e.Phase+": ")
			}
		}
	}
}

// resetHosts starts a phase: what hosts said in the one before is told by its line. A phase that names
// its hosts is about those alone.
func (s *state) resetHosts(named []string) {
	if len(named) > 0 {
		s.hosts = nil
	}
	for i := range s.hosts {
		s.hosts[i] = hostState{name: s.hosts[i].name}
	}
	for _, h := range named {
		s.host(h)
	}
}

func (s *state) host(name string) *hostState {
	i := slices.IndexFunc(s.hosts, func(h hostState) bool { return h.name == name })
	if i < 0 {
		s.hosts = append(s.hosts, hostState{name: name})
		i = len(s.hosts) - 1
	}
	return &s.hosts[i]
}

func (h *hostState) learn(e event.Event) {
	if h.began.IsZero() {
		h.began = e.Time
	}
	switch e.Type {
	case event.Progress:
		if e.Unit == "bytes" {
			h.pace.learn(e)
			break
		}
		h.done, h.total = e.Done, e.Total
	case event.HostEnd:
		h.ended, h.result, h.took = true, e.Result, time.Duration(e.MS)*time.Millisecond
	case event.CmdOutput:
		return // scrolls above, if it is shown at all
	}
	if text := strings.TrimPrefix(cleanLine(e.Msg), e.Phase+": "); text != "" {
		h.text = text
	} else if e.Type == event.CmdStart {
		h.text = cleanLine(e.Command)
	}
}

// marks are the signs in front of a line; they stand first, since some terminals draw them two columns wide.
type marks struct{ done, failed, undone, active, waiting string }

func (l look) marks() marks {
	if l.ascii {
		return marks{"+", "x", "<", "*", "."}
	}
	return marks{"✓", "✗", "↺", "●", "·"}
}

// frame draws the region for a terminal of that size: phases first, then the hosts of the phase at hand.
func frame(s *state, l look, cols, rows int) []string {
	var out []string
	for _, p := range s.phases {
		if pace := s.pace(); !p.ended && pace != "" {
			p.text = joined(": ", p.text, pace)
		}
		out = append(out, p.line(s.now, l, cols))
	}
	if !s.busy() {
		return out
	}
	room := min(12, rows-len(out)-3)
	hosts := s.shown(room, l, cols)
	if len(hosts) > 0 {
		out = append(out, "")
		out = append(out, hosts...)
	}
	return out[max(0, len(out)-max(1, rows-1)):]
}

// busy reports whether a phase is under way, or none has begun while hosts do something.
func (s *state) busy() bool {
	n := len(s.phases)
	return n == 0 || !s.phases[n-1].ended || s.phases[n-1].fail
}

func (p phaseState) line(now time.Time, l look, cols int) string {
	m := l.marks()
	mark, took := l.paint(yellow, m.active), now.Sub(p.began)
	if p.ended {
		mark, took = l.paint(green, m.done), p.took
	}
	if p.fail {
		mark = l.paint(red, m.failed)
	}
	return row("  ", mark, fmt.Sprintf("%-8s %s", p.name, p.text), took, cols)
}

// row is indent, mark, text and, at the right edge, the time it took.
func row(indent, mark, text string, took time.Duration, cols int) string {
	width := min(cols, 78)
	room := max(8, width-len(indent)-2-9)
	return strings.TrimRight(fmt.Sprintf("%s%s %s %7s", indent, mark, pad(fit(text, room+1), room), brief(took)), " ")
}

// brief is a duration in at most seven columns.
func brief(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
}

// shown draws hosts in so many lines: all of them if they fit, else the active and the failed ones first
// and a count of the rest.
func (s *state) shown(room int, l look, cols int) []string {
	if room < 1 || !slices.ContainsFunc(s.hosts, hostState.begun) {
		return nil
	}
	names := 0
	for _, h := range s.hosts {
		names = max(names, len(h.name))
	}
	var out []string
	done, waiting := 0, 0
	all := len(s.hosts) <= room
	for _, h := range s.hosts {
		switch {
		case all || (h.matters() && len(out) < room-1):
			out = append(out, h.line(s.now, l, names, cols))
		case h.ended:
			done++
		default:
			waiting++
		}
	}
	if !all {
		out = append(out, fit(fmt.Sprintf("    +%d done, %d waiting or not shown", done, waiting), cols))
	}
	return out
}

func (h hostState) begun() bool { return !h.began.IsZero() }

// matters: a person looks for hosts that work or have failed.
func (h hostState) matters() bool { return h.begun() && (!h.ended || !h.well()) }

func (h hostState) well() bool { return h.result == "ok" || h.result == "unchanged" || h.result == "" }

func (h hostState) line(now time.Time, l look, names, cols int) string {
	mark, took, text := h.mark(l), h.took, h.text
	if h.begun() && !h.ended {
		took = now.Sub(h.began)
	}
	if !h.begun() {
		text = "waiting"
	}
	if h.pace.total > 0 && !h.ended {
		text = joined(" ", text, h.pace.text(now))
	}
	if h.total > 0 && !h.ended {
		text = fmt.Sprintf("%s %d%%", text, 100*h.done/h.total)
	}
	return row("    ", mark, pad(clean(h.name), names)+"  "+text, took, cols)
}

func (h hostState) mark(l look) string {
	m := l.marks()
	switch {
	case !h.begun():
		return m.waiting
	case !h.ended:
		return l.paint(yellow, m.active)
	case h.result == "rolled_back":
		return l.paint(yellow, m.undone)
	case h.well():
		return l.paint(green, m.done)
	default:
		return l.paint(red, m.failed)
	}
}

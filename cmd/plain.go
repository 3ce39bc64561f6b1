package cmd

import (
	"fmt"
	"io"
	"strings"
	"time"

	"godeploy/internal/event"
)

// heartbeat is how long plain output stays silent at most: CI systems kill jobs that say nothing.
const heartbeat = 15 * time.Second

// plain prints one line per event: clock, host, text. No carriage return, no colour in the middle:
// `grep ' app3 '` and a diff of two logs work.
type plain struct {
	w     io.Writer
	look  look
	start time.Time
	width int       // of the host column
	spoke time.Time // the last line
	doing doing
	err   error
}

// doing remembers what is under way, for the heartbeat.
type doing struct {
	phase string
	hosts map[string]string // host to its step
}

func newPlain(w io.Writer, l look, start time.Time) *plain {
	return &plain{w: w, look: l, start: start, width: 1, spoke: start, doing: doing{hosts: map[string]string{}}}
}

func (p *plain) show(r record) {
	p.learn(r.Event)
	text := spoken(r.Event, p.look)
	if text == "" || r.machines {
		return
	}
	for _, l := range lines(text, 100) {
		p.line(r.Time, r.Host, l)
	}
}

// learn keeps the width of the host column and what is under way.
func (p *plain) learn(e event.Event) {
	p.width = max(p.width, len(e.Host))
	for _, h := range e.Hosts {
		p.width = max(p.width, len(h))
	}
	switch e.Type {
	case event.PhaseStart:
		p.doing.phase = e.Phase
	case event.PhaseEnd:
		clear(p.doing.hosts)
	case event.HostEnd, event.CmdEnd:
		delete(p.doing.hosts, e.Host)
	case event.HostStart, event.CmdStart, event.Connect:
		if e.Host != "" {
			p.doing.hosts[e.Host] = stepOf(e)
		}
	}
}

func stepOf(e event.Event) string {
	switch {
	case e.Step != "":
		return e.Step
	case e.Phase != "":
		return e.Phase
	case e.Type == event.Connect:
		return "connect"
	default:
		return "work"
	}
}

// spoken is what an event says at the verbosity asked for, "" for nothing.
func spoken(e event.Event, l look) string {
	if l.quiet && e.Type != event.Error && e.Type != event.RunEnd {
		return ""
	}
	if l.terse && !oneOf(string(e.Type), []string{string(event.Warn), string(event.Error), string(event.Interrupt)}) {
		return ""
	}
	switch e.Type {
	case event.Error:
		return "ERROR " + joined(": ", e.Code, orElse(e.Msg, e.Error))
	case event.Warn:
		return "WARN " + joined(" ", e.Msg, hinted(e.Hint))
	case event.CmdStart:
		return atLeast(l.verbose, 1, orElse(e.Msg, "$ "+e.Command))
	case event.CmdOutput:
		return atLeast(l.verbose, 2, "| "+e.Text)
	default:
		return e.Msg
	}
}

func hinted(hint string) string {
	if hint == "" {
		return ""
	}
	return "(" + hint + ")"
}

func atLeast(verbose, level int, text string) string {
	if verbose < level {
		return ""
	}
	return text
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// joined is strings.Join without the empty ones.
func joined(sep string, parts ...string) string {
	var all []string
	for _, p := range parts {
		if p != "" {
			all = append(all, p)
		}
	}
	return strings.Join(all, sep)
}

func (p *plain) line(at time.Time, host, text string) {
	if p.err != nil {
		return
	}
	_, p.err = fmt.Fprintf(p.w, "%s %-*s  %s\n", clock(at.Sub(p.start)), p.width, orElse(clean(host), "-"), text)
	p.spoke = at
}

// clock is MM:SS, and the minutes go on counting: a column that changes its width half-way is worse.
func clock(d time.Duration) string {
	s := max(0, int(d.Seconds()))
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}

// tick says that work goes on, when nothing else did for a while.
func (p *plain) tick(now time.Time) {
	if !p.look.quiet && !p.look.terse && now.Sub(p.spoke) >= heartbeat {
		p.line(now, "", "still working"+p.doing.text())
	}
}

func (d doing) text() string {
	var all []string
	for host, step := range d.hosts {
		all = append(all, host+" "+step)
	}
	switch {
	case len(all) > 0:
		return ": " + someOf(sorted(all), 3)
	case d.phase != "":
		return ": " + d.phase
	default:
		return ""
	}
}

func (p *plain) close() error { return p.err }

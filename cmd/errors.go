package cmd

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"godeploy/internal/event"
	"godeploy/internal/fault"
)

const (
	maxFacts     = 5 // lines of evidence of one error
	hostsInError = 4 // hosts named in one error
)

// errorText draws every fault of err, the same cause on many hosts as one.
func (c *call) errorText(err error) string {
	if err == nil || isSilent(err) {
		return ""
	}
	l := c.looks()
	var b strings.Builder
	for i, f := range gather(c.nearby(fault.All(err))) {
		if i > 0 {
			b.WriteString("\n")
		}
		drawFault(&b, f, l)
		if l.mode == "github" {
			b.WriteString(githubAnnotation(f))
		}
	}
	return b.String()
}

// nearby writes places in files as a person in this folder would: godeploy.toml:12, not /home/…; and
// nothing of what is secret.
func (c *call) nearby(all []*fault.Error) []*fault.Error {
	var out []*fault.Error
	for _, f := range all {
		near := *c.mask.HideFault(f)
		near.Pos.File = c.relative(f.Pos.File)
		out = append(out, &near)
	}
	return out
}

// relative shortens a path to one from the working folder.
func (c *call) relative(path string) string {
	if !filepath.IsAbs(path) {
		return path
	}
	if rel, err := filepath.Rel(c.sys.Dir, path); err == nil && len(rel) < len(path) {
		return rel
	}
	return path
}

// isSilent reports whether err is nothing but an exit code.
func isSilent(err error) bool {
	var o *outcome
	return errors.As(err, &o) && o.Err == nil
}

// gather joins faults that differ in nothing but their hosts, and keeps the order.
func gather(all []*fault.Error) []*fault.Error {
	var out []*fault.Error
	for _, f := range all {
		i := slices.IndexFunc(out, func(g *fault.Error) bool { return sameCause(g, f) })
		if i < 0 {
			joint := *f
			joint.Hosts, joint.Facts, joint.Next = slices.Clone(f.Hosts), slices.Clone(f.Facts), slices.Clone(f.Next)
			out = append(out, &joint)
			continue
		}
		merge(out[i], f)
	}
	return out
}

// sameCause compares what a reader would do about two faults: the messages may differ in the hosts'
// names, and the evidence in anything.
func sameCause(a, b *fault.Error) bool {
	return a.Code == b.Code && len(a.Hosts) > 0 && len(b.Hosts) > 0 && a.Pos == b.Pos &&
		withoutHosts(a.Msg, a.Hosts) == withoutHosts(b.Msg, b.Hosts) && a.Cause == b.Cause
}

// withoutHosts takes the host off the front of a message, and its address in brackets behind it.
func withoutHosts(msg string, hosts []string) string {
	for _, h := range hosts {
		rest, ok := strings.CutPrefix(msg, h)
		if !ok {
			continue
		}
		if place, after, ok := strings.Cut(rest, ") "); ok && strings.HasPrefix(place, " (") {
			return after
		}
		if rest, ok = strings.CutPrefix(rest, ": "); ok {
			return rest
		}
		if rest, ok = strings.CutPrefix(strings.TrimPrefix(msg, h), " "); ok {
			return rest
		}
	}
	return msg
}

// merge adds a fault with the same cause. Evidence that differs is kept, with its host in front.
func merge(into, f *fault.Error) {
	if !slices.Equal(into.Facts, f.Facts) {
		if len(into.Hosts) == 1 {
			into.Facts = ofHost(into.Hosts[0], into.Facts)
		}
		into.Facts = append(into.Facts, ofHost(f.Hosts[0], f.Facts)...)
	}
	for _, h := range f.Hosts {
		if !slices.Contains(into.Hosts, h) {
			into.Hosts = append(into.Hosts, h)
		}
	}
	for _, n := range f.Next {
		if !slices.Contains(into.Next, n) && len(into.Next) < 3 {
			into.Next = append(into.Next, n)
		}
	}
}

func ofHost(host string, facts []string) []string {
	var out []string
	for _, f := range facts {
		out = append(out, host+": "+f)
	}
	return out
}

// headline is the message with the hosts in front, whatever way the fault names them.
func headline(f *fault.Error) string {
	text := f.Msg
	if f.Err != nil {
		text = joined(": ", text, f.Err.Error())
	}
	text = cleanLine(text)
	if len(f.Hosts) == 0 || (len(f.Hosts) == 1 && strings.Contains(text, f.Hosts[0])) {
		return text
	}
	return clean(someOf(f.Hosts, hostsInError)) + ": " + withoutHosts(text, f.Hosts)
}

// drawFault writes the form of docs/errors.md: what happened, facts, where, hint, try.
func drawFault(b *strings.Builder, f *fault.Error, l look) {
	b.WriteString(l.paint(red, "error["+string(f.Code)+"]") + ": " + headline(f) + "\n")
	for _, line := range factLines(f.Facts) {
		b.WriteString("  " + line + "\n")
	}
	for _, where := range []string{f.Pos.String(), f.Place} {
		if where != "" {
			b.WriteString("  where: " + cleanLine(where) + "\n")
		}
	}
	if f.Cause != "" {
		b.WriteString("  hint: " + cleanLine(f.Cause) + "\n")
	}
	for i, n := range f.Next {
		lead := "  try:  "
		if i > 0 {
			lead = "        "
		}
		b.WriteString(lead + l.paint(bold, cleanLine(n)) + "\n")
	}
}

// factLines keeps at most five lines; the picture of a config error is one fact of several lines and
// counts once.
func factLines(facts []string) []string {
	var out []string
	for i, f := range facts {
		if i == maxFacts {
			out = append(out, plural(len(facts)-maxFacts, "more line"))
			break
		}
		out = append(out, lines(f, 12)...)
	}
	return out
}

// faultEvent is a fault as an event, for the machine's outputs.
func faultEvent(f *fault.Error) event.Event {
	e := event.Event{
		Type: event.Error, Code: string(f.Code), Msg: headline(f), Hosts: f.Hosts, Facts: f.Facts,
		Hint: f.Cause, Next: f.Next, File: f.Pos.File, Line: f.Pos.Line, Column: f.Pos.Col, Step: f.Place,
	}
	if len(f.Hosts) == 1 {
		e.Host, e.Hosts = f.Hosts[0], nil
	}
	return e
}

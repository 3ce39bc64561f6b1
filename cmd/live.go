package cmd

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"godeploy/internal/event"

	"github.com/mattn/go-runewidth"
)

// live draws a small region that is repainted in place: phases, and the hosts of the phase at hand.
// What must be kept scrolls above it. At the end the region stays as plain text: it is what gets
// pasted into a chat.
type live struct {
	w     io.Writer
	look  look
	size  func() (int, int)
	state state
	above bytes.Buffer // lines to scroll above with the next paint
	drawn []string     // the region as it stands on the terminal
	err   error
}

func newLive(w io.Writer, l look, size func() (int, int), start time.Time) *live {
	if size == nil {
		size = func() (int, int) { return 80, 24 }
	}
	return &live{w: w, look: l, size: size, state: state{start: start, now: start}}
}

func (v *live) show(r record) {
	if r.machines {
		return
	}
	v.state.learn(r.Event)
	if text := v.scrolls(r.Event); text != "" {
		cols, _ := v.size()
		for _, l := range lines(text, 100) {
			fmt.Fprintln(&v.above, fit(joined("  ", clean(r.Host), l), cols))
		}
	}
}

// scrolls is the text of events that the region does not show.
func (v *live) scrolls(e event.Event) string {
	if e.Type == event.Info && e.Host != "" && v.look.verbose == 0 {
		return "" // the host's own line shows it
	}
	switch e.Type {
	case event.Warn, event.Info, event.CmdStart, event.CmdOutput, event.Interrupt, event.RunStart, event.RunEnd, event.PlanHost, event.PlanFile:
		return spoken(e, v.look)
	case event.Error:
		return spoken(e, v.look)
	default:
		return ""
	}
}

// tick repaints; the story calls it ten times a second.
func (v *live) tick(now time.Time) {
	v.state.now = now
	v.paint(now)
}

func (v *live) paint(time.Time) {
	cols, rows := v.size()
	next := frame(&v.state, v.look, cols, rows)
	var out bytes.Buffer
	repaint(&out, v.drawn, next, v.above.String())
	v.above.Reset()
	v.drawn = next
	if out.Len() > 0 && v.err == nil {
		_, v.err = v.w.Write(out.Bytes())
	}
}

// close leaves the last frame where it is.
func (v *live) close() error {
	v.paint(v.state.now)
	return v.err
}

// repaint writes what turns the region before into the region after: the cursor stands at the start of
// the line below the region, before and after. Lines that stay the same are not written again.
func repaint(out *bytes.Buffer, before, after []string, above string) {
	if above == "" && slices.Equal(before, after) {
		return
	}
	if n := len(before); n > 0 {
		fmt.Fprintf(out, "\x1b[%dA", n)
	}
	for line := range strings.Lines(above) {
		out.WriteString("\x1b[K" + line)
	}
	for i, line := range after {
		if above == "" && i < len(before) && before[i] == line {
			out.WriteString("\n")
			continue
		}
		out.WriteString(line + "\x1b[K\n")
	}
	if above != "" || len(after) < len(before) {
		out.WriteString("\x1b[J")
	}
}

// fit cuts text to so many columns of a terminal.
func fit(text string, cols int) string {
	if displayWidth(text) < cols {
		return text
	}
	return runewidth.Truncate(text, max(1, cols-1), "~")
}

// pad fills text with spaces up to so many columns.
func pad(text string, cols int) string { return runewidth.FillRight(text, cols) }

// displayWidth is the number of columns that text takes on a terminal.
func displayWidth(text string) int { return runewidth.StringWidth(text) }

package cmd

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"godeploy/internal/event"
)

// maxSummary bounds what is added to a job's summary: GitHub drops one of more than 1 MiB whole.
const maxSummary = 64 << 10

// actions adds a run to the summary of a GitHub job and names its result for the steps behind it. It is a
// sink; a path of "" is not written.
type actions struct {
	summary, output string

	start  event.Event
	errors []event.Event
	end    event.Event
}

// forActions gives the sink of a run in a GitHub job, nil elsewhere and for commands that only ask.
func (c *call) forActions() []sink {
	if l := c.looks(); l.mode != "github" || l.terse {
		return nil
	}
	return []sink{&actions{summary: c.sys.Env("GITHUB_STEP_SUMMARY"), output: c.sys.Env("GITHUB_OUTPUT")}}
}

func (a *actions) show(r record) {
	switch r.Type {
	case event.RunStart:
		a.start = r.Event
	case event.Error:
		if len(a.errors) < 20 {
			a.errors = append(a.errors, r.Event)
		}
	case event.RunEnd:
		a.end = r.Event
	}
}

func (a *actions) tick(time.Time) {}

func (a *actions) close() error {
	if err := appendText(a.summary, a.page()); err != nil {
		return err
	}
	return appendText(a.output, a.results())
}

// results are the lines of GITHUB_OUTPUT. A value is one line, whatever it holds.
func (a *actions) results() string {
	exit := ""
	if a.end.Exit != nil {
		exit = fmt.Sprint(*a.end.Exit)
	}
	return fmt.Sprintf("release=%s\nstatus=%s\nexit=%s\n", cleanLine(a.end.Release), cleanLine(a.end.Result), exit)
}

// page is the table of a run, in Markdown.
func (a *actions) page() string {
	sign := "✗"
	if a.end.Exit != nil && *a.end.Exit == exitDone {
		sign = "✓"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "**%s %s → %s: %s %s** · %s · by `%s`\n\n", sign, cell(a.start.App), cell(a.start.Env), cell(a.start.Command),
		cell(strings.ReplaceAll(a.end.Result, "_", " ")), took(time.Duration(a.end.MS)*time.Millisecond), cell(a.start.User))
	if len(a.end.Outcomes) > 0 {
		b.WriteString("| host | now | release |\n|---|---|---|\n")
	}
	for _, host := range slices.Sorted(maps.Keys(a.end.Outcomes)) {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(host), cell(a.end.Outcomes[host]), cell(a.serves(host)))
	}
	for _, e := range a.errors {
		fmt.Fprintf(&b, "\n- `%s` %s", cell(e.Code), cell(joined(": ", e.Host, e.Msg)))
	}
	text := b.String() + "\n"
	if len(text) > maxSummary {
		cut := strings.LastIndexByte(text[:maxSummary-64], '\n')
		text = text[:cut+1] + "\n(the rest stands in the log)\n"
	}
	return text
}

// serves names what a host serves after the run.
func (a *actions) serves(host string) string {
	for release, hosts := range a.end.Fleet {
		if slices.Contains(hosts, host) {
			return release
		}
	}
	return ""
}

// cell is text that is nothing but text in a cell of Markdown.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;", "`", "'", "*", `\*`, "[", `\[`).Replace(cleanLine(text))
}

// appendText adds to a file that GitHub has made.
func appendText(path, text string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// Package hooks runs the user's own commands: on the servers in the folder of the release at hand,
// and on the operator's machine before and after a run. It knows what a hook is told (GODEPLOY_*),
// how long it may take and what is kept of its output; where it runs is a Runner's business.
package hooks

import (
	"context"
	"fmt"
	"strings"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
)

// Hook is one command of the [hooks] table.
type Hook struct {
	Name    string        // release, once, after, … : the key it stands under
	Run     string        // text for /bin/sh -c
	User    string        // run as this user; "" is whoever the Runner logs in as
	Timeout time.Duration // 0 means no limit of its own
	Keep    bool          // it starts a daemon: leave its children alone when it has ended
}

// Command is what a Runner is asked to run by /bin/sh -c.
type Command struct {
	Shell   string
	Dir     string
	Env     map[string]string
	User    string
	Timeout time.Duration
	Keep    bool
}

// Ended says how a command ended. Exit is -1 when a signal ended it.
type Ended struct {
	Exit     int
	Signal   string
	TimedOut bool
	Took     time.Duration
}

// Runner runs a command somewhere and gives its output as it comes; stream is "stdout" or "stderr".
// The error is about running it at all: a command that ran and failed is told by Ended.
type Runner interface {
	Run(ctx context.Context, c Command, output func(stream string, p []byte)) (Ended, error)
}

// Place says for whom a hook runs; it goes into every event about it.
type Place struct {
	Host  string // "" on the operator's machine
	Phase string
	Dir   string
	Env   map[string]string
}

// tailLines is how much of a failing hook's output stands in its error.
const tailLines = 4

// Run runs one hook to its end and reports its start, its output by lines and its end. A hook that
// fails is a fault with the last lines of its output; one that ran out of time is HookTimeout.
func Run(ctx context.Context, h Hook, at Place, run Runner, report event.Reporter) error {
	report.Report(event.Event{Type: event.CmdStart, Host: at.Host, Phase: at.Phase, Step: h.Name, Command: h.Run})
	tail := newTail(tailLines)
	lines := newLines(func(stream, line string) {
		tail.add(line)
		report.Report(event.Event{Type: event.CmdOutput, Host: at.Host, Phase: at.Phase, Step: h.Name, Stream: stream, Text: line})
	})
	began := time.Now()
	ended, err := run.Run(ctx, Command{
		Shell: h.Run, Dir: at.Dir, Env: at.Env, User: h.User, Timeout: h.Timeout, Keep: h.Keep,
	}, lines.write)
	lines.flush()
	if ended.Took == 0 {
		ended.Took = time.Since(began)
	}
	if err != nil {
		return fmt.Errorf("hook %s: %w", h.Name, err)
	}
	report.Report(event.Event{
		Type: event.CmdEnd, Host: at.Host, Phase: at.Phase, Step: h.Name, Command: h.Run,
		Exit: &ended.Exit, MS: ended.Took.Milliseconds(), Facts: tail.lines(),
	})
	return verdict(h, at, ended, tail.lines())
}

// verdict turns how a hook ended into nil or the fault that a person reads.
func verdict(h Hook, at Place, ended Ended, tail []string) error {
	var f *fault.Error
	switch {
	case ended.TimedOut:
		f = fault.New(fault.HookTimeout, "hook %s ran longer than %s", h.Name, h.Timeout).
			Hint("a hook's limit is [hooks] timeout, or timeout in its table form")
	case ended.Signal != "":
		f = fault.New(fault.HookFailed, "hook %s was ended by signal %s", h.Name, ended.Signal)
	case ended.Exit != 0:
		f = fault.New(fault.HookFailed, "hook %s exited with %d", h.Name, ended.Exit)
	default:
		return nil
	}
	if at.Host != "" {
		f.On(at.Host)
	}
	f.Fact("%s", oneLine(h.Run))
	for _, line := range tail {
		f.Fact("| %s", line)
	}
	return f
}

// oneLine shortens a command for an error: its first line, at most 160 bytes.
func oneLine(text string) string {
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	if len(text) > 160 {
		text = text[:160] + "…"
	}
	return text
}

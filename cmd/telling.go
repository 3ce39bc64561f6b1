package cmd

import (
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
)

// begin opens the story of a run: the renderer, the run file and --log. The event is the run's first;
// Type, Command, Env, App, User and DryRun are filled in. What the command reports later goes to the
// Reporter it returns; Main closes it.
func (c *call) begin(first event.Event) (event.Reporter, error) {
	now := c.sys.Now()
	run := newRunID(now)
	greeting := c.hello(run, now)
	kept, runFile, warning, err := c.logs(greeting)
	if err != nil {
		return nil, err
	}
	screen, tick := c.screen(greeting, now)
	s := newStory(run, c.sys.Now, tick, veil{&c.mask, slices.Concat([]sink{screen}, kept, c.forActions())})
	c.mu.Lock()
	c.story, c.runFile = s, runFile
	c.mu.Unlock()
	s.Report(c.firstEvent(first))
	if warning != "" {
		s.Report(event.Event{Type: event.Warn, Msg: warning})
	}
	if c.envChosen != "" && c.leaf.cmd.Changes {
		s.Report(event.Event{Type: event.Info, Msg: fmt.Sprintf("env %s (%s)", c.env.Name, c.envChosen)})
	}
	return s, nil
}

func (c *call) firstEvent(e event.Event) event.Event {
	e.Type, e.Command, e.User, e.DryRun = event.RunStart, c.leaf.name(), c.sys.User, c.opt.DryRun
	if c.env != nil {
		e.Env, e.App = c.env.Name, c.env.App.Name
	}
	return e
}

func (c *call) hello(run string, now time.Time) hello {
	return hello{T: timestamp(now), Run: run, Godeploy: version().Version, PID: os.Getpid()}
}

// screen is the renderer for people or, in json mode, for programs.
func (c *call) screen(greeting hello, now time.Time) (sink, time.Duration) {
	l := c.looks()
	switch {
	case l.mode == "json":
		return newJSONLines(c.sys.Stdout, nil, greeting), 0
	case l.terse:
		return newPlain(c.sys.Stderr, l, now), 0
	case l.mode == "tty":
		return newLive(c.sys.Stderr, l, c.sys.Size, now), time.Second / 10
	case l.mode == "github" || l.mode == "gitlab":
		return newFolded(newPlain(c.sys.Stderr, l, now), l.mode), time.Second
	default:
		return newPlain(c.sys.Stderr, l, now), time.Second
	}
}

// print writes data to stdout: at once, or when a story is being told, after it, so that a live display
// does not run through it. In json mode stdout has events only, and print writes nothing.
func (c *call) print(format string, args ...any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drawn.mode == "json" {
		return nil
	}
	if c.story != nil {
		fmt.Fprintf(&c.data, format, args...)
		return nil
	}
	_, err := fmt.Fprintf(c.sys.Stdout, format, args...)
	return err
}

// mark is the sign in front of a closing line.
func (c *call) mark(well bool) string {
	l := c.looks()
	if well {
		return l.paint(green, l.marks().done)
	}
	return l.paint(red, l.marks().failed)
}

// runLog is the path of this run's file, "" when it has none; it is known once the story has begun.
func (c *call) runLog() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runFile
}

// conclude adds lines for a person that are printed to stderr after the story has ended, so that a
// live display cannot overwrite them.
func (c *call) conclude(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = append(c.closing, fmt.Sprintf(format, args...))
}

// closeStory reports what went wrong and ends the story; then come the closing lines.
func (c *call) closeStory(err error, code int) {
	c.mu.Lock()
	s, closing, l, data := c.story, c.closing, c.drawn, c.data.Bytes()
	c.mu.Unlock()
	if s == nil && l.mode == "json" && l.lines && err != nil && !c.abandoned {
		if _, problem := c.begin(event.Event{}); problem == nil { // else the log file is what err is about
			s = c.told()
		}
	}
	if s != nil {
		c.endStory(s, err, code)
	}
	if l.mode == "json" {
		return
	}
	_, _ = io.WriteString(c.sys.Stdout, c.mask.Hide(string(data))) // whoever closed stdout does not want it
	for _, line := range closing {
		fmt.Fprintln(c.sys.Stderr, c.mask.Hide(line))
	}
}

func (c *call) endStory(s *story, err error, code int) {
	if !isSilent(err) {
		for _, f := range gather(c.nearby(fault.All(err))) {
			if e := faultEvent(f); !s.told(e.Code, e.Msg) {
				s.forMachines(e)
			}
		}
	}
	if problem := s.Close(resultOf(err, code), code); problem != nil {
		fmt.Fprintf(c.sys.Stderr, "warning: the log of this run is not complete: %v\n", problem)
	}
}

func (c *call) sayInterrupted(sig os.Signal) {
	text := "stopping at the next safe point; press Ctrl-C again to stop now"
	if s := c.told(); s != nil {
		s.Report(event.Event{Type: event.Interrupt, Msg: text})
		return
	}
	if l := c.looks(); l.mode != "json" && !l.quiet && sig == os.Interrupt {
		fmt.Fprintln(c.sys.Stderr, text)
	}
}

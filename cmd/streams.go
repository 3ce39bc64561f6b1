package cmd

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"

	"godeploy/internal/event"
)

// maxLine is where a line without an end is cut, so that one host cannot fill our memory.
const maxLine = 64 << 10

// lineWriter hands over whole lines, without their ends; a line over maxLine comes in pieces. Not for
// concurrent use.
type lineWriter struct {
	held []byte
	line func(text string)
}

func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			i = len(p)
		}
		take := min(i, maxLine-len(w.held))
		w.held = append(w.held, p[:take]...)
		p = p[take:]
		if len(p) > 0 && p[0] == '\n' {
			p = p[1:]
			w.hand()
		} else if len(w.held) >= maxLine {
			w.hand()
		}
	}
	return n, nil
}

func (w *lineWriter) hand() {
	text := strings.TrimSuffix(string(w.held), "\r")
	w.held = w.held[:0]
	w.line(text)
}

// flush hands over a last line that has no end.
func (w *lineWriter) flush() {
	if len(w.held) > 0 {
		w.hand()
	}
}

// prefixed writes the lines of many hosts, whole, each with its host in front.
type prefixed struct {
	mu             sync.Mutex
	stdout, stderr io.Writer
	width          int
}

func newPrefixed(stdout, stderr io.Writer, hosts []string) *prefixed {
	p := &prefixed{stdout: stdout, stderr: stderr}
	for _, h := range hosts {
		p.width = max(p.width, len(h))
	}
	return p
}

func (p *prefixed) of(host string) (io.Writer, io.Writer, func()) {
	out := &lineWriter{line: func(text string) { p.write(p.stdout, host, text) }}
	err := &lineWriter{line: func(text string) { p.write(p.stderr, host, text) }}
	return out, err, func() { out.flush(); err.flush() }
}

// write drops lines that nobody reads any more: the command still has to end well.
func (p *prefixed) write(w io.Writer, host, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintf(w, "%-*s | %s\n", p.width, host, clean(text))
}

// passThrough gives one host our own stdout and stderr: bytes as they are for a pipe or a file, clean
// lines for a person's terminal.
type passThrough struct{ sys System }

func (p passThrough) of(string) (io.Writer, io.Writer, func()) {
	stdout, flushOut := direct(p.sys.Stdout, p.sys.StdoutTTY)
	stderr, flushErr := direct(p.sys.Stderr, p.sys.StderrTTY)
	return stdout, stderr, func() { flushOut(); flushErr() }
}

func direct(w io.Writer, tty bool) (io.Writer, func()) {
	if !tty {
		return w, func() {}
	}
	lw := &lineWriter{line: func(text string) { _, _ = fmt.Fprintln(w, clean(text)) }} // as in write above
	return lw, lw.flush
}

// eventOutput turns lines into events.
type eventOutput struct{ report event.Reporter }

func (o eventOutput) of(host string) (io.Writer, io.Writer, func()) {
	out, err := o.stream(host, "stdout"), o.stream(host, "stderr")
	return out, err, func() { out.flush(); err.flush() }
}

func (o eventOutput) stream(host, name string) *lineWriter {
	return &lineWriter{line: func(text string) {
		o.report.Report(event.Event{Type: event.CmdOutput, Host: host, Step: "exec", Stream: name, Text: text})
	}}
}

package deploy

import (
	"bytes"
	"context"
	"strings"

	"godeploy/internal/wire"
)

// Commander is where a command can be run: a Host, or an account on one.
type Commander interface {
	Exec(ctx context.Context, req wire.ExecRequest, output func(stream string, p []byte)) (wire.ExecReply, error)
}

// Captured is what a command on a host did and said.
type Captured struct {
	wire.ExecReply
	Out, Said string // the beginning of its standard output and of its standard error
}

// Capture runs a command on a host and keeps the first bytes of what it writes: at most out of its
// standard output and said of its standard error. What is more is read and dropped, so that a command
// that never stops talking costs no memory. The error is about the connection; how the command ended is in
// the reply. It is safe for concurrent use where the host is.
func Capture(ctx context.Context, h Commander, req wire.ExecRequest, out, said int) (Captured, error) {
	var stdout, stderr bytes.Buffer
	reply, err := h.Exec(ctx, req, func(stream string, p []byte) {
		into, most := &stdout, out
		if stream == "stderr" {
			into, most = &stderr, said
		}
		into.Write(p[:min(len(p), max(most-into.Len(), 0))])
	})
	return Captured{ExecReply: reply, Out: stdout.String(), Said: stderr.String()}, err
}

// LastLines gives the last n lines of what a command said that are not blank, each of at most 300 bytes.
func LastLines(text string, n int) []string {
	var last []string
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \t\r\n"); line == "" {
			continue
		}
		if last = append(last, line[:min(len(line), 300)]); len(last) > n {
			last = last[1:]
		}
	}
	return last
}

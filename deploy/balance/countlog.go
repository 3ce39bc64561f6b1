package balance

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// maxPiece is how much of a log is read at once.
const maxPiece = 8 << 20

// tailScript prints number and size of a log, and what stands in it from a byte on, counted from 1; 44 means
// that there is no log.
const tailScript = `[ -f "$1" ] || exit 44
stat -L -c '%i %s' -- "$1" || exit
tail -c "+$2" -- "$1" | head -c "$3"`

// sizeScript is tailScript without the content.
const sizeScript = `[ -f "$1" ] || exit 44
exec stat -L -c '%i %s' -- "$1"`

// tail follows the access log of one host.
type tail struct {
	host deploy.Host
	path string

	file string // number of the file that was read last
	at   int64  // bytes of it that were read
}

// end goes to the end of the log, or to so many bytes before it.
func (t *tail) end(ctx context.Context, r root, before int64) error {
	out, err := t.ask(ctx, r, sizeScript)
	if err != nil || out == nil {
		return err
	}
	var size int64
	t.file, size, _, err = logHead(out)
	t.at = max(size-before, 0)
	return err
}

// read gives the requests that were logged since, and how many bytes they were. A log that was put aside
// and begun anew is read from its beginning; what the old one got in between is lost.
func (t *tail) read(ctx context.Context, r root, take func(Request)) (int64, error) {
	out, err := t.ask(ctx, r, tailScript, strconv.FormatInt(t.at+1, 10), strconv.Itoa(maxPiece))
	if err != nil || out == nil {
		return 0, err
	}
	file, size, content, err := logHead(out)
	if err != nil {
		return 0, err
	}
	if file != t.file || size < t.at {
		again := t.file != ""
		t.file, t.at = file, 0
		if again {
			return t.read(ctx, r, take)
		}
	}
	whole := bytes.LastIndexByte(content, '\n') + 1 // nginx may be in the middle of a line
	for line := range bytes.Lines(content[:whole]) {
		if one, ok := ReadRequest(bytes.TrimRight(line, "\r\n")); ok {
			take(one)
		}
	}
	t.at += int64(whole)
	return int64(whole), nil
}

// ask runs one of the scripts; nil is the output where there is no log.
func (t *tail) ask(ctx context.Context, r root, script string, args ...string) ([]byte, error) {
	argv := append([]string{"/bin/sh", "-c", script, "sh", t.path}, args...)
	if t.host.Facts().UID != 0 && r.env.SSH.Sudo {
		argv = append([]string{"sudo", "-n", "--"}, argv...)
	}
	did, err := deploy.Capture(ctx, t.host, wire.ExecRequest{Argv: argv, Timeout: time.Minute}, maxPiece+4096, 4096)
	switch {
	case err != nil:
		return nil, fault.OnHost(t.host.Inventory().Name, err)
	case did.Exit == 44:
		return nil, nil
	case did.Exit != 0 || did.TimedOut:
		return nil, fault.New(fault.ExecFailed, "%s cannot be read", t.path).On(t.host.Inventory().Name).
			Fact("| %.200s", strings.TrimSpace(did.Said))
	}
	return []byte(did.Out), nil
}

// logHead reads the first line: number and size of the log.
func logHead(out []byte) (file string, size int64, content []byte, err error) {
	line, content, _ := bytes.Cut(out, []byte("\n"))
	number, length, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
	size, err = strconv.ParseInt(string(length), 10, 64)
	if !ok || err != nil || size < 0 {
		return "", 0, nil, fault.New(fault.Protocol, "the log's size makes no sense").Wrap(fmt.Errorf("%.80q", line))
	}
	return string(number), size, content, nil
}

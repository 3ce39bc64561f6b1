package balance

import (
	"bytes"
	"context"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

const (
	// commandTime bounds one command on a balancer host. nginx resolves names while it tests.
	commandTime = 2 * time.Minute
	// maxOutput bounds what is kept of a command's output, for each of its two streams.
	maxOutput = 1 << 20
)

// root runs constant programs as root on the hosts of an environment.
type root struct{ env *inventory.Env }

// said is what a program on a host came to.
type said struct {
	exit     int
	out, err string
}

// lines gives the last lines of what it said, for a person.
func (s said) lines(n int) []string {
	lines := strings.Split(strings.TrimSpace(s.err+"\n"+s.out), "\n")
	return lines[max(len(lines)-n, 0):]
}

// sh runs one of the scripts.
func (r root) sh(ctx context.Context, h deploy.Host, stdin []byte, script string, args ...string) (said, error) {
	return r.run(ctx, h, stdin, append([]string{"/bin/sh", "-c", script, "sh"}, args...)...)
}

// do is sh for a script that must succeed.
func (r root) do(ctx context.Context, h deploy.Host, stdin []byte, script string, args ...string) error {
	s, err := r.sh(ctx, h, stdin, script, args...)
	if err == nil && s.exit != 0 {
		f := fault.New(fault.NginxFailed, "a step on the balancer host ended with status %d", s.exit)
		for _, line := range s.lines(3) {
			f.Fact("| %s", line)
		}
		return f
	}
	return err
}

// run runs a program; one that fails is no error.
func (r root) run(ctx context.Context, h deploy.Host, stdin []byte, argv ...string) (said, error) {
	facts := h.Facts()
	if facts.UID != 0 && r.env.SSH.Sudo {
		argv = append([]string{"sudo", "-n", "--"}, argv...)
	}
	var out, errs bytes.Buffer
	reply, err := h.Exec(ctx, wire.ExecRequest{Argv: argv, Stdin: stdin, Timeout: commandTime}, func(stream string, p []byte) {
		into := &out
		if stream == "stderr" {
			into = &errs
		}
		into.Write(p[:min(len(p), max(maxOutput-into.Len(), 0))])
	})
	s := said{exit: reply.Exit, out: out.String(), err: errs.String()}
	switch {
	case err != nil:
		return s, err
	case reply.TimedOut:
		return s, fault.New(fault.NginxFailed, "a step on the balancer host took longer than %s", commandTime)
	case s.exit == 1 && argv[0] == "sudo" && strings.HasPrefix(s.err, "sudo:"):
		return s, fault.New(fault.SudoNeeded, "%s may not become root", facts.User).Fact("| %s", s.lines(1)[0]).
			Fact("sudoers line: %s ALL=(root) NOPASSWD: /bin/sh, /usr/bin/unshare", facts.User).
			Hint("put the line into /etc/sudoers.d/godeploy on the host, as root")
	}
	return s, nil
}

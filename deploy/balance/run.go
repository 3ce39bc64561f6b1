package balance

import (
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

// code gives the code for the balancer at hand: each of nginx's has one of HAProxy's beside it.
func (r root) code(c fault.Code) fault.Code {
	if r.env.Balancer.Kind == "haproxy" {
		return fault.Code("haproxy-" + strings.TrimPrefix(string(c), "nginx-"))
	}
	return c
}

// section is the name of the balancer's part of godeploy.toml, and of its commands.
func (r root) section() string {
	if r.env.Balancer.Kind == "haproxy" {
		return "balancer"
	}
	return "nginx"
}

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
		f := fault.New(r.code(fault.NginxFailed), "a step on the balancer host ended with status %d", s.exit)
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
	did, err := deploy.Capture(ctx, h, wire.ExecRequest{Argv: argv, Stdin: stdin, Timeout: commandTime}, maxOutput, maxOutput)
	s := said{exit: did.Exit, out: did.Out, err: did.Said}
	switch {
	case err != nil:
		return s, err
	case did.TimedOut:
		return s, fault.New(r.code(fault.NginxFailed), "a step on the balancer host took longer than %s", commandTime)
	case s.exit == 1 && argv[0] == "sudo" && strings.HasPrefix(s.err, "sudo:"):
		f := fault.New(fault.SudoNeeded, "%s may not become root", facts.User).Fact("| %s", s.lines(1)[0])
		for _, line := range deploy.Sudoers(facts.User, deploy.SudoRules(r.env, h.Inventory())) {
			f.Fact("sudoers line: %s", line)
		}
		return s, f.Hint("put the lines into /etc/sudoers.d/godeploy on the host, as root")
	}
	return s, nil
}

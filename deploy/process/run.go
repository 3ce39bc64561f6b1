package process

import (
	"bytes"
	"context"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// commandTime bounds one command of ours that should answer at once.
const commandTime = 2 * time.Minute

// maxOutput bounds what is kept of a command's output.
const maxOutput = 256 << 10

// output runs a command on the host and gives its standard output. One that fails is a fault with
// the last lines of what it said.
func output(ctx context.Context, h deploy.Host, argv ...string) (string, error) {
	out, said, reply, err := command(ctx, h, argv)
	if err != nil {
		return "", err
	}
	if reply.Exit != 0 || reply.TimedOut {
		f := fault.New(fault.RestartFailed, "%s exited with %d", strings.Join(argv, " "), reply.Exit)
		for _, line := range lastLines(said, 3) {
			f.Fact("| %s", line)
		}
		return out, f
	}
	return out, nil
}

func command(ctx context.Context, h deploy.Host, argv []string) (out, said string, reply wire.ExecReply, err error) {
	var stdout, stderr bytes.Buffer
	reply, err = h.Exec(ctx, wire.ExecRequest{Argv: argv, Timeout: commandTime}, func(stream string, p []byte) {
		into := &stdout
		if stream == "stderr" {
			into = &stderr
		}
		into.Write(p[:min(len(p), max(maxOutput-into.Len(), 0))])
	})
	return stdout.String(), stderr.String(), reply, err
}

// asRoot puts sudo in front of a command where the login is not root.
func (s *Service) asRoot(h deploy.Host, argv ...string) ([]string, error) {
	if h.Facts().UID == 0 {
		return argv, nil
	}
	if !s.env.SSH.Sudo {
		return nil, s.needSudo(h, argv)
	}
	return append([]string{"sudo", "-n"}, argv...), nil
}

// needSudo is the fault for a login that may not do what the service needs, with the line that
// would allow it.
func (s *Service) needSudo(h deploy.Host, argv []string) error {
	user := h.Facts().User
	f := fault.New(fault.SudoNeeded, "%s may not run %s as root", user, argv[0]).
		Fact("sudoers line: %s ALL=(root) NOPASSWD: %s", user, strings.Join(sudoRules(s.env.Process.Unit), ", "))
	if owner := deploy.OwnerUser(s.env); owner != "" && owner != user {
		f.Fact("sudoers line: %s ALL=(%s) NOPASSWD:SETENV: /bin/sh", user, owner)
	}
	if !s.env.SSH.Sudo {
		return f.Hint("log in as root, or set sudo = true in [ssh]")
	}
	return f.Hint("put the line into /etc/sudoers.d/godeploy on the host, as root").
		Try("ssh -t root@%s visudo -f /etc/sudoers.d/godeploy", h.Inventory().Address)
}

// sudoRules are the fixed commands that a release runs as root. Each is written out whole: sudo's "*"
// matches further words too, and with them journalctl would open a pager as root.
func sudoRules(unit string) []string {
	var rules []string
	for _, verb := range []string{"start", "stop", "restart", "kill -s HUP --kill-who=main"} {
		rules = append(rules, "/usr/bin/systemctl "+verb+" "+unit)
	}
	return append(rules, "/usr/bin/readlink /proc/*/cwd", "/usr/bin/"+strings.Join(journal(unit), " "))
}

func lastLines(text string, n int) []string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return nil
	}
	return lines[max(len(lines)-n, 0):]
}

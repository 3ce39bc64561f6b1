package process

import (
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
	did, err := command(ctx, h, argv)
	if err != nil {
		return "", err
	}
	if did.Exit != 0 || did.TimedOut {
		f := fault.New(fault.RestartFailed, "%s exited with %d", strings.Join(argv, " "), did.Exit)
		for _, line := range deploy.LastLines(did.Said, 3) {
			f.Fact("| %s", line)
		}
		return did.Out, f
	}
	return did.Out, nil
}

func command(ctx context.Context, h deploy.Host, argv []string) (deploy.Captured, error) {
	return deploy.Capture(ctx, h, wire.ExecRequest{Argv: argv, Timeout: commandTime}, maxOutput, maxOutput)
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

// needSudo is the fault for a login that may not do what the service needs, with the lines that
// would allow it.
func (s *Service) needSudo(h deploy.Host, argv []string) error {
	user := h.Facts().User
	f := fault.New(fault.SudoNeeded, "%s may not run %s as root", user, argv[0])
	for _, line := range deploy.Sudoers(user, deploy.SudoRules(s.env, h.Inventory())) {
		f.Fact("sudoers line: %s", line)
	}
	if !s.env.SSH.Sudo {
		return f.Hint("log in as root, or set sudo = true in [ssh]")
	}
	return f.Hint("put the lines into /etc/sudoers.d/godeploy on the host, as root").
		Try("ssh -t root@%s visudo -f /etc/sudoers.d/godeploy", h.Inventory().Address)
}

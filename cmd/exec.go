package cmd

import (
	"bytes"
	"context"
	"errors"
	"io"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/sshx"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
)

func execCommand() *command {
	return &command{
		Name: "exec", Group: groupAccess, Usage: "run a command on the hosts", Args: "[ENV] -- CMD...",
		Env: true, Rest: true, Story: true, Terse: true,
		Examples: []string{"godeploy exec prod -- uptime", "godeploy exec prod -l role:app -- df -h /opt", "godeploy exec prod --shell -- 'dmesg | tail -3'",
			"godeploy exec prod --collect -- uname -r", "godeploy exec prod --once --as owner --cd current -- .venv/bin/python manage.py check"},
		About: "The words after -- reach the command as they are; no shell reads them unless --shell is given.\n" +
			"On exactly one host, output and exit status are the command's own and 255 means no connection, as with ssh.\n" +
			"On several hosts every line names its host; exit 1 means that the command failed somewhere, 4 that a host\n" +
			"could not be reached. --as another user needs root as the login, or sudo = true in [ssh].",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "shell", Usage: "give the words to the login shell, joined by spaces"},
			&cli.BoolFlag{Name: "once", Usage: "only on the first of the hosts"},
			&cli.StringFlag{Name: "as", Usage: "as `USER`: owner, root or a name; default: the login user"},
			&cli.StringFlag{Name: "cd", Usage: "in `FOLDER`: current, shared or a path there; default: the login's home"},
			&cli.BoolFlag{Name: "stdin", Usage: "give the command our standard input, the same on each host"},
			&cli.BoolFlag{Name: "collect", Usage: "wait for all hosts and show equal outputs once"},
		},
		Run: runExec,
	}
}

const exitNoConnection = 255 // as ssh has it; only with exactly one host

// remote is what became of the command on one host.
type remote struct {
	target sshx.Target
	status int
	err    error // no connection, or one that was lost
}

func runExec(ctx context.Context, c *call) error {
	job, err := c.execJob()
	if err != nil {
		return err
	}
	report, err := c.begin(event.Event{Hosts: namesOf(job.targets)})
	if err != nil {
		return err
	}
	pool := c.connect(report)
	defer pool.Close() // the results are in; a connection that does not close cleanly changes none
	out := c.execOutput(report, job.targets)
	results := c.runOnAll(ctx, pool, report, job, out)
	if together, ok := out.(*collected); ok {
		if err := together.show(c.sys.Stdout, results); err != nil {
			return err
		}
	}
	return c.execResult(results)
}

// job is what runs where.
type job struct {
	targets []sshx.Target
	lines   []string         // for the login shell of each
	input   func() io.Reader // one for each host
}

// maxInput bounds the standard input that goes to more than one host.
const maxInput = 64 << 20

// execJob makes a job of the command line.
func (c *call) execJob() (job, error) {
	if len(c.rest) == 0 {
		return job{}, usagef("godeploy exec needs a command").Hint("it stands after --").Try("%s -- uptime", c.again())
	}
	hosts, err := c.hosts()
	if err != nil {
		return job{}, err
	}
	if c.flags.Bool("once") {
		hosts = hosts[:1]
	}
	var j job
	at := place{as: c.flags.String("as"), cd: c.flags.String("cd"), shell: c.flags.Bool("shell")}
	for _, h := range hosts {
		line, err := c.placed(h, at, c.rest)
		if err != nil {
			return job{}, err
		}
		j.lines = append(j.lines, line)
	}
	if j.targets, err = c.targets(hosts); err != nil {
		return job{}, err
	}
	j.input, err = c.execInput(len(hosts))
	return j, err
}

// execInput gives every host the same input: with more than one host all of it is read before.
func (c *call) execInput(hosts int) (func() io.Reader, error) {
	switch {
	case !c.flags.Bool("stdin"):
		return func() io.Reader { return nil }, nil
	case hosts == 1:
		return func() io.Reader { return c.sys.Stdin }, nil
	}
	all, err := io.ReadAll(io.LimitReader(c.sys.Stdin, maxInput+1))
	switch {
	case err != nil:
		return nil, usagef("standard input cannot be read").Wrap(err)
	case len(all) > maxInput:
		return nil, usagef("standard input is larger than %d MiB", maxInput>>20).Hint("godeploy sync --to FOLDER carries files to many hosts")
	}
	return func() io.Reader { return bytes.NewReader(all) }, nil
}

func namesOf(targets []sshx.Target) []string {
	var all []string
	for _, t := range targets {
		all = append(all, t.Name)
	}
	return all
}

// runOnAll gives one result a host, in the order of the targets. A failure on one stops no other.
func (c *call) runOnAll(ctx context.Context, pool *sshx.Pool, report event.Reporter, j job, out outputs) []remote {
	results := make([]remote, len(j.targets))
	var group errgroup.Group
	group.SetLimit(c.opt.Parallel)
	for i, t := range j.targets {
		group.Go(func() error {
			results[i] = c.runOn(ctx, pool, report, t, j.lines[i], j.input(), out)
			return nil
		})
	}
	_ = group.Wait() // every error is in results
	return results
}

func (c *call) runOn(ctx context.Context, pool *sshx.Pool, report event.Reporter, t sshx.Target, command string, stdin io.Reader, out outputs) remote {
	began := c.sys.Now()
	report.Report(event.Event{Type: event.CmdStart, Host: t.Name, Step: "exec", Command: command})
	r := remote{target: t}
	conn, err := pool.Dial(ctx, t)
	if err == nil {
		defer conn.Close() // the command has ended by then
		stdout, stderr, flush := out.of(t.Name)
		err = conn.Run(ctx, command, stdin, stdout, stderr)
		flush()
	}
	r.status, r.err = statusOf(err)
	end := event.Event{Type: event.HostEnd, Host: t.Name, Step: "exec", Command: command, Exit: &r.status, Result: "ok",
		MS: c.sys.Now().Sub(began).Milliseconds()}
	if err != nil {
		end.Result, end.Error = "failed", err.Error()
	}
	report.Report(end)
	return r
}

// statusOf tells the command's own status from a connection that failed.
func statusOf(err error) (int, error) {
	var exit *sshx.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Signal != "":
		return 128, nil
	case errors.As(err, &exit):
		return exit.Status, nil
	default:
		return exitNoConnection, err
	}
}

// execResult turns the results into one exit code and lists every host on which something went wrong.
func (c *call) execResult(results []remote) error {
	if len(results) == 1 {
		if r := results[0]; r.err != nil || r.status != 0 {
			return &outcome{Code: r.status, Err: r.err, Result: "failed"}
		}
		return nil
	}
	code := exitDone
	var faults []error
	for _, r := range results {
		switch {
		case r.err != nil:
			code = worse(code, codeOfConnection(r.err))
			faults = append(faults, r.err)
		case r.status != 0:
			code = worse(code, exitUnexpected)
			faults = append(faults, fault.New(fault.ExecFailed, "the command ended with status %d", r.status).On(r.target.Name))
		}
	}
	if code == exitDone {
		return nil
	}
	return &outcome{Code: code, Err: errors.Join(faults...), Result: "failed"}
}

// worse: 4 promises that nothing was done on the hosts that failed, so a command that failed goes first.
func worse(a, b int) int {
	if a == exitUnexpected || b == exitUnexpected {
		return exitUnexpected
	}
	return max(a, b)
}

// codeOfConnection: a connection that was lost has had the command running, so "nothing changed" may not be said.
func codeOfConnection(err error) int {
	if fault.Is(err, fault.SSHLost) {
		return exitUnexpected
	}
	return codeOf(err)
}

// outputs gives each host where its command writes to.
type outputs interface {
	of(host string) (stdout, stderr io.Writer, flush func())
}

func (c *call) execOutput(report event.Reporter, targets []sshx.Target) outputs {
	if c.looks().mode == "json" {
		return eventOutput{report}
	}
	if c.flags.Bool("collect") {
		return &collected{}
	}
	if len(targets) == 1 {
		return passThrough{c.sys}
	}
	return newPrefixed(c.sys.Stdout, c.sys.Stderr, namesOf(targets))
}

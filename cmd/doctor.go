package cmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"godeploy/deploy/doctor"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
	"godeploy/sshx"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
)

func doctorCommand() *command {
	return &command{
		Name: "doctor", Group: groupStart, Usage: "look on the servers for what would make a release fail", Args: "[ENV]", Env: true, Terse: true,
		Examples: []string{"godeploy doctor prod", "godeploy doctor prod --only disk,clock", "godeploy doctor prod --json",
			"godeploy doctor prod --sudoers", "godeploy doctor prod --fix"},
		About: "Asks every host once, by one command that changes nothing there and needs no helper: names and ways, host keys, login,\n" +
			"sudo, room on disk, clock, folders, python, unit, ports, limits, nginx, and who else was here. Every finding says what to\n" +
			"do about it. Exit 8 when there is one that would make a release fail. --sudoers asks nobody: it prints the rules that the\n" +
			"logins need for what this file wants, and nothing beyond.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "only", Usage: "only these `TOPICS`, with commas between them: " + strings.Join(doctor.Topics(), ", ")},
			&cli.BoolFlag{Name: "fix", Usage: "run the godeploy commands that mend something, each after a question"},
			&cli.BoolFlag{Name: "sudoers", Usage: "print the sudoers file that the logins of the hosts need"},
		},
		Run: runDoctor,
	}
}

type doctorReport struct {
	Env      string           `json:"env"`
	Hosts    []string         `json:"hosts"`
	Findings []doctor.Finding `json:"findings"`
}

func runDoctor(ctx context.Context, c *call) error {
	hosts, err := c.hosts()
	if err != nil {
		return err
	}
	if c.flags.Bool("sudoers") {
		text, err := c.sudoers(hosts)
		if err != nil {
			return err
		}
		return c.print("%s", text)
	}
	only, err := topics(c.flags.String("only"))
	if err != nil {
		return err
	}
	all, err := c.examine(ctx, hosts)
	if err != nil {
		return err
	}
	r := doctorReport{Env: c.env.Name, Hosts: hostNames(hosts), Findings: c.inOrder(all, only)}
	if c.looks().mode == "json" {
		err = c.document(r)
	} else {
		err = c.showDoctor(r)
	}
	if err == nil && c.flags.Bool("fix") {
		err = c.fixAll(ctx, r.Findings)
	}
	if err == nil && slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return !f.Note }) {
		return exitWith(exitFindings, nil)
	}
	return err
}

// topics reads --only; nil is all of them.
func topics(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	list := strings.Split(text, ",")
	for _, topic := range list {
		if !slices.Contains(doctor.Topics(), topic) {
			return nil, usagef("--only does not know %q", topic).Hint("it takes %s", strings.Join(doctor.Topics(), ", "))
		}
	}
	return list, nil
}

// examine asks every host, all at once, and gives what is found on any. The error is only about ctx.
func (c *call) examine(ctx context.Context, hosts []inventory.Host) ([]doctor.Finding, error) {
	pool := c.connect(event.Discard{})
	defer pool.Close() // nothing was changed over it
	answers := make([]doctor.Asked, len(hosts))
	failed := make([]error, len(hosts))
	var group errgroup.Group
	group.SetLimit(c.opt.Parallel)
	for i, h := range hosts {
		group.Go(func() error {
			answers[i], failed[i] = c.askDoctor(ctx, pool, h)
			return nil // every host counts
		})
	}
	all := doctor.DNS(ctx, c.env, hosts, net.DefaultResolver.LookupHost)
	_ = group.Wait() // always nil
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for i, h := range hosts {
		if failed[i] != nil {
			all = append(all, c.unreachable(h, failed[i]))
			continue
		}
		all = append(all, doctor.Judge(answers[i])...)
	}
	return append(all, doctor.Fleet(answers)...), nil
}

// doctorTime bounds the questions to one host: a df of a dead network disk never ends.
const doctorTime = 60 * time.Second

// askDoctor asks one host everything at once.
func (c *call) askDoctor(ctx context.Context, pool *sshx.Pool, h inventory.Host) (doctor.Asked, error) {
	asked := doctor.Asked{Env: c.env, Host: h, Who: c.holder().Who}
	target, err := c.target(h)
	if err != nil {
		return asked, err
	}
	argv, script := doctor.Command(c.env, h)
	line, err := sshx.Quote(argv...)
	if err != nil {
		return asked, err
	}
	conn, err := pool.Dial(ctx, target)
	if err != nil {
		return asked, err
	}
	defer conn.Close() // the answer is in
	limit, cancel := context.WithTimeoutCause(ctx, doctorTime, fault.New(fault.SSHTimeout, "does not answer within %s", doctorTime).On(h.Name))
	defer cancel()
	var answer beginning
	asked.Began = c.sys.Now()
	err = conn.Run(limit, line, strings.NewReader(script), &answer, nil)
	asked.Ended = c.sys.Now()
	asked.Facts = doctor.Read(answer.Bytes())
	var exit *sshx.ExitError
	if errors.As(err, &exit) { // the answer itself says whether it is whole
		err = nil
	}
	return asked, err
}

// unreachable makes a finding of a login that failed.
func (c *call) unreachable(h inventory.Host, err error) doctor.Finding {
	f := doctor.Finding{Host: h.Name, Topic: "ssh", Msg: err.Error(), Fix: "ssh -v shows more: godeploy inventory show " + c.env.Name + " --ssh-config"}
	all := fault.All(err)
	if len(all) == 0 {
		return f
	}
	first := all[0]
	f.Msg, f.Facts = first.Msg, first.Facts
	switch {
	case first.Code == fault.SSHHostKeyUnknown:
		f.Command = []string{"keys", "trust", c.env.Name, "-l", h.Name}
	case first.Code == fault.SSHAuth && hasCommand("keys", "push"):
		f.Command = []string{"keys", "push", c.env.Name, "-l", h.Name}
	}
	switch {
	case f.Command != nil:
		f.Fix = "godeploy " + strings.Join(f.Command, " ")
	case len(first.Next) > 0:
		f.Fix = first.Next[0]
	case first.Cause != "":
		f.Fix = first.Cause
	}
	return f
}

// hasCommand reports whether these words are a command of ours.
func hasCommand(words ...string) bool {
	tree := commands()
	for i, w := range words {
		next := named(tree, w)
		if next == nil {
			return false
		}
		if i == len(words)-1 || len(next.Sub) == 0 {
			return next.Run != nil
		}
		tree = next.Sub
	}
	return false
}

// inOrder sorts by host and topic, takes what --only names, and forgets commands that there are not.
func (c *call) inOrder(all []doctor.Finding, only []string) []doctor.Finding {
	out := []doctor.Finding{}
	for _, f := range all {
		if only != nil && !slices.Contains(only, f.Topic) {
			continue
		}
		if f.Command != nil && !hasCommand(f.Command...) {
			f.Command = nil
		}
		out = append(out, f)
	}
	rank := map[string]int{"": -1}
	for i, h := range c.env.Hosts {
		rank[h.Name] = i
	}
	slices.SortStableFunc(out, func(a, b doctor.Finding) int {
		if d := rank[a.Host] - rank[b.Host]; d != 0 {
			return d
		}
		return slices.Index(doctor.Topics(), a.Topic) - slices.Index(doctor.Topics(), b.Topic)
	})
	return out
}

func (c *call) showDoctor(r doctorReport) error {
	var b strings.Builder
	found := 0
	for _, f := range r.Findings {
		sign := c.mark(false)
		if f.Note {
			sign = "-"
		} else {
			found++
		}
		fmt.Fprintf(&b, "%s %s\n", sign, clean(joined(" ", f.Host, f.Topic+":", f.Msg)))
		for _, fact := range f.Facts[:min(len(f.Facts), 8)] {
			fmt.Fprintf(&b, "    %s\n", cleanLine(fact))
		}
		fmt.Fprintf(&b, "    fix: %s\n", cleanLine(f.Fix))
	}
	verdict := c.mark(true) + " nothing found that would make a release fail"
	if found > 0 {
		verdict = c.mark(false) + " " + plural(found, "finding")
	}
	c.conclude("%s: %s looked at", verdict, plural(len(r.Hosts), "host"))
	return c.print("%s", b.String())
}

// beginning keeps the beginning of an answer.
type beginning struct{ kept []byte }

func (l *beginning) Write(p []byte) (int, error) {
	l.kept = append(l.kept, p[:min(len(p), doctor.MaxAnswer-len(l.kept))]...)
	return len(p), nil
}

// Bytes is what was kept.
func (l *beginning) Bytes() []byte { return l.kept }

package cmd

import (
	"context"
	"fmt"
	"time"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"

	"github.com/urfave/cli/v2"
)

func lockCommand() *command {
	return &command{
		Name: "lock", Group: groupServers, Usage: "who is changing the servers, and keep changes away", Args: "status | acquire | release [ENV]",
		Examples: []string{"godeploy lock status prod", `godeploy lock acquire prod -m "audit until Friday" --for 48h`, "godeploy lock release prod"},
		Sub:      []*command{lockStatusCommand(), lockAcquireCommand(), lockReleaseCommand()},
	}
}

func lockStatusCommand() *command {
	return &command{
		Name: "status", Group: groupServers, Usage: "who holds the lock on each server, and who has frozen it", Args: "[ENV]", Env: true, Terse: true,
		Examples: []string{"godeploy lock status prod", "godeploy lock status prod --json"},
		Run:      runLockStatus,
	}
}

func lockAcquireCommand() *command {
	return &command{
		Name: "acquire", Group: groupServers, Usage: "freeze the servers: no release, rollback, restart, stop or sync by anybody", Args: "[ENV]",
		Env: true, Changes: true, Story: true,
		Examples: []string{`godeploy lock acquire prod -m "audit until Friday"`, `godeploy lock acquire prod -m "sale" --for 2h`, "godeploy lock release prod"},
		About: "The note lies on the servers, so that every operator meets it, and stays when you go. Commands that it stops end\n" +
			"with exit code 7, name you and the message, and change nothing. start, drain and undrain still work, for emergencies.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "`TEXT` that says why, shown to whoever is stopped"},
			&cli.DurationFlag{Name: "for", Usage: "until `2h` from now; without it until lock release"},
		},
		Run: runLockAcquire,
	}
}

func lockReleaseCommand() *command {
	return &command{
		Name: "release", Group: groupServers, Usage: "lift a freeze, and remove locks that dead runs left", Args: "[ENV]", Env: true, Changes: true, Story: true,
		Examples: []string{"godeploy lock release prod", "godeploy lock release prod --steal", "godeploy lock release prod -l app2"},
		About: "Lifts what lock acquire has frozen. The freeze of somebody else, while it holds, needs --steal and the name of the\n" +
			"environment, typed or by --confirm. Where no helper runs a lock can outlive its run, for there it is a folder: that one\n" +
			"is removed too, after a question. A lock that a helper holds ends with its run and is never removed by anybody else.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "steal", Usage: "also lift the freeze of somebody else"},
			&cli.StringFlag{Name: "confirm", Usage: "`ENV` again, in place of typing it"},
		},
		Run: runLockRelease,
	}
}

type lockView struct {
	Host    string       `json:"host"`
	Held    bool         `json:"held"`
	By      string       `json:"by,omitempty"`
	Command string       `json:"command,omitempty"`
	Release string       `json:"release,omitempty"`
	Since   string       `json:"since,omitempty"`
	Freeze  *wire.Freeze `json:"freeze,omitempty"` // while it holds
}

func runLockStatus(ctx context.Context, c *call) error {
	list, err := c.askStatus(ctx)
	if err != nil {
		return err
	}
	views := []lockView{}
	rows := [][]string{}
	for _, s := range c.answered(list) {
		v := lockView{Host: s.Host, Held: s.Holder != nil}
		if h := s.Holder; h != nil {
			v.By, v.Command, v.Release, v.Since = h.Who, h.Command, h.Release, h.Since.UTC().Format(time.RFC3339)
		}
		frozen := ""
		if s.Freeze.Holds(c.sys.Now()) {
			v.Freeze, frozen = s.Freeze, freezeLine(*s.Freeze)
		}
		views = append(views, v)
		rows = append(rows, []string{v.Host, orElse(v.By, "free"), v.Command, v.Release, v.Since, orElse(frozen, "no")})
	}
	if c.looks().mode == "json" {
		return c.document(views)
	}
	return table(c.sys.Stdout, []string{"HOST", "LOCK", "COMMAND", "RELEASE", "SINCE", "FROZEN"}, rows)
}

// freezeLine says who has frozen a host, until when and why.
func freezeLine(f wire.Freeze) string {
	text := "by " + f.By
	if !f.Until.IsZero() {
		text += " until " + f.Until.UTC().Format(time.RFC3339)
	}
	return joined(": ", text, f.Message)
}

func runLockAcquire(ctx context.Context, c *call) error {
	message := c.flags.String("message")
	long := c.flags.Duration("for")
	switch {
	case message == "":
		return usagef("lock acquire needs a message").Hint("whoever is stopped by the freeze reads it").
			Try(`godeploy lock acquire %s -m "why"`, c.env.Name)
	case len(message) > 200:
		return badFlag("message", "a text of at most 200 bytes")
	case long < 0 || c.flags.IsSet("for") && long < time.Minute:
		return badFlag("for", `a duration of at least 1m, such as "2h"`)
	}
	hosts, err := c.serviceHosts()
	if err != nil {
		return err
	}
	if err := c.agree(ctx, "Freeze", len(hosts)); err != nil {
		return err
	}
	why := wire.Freeze{By: c.holder().Who, Since: c.sys.Now().UTC().Truncate(time.Second), Message: cleanLine(message)}
	if long > 0 {
		why.Until = why.Since.Add(long)
	}
	return c.act(ctx, hosts, func(fleet *deploy.Fleet, _ event.Reporter) error {
		frozen, err := fleet.Freeze(ctx, why)
		if err == nil {
			c.conclude("%s %s of %s frozen %s", c.mark(true), plural(len(frozen), "server"), c.env.Name, freezeLine(why))
			c.conclude("  lift:  godeploy lock release %s", c.env.Name)
		}
		return unchanged(err) // what was frozen was thawed again
	})
}

func runLockRelease(ctx context.Context, c *call) error {
	hosts, err := c.serviceHosts()
	if err != nil {
		return err
	}
	seen, err := c.lockedNow(ctx)
	if err != nil {
		return err
	}
	if err := c.agreeToThaw(ctx, seen.foreign); err != nil {
		return err
	}
	if seen.held > 0 {
		if err := c.confirm(ctx, "Remove the locks of "+plural(seen.held, "server")+" of "+c.env.Name+", whoever holds them?"); err != nil {
			return err
		}
	} else if err := c.agree(ctx, "Lift the freeze on", len(hosts)); err != nil {
		return err
	}
	return c.act(ctx, hosts, func(fleet *deploy.Fleet, _ event.Reporter) error {
		var err error
		if seen.held > 0 {
			err = deploy.BreakLocks(ctx, fleet)
		}
		if err == nil && seen.frozen > 0 {
			err = fleet.Thaw(ctx)
		}
		if err == nil {
			c.conclude("%s %s of %s: %s lifted, %s removed", c.mark(true), plural(len(hosts), "server"), c.env.Name,
				plural(seen.frozen, "freeze"), plural(seen.held, "lock"))
		}
		return err
	})
}

// locked is what was found before anything is lifted.
type locked struct {
	held, frozen int
	foreign      *wire.Freeze // of somebody else, and it holds
}

func (c *call) lockedNow(ctx context.Context) (locked, error) {
	var found locked
	list, err := c.askStatus(ctx)
	if err != nil {
		return found, err
	}
	me := c.holder().Who
	for _, s := range c.answered(list) {
		if s.Holder != nil {
			found.held++
		}
		if s.Freeze != nil {
			found.frozen++
		}
		if s.Freeze.Holds(c.sys.Now()) && s.Freeze.By != me {
			found.foreign = s.Freeze
		}
	}
	return found, nil
}

// agreeToThaw wants it said twice that the freeze of somebody else is lifted.
func (c *call) agreeToThaw(ctx context.Context, f *wire.Freeze) error {
	switch {
	case f == nil:
		return nil
	case !c.flags.Bool("steal"):
		return fault.New(fault.Frozen, "%s was not frozen by you: %s", c.env.Name, freezeLine(*f)).
			Hint("ask %s first", f.By).Try("godeploy lock release %s --steal", c.env.Name)
	}
	return c.typed(ctx, fmt.Sprintf("%s is frozen %s. The freeze is lifted for everybody.", c.env.Name, freezeLine(*f)))
}

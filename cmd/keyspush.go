package cmd

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"godeploy/deploy/access"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
	"godeploy/sshx"

	"github.com/urfave/cli/v2"
)

// keysFlags are those of every command that logs in to look after keys.
func keysFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		&cli.StringFlag{Name: "user", Usage: "log in as `USER`, whose keys it is about, not as the hosts' own users"},
		&cli.BoolFlag{Name: "as-root", Usage: "log in as root and look after the keys of the user"},
	)
}

func keysPushCommand() *command {
	return &command{
		Name: "push", Group: groupAccess, Usage: "bring a key to the hosts and prove that it lets in", Args: "[ENV]",
		Env: true, Changes: true, Story: true,
		Examples: []string{"godeploy keys push prod", "godeploy keys push prod --key ~/.ssh/ci_ed25519 --from 10.0.0.0/8 --expires 90d", "godeploy keys push prod --prune"},
		About: "Logs in with the keys that work, else with a password that is asked for once and used for nothing else. The\n" +
			"key is added to authorized_keys as restrict,pty, on a jump host with permission to reach the hosts behind it.\n" +
			"It counts when a new login with it alone works; else the file is put back. Jump hosts on the way get it too.\n" +
			"--prune makes [[people]] the truth: their keys are added, and those of nobody are removed.",
		Flags: keysFlags(
			&cli.StringFlag{Name: "key", Usage: "the key `FILE`, either half; default: the first of [ssh] keys, or ~/.ssh/id_ed25519"},
			&cli.BoolFlag{Name: "password-stdin", Usage: "read the password from the first line of standard input"},
			&cli.StringSliceFlag{Name: "from", Usage: "the key may only come from this `ADDRESS` or network; repeatable"},
			&cli.StringFlag{Name: "expires", Usage: "the key lets in until `WHEN`: 2027-01-31, or 90d"},
			&cli.BoolFlag{Name: "prune", Usage: "also remove the keys of nobody in [[people]]"},
			&cli.StringFlag{Name: "confirm", Usage: "with --prune: the `ENV`'s name, in place of typing it"},
		),
		Run: runKeysPush,
	}
}

func runKeysPush(ctx context.Context, c *call) error {
	path, key, err := c.ownKey()
	if err != nil {
		return err
	}
	o, err := c.pushOptions(ctx, path, key)
	if err != nil {
		return err
	}
	password, err := c.passwordSource()
	if err != nil {
		return err
	}
	hosts, err := c.keysHosts(true)
	if err != nil {
		return err
	}
	if o.Prune {
		err = c.typed(ctx, fmt.Sprintf("On %s of %s every key of nobody in [[people]] is removed.", plural(len(hosts), "server"), c.env.Name))
	} else {
		err = c.agree(ctx, "Push the key "+key.Fingerprint()+" to", len(hosts))
	}
	if err != nil {
		return err
	}
	return c.withKeys(hosts, password, func(f *access.Fleet, d *keysDoor) error {
		d.keys[string(key.Blob)] = path
		out, err := f.Push(ctx, hosts, key, o)
		c.sayPushed(f.Report, key, out)
		return err
	})
}

// keysHosts are the chosen hosts, if asked with those on the way to them, and the users whose keys it is about.
func (c *call) keysHosts(jumps bool) ([]inventory.Host, error) {
	hosts, err := c.hosts()
	if err != nil {
		return nil, err
	}
	if hosts = slices.Clone(hosts); jumps {
		hosts = access.WithJumps(c.env, hosts)
	}
	for i := range hosts {
		hosts[i].User = cmp.Or(c.flags.String("user"), hosts[i].User, c.sys.User)
	}
	return hosts, nil
}

// withKeys begins the story and gives what looks after the keys of the hosts; all is closed at the end.
func (c *call) withKeys(hosts []inventory.Host, password func(context.Context) ([]byte, error), run func(*access.Fleet, *keysDoor) error) error {
	report, err := c.begin(event.Event{Hosts: hostNames(hosts)})
	if err != nil {
		return err
	}
	d := c.newKeysDoor(report, password)
	d.root = c.flags.Bool("as-root")
	defer d.close()
	return run(c.keysFleet(d, report), d)
}

func (c *call) keysFleet(d *keysDoor, report event.Reporter) *access.Fleet {
	return &access.Fleet{Env: c.env, Door: d, Report: report, Parallel: c.opt.Parallel, AsRoot: d.root,
		File: c.env.SSH.AuthorizedKeys, Now: c.sys.Now}
}

func (c *call) sayPushed(report event.Reporter, key access.Key, out []access.Pushed) {
	well := 0
	for _, p := range out {
		if p.Err != nil {
			continue
		}
		well++
		text := "the key was there"
		switch {
		case p.Change.Added > 0:
			text = fmt.Sprintf("%s added", plural(p.Change.Added, "key"))
		case p.Change.Replaced > 0:
			text = "the key's options are new"
		}
		if p.Change.Removed > 0 {
			text += fmt.Sprintf(", %d removed", p.Change.Removed)
		}
		if text += ", not proven: its private half is not here"; p.Proven {
			text = strings.Replace(text, ", not proven: its private half is not here", ", and it lets in", 1)
		}
		report.Report(event.Event{Type: event.HostEnd, Host: p.Host, Step: "keys", Result: "ok", Msg: "keys: " + text + " (" + p.User + ")"})
	}
	c.conclude("%s %s on %d of %s", c.mark(well == len(out)), key.Fingerprint(), well, plural(len(out), "host"))
}

// ownKey is the key to push: the path of its private half, and the public one.
func (c *call) ownKey() (string, access.Key, error) {
	name := c.flags.String("key")
	if name == "" {
		name = "~/.ssh/id_ed25519"
		if len(c.env.SSH.Keys) > 0 {
			name = c.env.SSH.Keys[0]
		}
	}
	path := c.keyPath(name)
	k, err := readPublicKey(path + ".pub")
	return path, k, err
}

// maxPublicKey bounds what is read of a file that should hold one public key.
const maxPublicKey = 64 << 10

func readPublicKey(path string) (access.Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return access.Key{}, fault.New(fault.KeyRefused, "%s cannot be read", path).Wrap(err).
			Hint("make a key with godeploy keys generate, or name one with --key").Try("godeploy keys generate")
	}
	defer f.Close() // only read from
	text, err := io.ReadAll(io.LimitReader(f, maxPublicKey))
	if err != nil {
		return access.Key{}, fault.New(fault.KeyRefused, "%s cannot be read", path).Wrap(err)
	}
	return access.ParseKey(text, path)
}

// keyPath is the private half's path for what somebody calls a key: either half, ~ allowed.
func (c *call) keyPath(name string) string {
	name = strings.TrimSuffix(name, ".pub")
	switch rest, home := strings.CutPrefix(name, "~/"); {
	case home && c.sys.Home != "":
		return filepath.Join(c.sys.Home, rest)
	case filepath.IsAbs(name):
		return name
	}
	return filepath.Join(c.sys.Dir, name)
}

func (c *call) pushOptions(ctx context.Context, path string, key access.Key) (access.PushOptions, error) {
	o := access.PushOptions{From: c.flags.StringSlice("from"), Prune: c.flags.Bool("prune")}
	_, missing := os.Stat(path)
	o.Prove = missing == nil || sshx.AgentHolds(ctx, c.sys.Env("SSH_AUTH_SOCK"), key.Blob)
	var err error
	if o.Expires, err = expiry(c.flags.String("expires"), c.sys.Now()); err != nil || !o.Prune {
		return o, err
	}
	if len(c.env.People) == 0 {
		return o, usagef("--prune removes the keys of nobody in [[people]], and there is no [[people]] in %s", c.relative(c.file.Path))
	}
	if !o.Prove {
		return o, usagef("--prune needs a key whose private half is here: it has to prove that it still lets in")
	}
	o.People, err = access.People(c.env)
	return o, err
}

// expiry reads --expires: a day, from its beginning in UTC, or a number of days from now.
func expiry(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	when, err := time.Parse("2006-01-02", text)
	if days, found := strings.CutSuffix(text, "d"); found {
		var n int
		n, err = strconv.Atoi(days)
		when = now.Add(time.Duration(min(max(n, 0), 36500)) * 24 * time.Hour)
	}
	if err != nil || !when.After(now) {
		return when, usagef("%q is no day to come for --expires", text).Hint("a date such as 2027-01-31, or a number of days such as 90d")
	}
	return when, nil
}

// passwordSource is how the password is had: from standard input, by a question, or not at all.
func (c *call) passwordSource() (func(context.Context) ([]byte, error), error) {
	if c.flags.Bool("password-stdin") {
		line, err := bufio.NewReader(io.LimitReader(c.sys.Stdin, maxAnswer)).ReadString('\n')
		secret := strings.TrimRight(line, "\r\n")
		if secret == "" {
			return nil, usagef("there is no password on standard input").Try("%s --password-stdin < FILE", c.again())
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		c.mask.Add(secret)
		return func(context.Context) ([]byte, error) { return []byte(secret), nil }, nil
	}
	tty, err := c.openTTY()
	if err != nil {
		return nil, nil // a host that takes no key says so itself
	}
	_ = tty.Close() // it is opened again when there is something to ask
	return c.askPassword, nil
}

func (c *call) askPassword(ctx context.Context) ([]byte, error) {
	tty, err := c.openTTY()
	if err != nil {
		return nil, err
	}
	defer tty.Close()
	secret, err := await(ctx, tty, func() ([]byte, error) {
		fmt.Fprintf(tty, "Password for the hosts of %s that take no key yet: ", clean(c.env.Name))
		secret, err := tty.ReadPassword()
		fmt.Fprintln(tty)
		return secret, err
	})
	if len(secret) > 0 {
		c.mask.Add(string(secret))
	}
	return secret, err
}

// typed asks for the environment's name before something that cannot be undone; --confirm gives it.
func (c *call) typed(ctx context.Context, what string) error {
	name := c.flags.String("confirm")
	if name == "" {
		tty, err := c.openTTY()
		if err != nil {
			return fault.New(fault.ConfirmNeeded, "this cannot be undone: %s", what).
				Hint("there is no terminal to ask on; --confirm %s answers it", c.env.Name).Try("%s --confirm %s", c.againSet(), c.env.Name)
		}
		defer tty.Close()
		answer, err := await(ctx, tty, func() (string, error) {
			fmt.Fprintf(tty, "%s\nType %q to go on: ", clean(what), c.env.Name)
			return readLine(tty)
		})
		if err != nil {
			return err
		}
		name = strings.TrimSpace(answer)
	}
	if name != c.env.Name {
		return fault.New(fault.ConfirmNeeded, "%q is not %q: not confirmed, nothing changed", name, c.env.Name)
	}
	return nil
}

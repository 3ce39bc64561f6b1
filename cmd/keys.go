package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"godeploy/deploy/access"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
	"godeploy/sshx"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
)

func keysCommand() *command {
	return &command{
		Name: "keys", Group: groupAccess, Usage: "who may log in, and host keys", Args: "generate | push | list | revoke | rotate | trust [ENV]",
		Examples: []string{"godeploy keys generate", "godeploy keys push prod", "godeploy keys list prod", "godeploy keys trust prod"},
		About:    "docs/keys.md tells the whole way of a key, from its making to its end.",
		Sub:      []*command{keysGenerateCommand(), keysPushCommand(), keysListCommand(), keysRevokeCommand(), keysRotateCommand(), keysTrustCommand()},
	}
}

func keysTrustCommand() *command {
	return &command{
		Name: "trust", Group: groupAccess, Usage: "read host keys, show their fingerprints, write .godeploy/known_hosts", Args: "[ENV]",
		Env: true, Story: true, Terse: true,
		Examples: []string{"godeploy keys trust prod", "godeploy keys trust prod -l app2", "godeploy keys trust prod --fingerprint SHA256:…"},
		About: "Compare the fingerprints with ones from the hosts themselves before you say yes: ssh-keygen -lf\n" +
			"/etc/ssh/ssh_host_ed25519_key.pub shows one there. Jump hosts come first, since the way to the others leads\n" +
			"through them. Commit .godeploy/known_hosts: then the question is answered for everybody.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "fingerprint", Usage: "trust exactly the keys with this `FINGERPRINT`, and ask nothing; repeatable"},
		},
		Run: runKeysTrust,
	}
}

// shown is what one host has shown, and how it stands to what was known.
type shown struct {
	host inventory.Host
	keys []sshx.HostKey
	was  string // new, known, partly new or changed
}

func runKeysTrust(ctx context.Context, c *call) error {
	hosts, err := c.hosts()
	if err != nil {
		return err
	}
	if err := c.canAnswer(); err != nil {
		return err
	}
	report, err := c.begin(event.Event{})
	if err != nil {
		return err
	}
	var faults []error
	trusted, written := 0, 0
	for _, rank := range access.Ranks(c.env, c.withUnknownJumps(hosts)) {
		all, errs := c.fetchRank(ctx, report, rank)
		faults = append(faults, errs...)
		n, err := c.trustRank(ctx, all)
		if err != nil {
			return errors.Join(append(faults, err)...)
		}
		trusted, written = trusted+len(all), written+n
	}
	c.conclude("%s in .godeploy/known_hosts, %d new or changed", plural(trusted, "host"), written)
	return errors.Join(faults...)
}

// canAnswer refuses early what would fail at the first question.
func (c *call) canAnswer() error {
	if c.opt.Yes || len(c.flags.StringSlice("fingerprint")) > 0 {
		return nil
	}
	tty, err := c.openTTY()
	if err != nil {
		return fault.New(fault.ConfirmNeeded, "trusting host keys asks for confirmation, and there is no terminal to ask on").
			Hint("name the keys you have compared with --fingerprint; --yes trusts whatever answers").
			Try("%s --fingerprint SHA256:…", c.again())
	}
	return tty.Close()
}

// withUnknownJumps adds the jump hosts of hosts whose own keys nobody has trusted yet: without them there
// is no way to the others.
func (c *call) withUnknownJumps(hosts []inventory.Host) []inventory.Host {
	known := sshx.ReadKnownHosts(c.knownHosts()...)
	all := slices.Clone(hosts)
	for i := 0; i < len(all); i++ { // all grows: a jump host may itself be reached through one
		for _, chain := range all[i].Jump {
			for _, name := range chain {
				hop, ok := c.env.Host(name)
				if ok && !hasHost(all, name) && !c.isKnown(known, hop) {
					all = append(all, hop)
				}
			}
		}
	}
	return all
}

func hasHost(hosts []inventory.Host, name string) bool {
	return slices.ContainsFunc(hosts, func(h inventory.Host) bool { return h.Name == name })
}

func (c *call) isKnown(known *sshx.KnownHosts, h inventory.Host) bool {
	return h.HostKey != "" || len(known.Lookup(c.alias(h))) > 0 || len(known.Lookup(sshx.KnownName(h.Address, h.Port))) > 0
}

func (c *call) alias(h inventory.Host) string { return c.env.Name + "/" + h.Name }

// fetchRank asks hosts for their keys. Those that do not answer come back as errors, and stop no other.
func (c *call) fetchRank(ctx context.Context, report event.Reporter, hosts []inventory.Host) ([]shown, []error) {
	pool := c.connect(report) // a new one each time: it reads known_hosts once, and the rank before has changed it
	defer pool.Close()        // nothing was sent over these connections
	known := sshx.ReadKnownHosts(c.projectKnownHosts())
	results := make([]shown, len(hosts))
	faults := make([]error, len(hosts))
	var group errgroup.Group
	group.SetLimit(c.opt.Parallel)
	for i, h := range hosts {
		group.Go(func() error {
			t, err := c.target(h)
			if err == nil {
				results[i].host = h
				results[i].keys, err = pool.FetchHostKeys(ctx, t)
				results[i].was = compare(known.Lookup(t.Alias), results[i].keys)
			}
			faults[i] = err
			return nil
		})
	}
	_ = group.Wait() // every error is in faults
	var answered []shown
	var failed []error
	for i := range hosts {
		if faults[i] != nil {
			failed = append(failed, faults[i])
		} else {
			answered = append(answered, results[i])
		}
	}
	return answered, failed
}

// compare tells how shown keys stand to the lines of the project's file.
func compare(known []sshx.KnownKey, keys []sshx.HostKey) string {
	matches := 0
	for _, k := range keys {
		if slices.ContainsFunc(known, func(line sshx.KnownKey) bool { return line.String() == k.String() }) {
			matches++
		}
	}
	switch {
	case len(known) == 0:
		return "new"
	case matches == len(keys):
		return "known"
	case matches > 0:
		return "partly new"
	default:
		return "changed"
	}
}

// trustRank shows the keys, asks once, and writes those that are new; it gives the number of hosts written.
func (c *call) trustRank(ctx context.Context, all []shown) (int, error) {
	all, err := c.byFingerprint(all)
	if err != nil {
		return 0, err
	}
	var fresh []shown
	for _, s := range all {
		if s.was != "known" {
			fresh = append(fresh, s)
		}
	}
	if len(fresh) == 0 {
		return 0, nil
	}
	if err := table(c.sys.Stderr, []string{"HOST", "KEY", "FINGERPRINT", "STATE"}, keyRows(fresh)); err != nil {
		return 0, err
	}
	if len(c.flags.StringSlice("fingerprint")) == 0 {
		if err := c.confirm(ctx, fmt.Sprintf("Trust the keys of %s of %s?", plural(len(fresh), "host"), c.env.Name)); err != nil {
			return 0, err
		}
	}
	for _, s := range fresh {
		if err := sshx.ReplaceKnownHosts(c.projectKnownHosts(), c.alias(s.host), s.keys); err != nil {
			return 0, fmt.Errorf("write %s: %w", c.relative(c.projectKnownHosts()), err)
		}
	}
	return len(fresh), nil
}

func keyRows(all []shown) [][]string {
	var rows [][]string
	for _, s := range all {
		for _, k := range s.keys {
			rows = append(rows, []string{s.host.Name, k.Type(), k.Fingerprint(), s.was})
		}
	}
	return rows
}

// byFingerprint keeps of every host the keys that --fingerprint names. A host with none of them is not
// the host that was meant.
func (c *call) byFingerprint(all []shown) ([]shown, error) {
	wanted := c.flags.StringSlice("fingerprint")
	if len(wanted) == 0 {
		return all, nil
	}
	var kept []shown
	var faults []error
	for _, s := range all {
		got := slices.Clone(s.keys)
		s.keys = slices.DeleteFunc(slices.Clone(s.keys), func(k sshx.HostKey) bool { return !slices.Contains(wanted, k.Fingerprint()) })
		if len(s.keys) > 0 {
			kept = append(kept, s)
			continue
		}
		f := fault.New(fault.SSHHostKeyUnknown, "%s shows none of the keys that --fingerprint names", s.host.Name).On(s.host.Name)
		for _, k := range got {
			f.Fact("got:  %s %s", k.Type(), k.Fingerprint())
		}
		faults = append(faults, f)
	}
	return kept, errors.Join(faults...)
}

package cmd

import (
	"context"
	"fmt"
	"os"
	"strings"

	"godeploy/deploy/access"
	"godeploy/internal/event"
	"godeploy/internal/fault"

	"github.com/urfave/cli/v2"
)

func keysListCommand() *command {
	return &command{
		Name: "list", Group: groupAccess, Usage: "who can log in where", Args: "[ENV]", Env: true, Terse: true,
		Examples: []string{"godeploy keys list prod", "godeploy keys list prod --json", "godeploy keys list prod --unknown"},
		About: "Every key in every file that sshd reads for the login user. A key of nobody in [[people]] is marked \"?\"; \"you\"\n" +
			"is a key of yours that [[people]] does not have.",
		Flags: keysFlags(&cli.BoolFlag{Name: "unknown", Usage: "only the keys of nobody in [[people]]"}),
		Run:   runKeysList,
	}
}

// keyView is one key for JSON.
type keyView struct {
	Host        string `json:"host"`
	User        string `json:"user"`
	Name        string `json:"name,omitempty"`
	Known       bool   `json:"known"`
	Type        string `json:"type"`
	Fingerprint string `json:"fingerprint"`
	Comment     string `json:"comment,omitempty"`
	Options     string `json:"options,omitempty"`
	File        string `json:"file"`
	Line        int    `json:"line"`
	CA          bool   `json:"cert_authority,omitempty"`
	Dead        string `json:"dead,omitempty"`
}

func runKeysList(ctx context.Context, c *call) error {
	hosts, err := c.keysHosts(false)
	if err != nil {
		return err
	}
	owners, err := access.People(c.env)
	if err != nil {
		return err
	}
	people := len(owners)
	owners = append(owners, c.ownKeys()...)
	d := c.newKeysDoor(event.Discard{}, nil)
	d.root = c.flags.Bool("as-root")
	defer d.close()
	list, err := c.keysFleet(d, event.Discard{}).List(ctx, hosts, owners)
	views := []keyView{}
	for _, l := range list {
		for _, n := range l.Notes {
			c.conclude("note: %s: %s", l.Host, clean(n))
		}
		for _, e := range l.Entries {
			if v := viewOf(e, owners[:people]); !v.Known || !c.flags.Bool("unknown") {
				views = append(views, v)
			}
		}
	}
	if c.looks().mode == "json" {
		if perr := c.document(views); perr != nil {
			return perr
		}
		return err
	}
	if perr := table(c.sys.Stdout, []string{"HOST", "USER", "NAME", "TYPE", "FINGERPRINT", "COMMENT", "OPTIONS"}, keyListRows(views)); perr != nil {
		return perr
	}
	return err
}

func viewOf(e access.Entry, people []access.Owner) keyView {
	v := keyView{Host: e.Host, User: e.User, Name: e.Owner, Type: e.Key.Type, Fingerprint: e.Key.Fingerprint(), Comment: e.Key.Comment,
		Options: e.Options, File: e.File, Line: e.Line, CA: e.CA, Dead: e.Dead}
	for _, p := range people {
		v.Known = v.Known || p.Key.Same(e.Key)
	}
	return v
}

func keyListRows(views []keyView) [][]string {
	var rows [][]string
	for _, v := range views {
		name := orElse(v.Name, "?")
		switch {
		case v.CA:
			name = "(certificates)"
		case v.Dead != "":
			name += " (not read)"
		}
		rows = append(rows, []string{v.Host, v.User, name, strings.TrimPrefix(v.Type, "ssh-"), v.Fingerprint, v.Comment, v.Options})
	}
	return rows
}

// ownKeys are the public keys that this machine logs in with, as far as they stand in files.
func (c *call) ownKeys() []access.Owner {
	names := c.env.SSH.Keys
	if len(names) == 0 {
		names = []string{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"}
	}
	var all []access.Owner
	for _, n := range names {
		if k, err := readPublicKey(c.keyPath(n) + ".pub"); err == nil {
			all = append(all, access.Owner{Name: "you", Key: k})
		}
	}
	return all
}

func keysRevokeCommand() *command {
	return &command{
		Name: "revoke", Group: groupAccess, Usage: "take a key off the hosts", Args: "[ENV] KEY|NAME", Env: true, MaxArgs: 1, Changes: true, Story: true,
		Examples: []string{"godeploy keys revoke prod SHA256:…", "godeploy keys revoke prod alice", "godeploy keys revoke prod old_ed25519.pub"},
		About: "KEY is a fingerprint, a .pub file, or the comment of one key; NAME is one of [[people]], all of whose keys go.\n" +
			"A host is only touched after a login with another key, so neither the key you use nor the last one goes.",
		Flags: keysFlags(
			&cli.BoolFlag{Name: "lock-out-ok", Usage: "remove it even where nobody can log in afterwards"},
			&cli.StringFlag{Name: "confirm", Usage: "the `ENV`'s name, in place of typing it"},
		),
		Run: runKeysRevoke,
	}
}

func runKeysRevoke(ctx context.Context, c *call) error {
	if len(c.words) == 0 {
		return usagef("godeploy keys revoke needs a key or a name").Hint("a fingerprint, a .pub file, a comment, or a name of [[people]]").
			Try("godeploy keys list %s", c.env.Name)
	}
	word, lockOut := c.words[0], c.flags.Bool("lock-out-ok")
	hosts, err := c.keysHosts(false)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s is taken off %s of %s.", word, plural(len(hosts), "server"), c.env.Name)
	if lockOut {
		what += " Where it is the last key nobody can log in any more."
	}
	if err := c.typed(ctx, what); err != nil {
		return err
	}
	return c.withKeys(hosts, nil, func(f *access.Fleet, _ *keysDoor) error {
		keys, err := c.keysNamed(ctx, f, word)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			c.conclude("%s no host has a key %s: nothing to do", c.mark(true), clean(word))
			return nil
		}
		out, err := f.Revoke(ctx, hosts, keys, lockOut)
		c.sayRevoked(f.Report, word, out)
		return err
	})
}

// keysNamed finds the keys that a word means: a file here, else by what the hosts and [[people]] have.
func (c *call) keysNamed(ctx context.Context, f *access.Fleet, word string) ([]access.Key, error) {
	if strings.HasSuffix(word, ".pub") {
		if _, err := os.Stat(c.keyPath(word) + ".pub"); err == nil {
			k, err := readPublicKey(c.keyPath(word) + ".pub")
			return []access.Key{k}, err
		}
	}
	owners, err := access.People(c.env)
	if err != nil {
		return nil, err
	}
	hosts, err := c.keysHosts(false)
	if err != nil {
		return nil, err
	}
	list, err := f.List(ctx, hosts, owners)
	if err != nil {
		return nil, err
	}
	return access.Named(word, list, owners)
}

func (c *call) sayRevoked(report event.Reporter, word string, out []access.Revoked) {
	removed, well := 0, 0
	for _, r := range out {
		if r.Err != nil {
			continue
		}
		well++
		removed += r.Removed
		text := "the key was not there"
		if r.Removed > 0 {
			text = plural(r.Removed, "line") + " removed"
		}
		report.Report(event.Event{Type: event.HostEnd, Host: r.Host, Step: "keys", Result: "ok",
			Msg: "keys: " + text + joined("; ", append([]string{""}, r.Notes...)...)})
		for _, n := range r.Notes {
			report.Report(event.Event{Type: event.Warn, Host: r.Host, Phase: "keys", Msg: "keys: " + n, Code: string(fault.AccountRefused)})
		}
	}
	c.conclude("%s %s: %s removed, %d of %s", c.mark(well == len(out)), clean(word), plural(removed, "line"), well, plural(len(out), "host"))
}

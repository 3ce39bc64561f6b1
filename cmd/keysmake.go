package cmd

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"godeploy/deploy/access"
	"godeploy/internal/event"
	"godeploy/internal/fault"

	"github.com/urfave/cli/v2"
)

func keysGenerateCommand() *command {
	return &command{
		Name: "generate", Group: groupAccess, Usage: "make a key pair to log in with",
		Args: "[--on-server ENV]", MaxArgs: 1,
		Examples: []string{"godeploy keys generate", "godeploy keys generate --name ci_ed25519 --comment ci@runner --no-passphrase",
			"godeploy keys generate --on-server prod"},
		About: "An ed25519 pair in OpenSSH's format: ~/.ssh/NAME, readable by you alone and locked by a passphrase that is\n" +
			"asked for, and ~/.ssh/NAME.pub. godeploy keys push brings it to the hosts.\n" +
			"With --on-server each app server gets a key of its own for the app's owner, to fetch code with: the public halves\n" +
			"are printed, the private ones never leave the servers, and a key that is there is shown, not replaced.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Value: "id_ed25519", Usage: "file `NAME` below ~/.ssh, or a path"},
			&cli.StringFlag{Name: "comment", Usage: "`TEXT` that tells whose it is; default: you@this-machine"},
			&cli.BoolFlag{Name: "no-passphrase", Usage: "whoever can read the file can use it: for machines that nobody sits at"},
			&cli.BoolFlag{Name: "force", Usage: "replace a pair that is there"},
			&cli.BoolFlag{Name: "on-server", Usage: "make it on the app servers of ENV, for the app's owner"},
		},
		Run: runKeysGenerate,
	}
}

func runKeysGenerate(ctx context.Context, c *call) error {
	if c.flags.Bool("on-server") {
		return c.deployKeys(ctx)
	}
	if len(c.words) > 0 {
		return c.leftover(c.words[0])
	}
	path, err := c.newKeyPath(c.flags.String("name"))
	if err != nil {
		return err
	}
	o := access.GenerateOptions{Comment: c.flags.String("comment"), Force: c.flags.Bool("force")}
	if o.Comment == "" {
		o.Comment = c.holder().Who
	}
	if _, err := os.Lstat(path); err == nil && !o.Force { // before anybody is asked
		return fault.New(fault.KeyRefused, "%s is there already", path).
			Hint("take another --name, or replace it with --force; hosts that let it in then no longer do")
	}
	if !c.flags.Bool("no-passphrase") {
		if o.Passphrase, err = c.newPassphrase(ctx); err != nil {
			return err
		}
		defer clear(o.Passphrase)
	}
	k, err := access.Generate(path, o)
	if err != nil {
		return err
	}
	if c.looks().mode == "json" {
		return c.document(map[string]string{"file": path, "type": k.Type, "fingerprint": k.Fingerprint(), "public": k.Public()})
	}
	if err := c.print("%s\n", k.Public()); err != nil {
		return err
	}
	c.conclude("%s %s and %s.pub, %s", c.mark(true), path, path, k.Fingerprint())
	return nil
}

// newKeyPath is where a pair goes: a bare name goes below ~/.ssh.
func (c *call) newKeyPath(name string) (string, error) {
	switch {
	case name == "" || strings.HasSuffix(name, "/") || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", usagef("%q is no name for a key file", name)
	case strings.ContainsRune(name, filepath.Separator):
		return c.keyPath(name), nil
	case c.sys.Home == "":
		return "", usagef("there is no home folder for ~/.ssh").Hint("give --name a path")
	}
	return filepath.Join(c.sys.Home, ".ssh", strings.TrimSuffix(name, ".pub")), nil
}

// newPassphrase asks for one twice.
func (c *call) newPassphrase(ctx context.Context) ([]byte, error) {
	tty, err := c.openTTY()
	if err != nil {
		return nil, fault.New(fault.ConfirmNeeded, "a new key gets a passphrase, and there is no terminal to ask for one on").
			Hint("--no-passphrase makes a key that whoever can read it can use").Try("godeploy keys generate --no-passphrase")
	}
	defer tty.Close()
	return await(ctx, tty, func() ([]byte, error) {
		var told [2][]byte
		for i, question := range []string{"Passphrase for the new key: ", "Once more: "} {
			fmt.Fprint(tty, question)
			if told[i], err = tty.ReadPassword(); err != nil {
				return nil, err
			}
			fmt.Fprintln(tty)
		}
		if len(told[0]) == 0 {
			return nil, fault.New(fault.ConfirmNeeded, "the passphrase is empty, no key was made").Hint("--no-passphrase makes a key without one")
		}
		if subtle.ConstantTimeCompare(told[0], told[1]) != 1 {
			return nil, fault.New(fault.ConfirmNeeded, "the two passphrases differ, no key was made")
		}
		return told[0], nil
	})
}

// deployKeyView is one server's own key for JSON.
type deployKeyView struct {
	Host   string `json:"host"`
	User   string `json:"user"`
	Public string `json:"public"`
}

// deployKeys shows the keys of the servers themselves, and makes those that are missing.
func (c *call) deployKeys(ctx context.Context) error {
	if c.flags.Bool("force") || c.flags.String("comment") != "" {
		return usagef("--on-server goes with neither --force nor --comment").Hint("a key on a server is never replaced")
	}
	if err := c.takeEnv(); err != nil {
		return err
	}
	name := c.flags.String("name")
	switch {
	case len(c.words) > 0:
		return c.leftover(c.words[0])
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" || name == "":
		return usagef("%q is no name for a key file on a server", name).Hint("letters, digits, _ and -")
	}
	hosts, err := c.serviceHosts()
	if err != nil {
		return err
	}
	if err := c.agree(ctx, "Make a key of their own on", len(hosts)); err != nil {
		return err
	}
	d := c.newKeysDoor(event.Discard{}, nil)
	defer d.close()
	list, err := c.keysFleet(d, event.Discard{}).DeployKeys(ctx, hosts, name)
	views, rows := []deployKeyView{}, [][]string{}
	for _, k := range list {
		if k.Err == nil {
			views = append(views, deployKeyView{k.Host, k.User, k.Key.Public()})
			rows = append(rows, []string{k.Host, k.User, k.Key.Public()})
		}
	}
	if c.looks().mode == "json" {
		return errors.Join(err, c.document(views))
	}
	return errors.Join(err, table(c.sys.Stdout, []string{"HOST", "USER", "PUBLIC KEY"}, rows))
}

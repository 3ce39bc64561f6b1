package cmd

import (
	"context"
	"fmt"
	"strings"

	"godeploy/deploy/overssh"
	"godeploy/internal/fault"
)

// sudoPassword is what starts helpers as root, one for the whole run; nil without --ask-sudo.
func (c *call) sudoPassword() *overssh.Sudo {
	if !c.opt.AskSudo {
		return nil
	}
	c.mu.Lock()
	if c.sudo != nil {
		defer c.mu.Unlock()
		return c.sudo
	}
	s := overssh.NewSudo(c.askSudoPassword)
	c.sudo = s
	c.mu.Unlock()
	c.atEnd(s.Forget)
	return s
}

func (c *call) askSudoPassword(ctx context.Context) ([]byte, error) {
	tty, err := c.openTTY()
	if err != nil {
		return nil, fault.New(fault.SudoNeeded, "--ask-sudo asks for a password, and there is no terminal to ask on").
			Hint("let sudo run what is needed without one; this prints the rules").Try("godeploy doctor --sudoers")
	}
	defer tty.Close()
	secret, err := await(ctx, tty, func() ([]byte, error) {
		fmt.Fprintf(tty, "sudo password for the hosts of %s: ", clean(c.env.Name))
		secret, err := tty.ReadPassword()
		fmt.Fprintln(tty)
		return secret, err
	})
	if err == nil && len(secret) == 0 {
		err = fault.New(fault.SudoNeeded, "no sudo password was given")
	}
	if err == nil {
		c.mask.Add(string(secret))
	}
	return secret, err
}

// mayAskSudo refuses --ask-sudo where it would mean nothing, or something else than it says.
func (c *call) mayAskSudo() error {
	if !c.opt.AskSudo {
		return nil
	}
	switch name := c.leaf.name(); {
	case strings.HasPrefix(name, "keys "):
		return usagef("godeploy %s takes no --ask-sudo", name).Hint("the keys are those of the login itself; --as-root is for those of others")
	case oneOf(name, []string{"ssh", "console", "exec", "logs", "demo"}), name == "doctor" && !c.flags.Bool("sudoers"):
		return usagef("godeploy %s takes no --ask-sudo", name).Hint("it acts as the login, without the helper")
	}
	return nil
}

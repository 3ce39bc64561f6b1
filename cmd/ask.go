package cmd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"godeploy/internal/fault"

	"github.com/urfave/cli/v2"
)

// maxAnswer bounds what is read as the answer to a question.
const maxAnswer = 4096

// confirm asks a yes-or-no question on the terminal; nothing and anything but yes mean no. --yes answers
// it. Without a terminal, or with --no-input, it is refused with the flag to add.
func (c *call) confirm(ctx context.Context, question string) error {
	if c.opt.Yes {
		return nil
	}
	tty, err := c.openTTY()
	if err != nil {
		return fault.New(fault.ConfirmNeeded, "this asks for confirmation: %s", question).
			Hint("there is no terminal to ask on; --yes answers it").
			Try("%s --yes", c.again())
	}
	defer tty.Close()
	answer, err := await(ctx, tty, func() (string, error) {
		fmt.Fprintf(tty, "%s [y/N] ", question)
		return readLine(tty)
	})
	if err != nil {
		return err
	}
	if !oneOf(strings.ToLower(strings.TrimSpace(answer)), []string{"y", "yes"}) {
		return fault.New(fault.ConfirmNeeded, "not confirmed, nothing changed")
	}
	return nil
}

// again is the command line without its flags, for a hint.
func (c *call) again() string {
	words := []string{"godeploy", c.leaf.name()}
	if c.env != nil {
		words = append(words, c.env.Name)
	}
	return strings.Join(append(words, c.words...), " ")
}

// againSet is again with the switches of the command that were set: without them it would be another one.
func (c *call) againSet() string {
	text := c.again()
	for _, f := range c.leaf.cmd.Flags {
		if _, is := f.(*cli.BoolFlag); is && c.flags.Bool(f.Names()[0]) {
			text += " --" + f.Names()[0]
		}
	}
	return text
}

// openTTY gives the terminal, unless nobody may be asked.
func (c *call) openTTY() (TTY, error) {
	if c.opt.NoInput || c.sys.OpenTTY == nil {
		return nil, fmt.Errorf("nobody to ask")
	}
	return c.sys.OpenTTY()
}

// passphrase asks for the passphrase of a key file. It is what sshx calls, once for each key and run.
func (c *call) passphrase(ctx context.Context, key string) ([]byte, error) {
	tty, err := c.openTTY()
	if err != nil {
		return nil, fault.New(fault.SSHAuth, "%s is encrypted and not in the agent", key).
			Hint("there is no terminal to ask for its passphrase on").Try("ssh-add %s", key)
	}
	defer tty.Close()
	return await(ctx, tty, func() ([]byte, error) {
		fmt.Fprintf(tty, "Passphrase for %s: ", clean(key))
		secret, err := tty.ReadPassword()
		fmt.Fprintln(tty)
		return secret, err
	})
}

// await runs a question that blocks on the terminal. When ctx ends first, the terminal is put back and
// the read is left behind: nothing but the end of the process can end it.
func await[T any](ctx context.Context, tty TTY, ask func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	got := make(chan answer, 1)
	go func() {
		v, err := ask()
		got <- answer{v, err}
	}()
	select {
	case a := <-got:
		return a.value, a.err
	case <-ctx.Done():
		tty.Restore()
		var none T
		return none, context.Cause(ctx)
	}
}

func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxAnswer)).ReadString('\n')
	if err == io.EOF {
		err = nil // no answer is "no"
	}
	return line, err
}

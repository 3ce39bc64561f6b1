package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"godeploy/internal/fault"

	"github.com/urfave/cli/v2"
)

// termGrace is how long a run may take to reach a safe point after SIGTERM: CI systems send SIGKILL
// some 7 to 10 s after it.
const termGrace = 6 * time.Second

// Main runs one command line, args[0] being the program's own name, and gives its exit code. It
// returns when the command has ended, or at once on the second signal; what still runs then ends
// with the process.
func Main(args []string, sys System) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	c := &call{sys: sys, cancel: cancel}
	c.settleLook(options{})
	done := make(chan error, 1)
	go func() { done <- c.execute(ctx, args[min(1, len(args)):]) }()
	sig, err := c.wait(done)
	return c.finish(err, sig)
}

// interruption is the signal that ended a run.
type interruption struct{ sig os.Signal }

func (i interruption) exit() int {
	if i.sig == os.Interrupt {
		return exitInterrupt
	}
	return exitTerminated
}

// wait waits for the command, and for signals meanwhile. The signal it returns is the first one.
func (c *call) wait(done <-chan error) (os.Signal, error) {
	var first os.Signal
	var grace <-chan time.Time
	for {
		select {
		case err := <-done:
			return first, err
		case sig := <-c.sys.Signals:
			if first != nil {
				return first, c.drop(first)
			}
			first = sig
			c.interrupt(sig)
			if sig == syscall.SIGTERM {
				timer := time.NewTimer(termGrace)
				defer timer.Stop()
				grace = timer.C
			}
		case <-grace:
			return first, c.drop(first)
		}
	}
}

func (c *call) drop(sig os.Signal) error {
	c.abandoned = true
	return fault.New(fault.Interrupted, "stopped at once, before a safe point was reached").
		Hint("locks end with the connections; what each host serves is not known from here").
		Try("godeploy status")
}

// interrupt asks the command to stop at the next safe point.
func (c *call) interrupt(sig os.Signal) {
	c.sayInterrupted(sig)
	by := "Ctrl-C"
	if sig != os.Interrupt {
		by = "SIGTERM"
	}
	c.cancel(fault.New(fault.Interrupted, "stopped by %s", by))
}

// execute reads the line and runs the command.
func (c *call) execute(ctx context.Context, args []string) error {
	tree := commands()
	l, err := permute(tree, args)
	if err != nil {
		c.guessMode(l)
		return err
	}
	l.global = append(c.environment(l), l.global...)
	switch {
	case l.version:
		return c.printVersion()
	case l.help:
		return c.printHelp(l.leaf)
	}
	return c.dispatch(ctx, tree, l)
}

// dispatch lets urfave/cli parse the sorted line and runs the command it leads to.
func (c *call) dispatch(ctx context.Context, tree []*command, l line) error {
	app := newApp(tree, func(lf leaf, flags *cli.Context) error { return c.start(ctx, lf, l, flags) })
	return app.RunContext(ctx, l.argv())
}

// environment gives the flags that environment variables set. They stand in front, so that the
// flags of the line win; a list is replaced, not added to.
func (c *call) environment(l line) []string {
	var all []string
	for _, pair := range fromEnvironment() {
		value := c.sys.Env(pair[1])
		if value == "" || given(l.global, pair[0]) || (pair[0] == "output" && given(l.global, "json")) {
			continue
		}
		if pair[0] == "no-input" {
			value = strconv.FormatBool(truthy(value))
		}
		all = append(all, "--"+pair[0]+"="+value)
	}
	return all
}

func given(flags []string, name string) bool {
	for _, f := range flags {
		if len(f) > len(name)+2 && f[2:len(name)+2] == name && f[len(name)+2] == '=' {
			return true
		}
	}
	return false
}

// truthy is how people switch things on in environments: anything but 0, no, false and off.
func truthy(s string) bool {
	return !oneOf(s, []string{"", "0", "no", "false", "off"})
}

// guessMode finds out how errors of a line that could not be read should look.
func (c *call) guessMode(l line) {
	o := options{}
	if given(l.global, "json") {
		o.Output = "json"
	}
	c.leaf = l.leaf
	c.settleLook(o)
}

// start is the action of every command: options, environment, words, then the command's own part.
func (c *call) start(ctx context.Context, lf leaf, l line, flags *cli.Context) error {
	c.leaf, c.flags, c.words, c.rest, c.hasRest = lf, flags, flags.Args().Slice(), l.rest, l.hasRest
	c.opt = readOptions(flags)
	if err := c.opt.check(); err != nil {
		return err
	}
	c.settleLook(c.opt)
	if err := errors.Join(c.takeWords(), c.mayAskSudo()); err != nil {
		return err
	}
	if c.opt.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, c.opt.Timeout, errTimeout(c.opt.Timeout))
		defer stop()
	}
	return explainCancel(ctx, lf.cmd.Run(ctx, c))
}

func errTimeout(d time.Duration) error {
	return fault.New(fault.Interrupted, "the run took longer than --timeout %s", d)
}

// explainCancel says why a context ended, where the error only says that it did.
func explainCancel(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err == nil || cause == nil {
		return err
	}
	var o *outcome
	var f *fault.Error
	if errors.As(err, &o) || errors.As(err, &f) {
		return err // whoever made it knows more than the context does
	}
	if errors.As(cause, &f) {
		return f
	}
	return fault.New(fault.Interrupted, "%v", cause)
}

// finish closes the story and prints what went wrong; it gives the exit code.
func (c *call) finish(err error, sig os.Signal) int {
	c.undo()
	code := codeOf(err)
	if err != nil && sig != nil {
		code = interruption{sig}.exit()
	}
	if o := (*outcome)(nil); errors.As(err, &o) && o.Err == nil {
		err = &outcome{Code: code, Result: o.Result}
	}
	c.closeStory(err, code)
	if text := c.errorText(err); text != "" {
		fmt.Fprint(c.sys.Stderr, text)
	}
	return code
}

package cmd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"godeploy/internal/fault"

	"github.com/urfave/cli/v2"
)

func demoCommand() *command {
	return &command{
		Name: "demo", Group: groupStart, Usage: "watch releases, a failure and a rollback on four servers inside this process",
		Examples: []string{"godeploy demo", "godeploy demo --keep"},
		About: "Needs no server, no root and no network: four SSH servers in this process, on loopback addresses of their own,\n" +
			"each with a temporary folder as its disk. What runs on them are the real commands, the real sync, switch,\n" +
			"health check and rollback, while customers ask the shop for pages. Takes about ten seconds and leaves nothing\n" +
			"behind. Exit 0 only if everything went as told and no customer got an error. Linux only.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "keep", Usage: "go on running until Ctrl-C, to try things out, and leave the files"},
		},
		Run: runDemo,
	}
}

// demo is one showing.
type demo struct {
	c     *call
	fleet *demoFleet
	load  *demoLoad
	ids   []string // of the releases, in the order in which they were made
	seen  demoSeen
}

func runDemo(ctx context.Context, c *call) error {
	switch {
	case runtime.GOOS != "linux":
		return fault.New(fault.Usage, "the demo runs on Linux only, this is %s", runtime.GOOS).
			Hint("its servers look at processes under /proc; a Linux container will do")
	case c.opt.DryRun:
		return usagef("godeploy demo has nothing to plan: it touches no server of yours").Try("godeploy demo")
	}
	began := c.sys.Now()
	fleet, err := newDemoFleet()
	if err != nil {
		return err
	}
	d := &demo{c: c, fleet: fleet}
	keep := c.flags.Bool("keep")
	err = d.play(ctx)
	if err == nil {
		took := c.sys.Now().Sub(began)
		d.summary(took)
		if keep {
			d.playground()
			<-ctx.Done() // Ctrl-C is how this is meant to end
		}
		d.farewell(keep)
		err = d.document(took.Milliseconds())
	}
	if err != nil && keep {
		c.conclude("The files stay in %s", fleet.dir)
	}
	return errors.Join(err, fleet.close(keep))
}

// play tells the story, one act after another. Whatever happens, no customer is left running.
func (d *demo) play(ctx context.Context) error {
	defer func() {
		if d.load != nil {
			d.load.finish()
		}
	}()
	d.opening()
	for _, act := range []func(context.Context) error{d.trust, d.first, d.second, d.broken, d.back, d.look} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) trust(ctx context.Context) error {
	d.say("1. Nobody knows these servers yet. Their host keys are read once, and checked ever after.")
	_, err := d.godeploy(ctx, exitDone, "keys", "trust", "demo", "--yes")
	return err
}

func (d *demo) first(ctx context.Context) error {
	d.say("2. Version 1 of the shop goes out. The helper that works on the servers is pushed on the way.")
	return d.release(ctx, 1)
}

func (d *demo) second(ctx context.Context) error {
	d.say("3. The shop is open: %d customers a second, each with a connection of their own, and nobody tries twice. "+
		"Version 2 goes out meanwhile, server after server.", demoRate)
	d.open(ctx)
	return d.release(ctx, 2)
}

// release brings out a version that works.
func (d *demo) release(ctx context.Context, version int) error {
	if err := d.fleet.version(version, false); err != nil {
		return err
	}
	out, err := d.godeploy(ctx, exitDone, "release", "demo")
	if err != nil {
		return err
	}
	id := strings.TrimSpace(out)
	d.ids = append(d.ids, id)
	return d.allOn(id)
}

func (d *demo) broken(ctx context.Context) error {
	d.say("4. Version 3 is broken: it starts, but its health check answers 500. This is meant to fail.")
	if err := d.fleet.version(3, true); err != nil {
		return err
	}
	if _, err := d.godeploy(ctx, exitWholeOnOld, "release", "demo"); err != nil {
		return err
	}
	d.say("It ended with exit code %d: failed, and every server is on the old release. Only web1 ever left it.", exitWholeOnOld)
	return d.allOn(d.ids[1])
}

func (d *demo) back(ctx context.Context) error {
	d.say("5. Version 2 is healthy, but say nobody likes it: back to version 1. Nothing has to be sent.")
	out, err := d.godeploy(ctx, exitDone, "rollback", "demo")
	if err != nil {
		return err
	}
	if id := strings.TrimSpace(out); id != d.ids[0] {
		return wrong("the rollback went to %s, not to %s", id, d.ids[0])
	}
	d.seen = d.load.finish()
	return d.allOn(d.ids[0])
}

func (d *demo) look(ctx context.Context) error {
	d.say("6. What do the servers have now? --exit-code makes it an error when one of them differs.")
	if _, err := d.godeploy(ctx, exitDone, "status", "demo", "--exit-code"); err != nil {
		return err
	}
	if err := d.seen.check(); err != nil {
		return wrong("%d of %s failed", d.seen.Failed, plural(d.seen.Requests, "request")).Wrap(err)
	}
	for i, id := range d.ids {
		if d.seen.Releases[id] == 0 {
			return wrong("no customer saw version %d", i+1)
		}
	}
	return nil
}

// open lets customers in, in proportion to the servers' weights.
func (d *demo) open(ctx context.Context) {
	var urls []string
	var weights []int
	for i := range demoServers {
		urls, weights = append(urls, "http://"+d.fleet.listen(i)+"/"), append(weights, d.fleet.weight(i))
	}
	d.load = startLoad(ctx, urls, weights)
}

// allOn looks at the servers' own disks: a demo that believed what the commands say would show nothing.
func (d *demo) allOn(id string) error {
	for i := range demoServers {
		if got := d.fleet.current(i); got != id {
			return wrong("%s has %s as current, not %s", d.fleet.name(i), orElse(got, "nothing"), id)
		}
	}
	return nil
}

func wrong(format string, args ...any) *fault.Error {
	return fault.New(fault.Internal, "the demo did not go as it should: "+format, args...).
		Hint("godeploy demo --keep leaves the servers' folders to look at")
}

// godeploy runs a command line as it is shown, in this process, and gives what it wrote to stdout.
func (d *demo) godeploy(ctx context.Context, want int, words ...string) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	d.line("")
	d.line("%s", d.c.looks().paint(bold, "$ godeploy "+strings.Join(words, " ")))
	signals := make(chan os.Signal, 1)
	stop := context.AfterFunc(ctx, func() { signals <- os.Interrupt })
	defer stop()
	var out bytes.Buffer
	code := Main(append(append([]string{"godeploy"}, words...), d.style()...), d.system(signals, &out))
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if code != want {
		return "", wrong("godeploy %s ended with %d, not with %d", strings.Join(words, " "), code, want)
	}
	return out.String(), nil
}

// style passes on how the user wants things drawn.
func (d *demo) style() []string {
	o := d.c.opt
	flags := []string{"--color=" + o.Color, "--output=" + o.Output}
	if o.Output == "json" {
		flags[1] = "--output=plain"
	}
	for range o.Verbose {
		flags = append(flags, "-v")
	}
	if o.Quiet {
		flags = append(flags, "-q")
	}
	if o.ASCII {
		flags = append(flags, "--ascii")
	}
	return flags
}

// system is the user's machine with a project and a home of the demo's own: none of the user's settings,
// keys or known hosts has a part in it.
func (d *demo) system(signals <-chan os.Signal, out io.Writer) System {
	sys := d.c.sys
	stdout := sys.Stdout
	if d.c.looks().mode == "json" {
		stdout = sys.Stderr // stdout is for the document
	}
	outer := sys.Env
	sys.Env = func(name string) string {
		if strings.HasPrefix(name, "GODEPLOY_") || name == "SSH_AUTH_SOCK" {
			return ""
		}
		return outer(name)
	}
	sys.Stdin, sys.Stdout, sys.OpenTTY = strings.NewReader(""), io.MultiWriter(out, unread{stdout}), nil
	sys.Dir, sys.Home, sys.Signals = d.fleet.project(), filepath.Join(d.fleet.dir, "home"), signals
	sys.User = orElse(sys.User, "you")
	return sys
}

// unread is an output that may be closed: the show goes on without it.
type unread struct{ io.Writer }

func (u unread) Write(p []byte) (int, error) {
	_, _ = u.Writer.Write(p) // as above
	return len(p), nil
}

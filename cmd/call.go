package cmd

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"godeploy/deploy"
	"godeploy/deploy/overssh"
	"godeploy/inventory"

	"github.com/urfave/cli/v2"
)

// call is one command line on its way: what a command gets to work with.
type call struct {
	sys     System
	cancel  func(error)
	leaf    leaf
	flags   *cli.Context // the command's own flags
	opt     options      // the global ones
	words   []string     // what stands behind the verb, ENV taken off
	rest    []string     // what follows "--", for commands that take it
	hasRest bool

	file      *inventory.File // after ENV was looked for
	env       *inventory.Env  // nil when the command takes none
	envChosen string          // where the environment comes from, when the line does not name it

	mask deploy.Mask // hides the secrets that the command came to know

	abandoned bool // the command still runs, and nothing of it may be looked at; Main's own

	mu      sync.Mutex // guards what follows, which signals look at while the command runs
	drawn   look
	story   *story
	closing []string
	data    bytes.Buffer // for stdout, once the story has ended
	runFile string
	sudo    *overssh.Sudo // with --ask-sudo, when a host was connected
	undoing []func()      // what the terminal needs at the end, however the command ends
}

// looks says how output is drawn; any goroutine may ask.
func (c *call) looks() look {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drawn
}

// settleLook decides how output is drawn, as far as that is known by now.
func (c *call) settleLook(o options) {
	l := newLook(o, c.sys)
	l.lines = c.leaf.cmd == nil || c.leaf.cmd.Story
	l.terse = c.leaf.cmd != nil && c.leaf.cmd.Terse && o.Verbose == 0
	c.mu.Lock()
	c.drawn = l
	c.mu.Unlock()
}

// atEnd keeps something to do when the command is over or given up.
func (c *call) atEnd(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.undoing = append(c.undoing, do)
}

func (c *call) undo() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, do := range c.undoing {
		do()
	}
}

func (c *call) told() *story {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.story
}

// takeWords finds the environment and refuses words that nobody takes.
func (c *call) takeWords() error {
	spec := c.leaf.cmd
	if c.hasRest && !spec.Rest {
		c.words = append(c.words, c.rest...)
		c.rest, c.hasRest = nil, false
	}
	for _, w := range c.words {
		if strings.HasPrefix(w, "-") && w != "-" {
			return usagef("%q looks like a flag but stands where a word belongs", w).Hint("flags stand before --")
		}
	}
	if spec.Env {
		if err := c.takeEnv(); err != nil {
			return err
		}
	}
	if spec.MaxArgs >= 0 && len(c.words) > spec.MaxArgs {
		return c.leftover(c.words[spec.MaxArgs])
	}
	return nil
}

// takeEnv: the first word is the environment if it names one; else GODEPLOY_ENV, default_env or the only
// one, and the word is the command's own argument.
func (c *call) takeEnv() error {
	file, err := c.load()
	if err != nil {
		return err
	}
	name := ""
	switch {
	case len(c.words) > 0 && slices.Contains(file.EnvNames(), c.words[0]):
		name, c.words = c.words[0], c.words[1:]
	case len(c.words) > c.leaf.cmd.MaxArgs && c.leaf.cmd.MaxArgs >= 0:
		name = c.words[0] // one word too many: it can only be a name that was mistyped
		c.words = c.words[1:]
	case c.sys.Env("GODEPLOY_ENV") != "":
		name, c.envChosen = c.sys.Env("GODEPLOY_ENV"), "GODEPLOY_ENV"
	default:
		c.envChosen = "the only one in the file"
		if file.DefaultEnv() != "" {
			c.envChosen = "default_env"
		}
	}
	if c.env, err = file.Env(name); err != nil {
		return err
	}
	var missing []error
	for _, n := range file.NotBuiltFor(c.leaf.path[0], c.env.Name) {
		missing = append(missing, n.Fault())
	}
	return errors.Join(missing...)
}

func (c *call) leftover(word string) error {
	f := usagef("godeploy %s takes no further word, but got %q", c.leaf.name(), word)
	if c.leaf.cmd.Rest {
		return f.Hint("a command for the hosts stands after --").
			Try("godeploy %s -- %s", c.leaf.name(), strings.Join(c.words, " "))
	}
	return f.Hint("usage: godeploy %s", joined(" ", c.leaf.name(), c.leaf.cmd.Args)).
		Try("godeploy help %s", c.leaf.name())
}

// load reads godeploy.toml, once.
func (c *call) load() (*inventory.File, error) {
	if c.file != nil {
		return c.file, nil
	}
	path := c.opt.Config
	if path == "" {
		found, err := inventory.Find(c.sys.Dir)
		if err != nil {
			return nil, err
		}
		path = found
	} else if !filepath.IsAbs(path) {
		path = filepath.Join(c.sys.Dir, path)
	}
	file, err := inventory.Load(path)
	if err != nil {
		return nil, err
	}
	c.file = file
	return file, nil
}

// hosts gives the hosts of the environment that --limit leaves over, in the order of the file.
func (c *call) hosts() ([]inventory.Host, error) {
	if len(c.opt.Limit) == 0 {
		return c.env.Hosts, nil
	}
	failed, err := c.failedHosts()
	if err != nil {
		return nil, err
	}
	return c.env.Select(c.opt.Limit, failed)
}

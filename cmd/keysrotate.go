package cmd

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"godeploy/deploy/access"
	"godeploy/internal/fault"

	"github.com/urfave/cli/v2"
)

func keysRotateCommand() *command {
	return &command{
		Name: "rotate", Group: groupAccess, Usage: "replace your key on every host by a new one", Args: "[ENV]", Env: true, Changes: true, Story: true,
		Examples: []string{"godeploy keys rotate prod", "godeploy keys rotate prod --key ~/.ssh/ci_ed25519 --no-passphrase"},
		About: "Makes a pair beside the old one, brings it to every host and proves it there, then takes its place, and takes the\n" +
			"old key off. At every instant each host lets in one of the two. A run that stops is gone on with by the same\n" +
			"command: how far it came stands in .godeploy/rotate-ENV.json. The old pair is kept as FILE.old.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "the key `FILE` to replace; default: the first of [ssh] keys, or ~/.ssh/id_ed25519"},
			&cli.BoolFlag{Name: "no-passphrase", Usage: "the new key gets none"},
		},
		Run: runKeysRotate,
	}
}

func runKeysRotate(ctx context.Context, c *call) error {
	if len(c.opt.Limit) > 0 {
		return usagef("keys rotate takes no --limit").Hint("a key that is new on some hosts only would lock you out of the others")
	}
	hosts, err := c.keysHosts(true)
	if err != nil {
		return err
	}
	if err := c.agree(ctx, "Rotate the key of", len(hosts)); err != nil {
		return err
	}
	r, secret, err := c.rotation(ctx)
	if err != nil {
		return err
	}
	return c.withKeys(hosts, nil, func(f *access.Fleet, d *keysDoor) error {
		d.keys[string(r.New.Blob)], d.keys[string(r.Old.Blob)] = r.NewPath(), r.OldPath()
		if len(secret) > 0 {
			d.pass.told[r.NewPath()], d.pass.told[r.Path] = slices.Clone(secret), slices.Clone(secret)
		}
		if err := f.Rotate(ctx, hosts, r, c.saveRotation); err != nil {
			c.conclude("%s the rotation is not over: the same command goes on with it; %s lets in everywhere", c.mark(false), r.Path)
			return err
		}
		if err := os.Remove(c.rotationFile()); err != nil {
			return err
		}
		c.conclude("%s %s is %s on %s; the old pair is %s and lets in nowhere", c.mark(true), r.Path, r.New.Fingerprint(),
			plural(len(hosts), "host"), r.OldPath())
		return nil
	})
}

// rotationFile is where a rotation is kept between runs.
func (c *call) rotationFile() string {
	return filepath.Join(c.file.Dir, ".godeploy", "rotate-"+c.env.Name+".json")
}

func (c *call) saveRotation(r access.Rotation) error { return access.SaveRotation(c.rotationFile(), r) }

// rotation is the one that a run before has left, or a new one with its pair made; then secret is the pair's
// passphrase.
func (c *call) rotation(ctx context.Context) (r *access.Rotation, secret []byte, err error) {
	r, err = access.LoadRotation(c.rotationFile())
	if errors.Is(err, fs.ErrNotExist) {
		return c.newRotation(ctx)
	}
	return r, nil, err
}

// newRotation makes the new pair and keeps the rotation before anything leaves this machine.
func (c *call) newRotation(ctx context.Context) (*access.Rotation, []byte, error) {
	path, old, err := c.ownKey()
	if err != nil {
		return nil, nil, err
	}
	if err := c.mayRotate(path); err != nil {
		return nil, nil, err
	}
	r := &access.Rotation{Path: path, Old: old, Stage: access.StageMade}
	o := access.GenerateOptions{Comment: old.Comment, Force: true} // one that no rotation knows was brought to no host
	if !c.flags.Bool("no-passphrase") {
		if o.Passphrase, err = c.newPassphrase(ctx); err != nil {
			return nil, nil, err
		}
	}
	if r.New, err = access.Generate(r.NewPath(), o); err != nil {
		return nil, nil, err
	}
	return r, o.Passphrase, c.saveRotation(*r)
}

// mayRotate wants a key file that this environment logs in with, and no other one.
func (c *call) mayRotate(path string) error {
	if _, err := os.Stat(path); err != nil {
		return fault.New(fault.KeyRefused, "the private half %s is not here", path).Wrap(err).Hint("only a key in a file can be rotated, not one in an agent or on a token")
	}
	uses := func(keys []string) bool {
		return slices.ContainsFunc(keys, func(name string) bool { return c.keyPath(name) == path })
	}
	if len(c.env.SSH.Keys) > 0 && !uses(c.env.SSH.Keys) || len(c.env.SSH.Keys) == 0 && path != c.keyPath("~/.ssh/id_ed25519") {
		return usagef("%s does not log in with %s", c.env.Name, path).Hint("name it in [env.%s.ssh] keys", c.env.Name)
	}
	for _, name := range c.file.EnvNames() {
		if other, err := c.file.Env(name); name != c.env.Name && err == nil && uses(other.SSH.Keys) {
			return usagef("%s logs in with %s too, and would be locked out", name, path).
				Hint("give %s a key of its own first: godeploy keys generate, keys push %s --key FILE, then [env.%s.ssh] keys", name, name, name)
		}
	}
	return nil
}

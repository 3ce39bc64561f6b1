package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"godeploy/deploy/balance"

	"github.com/urfave/cli/v2"
)

func nginxCommand() *command {
	return &command{
		Name: "nginx", Group: groupTraffic, Usage: "the nginx hosts before the app: their file, and who gets traffic", Args: "render|diff|push|drain|undrain|status [ENV]",
		Examples: []string{"godeploy nginx render prod", "godeploy nginx diff prod", "godeploy nginx push prod", "godeploy nginx drain prod app3", "godeploy nginx status prod"},
		Sub:      []*command{nginxRenderCommand(), nginxDiffCommand(), nginxPushCommand(), nginxDrainCommand(), nginxUndrainCommand(), nginxStatusCommand()},
	}
}

func nginxRenderCommand() *command {
	return &command{
		Name: "render", Group: groupTraffic, Usage: "print the nginx file that godeploy.toml makes", Args: "[ENV]", Env: true,
		Examples: []string{"godeploy nginx render prod", "godeploy nginx render prod --dir /tmp/nginx"},
		About: "Reaches no server: every app host is in service in what it prints. With [nginx] main_file that file follows,\n" +
			"after a line with its name.",
		Flags: []cli.Flag{&cli.StringFlag{Name: "dir", Usage: "write the files into `DIR`, under their names, instead"}},
		Run:   runNginxRender,
	}
}

func runNginxRender(_ context.Context, c *call) error {
	files, err := balance.Render(c.env, balance.State{})
	if err != nil {
		return err
	}
	if dir := c.flags.String("dir"); dir != "" {
		return c.writeFiles(dir, files)
	}
	if c.looks().mode == "json" {
		return c.document(renderedFiles(files))
	}
	for i, f := range files {
		if i > 0 {
			fmt.Fprintf(c.sys.Stdout, "\n# %s\n", f.Path)
		}
		if _, err := c.sys.Stdout.Write(f.Content); err != nil {
			return err
		}
	}
	return nil
}

// renderedFile is one element of `nginx render --json`.
type renderedFile struct {
	Path    string `json:"path"`
	Content string `json:"content"`
}

func renderedFiles(files []balance.File) []renderedFile {
	var all []renderedFile
	for _, f := range files {
		all = append(all, renderedFile{f.Path, string(f.Content)})
	}
	return all
}

func (c *call) writeFiles(dir string, files []balance.File) error {
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(c.sys.Dir, dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(dir, filepath.Base(f.Path))
		if err := writeWhole(path, f.Content); err != nil {
			return err
		}
		c.conclude("%s wrote %s", c.mark(true), clean(path))
	}
	return nil
}

// writeWhole puts a file in the place of another in one step.
func writeWhole(path string, content []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".godeploy-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(content)
	err = errors.Join(err, temp.Chmod(0o644), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

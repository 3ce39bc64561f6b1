package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"godeploy/deploy/balance"

	"github.com/urfave/cli/v2"
)

func nginxCommand() *command {
	return &command{
		Name: "nginx", Group: groupTraffic, Usage: "the nginx hosts before the app: their file, and who gets traffic", Args: "render|diff|push|drain|undrain|status [ENV]",
		Examples: []string{"godeploy nginx render prod", "godeploy nginx diff prod", "godeploy nginx push prod", "godeploy nginx drain prod app3", "godeploy nginx status prod"},
		Sub:      trafficCommands("nginx"),
	}
}

func balancerCommand() *command {
	return &command{
		Name: "balancer", Group: groupTraffic, Usage: "the same for [balancer] kind, be it nginx or HAProxy", Args: "render|diff|push|drain|undrain|status [ENV]",
		Examples: []string{"godeploy balancer render prod", "godeploy balancer push prod", "godeploy balancer drain prod app3", "godeploy balancer status prod"},
		Sub:      trafficCommands("balancer"),
	}
}

// trafficCommands are the commands of both groups. Those of nginx refuse an environment behind HAProxy.
func trafficCommands(group string) []*command {
	list := []*command{nginxRenderCommand(), nginxDiffCommand(), nginxPushCommand(), nginxDrainCommand(), nginxUndrainCommand(), nginxStatusCommand()}
	for _, one := range list {
		if group == "balancer" {
			for i, e := range one.Examples {
				one.Examples[i] = strings.Replace(e, "godeploy nginx", "godeploy balancer", 1)
			}
			one.Usage = strings.NewReplacer("nginx push", "balancer push", "the nginx file", "the balancer's file", "every nginx host", "every host of it", "nginx", "the balancer").Replace(one.Usage)
			one.About = balancerAbout(one.Name)
			continue
		}
		run := one.Run
		one.Run = func(ctx context.Context, c *call) error {
			if c.env.Balancer.Kind != "nginx" {
				return usagef("%s stands behind %s", c.env.Name, c.env.BalancerTitle()).Try("godeploy balancer %s %s", one.Name, c.env.Name)
			}
			return run(ctx, c)
		}
	}
	return list
}

func balancerAbout(verb string) string {
	more := map[string]string{
		"render": "Reaches no server: every app host is in service in what it prints.",
		"diff":   "Changes nothing. Exit 0 whatever it finds; with --exit-code 3 when a file or what is loaded differs.",
		"push": "The balancer tests the file on each host beside the live one. Then host after host swaps it in and loads it; when\n" +
			"one does not, all go back. A file that somebody has edited is named and left alone.",
		"drain": "Takes the servers out on every host of the balancer or on none, and returns when no request is open there.\n" +
			"Exit 8 when requests were still open after --wait: the servers are drained all the same.",
		"undrain": "Each server must serve its release, proven and healthy, before it gets requests again.",
		"status":  "Changes nothing and takes no lock. nginx is counted by its access logs, HAProxy by its own counters since its\nlast reload.",
	}[verb]
	return more + "\nSee docs/nginx.md, docs/haproxy.md and docs/drain.md."
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

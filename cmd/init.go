package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"godeploy/internal/fault"
	"godeploy/inventory"

	"github.com/urfave/cli/v2"
)

func initCommand() *command {
	return &command{
		Name: "init", Group: groupStart, Usage: "write a first godeploy.toml", Args: "[DIR]", MaxArgs: 1,
		Examples: []string{"godeploy init --hosts web1=192.0.2.10,web2=192.0.2.11", "godeploy init --app shop --stdout"},
		About: "Writes the smallest file that releases: app, unit, health check, servers. Every other key has a default and\n" +
			"stands in docs/config.md. A godeploy.toml that is there stays unless --force is given.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "hosts", Usage: "servers as `LIST`: name=address or address, with commas between them"},
			&cli.StringFlag{Name: "app", Usage: "short `NAME` of the app; default: the folder's"},
			&cli.StringFlag{Name: "path", Usage: "`FOLDER` of the app on the servers; default: /opt/NAME"},
			&cli.StringFlag{Name: "user", Value: "deploy", Usage: "login `USER` on the servers"},
			&cli.BoolFlag{Name: "stdout", Usage: "print the file and write nothing"},
			&cli.BoolFlag{Name: "force", Usage: "write over a godeploy.toml that is there"},
		},
		Run: runInit,
	}
}

func runInit(_ context.Context, c *call) error {
	dir := c.sys.Dir
	if len(c.words) > 0 {
		dir = c.path(c.words[0])
	}
	text, err := c.firstFile(dir)
	if err != nil {
		return err
	}
	if c.flags.Bool("stdout") {
		return c.print("%s", text)
	}
	name := filepath.Join(dir, inventory.DefaultName)
	if err := writeNew(name, text, c.flags.Bool("force")); err != nil {
		return err
	}
	c.conclude("%s wrote %s", c.mark(true), c.relative(name))
	c.conclude("  look it over, then:  godeploy check && godeploy keys trust prod && godeploy release prod --dry-run")
	return nil
}

// firstFile gives the text, proven to be a valid file.
func (c *call) firstFile(dir string) (string, error) {
	app := orElse(c.flags.String("app"), appName(dir))
	hosts, err := hostLines(c.flags.String("hosts"))
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf(`version = 1

[app]
name = %q
path = %q

[sync]
exclude = [".venv/", "__pycache__/", "*.pyc", "logs/"]   # rsync's patterns

# [shared]              # lies in %s/shared, linked into every release
# dirs  = ["logs"]
# files = [".env"]      # put it there once, by hand

[process]
unit = %q   # its ExecStart needs: --chdir %s/current

[health]
url = "http://{{.Host.Address}}:8000/"   # asked from each server itself, over SSH

[env.prod.ssh]
user = %q
sudo = true   # for systemctl, with sudo -n

[env.prod.hosts]
%s`, app, c.appPath(app), c.appPath(app), app+".service", c.appPath(app), c.flags.String("user"), hosts)
	if _, err := inventory.Parse(inventory.DefaultName, []byte(text), nil); err != nil {
		return "", usagef("these values do not make a valid file").Wrap(err)
	}
	return text, nil
}

func (c *call) appPath(app string) string { return orElse(c.flags.String("path"), "/opt/"+app) }

// appName makes a folder's name into one that an app may have.
func appName(dir string) string {
	name := regexp.MustCompile(`[^a-z0-9_-]+`).ReplaceAllString(strings.ToLower(filepath.Base(dir)), "-")
	return orElse(strings.Trim(name, "-_"), "app")
}

// hostLines turns "web1=192.0.2.10,192.0.2.11" into lines of [env.prod.hosts]; without any, into an
// example that cannot be mistaken for a server.
func hostLines(list string) (string, error) {
	if list == "" {
		list = "app1=192.0.2.11"
	}
	var b strings.Builder
	for i, item := range strings.Split(list, ",") {
		name, address, named := strings.Cut(strings.TrimSpace(item), "=")
		if !named {
			name, address = fmt.Sprintf("app%d", i+1), name
			if net.ParseIP(address) == nil {
				name, _, _ = strings.Cut(address, ".")
			}
		}
		if name == "" || address == "" {
			return "", usagef("--hosts %q holds an empty name or address", list)
		}
		fmt.Fprintf(&b, "%s = { role = \"app\", address = %q }\n", name, address)
	}
	return b.String(), nil
}

// writeNew writes a file whole or not at all, and replaces one only when told to.
func writeNew(name, text string, replace bool) error {
	if _, err := os.Lstat(name); err == nil && !replace {
		return usagef("%s is there already", filepath.Base(name)).Hint("--force writes over it").Try("godeploy check")
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Usage, "%s cannot be written", name).Wrap(err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".godeploy-*.toml")
	if err != nil {
		return usagef("%s cannot be written", name).Wrap(err)
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return usagef("%s cannot be written", name).Wrap(err)
	}
	return nil
}

// Package setup makes a server ready for its first release: packages, user and group, folders, a virtual
// environment and the app's unit; and it takes an app that lies on the server already over into the layout
// of releases, and back. What to do is decided by plain values (Decide, DecideAdopt); Setter acts.
package setup

import (
	"path"
	"slices"
	"strings"

	"godeploy/deploy"
	"godeploy/inventory"
	"godeploy/templates"
)

// The groups of steps, in the order in which they are done.
const (
	Packages = "packages"
	Users    = "users"
	Dirs     = "dirs"
	Venv     = "venv"
	Unit     = "unit"
	Hooks    = "hooks"
)

// Groups gives all groups of steps, in their order.
func Groups() []string { return []string{Packages, Users, Dirs, Venv, Unit, Hooks} }

// Want is what one host shall have. Build it with WantOf.
type Want struct {
	App        string
	IsApp      bool   // releases go to the host; without it only packages and programs are looked at
	User       string // whom the app runs as, "" for the login
	UserGroup  string // "" is the user's own
	Path       string
	SharedDirs []string // relative to shared/
	Shared     []string // files, relative to shared/
	Packages   []string
	Programs   []string // that must be there, whoever installs them
	Venv       string   // relative to shared/, "" for none
	Managed    bool     // a systemd unit runs the app
	UnitName   string
	// Service renders the unit, once it is known how many processors the host has and who logs in there.
	Service func(cpus int, login string) (templates.Service, error)
}

// WantOf gives what the file asks for on one host.
func WantOf(env *inventory.Env, h inventory.Host) Want {
	env = env.On(h)
	w := Want{App: env.App.Name, Path: env.App.Path, Packages: env.Setup.Packages}
	if h.HasRole("nginx") {
		w.Programs = append(w.Programs, "nginx")
	}
	if !slices.ContainsFunc(h.Roles, func(r string) bool { return slices.Contains(env.Release.Roles, r) }) {
		return w
	}
	w.IsApp = true
	w.User = deploy.OwnerUser(env)
	_, w.UserGroup, _ = strings.Cut(env.App.Owner, ":")
	w.SharedDirs, w.Shared, w.Venv = env.Shared.Dirs, env.Shared.Files, env.Setup.Venv
	if env.Process.Server != "custom" || w.Venv != "" {
		w.Programs = append(w.Programs, "python3")
	}
	w.Managed = env.Process.Manager == "systemd" && env.Process.Command != ""
	if env.Process.Manager == "systemd" {
		w.UnitName = deploy.UnitName(env)
	}
	w.Service = func(cpus int, login string) (templates.Service, error) { return env.Service(h, cpus, login) }
	return w
}

// folders gives the folders below the app's path, parents first, and whether the app itself writes there.
func (w Want) folders() []folder {
	list := []folder{{"releases", false}, {"shared", false}}
	for _, d := range w.SharedDirs {
		d = strings.TrimSuffix(d, "/")
		if d == w.Venv {
			continue
		}
		for i, c := range d {
			if c == '/' {
				list = append(list, folder{"shared/" + d[:i], true})
			}
		}
		list = append(list, folder{"shared/" + d, true})
	}
	for _, f := range w.Shared {
		if dir := path.Dir(f); dir != "." {
			list = append(list, folder{"shared/" + dir, true})
		}
	}
	var once []folder
	for _, f := range list {
		if !slices.ContainsFunc(once, func(o folder) bool { return o.rel == f.rel }) {
			once = append(once, f)
		}
	}
	return once
}

type folder struct {
	rel string // to the app's path
	app bool   // the app writes in it
}

// Step is one thing to do, as data: what is different, and the commands that make it so.
type Step struct {
	Group  string `json:"group"`
	What   string `json:"what"`
	Before string `json:"before"` // "" when there is nothing
	After  string `json:"after"`
	Diff   string `json:"-"` // lines that come (+) and go (-), of a file
	run    []command
}

// command is one command, or one file to be written as root.
type command struct {
	as   string // a user; "" is root
	argv []string
	file *templates.File
}

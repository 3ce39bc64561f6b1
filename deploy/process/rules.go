package process

import (
	"godeploy/deploy"
	"godeploy/inventory"
)

// UnitName is the systemd unit of the app.
func UnitName(env *inventory.Env) string {
	if env.Process.Unit != "" {
		return env.Process.Unit
	}
	return env.App.Name + ".service"
}

// Sudo is one command that a login may have to run by sudo -n.
type Sudo struct {
	As      string // "root", or the app's owner
	Command string // program and words, with blanks between
	SetEnv  bool   // hooks are told by environment variables
}

// SudoRules lists what a login that is not root runs by sudo on an app host, as the file has it.
func SudoRules(env *inventory.Env) []Sudo {
	owner := deploy.OwnerUser(env)
	var rules []Sudo
	for _, command := range rootCommands(env, owner) {
		rules = append(rules, Sudo{As: "root", Command: command})
	}
	if owner != "" {
		rules = append(rules, Sudo{As: owner, Command: "/bin/sh", SetEnv: true})
	}
	return rules
}

// rootCommands are the fixed commands that run as root. sudo's "*" matches more than one word: a rule with
// one is given only for a way that needs it.
func rootCommands(env *inventory.Env, owner string) []string {
	var list []string
	unit := UnitName(env)
	switch env.Process.Manager {
	case "systemd":
		list = sudoRules(unit)
		switch env.Process.Graceful {
		case "reload":
			list = append(list, "/usr/bin/systemctl reload "+unit)
		case "usr2":
			list = append(list, "/usr/bin/systemctl kill -s USR2 --kill-who=main "+unit)
			list = append(list, kills("WINCH", "QUIT", "TERM", "KILL")...)
		}
	case "pidfile":
		if owner != "" {
			log := env.App.Path + "/.godeploy/service.log"
			list = append(kills("HUP", "USR2", "WINCH", "QUIT", "TERM", "KILL"), "/usr/bin/touch -- "+log, "/usr/bin/chown -h "+owner+" -- "+log)
		}
	}
	if owner != "" && env.Secrets.Command != "" {
		list = append(list, "/usr/bin/chown -h -- "+env.App.Owner+" "+env.App.Path+"/.godeploy/env/*")
	}
	return list
}

func kills(signals ...string) []string {
	var list []string
	for _, name := range signals {
		list = append(list, "/usr/bin/kill -"+name+" [0-9]*")
	}
	return list
}

// Stray says why the unit whose properties `systemctl show` has printed can never serve a release, ""
// when nothing is known against it.
func Stray(env *inventory.Env, show string) string {
	if env.Process.Server != "gunicorn" {
		return ""
	}
	props := properties(show)
	return strays(execStart(props["ExecStart"]), workingDir(props), env.App.Path+"/current")
}

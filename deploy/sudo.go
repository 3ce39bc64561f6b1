package deploy

import (
	"fmt"
	"slices"
	"strings"

	"godeploy/inventory"
)

// Sudo is one command that a login may have to run by sudo -n.
type Sudo struct {
	As      string // "root", or the app's owner
	Command string // program and words, with blanks between
	SetEnv  bool   // hooks are told by environment variables
}

// SudoRules lists what the login of a host has to run by sudo -n for what the file asks of it, when it is not
// root. It is the one list: doctor prints and checks it, and a command that was refused names its part of it.
func SudoRules(env *inventory.Env, h inventory.Host) []Sudo {
	env = env.On(h)
	var rules []Sudo
	if slices.ContainsFunc(env.ReleaseHosts(), func(one inventory.Host) bool { return one.Name == h.Name }) {
		rules = serviceRules(env)
	}
	if h.HasRole("nginx") {
		rules = append(rules, Sudo{As: "root", Command: "/usr/sbin/nginx -t -q"})
		if env.Nginx != nil { // godeploy writes its file and drains: scripts of its own, in a namespace of their own
			rules = append(rules, Sudo{As: "root", Command: "/bin/sh"}, Sudo{As: "root", Command: "/usr/bin/unshare"})
		}
	}
	return rules
}

// serviceRules is what a release needs of a host that the app runs on.
func serviceRules(env *inventory.Env) []Sudo {
	owner := OwnerUser(env)
	var rules []Sudo
	for _, command := range rootCommands(env, owner) {
		rules = append(rules, Sudo{As: "root", Command: command})
	}
	if owner != "" {
		rules = append(rules, HookSudo(owner))
	}
	return rules
}

// HookSudo is the rule by which hooks are run as a user.
func HookSudo(user string) Sudo { return Sudo{As: user, Command: "/bin/sh", SetEnv: true} }

// rootCommands are the fixed commands that run as root. sudo's "*" matches more than one word: a rule with
// one is given only for a way that needs it.
func rootCommands(env *inventory.Env, owner string) []string {
	var list []string
	switch env.Process.Manager {
	case "systemd":
		list = unitCommands(env, owner)
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

// unitCommands are those for a unit. Each is written out whole, since with a "*" journalctl would open a pager
// as root.
func unitCommands(env *inventory.Env, owner string) []string {
	unit, graceful := UnitName(env), strings.ToLower(env.Process.Graceful)
	verbs := []string{"start", "stop", "restart", "reset-failed", "kill -s HUP --kill-who=main"}
	if graceful == "reload" {
		verbs = append(verbs, "reload")
	}
	if env.Process.Server == "gunicorn" && (graceful == "usr2" || graceful == "auto" || graceful == "") {
		verbs = append(verbs, "kill -s USR2 --kill-who=main")
	}
	var list []string
	for _, verb := range verbs {
		list = append(list, "/usr/bin/systemctl "+verb+" "+unit)
	}
	if graceful == "usr2" && owner == "" { // else the owner's shell signals what the unit does not know
		list = append(list, kills("WINCH", "QUIT", "TERM", "KILL")...)
	}
	return append(list, "/usr/bin/readlink /proc/*/cwd", "/usr/bin/"+strings.Join(JournalTail(unit), " "))
}

func kills(signals ...string) []string {
	var list []string
	for _, name := range signals {
		list = append(list, "/usr/bin/kill -"+name+" [0-9]*")
	}
	return list
}

// JournalTail is the command that shows the last lines that a unit has logged.
func JournalTail(unit string) []string {
	return []string{"journalctl", "-u", unit, "-n", "4", "--no-pager", "-o", "cat"}
}

// Sudoers gives the lines for /etc/sudoers.d that let the user run exactly these commands without a password.
func Sudoers(user string, rules []Sudo) []string {
	var lines []string
	for _, r := range rules {
		tag := "NOPASSWD:"
		if r.SetEnv {
			tag = "NOPASSWD:SETENV:"
		}
		lines = append(lines, fmt.Sprintf("%s ALL=(%s) %s %s", SudoName(user), SudoName(r.As), tag, sudoCommand(r.Command)))
	}
	return lines
}

// SudoName writes the name of a user so that sudoers reads it as one word.
func SudoName(name string) string {
	var b strings.Builder
	for _, r := range name {
		if strings.ContainsRune(` ,:=\!@()"#%+`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// sudoCommand leaves the blanks between the words of a command alone, and the pattern of the rule.
func sudoCommand(command string) string {
	words := strings.Fields(command)
	for i, word := range words {
		var b strings.Builder
		for _, r := range word {
			if strings.ContainsRune(`,:=\`, r) {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
		words[i] = b.String()
	}
	return strings.Join(words, " ")
}

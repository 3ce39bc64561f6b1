package doctor

import (
	"fmt"
	"strings"

	"godeploy/deploy/process"
	"godeploy/inventory"
)

// Rules lists the commands that the login of a host has to run by sudo -n for what the file asks of it.
func Rules(env *inventory.Env, h inventory.Host) []process.Sudo {
	env = env.On(h)
	var rules []process.Sudo
	if serves(env, h) {
		rules = process.SudoRules(env)
	}
	if h.HasRole("nginx") {
		rules = append(rules, process.Sudo{As: "root", Command: "/usr/sbin/nginx -t -q"})
		if env.Nginx != nil { // godeploy writes its file and drains: scripts of its own, in a namespace of their own
			rules = append(rules, process.Sudo{As: "root", Command: "/bin/sh"}, process.Sudo{As: "root", Command: "/usr/bin/unshare"})
		}
	}
	return rules
}

// Sudoers is a file for /etc/sudoers.d that lets the user run exactly these commands without a password.
func Sudoers(user string, rules []process.Sudo) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# godeploy: put this into /etc/sudoers.d/godeploy with visudo -f, as root\n")
	for _, r := range rules {
		tag := "NOPASSWD:"
		if r.SetEnv {
			tag = "NOPASSWD:SETENV:"
		}
		fmt.Fprintf(&b, "%s ALL=(%s) %s %s\n", escaped(user), escaped(r.As), tag, escapedCommand(r.Command))
	}
	return b.String()
}

// escaped writes a name so that sudoers reads it as one.
func escaped(name string) string {
	var b strings.Builder
	for _, r := range name {
		if strings.ContainsRune(` ,:=\!@()"#%+`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// escapedCommand leaves the blanks between the words of a command alone, and the pattern of the rule.
func escapedCommand(command string) string {
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

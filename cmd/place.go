package cmd

import (
	"path"
	"strings"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/inventory"
	"godeploy/sshx"
)

// place says as whom and where a command runs on a host. The zero value is the login user, at home.
type place struct {
	as    string // "", owner, root, or a user's name
	cd    string // "", current, shared, or a folder there
	shell bool   // the words are a shell's, joined by spaces
}

// The scripts are constant; users, folders and words reach them as arguments.
const (
	// enterScript runs a command in a folder.
	enterScript = `cd -- "$1" && shift && exec "$@"`
	// enterShell runs a shell in a folder: the user's own, unless that is one that lets nobody in.
	enterShell = `cd -- "$1" || exit
for s in "$SHELL" /bin/bash /bin/sh; do case $s in */nologin|*/false|"") ;; *) [ -x "$s" ] && exec "$s" ;; esac; done`
	// dropScript is root's way to another user, without a session of its own, so that job control works.
	dropScript = `u=$1; shift
command -v runuser >/dev/null && exec runuser -u "$u" -- "$@"
command -v setpriv >/dev/null && exec setpriv --reuid "$u" --regid "$(id -g "$u")" --init-groups -- "$@"
exec sudo -n -u "$u" -- "$@"`
)

// placed is the line that sshd gives to the login shell: words, or without any a shell, at the place.
// "" stands for the login shell itself.
func (c *call) placed(h inventory.Host, at place, words []string) (string, error) {
	prefix, err := c.become(h, at.as)
	if err != nil {
		return "", err
	}
	dir := folder(c.env, h, at.cd)
	plain := len(prefix) == 0 && dir == ""
	switch {
	case plain && len(words) == 0:
		return "", nil
	case plain && at.shell:
		return strings.Join(words, " "), nil
	case at.shell && len(words) > 0:
		words = []string{"/bin/sh", "-c", strings.Join(words, " ")}
	case len(words) == 0:
		return sshx.Quote(append(prefix, "/bin/sh", "-c", enterShell, "sh", orElse(dir, "."))...)
	}
	if dir != "" {
		words = append([]string{"/bin/sh", "-c", enterScript, "sh", dir}, words...)
	}
	return sshx.Quote(append(prefix, words...)...)
}

// become gives the words that make a command another user's; none where the login is that user.
func (c *call) become(h inventory.Host, as string) ([]string, error) {
	login := orElse(h.User, c.sys.User)
	if as == "owner" {
		as = deploy.OwnerUser(c.env)
	}
	switch {
	case as == "" || as == login:
		return nil, nil
	case strings.HasPrefix(as, "-") || strings.ContainsAny(as, "\x00\n"):
		return nil, usagef("%q is no user", as).Hint("--as takes owner, root or a user's name")
	case login == "root":
		return []string{"/bin/sh", "-c", dropScript, "sh", as}, nil
	case c.env.SSH.Sudo:
		return []string{"sudo", "-n", "-u", as, "--"}, nil
	}
	return nil, fault.New(fault.SudoNeeded, "%s cannot become %s: the login has no sudo", login, as).On(h.Name).
		Hint("sudo = true in [ssh] says that it may use sudo -n")
}

// folder resolves the words of --cd.
func folder(env *inventory.Env, h inventory.Host, cd string) string {
	app := env.TemplateData(h, "").App
	switch {
	case cd == "current":
		return app.Current
	case cd == "shared":
		return app.Shared
	case cd == "" || path.IsAbs(cd):
		return cd
	}
	return "./" + cd // below the login's home
}

package doctor

import (
	"fmt"
	"strings"

	"godeploy/deploy"
	"godeploy/internal/wire"
)

// Sudoers is a file for /etc/sudoers.d that lets the user run exactly these commands without a password.
func Sudoers(user string, rules []deploy.Sudo) string {
	return "# godeploy: put this into /etc/sudoers.d/godeploy with visudo -f, as root\n" + strings.Join(deploy.Sudoers(user, rules), "\n") + "\n"
}

// HelperSudoers is a file for /etc/sudoers.d that lets the user start, with the password, the helpers with these
// SHA-256 sums as root, and nothing else. A helper does as root whatever it is told.
func HelperSudoers(user string, hashes []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# godeploy --ask-sudo: put this into /etc/sudoers.d/godeploy with visudo -f, as root, anew for each version of\n"+
		"# godeploy. Whoever has this login and its password is root on the host. NOPASSWD here would make the login root.\n")
	for _, hash := range hashes {
		fmt.Fprintf(&b, "%s ALL=(root) PASSWD: sha256:%s %s/helper-%s helper\n", deploy.SudoName(user), hash, wire.RootDir, hash)
	}
	return b.String()
}

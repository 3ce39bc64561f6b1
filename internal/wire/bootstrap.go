package wire

import (
	"fmt"
	"strings"
)

// The words by which the bootstrap's shell text and the controller understand each other.
const (
	needWord      = "GODEPLOY-NEED"
	installedWord = "GODEPLOY-INSTALLED"

	// ProbeEnv is set for a helper that is started only to see whether it can run here: it then
	// prints ProbeAnswer and ends.
	ProbeEnv    = "GODEPLOY_HELPER_PROBE"
	ProbeAnswer = "godeploy-helper can run"
)

// prologue defines the shell functions that both commands use. The text holds no single quote, no
// newline, no exclamation mark and no backslash before a quote, so that every login shell, csh and
// fish too, hands it to /bin/sh as it is.
//
//	mine DIR|FILE      it is ours, nobody else can write it, and it is no link
//	sum FILE           its SHA-256, or the expected one when no tool is there: the helper's own
//	                   word (HelloReply.Hash) is then the check
//	runs FILE          it starts here: right architecture, no noexec
const prologue = `set -f; umask 077; PATH=$PATH:/usr/local/bin:/usr/bin:/bin; export PATH; u=$(id -u) || exit 1; ` +
	`mine() { set -- $(ls -ldn "$1" 2>/dev/null) - - -; case "$1" in drwx------*|-rwx------*) [ "$3" = "$u" ];; *) false;; esac; }; ` +
	`sum() { if command -v sha256sum >/dev/null 2>&1; then set -- $(sha256sum <"$1"); ` +
	`elif command -v shasum >/dev/null 2>&1; then set -- $(shasum -a 256 <"$1"); else set -- $h; fi; [ "$1" = "$h" ]; }; ` +
	`runs() { [ "$(` + ProbeEnv + `=1 "$1" helper </dev/null 2>/dev/null)" = "` + ProbeAnswer + `" ]; }; ` +
	`each() { for d in "${HOME:-/nonexistent}/.cache/godeploy" "/var/tmp/godeploy-$u"; do "$@" && return 0; done; return 1; }; ` +
	// A text without "#!" is run by the shell when the folder allows it, and refused under noexec.
	`usable() { [ -d "${HOME:-/nonexistent}" ] && mkdir -p "${d%/*}" 2>/dev/null; mkdir "$d" 2>/dev/null; mine "$d" || return 1; ` +
	`x="$d/.try-$$"; rm -f "$x"; echo echo yes >"$x" && chmod 700 "$x" && [ "$("$x" 2>/dev/null)" = yes ]; r=$?; rm -f "$x"; return $r; }; `

// BootstrapCommand is the command that starts the helper on a host in one exec, with no probe
// before it. It looks for a file helper-HASH, for each of the hashes in turn, in ~/.cache/godeploy
// and /var/tmp/godeploy-UID, takes only a folder and a file that are the login user's alone, compares the file's
// SHA-256 where the host has a tool for it, sees that it can run, and becomes it. When there is none it
// prints "GODEPLOY-NEED OS ARCH DIR" (DIR is "-" when no folder can keep and run one) and exits 0;
// NewClient turns that into a *NeedError.
//
// The hashes are hex SHA-256; anything else is left out, so that nothing but constant text and
// hashes ever reaches the login shell.
func BootstrapCommand(hashes ...string) string {
	return shell(prologue +
		`start() { mine "$d" || return 1; f="$d/helper-$h"; mine "$f" && [ -f "$f" ] && sum "$f" && runs "$f" && exec "$f" helper; return 1; }; ` +
		`for h in ` + strings.Join(onlyHashes(hashes), " ") + `; do each start; done; ` +
		`each usable || d=-; echo ` + needWord + ` $(uname -s) $(uname -m) "$d"`)
}

// InstallCommand is the command that reads a helper from its standard input and installs it where
// BootstrapCommand finds it: in the first of the two folders that can keep and run it, under a
// temporary name, checked against the hash, moved into place. It prints Installed as its last line
// and exits 0, or exits 1 with the reason on its standard error. Helpers that were put there more
// than 90 days ago are removed. A hash that is no hex SHA-256 gives a command that exits 1.
func InstallCommand(hash string) string {
	return shell(prologue +
		`h=` + strings.Join(onlyHashes([]string{hash}), "") + `; fail() { echo "$1" >&2; exit 1; }; ` +
		`[ -n "$h" ] || fail "no hash"; ` +
		`each usable || fail "no folder can keep and run a helper"; ` +
		`find "$d" -name ".up-*" -mmin +60 -exec rm -f {} + 2>/dev/null; ` +
		`find "$d" -name "helper-*" -mtime +90 -exec rm -f {} + 2>/dev/null; ` +
		`t="$d/.up-$$"; trap "rm -f \"\$t\"" EXIT; trap "exit 1" HUP INT TERM; rm -f "$t"; set -C; ` +
		`cat >"$t" || fail "the helper cannot be written"; chmod 700 "$t"; ` +
		`[ -s "$t" ] && sum "$t" || fail "the helper arrived damaged"; ` +
		`runs "$t" || fail "the helper cannot run here"; ` +
		`mv -f "$t" "$d/helper-$h" || fail "the helper cannot be put in place"; ` +
		`echo ` + installedWord)
}

// Installed is what InstallCommand prints last when it has done its work.
const Installed = installedWord

// shell wraps constant text for the login shell, whichever that is.
func shell(text string) string { return fmt.Sprintf("exec /bin/sh -c '%s'", text) }

func onlyHashes(hashes []string) []string {
	var out []string
	for _, h := range hashes {
		if len(h) == 64 && only(h, digit+"abcdef") {
			out = append(out, h)
		}
	}
	return out
}

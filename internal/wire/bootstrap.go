package wire

import (
	"fmt"
	"strings"
)

// The words by which the bootstrap's shell text and the controller understand each other.
const (
	needWord = "GODEPLOY-NEED"
	failWord = "GODEPLOY-FAIL"

	// ProbeEnv is set for a helper that is started only to see whether it can run here: it then
	// prints ProbeAnswer and ends.
	ProbeEnv    = "GODEPLOY_HELPER_PROBE"
	ProbeAnswer = "godeploy-helper can run"
)

// prologue defines the shell functions. The text holds no single quote, no newline, no exclamation
// mark and no backslash but before a quote or a dollar, so that every login shell, csh and fish too,
// hands it to /bin/sh as it is.
//
//	mine DIR           it is ours, nobody else can write it, and it is no link
//	look               the same of the folder $d and the file $f in it; $k is what ls says of the file
//	sum FILE           its SHA-256, or the expected one when no tool is there: the helper's own
//	                   word (HelloReply.Hash) is then the check
//	runs FILE          it starts here: right architecture, no noexec
//	seal               notes that $f was seen to be whole and to run, since this boot
//	usable             the folder $d can be made, is ours, and runs programs
const prologue = `set -f; umask 077; PATH=$PATH:/usr/local/bin:/usr/bin:/bin; export PATH; u=$(id -u) || exit 1; ` +
	`b=; { read -r b </proc/sys/kernel/random/boot_id; } 2>/dev/null; ` +
	`mine() { set -- $(ls -ldn "$1" 2>/dev/null) - - -; case "$1" in drwx------*|-rwx------*) [ "$3" = "$u" ];; *) false;; esac; }; ` +
	`look() { l=$(QUOTING_STYLE=literal LC_ALL=C ls -ldin "$d" "$f" 2>/dev/null) || return 1; set -- $l; ` +
	`case "$2" in drwx------*) [ "$4" = "$u" ] || return 1;; *) return 1;; esac; ` +
	`l=${l#*"$d"}; set -- $l; k="$*"; case "$2" in -rwx------*) [ "$4" = "$u" ];; *) false;; esac; }; ` +
	`sum() { if command -v sha256sum >/dev/null 2>&1; then set -- $(sha256sum <"$1"); ` +
	`elif command -v shasum >/dev/null 2>&1; then set -- $(shasum -a 256 <"$1"); else set -- $h; fi; [ "$1" = "$h" ]; }; ` +
	`runs() { [ "$(` + ProbeEnv + `=1 "$1" helper </dev/null 2>/dev/null)" = "` + ProbeAnswer + `" ]; }; ` +
	`seal() { [ -n "$b" ] && rm -f "$d/.seal-$$" && echo "$b $k" >"$d/.seal-$$" && mv -f "$d/.seal-$$" "$d/seal-$h"; return 0; }; ` +
	`each() { for d in "${HOME:-/nonexistent}/.cache/godeploy" "/var/tmp/godeploy-$u"; do "$@" && return 0; done; return 1; }; ` +
	// A text without "#!" is run by the shell when the folder allows it, and refused under noexec.
	`usable() { [ -d "${HOME:-/nonexistent}" ] && mkdir -p "${d%/*}" 2>/dev/null; mkdir "$d" 2>/dev/null; mine "$d" || return 1; ` +
	`x="$d/.try-$$"; rm -f "$x"; echo echo yes >"$x" && chmod 700 "$x" && [ "$("$x" 2>/dev/null)" = yes ]; r=$?; rm -f "$x"; return $r; }; `

// start becomes the helper $h in $d, if it is there. The long checks are left out for a file that has
// passed them since the host was booted and that still has its inode, size and time: whoever could
// change that unseen could do so after the checks as well. Where it cannot be run in spite of that, most
// shells end, and call install on their way out; bash goes on.
const start = `start() { f="$d/helper-$h"; look && [ -f "$f" ] || return 1; s=; { read -r s <"$d/seal-$h"; } 2>/dev/null; ` +
	`[ -n "$b" ] && [ "$s" = "$b $k" ] || { sum "$f" && runs "$f" && seal 2>/dev/null; } || return 1; ` +
	`command -v shopt >/dev/null && shopt -s execfail; trap install EXIT; exec "$f" helper; trap - EXIT; return 1; }; `

// install says what is needed, takes it from standard input, and becomes it.
const install = `fail() { echo "` + failWord + ` $1"; exit 1; }; ` +
	`unpack() { case "$how" in raw) head -c "$n";; gzip|xz) head -c "$n" | $how -dc;; esac; }; ` +
	`install() { trap - EXIT; each usable || d=-; p=raw; for c in gzip xz; do command -v $c >/dev/null 2>&1 && p=$p,$c; done; ` +
	`echo ` + needWord + ` $(uname -s) $(uname -m) $p "$d"; [ "$d" = - ] && exit 0; read -r how n h || exit 0; ` +
	`case "$h" in */*) h=;; esac; [ "${#h}" -eq 64 ] || fail "no hash"; ` +
	`find "$d" -name ".up-*" -mmin +60 -exec rm -f {} + 2>/dev/null; ` +
	`find "$d" -name "*-*" -mtime +90 -exec rm -f {} + 2>/dev/null; ` +
	`t="$d/.up-$$"; trap "rm -f \"\$t\"" EXIT; trap "exit 1" HUP INT TERM; rm -f "$t"; set -C; ` +
	`unpack >"$t" || fail "the helper cannot be written"; chmod 700 "$t"; ` +
	`[ -s "$t" ] && sum "$t" || fail "the helper arrived damaged"; ` +
	`runs "$t" || fail "the helper cannot run here"; f="$d/helper-$h"; ` +
	`mv -f "$t" "$f" || fail "the helper cannot be put in place"; look && seal 2>/dev/null; ` +
	`trap - EXIT HUP INT TERM; exec "$f" helper; }; `

// BootstrapCommand is the command that starts the helper on a host in one exec, with no probe
// before it. It looks for a file helper-HASH, for each of the hashes in turn, in ~/.cache/godeploy
// and /var/tmp/godeploy-UID, takes only a folder and a file that are the login user's alone, compares the file's
// SHA-256 where the host has a tool for it, sees that it can run, and becomes it.
//
// When there is none it prints "GODEPLOY-NEED OS ARCH UNPACKS DIR", where UNPACKS are the ways of
// packing it can undo and DIR is "-" when no folder can keep and run a helper; then it ends. Else it
// reads from its standard input a line "PACKING LENGTH HASH" and so many bytes, unpacks them to a
// temporary name in DIR, compares the SHA-256, sees that the helper can run, moves it into place and
// becomes it, all without another round trip. If that does not work it prints "GODEPLOY-FAIL" with
// the reason, and exits 1. Helpers that were put there more than 90 days ago are removed.
//
// The hashes are hex SHA-256; anything else is left out, so that nothing but constant text and
// hashes ever reaches the login shell.
func BootstrapCommand(hashes ...string) string {
	return shell(prologue + start + install + `for h in ` + strings.Join(onlyHashes(hashes), " ") + `; do each start; done; install`)
}

// Upload is a helper to be put on a host.
type Upload struct {
	Hash    string // hex SHA-256 of the helper
	Packing string // raw, gzip or xz: one that the host said it can undo
	Content []byte // packed that way
}

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

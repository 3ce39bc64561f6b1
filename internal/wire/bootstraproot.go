package wire

import "strings"

const (
	// RootDir is where the helper lies that sudo starts: each folder of the way to it is root's alone.
	RootDir = "/usr/local/lib/godeploy"
	// SudoPrompt is what sudo writes to its standard error when it wants the password.
	SudoPrompt = "godeploy-sudo-password:"
)

// rootPrologue is the shell functions of both texts below, under the same rules as prologue.
//
//	safe PATH   it is root's, no link, and nobody else can write it
//	way         the same of RootDir and of every folder above it
//	sum FILE    its SHA-256 is $h
const rootPrologue = `set -f; PATH=/usr/sbin:/usr/bin:/sbin:/bin; LC_ALL=C; export PATH LC_ALL; d=` + RootDir + `; ` +
	`fail() { echo "` + failWord + ` $1"; exit 1; }; ` +
	`safe() { set -- $(ls -ldn "$1" 2>/dev/null) - - -; case "$1" in [d-]????-??-*) [ "$3" = 0 ];; *) false;; esac; }; ` +
	`way() { for p in / /usr /usr/local /usr/local/lib "$d"; do safe "$p" || fail "$p has to belong to root, and nobody else may write it"; done; }; ` +
	`sum() { set -- $(sha256sum <"$1"); [ "$1" = "$h" ]; }; `

// rootStart runs as the login: it takes a helper that only root could have put there, and lets sudo start just
// that file; where none is, sudo starts the shell text $1.
const rootStart = `command -v sudo >/dev/null || fail "sudo is not installed"; ` +
	`command -v sha256sum >/dev/null || fail "sha256sum is not there"; ` +
	`as() { exec sudo -S -p ` + SudoPrompt + ` -- "$@"; }; ` +
	`start() { f="$d/helper-$h"; [ -e "$f" ] || return 0; way; safe "$f" || fail "$f has to belong to root, and nobody else may write it"; ` +
	`sum "$f" || fail "$f is not what its name says"; as "$f" helper; }; `

// rootInstall runs as root: like install, but for all to see and for root alone to write.
const rootInstall = `umask 022; mkdir -p "$d" 2>/dev/null || fail "$d cannot be made"; way; ` +
	`p=raw; for c in gzip xz; do command -v $c >/dev/null 2>&1 && p=$p,$c; done; ` +
	`echo ` + needWord + ` $(uname -s) $(uname -m) $p "$d"; read -r how n h || exit 0; ` +
	`case "$h" in */*) h=;; esac; [ "${#h}" -eq 64 ] || fail "no hash"; ` +
	`find "$d" -name ".up-*" -mmin +60 -exec rm -f {} + 2>/dev/null; ` +
	`find "$d" -name "helper-*" -mtime +90 -exec rm -f {} + 2>/dev/null; ` +
	`t="$d/.up-$$"; trap "rm -f \"\$t\"" EXIT; trap "exit 1" HUP INT TERM; rm -f "$t"; set -C; ` +
	`case "$how" in raw) head -c "$n";; gzip|xz) head -c "$n" | $how -dc;; esac >"$t" || fail "the helper cannot be written"; chmod 755 "$t"; ` +
	`[ -s "$t" ] && sum "$t" || fail "the helper arrived damaged"; ` +
	`[ "$(` + ProbeEnv + `=1 "$t" helper </dev/null 2>/dev/null)" = "` + ProbeAnswer + `" ] || fail "the helper cannot run from $d"; ` +
	`f="$d/helper-$h"; mv -f "$t" "$f" || fail "the helper cannot be put in place"; ` +
	`trap - EXIT HUP INT TERM; exec "$f" helper; `

// RootBootstrapCommand is BootstrapCommand for a helper that runs as root, started by sudo. Such a helper lies in
// RootDir, which anybody may read and only root may write; it is started only if that holds of the file and of
// every folder above it, and if its SHA-256 is one of the hashes. Where there is none, sudo starts a shell that
// asks for it and puts it there, as BootstrapCommand tells.
//
// When sudo wants the password it writes SudoPrompt to standard error, and takes it from the first line of
// standard input; a second SudoPrompt means that it was not taken.
func RootBootstrapCommand(hashes ...string) string {
	return shell(rootPrologue+rootStart+`for h in `+strings.Join(onlyHashes(hashes), " ")+`; do start; done; as /bin/sh -c "$1"`) +
		` sh '` + rootPrologue + rootInstall + `'`
}

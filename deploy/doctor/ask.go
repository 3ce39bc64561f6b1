// Package doctor looks for what will make a release fail before one does: it asks a host everything in
// one command that changes nothing, and judges the answer by what the file wants. Asking needs no
// helper; judging is done on plain data.
package doctor

import (
	"path"
	"strings"

	"godeploy/deploy"
	"godeploy/inventory"
)

// Command is what a host is asked by: words for its login shell, which must be quoted, and the script
// that it gets on its standard input. The script is constant; all that is particular stands in the words.
// It changes nothing there.
func Command(env *inventory.Env, h inventory.Host) (argv []string, script string) {
	env = env.On(h)
	argv = []string{"/bin/sh", "-s", "--", env.App.Path, yes(serves(env, h)), deploy.UnitName(env), yes(h.HasRole("nginx"))}
	if serves(env, h) {
		for _, p := range deploy.Programs(env) {
			argv = append(argv, "program", p)
		}
		for _, dir := range env.Shared.Dirs {
			if strings.Contains(path.Base(dir), "venv") {
				argv = append(argv, "venv", path.Join(env.App.Path, "shared", dir))
			}
		}
		for _, file := range env.Shared.Files {
			argv = append(argv, "file", path.Join(env.App.Path, "shared", file))
		}
	}
	if env.SSH.Sudo {
		for _, r := range deploy.SudoRules(env, h) {
			argv = append(argv, "sudo", r.As+" "+sample(r.Command))
		}
	}
	return argv, script0
}

// serves reports whether the app runs on the host.
func serves(env *inventory.Env, h inventory.Host) bool {
	for _, one := range env.ReleaseHosts() {
		if one.Name == h.Name {
			return true
		}
	}
	return false
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

// sample is one command that a rule with a pattern lets through.
func sample(command string) string {
	return strings.NewReplacer("[0-9]*", "1", "*", "1").Replace(command)
}

// script0 prints lines of a word, a tab and a text. A host that lacks a tool leaves a line out. Everything
// is asked within one shell, whose last line says that it came so far.
const script0 = `main() {
set -f
LC_ALL=C; PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin; export LC_ALL PATH
say() { printf '%s\t%s\n' "$1" "$2"; }
each() { while IFS= read -r line || [ -n "$line" ]; do say "$1" "$line"; done; }
path=$1 serves=$2 unit=$3 nginx=$4; shift 4
uid=$(id -u)
say now "$(date +%s)"; say user "$(id -un)"; say uid "$uid"; say kernel "$(uname -sm)"
d=$path
while [ ! -d "$d" ] && [ "$d" != / ]; do d=${d%/*}; d=${d:-/}; done
df -Pk "$d" 2>/dev/null | tail -n 1 | each disk
df -Pi "$d" 2>/dev/null | tail -n 1 | each nodes
if [ "$serves" = yes ]; then
  [ -w "$d" ] && say writable "$d" || say unwritable "$d"
  [ -d "$path" ] && say path folder
  if [ -L "$path/current" ]; then
    say current "$(readlink "$path/current")"
    [ -d "$path/current/" ] || say dangling yes
  elif [ -e "$path/current" ]; then say current-is other; fi
  [ -r "$path/.godeploy/freeze" ] && head -c 4096 "$path/.godeploy/freeze" | tr '\n' ' ' | each freeze
  [ -r "$path/.godeploy/audit.log" ] && tail -n 20 "$path/.godeploy/audit.log" | cut -c1-4096 | each audit
  if command -v systemctl >/dev/null; then
    systemctl show --no-pager --property LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,NRestarts,ExecStart,WorkingDirectory,LimitNOFILESoft -- "$unit" 2>/dev/null | cut -c1-4096 | each unit
  else say no-systemd yes; fi
  [ -r /proc/sys/net/core/somaxconn ] && cat /proc/sys/net/core/somaxconn | each somaxconn # whole: read takes one sign, and the kernel gives no second
  for f in /proc/net/tcp /proc/net/tcp6; do
    [ -r $f ] && while read -r _ local _ state _; do [ "$state" = 0A ] && say listen "${local##*:}"; done <$f
  done
  say listened yes
fi
if [ "$nginx" = yes ]; then
  if ! n=$(command -v nginx); then say nginx none
  else
    as=; [ "$uid" = 0 ] || as='sudo -n'
    if said=$($as "$n" -t -q 2>&1); then say nginx ok; else say nginx bad; printf '%s\n' "$said" | tail -n 5 | cut -c1-500 | each nginx-said; fi
  fi
fi
[ "$uid" = 0 ] || command -v sudo >/dev/null || say no-sudo yes
while [ $# -gt 1 ]; do
  case $1 in
    program) command -v "$2" >/dev/null || [ -x "$path/shared/$2" ] || say lacks-program "$2";;
    file) [ -e "$2" ] || say lacks-file "$2";;
    venv) [ -L "$2/bin/python" ] && [ ! -e "$2/bin/python" ] && say broken-venv "$2";;
    sudo) [ "$uid" = 0 ] || sudo -n -l -u ${2%% *} -- ${2#* } >/dev/null 2>&1 || say denied "$2";;
  esac
  shift 2
done
say end yes
}
main "$@" </dev/null
`

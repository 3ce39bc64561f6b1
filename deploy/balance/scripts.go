package balance

// The commands that need root on an nginx host. Each is constant text for sh; what it works on comes as
// arguments and on its input.

// readScript gives a file's content; 44 means that there is none.
const readScript = `[ -L "$1" ] && exit 45
[ -e "$1" ] || exit 44
exec cat -- "$1"`

// stageScript puts its input beside the file that it is to replace, durably. A name that begins with a
// point is matched by no include of nginx's.
const stageScript = `umask 022
d=${1%/*} b=${1##*/}
mkdir -p -- "$d" || exit
cat >"$d/.$b.godeploy-new" || exit
sync -- "$d/.$b.godeploy-new" 2>/dev/null || sync`

// dropScript takes away what was staged.
const dropScript = `for f; do rm -f -- "${f%/*}/.${f##*/}.godeploy-new"; done`

// liveScript lets nginx test what it would load now.
const liveScript = `[ "$(ulimit -n)" -gt 4096 ] 2>/dev/null && ulimit -n 4096
exec nginx -t -q -c "$1" 2>&1`

// tryScript lets nginx test the staged files as if they were live, in a mount namespace of its own: the
// live files are not touched. Then it lists what nginx reads, on its standard output.
const tryScript = `conf=$1; shift
for f; do
  d=${f%/*} b=${f##*/}
  if [ -e "$f" ]; then
    mount --bind "$d/.$b.godeploy-new" "$f" || exit 97
    continue
  fi
  exec 3<"$d"
  mount -t tmpfs -o mode=0755 tmpfs "$d" && cp -a /proc/self/fd/3/. "$d"/ || exit 97
  exec 3<&-
  cp -- "$d/.$b.godeploy-new" "$f" || exit 97
done
` + testScript

// testScript ends a trial, with 96 when nginx refuses. A limit of open files makes an include that leads back to itself end soon.
const testScript = `[ "$(ulimit -n)" -gt 4096 ] 2>/dev/null && ulimit -n 4096
nginx -t -q -c "$conf" >&2 || exit 96
nginx -T -c "$conf" 2>/dev/null | grep -a '^# configuration file '`

// copyScript is tryScript where no mount namespace may be made: nginx tests a copy of its folder, in which
// every mention of the folder is one of the copy.
const copyScript = `conf=$1 root=${1%/*}; shift
t=$(mktemp -d) || exit
trap 'rm -rf -- "$t"' EXIT
cp -a -- "$root/." "$t/" || exit
for f; do
  case $f in "$root"/*) ;; *) exit 98 ;; esac
  n=$t${f#"$root"}
  cp -- "${f%/*}/.${f##*/}.godeploy-new" "$n" || exit
done
find "$t" \( -type f -o -type l \) ! -name '*.pem' ! -name '*.key' -exec sed -i "s#$root/#$t/#g" {} + 2>/dev/null
conf=$t/${conf##*/}
{ ` + testScript + `
} | sed "s#$t/#$root/#g"`

// swapScript puts the staged files in the place of the live ones, each in one step, and keeps what was
// there.
const swapScript = `for f; do
  d=${f%/*} b=${f##*/}
  rm -f -- "$d/.$b.godeploy-prev"
  if [ -e "$f" ]; then ln -- "$f" "$d/.$b.godeploy-prev" || exit; fi
  mv -f -- "$d/.$b.godeploy-new" "$f" || exit
  sync -- "$f" "$d" 2>/dev/null || sync
done`

// restoreScript takes swapScript back: a file that was not there before goes away.
const restoreScript = `for f; do
  d=${f%/*} b=${f##*/}
  [ -e "$d/.$b.godeploy-new" ] && { rm -f -- "$d/.$b.godeploy-new"; continue; }
  if [ -e "$d/.$b.godeploy-prev" ]; then mv -f -- "$d/.$b.godeploy-prev" "$f" || exit; else rm -f -- "$f" || exit; fi
  sync -- "$d" 2>/dev/null || sync
done`

// procsScript lists the processes of one program in this PID namespace: pid, parent, start, command line.
const procsScript = `name=$1 ns=$(readlink /proc/self/ns/pid)
for d in /proc/[0-9]*; do
  read -r comm 2>/dev/null <"$d/comm" || continue
  [ "$comm" = "$name" ] || continue
  [ "$(readlink "$d/ns/pid")" = "$ns" ] || continue
  stat=$(sed 's/^.*) //' "$d/stat" 2>/dev/null) || continue
  set -- $stat
  printf '%s %s %s %s\n' "${d#/proc/}" "$2" "${20}" "$(tr '\000\n' '  ' <"$d/cmdline" 2>/dev/null)"
done
exit 0`

// hupScript tells a master by its signal to load its files anew, if it is still the process that was seen.
const hupScript = `s=$(sed 's/^.*) //' "/proc/$1/stat" | cut -d' ' -f20) && [ "$s" = "$2" ] && kill -s "$3" "$1"`

// portsScript shows who listens on this host, as the kernel has it, and which of it is a process's own.
const portsScript = `cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -a ' 0A '
echo --
ls -l "/proc/$1/fd" 2>/dev/null | sed -n 's/.*socket:\[\([0-9]*\)\]$/\1/p'
exit 0`

// ownerScript names the process that has a socket.
const ownerScript = `for d in /proc/[0-9]*; do
  if ls -l "$d/fd" 2>/dev/null | grep -q "socket:\[$1\]$"; then
    read -r comm <"$d/comm"; printf '%s (process %s)\n' "$comm" "${d#/proc/}"; exit 0
  fi
done
exit 0`

// logScript gives what nginx said last of a reload that failed.
const logScript = `tail -n 50 /var/log/nginx/error.log 2>/dev/null | grep -a -e '\[emerg\]' -e '\[alert\]' | tail -n 3
exit 0`

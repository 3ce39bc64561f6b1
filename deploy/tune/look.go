package tune

import (
	"context"
	"slices"

	"godeploy/deploy"
	"godeploy/internal/fault"
)

// lookScript prints what parse reads. It changes nothing. Its arguments: the app's folder; settings, each as
// name and file below /proc/sys; "--"; our own files; "--"; units; "--"; pid files.
const lookScript = `umask 077
dir=$1; shift
echo "nr_open $(cat /proc/sys/fs/nr_open 2>/dev/null)"
echo "pid_max $(cat /proc/sys/kernel/pid_max 2>/dev/null)"
echo "capbnd $(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/1/status 2>/dev/null)"
sed 's/^/hard /' /proc/1/limits 2>/dev/null
grep -E '^Mem(Total|Available):' /proc/meminfo
echo "load $(cat /proc/loadavg)"
echo "cpus $(getconf _NPROCESSORS_ONLN 2>/dev/null || grep -c '^processor' /proc/cpuinfo)"
echo "ticks $(getconf CLK_TCK 2>/dev/null || echo 100)"
echo "uptime $(cut -d' ' -f1 /proc/uptime)"
[ -d "$dir" ] || dir=/
df -kP -- "$dir" 2>/dev/null | { read -r _; read -r _ total _ free _ && echo "disk $total $free"; }
grep '^TcpExt:' /proc/net/netstat
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  if [ -e "$2" ]; then
    echo "sysctl $1 $(cat "$2" 2>/dev/null | tr '\n' ' ')"
    case $(stat -c %A "$2" 2>/dev/null) in ??w*) ;; *) echo "readonly $1";; esac
  fi
  shift 2
done
shift
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  if [ -f "$1" ]; then echo "file $1"; sed 's/^/| /' "$1"; fi
  shift
done
shift
show() {
  [ -f "$1" ] || return 0
  echo "other $1"
  grep -E "$2" "$1" 2>/dev/null | head -n 500 | sed 's/^/< /'
}
for f in /etc/sysctl.d/*.conf /run/sysctl.d/*.conf /usr/local/lib/sysctl.d/*.conf /usr/lib/sysctl.d/*.conf /lib/sysctl.d/*.conf /etc/sysctl.conf; do
  show "$f" '^[[:space:]]*[^#;[:space:]]'
done
for f in /etc/security/limits.conf /etc/security/limits.d/*.conf; do show "$f" '^[[:space:]]*[^#[:space:]]'; done
one() {
  s=$(cat "/proc/$2/stat" 2>/dev/null) || return 0
  set -- "$1" "$2" "$3" ${s##*) }
  echo "proc $1 $2 $3 ${23}"
  sed "s/^/limit $2 /" "/proc/$2/limits" 2>/dev/null
}
tree() {
  one "$1" "$2" 0
  n=0
  for c in $(cat "/proc/$2/task/$2/children" 2>/dev/null); do
    [ $n -lt 256 ] && one "$1" "$c" "$2"
    n=$((n+1))
  done
}
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  p=$(systemctl show --no-pager --property LoadState,ActiveState,MainPID,DropInPaths -- "$1" 2>/dev/null)
  printf '%s\n' "$p" | sed "s/^/unit $1 /"
  for f in $(printf '%s\n' "$p" | sed -n 's/^DropInPaths=//p'); do show "$f" '^[[:space:]]*Limit'; done
  pid=$(printf '%s\n' "$p" | sed -n 's/^MainPID=//p')
  [ "${pid:-0}" -gt 1 ] 2>/dev/null && tree "$1" "$pid"
  [ "$1" = nginx.service ] && nginx -T 2>/dev/null | sed -n 's/^[[:space:]]*\(worker_connections\|worker_rlimit_nofile\)[[:space:]]*\([0-9]*\);.*/nginx \1 \2/p'
  shift
done
shift
for f; do
  pid=$(head -c 20 "$f" 2>/dev/null | tr -cd 0-9)
  [ "${pid:-0}" -gt 1 ] 2>/dev/null && tree "$f" "$pid"
done
{ ss -Hltnp; ss -Hlxnp; } 2>/dev/null | head -n 2000 | sed 's/^/queue /'
exit 0`

// Look asks a host, as root, everything that Decide and Verify need.
func Look(ctx context.Context, root deploy.Root, appPath string, w Want) (Have, error) {
	return look(ctx, root, "root", appPath, w)
}

// Glance is Look for somebody who only wants to see: where the login cannot become root it sees less, other
// users' sockets and the configuration of nginx.
func Glance(ctx context.Context, root deploy.Root, appPath string, w Want) (Have, error) {
	if root.Sudo || root.Host.Facts().UID == 0 {
		have, err := look(ctx, root, "root", appPath, w)
		if !fault.Is(err, fault.SudoNeeded) {
			return have, err
		}
	}
	return look(ctx, root, "", appPath, w)
}

func look(ctx context.Context, root deploy.Root, who, appPath string, w Want) (Have, error) {
	argv := []string{"/bin/sh", "-c", lookScript, "look", appPath}
	for _, key := range w.asked() {
		argv = append(argv, key, sysctlPath(key))
	}
	argv = append(append(argv, "--"), w.files()...)
	argv = append(append(argv, "--"), w.Units...)
	argv = append(argv, "--")
	if w.Pidfile != "" {
		argv = append(argv, w.Pidfile)
	}
	out, err := root.MustAs(ctx, who, argv...)
	if err != nil {
		return Have{}, err
	}
	have := parse(out)
	if have.NrOpen == 0 {
		return Have{}, fault.New(fault.RemoteToolMissing, "the host does not say what its limits are").
			Fact("| %.200s", out).Hint("tune needs Linux with /proc, and sed, grep and cat")
	}
	return have, nil
}

// asked are the settings that are looked at: those wanted, those that our own file on the host had set, and
// those that other answers depend on.
func (w Want) asked() []string {
	keys := append(sortedKeys(w.Sysctl), "net.core.somaxconn", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem")
	keys = append(keys, w.Also...)
	slices.Sort(keys)
	return slices.Compact(keys)
}

// files are our own files on the host.
func (w Want) files() []string {
	files := []string{SysctlFile, LimitsFile}
	for _, unit := range w.Units {
		files = append(files, UnitFile(unit))
	}
	return files
}

// sysctlPath is where a setting stands below /proc/sys: of dots and slashes the first that comes separates.
func sysctlPath(key string) string {
	out := []byte("/proc/sys/" + key)
	for i := len("/proc/sys/"); i < len(out); i++ {
		switch out[i] {
		case '.':
			out[i] = '/'
		case '/':
			out[i] = '.'
		}
	}
	return string(out)
}

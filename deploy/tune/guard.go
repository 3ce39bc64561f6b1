package tune

import (
	"context"
	"path"
	"strconv"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// patience is how long a change may stay unconfirmed before the host takes it back by itself. The steps
// of a change take a second or two; on a host under full load they may take many times that.
const patience = 90 * time.Second

// guardScript, run as root before anything is changed, keeps copies of the files and leaves behind a process
// that puts everything back unless it is told in time that somebody could log in: it needs no new login, no
// sudo and no connection. It speaks by files: "confirm" and "undo" in $1, which is the login's own folder;
// "done" in the folder whose name it prints. Arguments: that folder; seconds; settings as key=value; "--";
// files.
const guardScript = `set -eu
umask 077
l=$1; t=$2; shift 2
b=/run; [ -d $b ] && [ -w $b ] || b=/var/tmp
r=$(mktemp -d $b/godeploy-tune-XXXXXXXX)
chmod 0755 "$r"
mkdir "$r/kept"
: >"$r/kept/sysctl"
while [ "$1" != -- ]; do printf '%s\n' "$1" >>"$r/kept/sysctl"; shift; done
shift
n=0
for f; do
  if [ -f "$f" ]; then cp -p -- "$f" "$r/kept/$n"; fi
  n=$((n+1))
done
export l r t
setsid /bin/sh -c '
i=0 how=undone
while [ $i -lt $t ]; do
  [ -e "$l/undo" ] && break
  if [ -e "$l/confirm" ]; then how=kept; break; fi
  sleep 1; i=$((i+1))
done
if [ $how = undone ]; then
  n=0 units=
  for f; do
    case $f in /etc/systemd/*) units=yes;; esac
    if [ -f "$r/kept/$n" ]; then
      cp -p -- "$r/kept/$n" "$f.godeploy-undo" && mv -f -- "$f.godeploy-undo" "$f" || how=failed
    else
      rm -f -- "$f" || how=failed
      d=${f%/*}; case $d in /etc/systemd/system/*.d) rmdir -- "$d" 2>/dev/null;; esac
    fi
    n=$((n+1))
  done
  while read -r s; do sysctl -q -w "$s" || how=failed; done <"$r/kept/sysctl"
  [ -z "$units" ] || systemctl daemon-reload || how=failed
fi
rm -rf -- "$r/kept"
echo $how >"$r/done.new"; chmod 0644 "$r/done.new"; mv "$r/done.new" "$r/done"
sleep $t
rm -rf -- "$r"' guard "$@" </dev/null >/dev/null 2>&1 &
echo "$r"`

// guard is the process on the host that takes the change back unless it is confirmed.
type guard struct {
	host  deploy.Host
	login string // our folder
	root  string // its folder
}

// startGuard starts it. What it puts back is what is there now.
func startGuard(ctx context.Context, root deploy.Root, p Plan) (*guard, error) {
	out, err := root.MustAs(ctx, "", "mktemp", "-d", "/tmp/godeploy-tune-XXXXXXXX")
	if err != nil {
		return nil, err
	}
	g := &guard{host: root.Host, login: strings.TrimSpace(out)}
	argv := []string{"/bin/sh", "-c", guardScript, "guard", g.login, strconv.Itoa(int(patience.Seconds()))}
	for _, s := range p.Sysctl {
		argv = append(argv, s.Key+"="+s.Before)
	}
	argv = append(argv, "--")
	for _, f := range p.Files {
		argv = append(argv, f.Path)
	}
	root.Keep = true
	if out, err = root.Must(ctx, argv...); err != nil {
		return nil, err
	}
	if g.root = strings.TrimSpace(out); !strings.HasPrefix(path.Base(g.root), "godeploy-tune-") {
		return nil, fault.New(fault.Protocol, "the guard of the change did not start").Fact("| %.200s", out)
	}
	return g, nil
}

// confirm lets the change stay; undo has it taken back. Each waits until the guard has done so.
func (g *guard) confirm(ctx context.Context) error { return g.tell(ctx, "confirm", "kept") }

func (g *guard) undo(ctx context.Context) error { return g.tell(ctx, "undo", "undone") }

func (g *guard) tell(ctx context.Context, word, want string) error {
	// The helper writes it itself; without one a program has to, which a limit may keep from starting.
	_, err := g.host.File(ctx, wire.FileRequest{Path: g.login + "/" + word, Write: true, Content: []byte("\n"), Mode: 0o600})
	if err != nil {
		_, _, _, _ = deploy.Root{Host: g.host}.As(ctx, "", "touch", "--", g.login+"/"+word) // the guard's word is waited for either way
	}
	said, err := g.wait(ctx)
	if err == nil && said != want {
		err = fault.New(fault.TuneUndone, "the change was not %s but %s", want, said)
	}
	if err == nil {
		_, _, _, err = deploy.Root{Host: g.host}.As(ctx, "", "rm", "-rf", "--", g.login)
	}
	return err
}

// wait waits for the guard's last word, a while longer than its patience.
func (g *guard) wait(ctx context.Context) (string, error) {
	deadline := time.Now().Add(patience + 60*time.Second)
	for {
		reply, err := g.host.File(ctx, wire.FileRequest{Path: g.root + "/done"})
		if err != nil {
			return "", err
		}
		if reply.Exists {
			return strings.TrimSpace(string(reply.Content)), nil
		}
		if time.Now().After(deadline) {
			return "", fault.New(fault.TuneUndone, "the guard of the change does not answer").
				Hint("look at %s and the files of `godeploy tune` on the host", g.root)
		}
		if err := deploy.Pause(ctx, 200*time.Millisecond); err != nil {
			return "", err
		}
	}
}

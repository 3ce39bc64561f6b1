package access

import (
	"context"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// DeployKey is the public half of a pair that lives on a host.
type DeployKey struct {
	Host string
	User string
	Key  Key
	Err  error
}

// makeKey prints the public half of ~/.ssh/$1, and makes the pair first where there is none. The private half
// never leaves the host.
const makeKey = `umask 077
h=$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f6); h=${h:-$HOME}; f=$h/.ssh/$1
[ -d "$h" ] || { echo "the home $h is not there" >&2; exit 3; }
if [ ! -e "$f" ] && [ ! -e "$f.pub" ]; then
  command -v ssh-keygen >/dev/null 2>&1 || { echo "ssh-keygen is missing" >&2; exit 4; }
  mkdir -p "$h/.ssh" && ssh-keygen -q -t ed25519 -N "" -C "$2" -f "$f" </dev/null >&2 || exit 5
fi
cat "$f.pub"`

const makeKeyTime = time.Minute

// DeployKeys gives every host's own key of the app's owner, with which the app fetches from elsewhere, and
// makes those that are missing: ~/.ssh/NAME of the owner, without a passphrase. One that is there is never
// replaced. The error joins those of the hosts.
func (f *Fleet) DeployKeys(ctx context.Context, hosts []inventory.Host, name string) ([]DeployKey, error) {
	out := make([]DeployKey, len(hosts))
	err := f.each(ctx, hosts, func(ctx context.Context, i int, h inventory.Host) error {
		out[i] = DeployKey{Host: h.Name}
		out[i].Err = fault.OnHost(h.Name, f.deployKey(ctx, h, name, &out[i]))
		return out[i].Err
	})
	return out, err
}

func (f *Fleet) deployKey(ctx context.Context, h inventory.Host, name string, d *DeployKey) error {
	a, err := f.Door.Any(ctx, h)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }() // what was done on it has been answered
	me := a.Facts()
	d.User, _, _ = strings.Cut(f.Env.App.Owner, ":")
	if d.User == "" {
		d.User = me.User
	}
	req := wire.ExecRequest{Argv: []string{"/bin/sh", "-c", makeKey, "sh", name, d.User + "@" + h.Name}, Timeout: makeKeyTime}
	switch {
	case d.User == me.User:
	case me.UID != 0 && f.Env.SSH.Sudo:
		req.Argv = append([]string{"sudo", "-n", "-u", d.User, "--"}, req.Argv...)
	default:
		req.User = d.User
	}
	did, err := deploy.Capture(ctx, a, req, 16<<10, 16<<10)
	if err != nil {
		return err
	}
	if did.Exit != 0 {
		return fault.New(fault.AccountRefused, "%s gets no key of its own", d.User).Fact("| %.300s", strings.TrimSpace(did.Said))
	}
	d.Key, err = ParseKey([]byte(did.Out), "~"+d.User+"/.ssh/"+name+".pub on "+h.Name)
	return err
}

package deploy

import (
	"context"
	"errors"
	"path"
	"sync"
	"time"

	"godeploy/hooks"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// HostRunner runs hooks on a host, as the user that a hook names. It is safe for concurrent use.
type HostRunner struct {
	Host Host
	Sudo bool // another user is reached by sudo -n when the helper is not root
}

// Run runs the command; see hooks.Runner.
func (r HostRunner) Run(ctx context.Context, c hooks.Command, output func(stream string, p []byte)) (hooks.Ended, error) {
	req := wire.ExecRequest{
		Argv: []string{"/bin/sh", "-c", c.Shell}, Dir: c.Dir, Env: c.Env, Timeout: c.Timeout, Keep: c.Keep,
	}
	facts := r.Host.Facts()
	switch {
	case c.User == "" || c.User == facts.User:
	case facts.UID == 0:
		req.User = c.User
	case r.Sudo:
		if !c.Keep {
			req.Argv = []string{"/bin/sh", "-c", guard, "sh", c.Shell}
		}
		req.Argv = append([]string{"sudo", "-n", "-u", c.User, "--preserve-env=" + envNames(c.Env), "--"}, req.Argv...)
	default:
		return hooks.Ended{}, errNotSudo(c.User, facts.User)
	}
	reply, err := r.exec(ctx, req, output)
	return hooks.Ended{
		Exit: reply.Exit, Signal: reply.Signal, TimedOut: reply.TimedOut,
		Took: time.Duration(reply.MS) * time.Millisecond,
	}, err
}

func errNotSudo(user, login string) error {
	return fault.New(fault.SudoNeeded, "the hook runs as %s, but the login is %s without sudo", user, login).
		Hint("set sudo = true in [ssh], or as = \"owner\" with app.owner = %q", login)
}

// stopWait is how long a hook that was stopped is waited for: one that does not heed TERM is ended by the
// host, which keeps its lock until then.
const stopWait = 2 * time.Second

// exec is Host.Exec that ends soon after ctx does. What comes after that of the hook's output is dropped.
func (r HostRunner) exec(ctx context.Context, req wire.ExecRequest, output func(stream string, p []byte)) (wire.ExecReply, error) {
	type end struct {
		reply wire.ExecReply
		err   error
	}
	var mu sync.Mutex
	left := false
	ended := make(chan end, 1)
	go func() {
		reply, err := r.Host.Exec(ctx, req, func(stream string, p []byte) {
			mu.Lock()
			defer mu.Unlock()
			if !left {
				output(stream, p)
			}
		})
		ended <- end{reply, err}
	}()
	select {
	case e := <-ended:
		return e.reply, e.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(stopWait)
	defer timer.Stop()
	select {
	case e := <-ended:
		return e.reply, e.err
	case <-timer.C:
		mu.Lock()
		defer mu.Unlock()
		left = true
		return wire.ExecReply{Exit: -1}, context.Cause(ctx)
	}
}

// guard runs a hook, its first argument, below sudo. The helper may signal neither sudo's child, which is
// another user's, nor find it after it was killed itself, so the hook's own user must end it: the guard
// passes TERM on, and when sudo or the one that started sudo is gone, be it as a zombie, it ends the hook
// with all of its process group. What a hook leaves running goes with it, as without sudo.
const guard = `s=$PPID
up() { read -r l </proc/$s/stat && l=${l##*") "} && set -- $l && [ "$1" != Z ] && echo "$2"; }
h=$(up 2>/dev/null)
end() { kill -TERM -$p && { sleep 1; kill -KILL -$p; }; }
term() { t=1; [ -z "$p" ] || kill -TERM -$p || kill -TERM $p; }
p= t=
trap 'term 2>/dev/null' TERM INT HUP
setsid /bin/sh -c "$1" </dev/null & p=$!
[ -z "$t" ] || term
( trap '' TERM INT HUP; while [ "$(up)" = "$h" ]; do sleep 0.3; done; end ) >/dev/null 2>&1 & w=$!
wait $p; r=$?
while kill -0 $p; do wait $p; r=$?; done 2>/dev/null
[ $r -le 128 ] || { wait $p; q=$?; [ $q = 127 ] || r=$q; }
end 2>/dev/null
kill -KILL $w 2>/dev/null
exit $r`

// HookOf gives a hook of the file in the form that hooks.Run takes.
func HookOf(env *inventory.Env, name string, h inventory.Hook) hooks.Hook {
	limit := h.Timeout
	if limit == 0 {
		limit = env.Hooks.Timeout
	}
	return hooks.Hook{Name: name, Run: h.Run, User: userOf(env, h.As), Timeout: limit}
}

// userOf resolves the words a hook's "as" may hold; "" is the login user.
func userOf(env *inventory.Env, as string) string {
	if as == "" || as == "owner" {
		return OwnerUser(env)
	}
	return as
}

// OwnerUser is the user that owns the app's files, "" when the file does not say.
func OwnerUser(env *inventory.Env) string {
	for i := range len(env.App.Owner) {
		if env.App.Owner[i] == ':' {
			return env.App.Owner[:i]
		}
	}
	return env.App.Owner
}

// hostHooks runs a list of hooks on one host, one after another, in the given folder.
func (r *run) hostHooks(ctx context.Context, m *member, name, phase, dir string, list []inventory.Hook, graceful bool) error {
	told := r.told(m, phase)
	told.Graceful = graceful
	place := hooks.Place{Host: m.name, Phase: phase, Dir: dir, Env: told.Environ()}
	for _, h := range list {
		if !r.wanted(h, m) {
			continue
		}
		if err := hooks.Run(ctx, HookOf(m.env, name, h), place, maskedRunner{HostRunner{m.Host, r.Env.SSH.Sudo}, r.Mask}, r.Report); err != nil {
			return err
		}
	}
	return nil
}

// wanted reports whether a hook's "on" pattern chooses the host. The pattern was checked when the
// file was read; one that chooses no host of this environment runs nowhere.
func (r *run) wanted(h inventory.Hook, m *member) bool {
	if h.On == "" {
		return true
	}
	hosts, err := r.Env.Select([]string{h.On}, nil)
	if err != nil {
		return false
	}
	for _, one := range hosts {
		if one.Name == m.name {
			return true
		}
	}
	return false
}

// localHooks runs a list of hooks on the operator's machine.
func (r *run) localHooks(ctx context.Context, name, status string, list []inventory.Hook) error {
	told := r.told(nil, name)
	told.Status = status
	for _, h := range list {
		hook := HookOf(r.Env, name, h)
		hook.User = ""
		place := hooks.Place{Phase: name, Dir: r.Dir, Env: told.Environ()}
		if err := hooks.Run(ctx, hook, place, maskedRunner{r.Local, r.Mask}, r.Report); err != nil {
			return err
		}
	}
	return nil
}

// localEnd runs local_after or local_failed. The fleet is as it is by then: what fails here is told
// and changes nothing.
func (r *run) localEnd(ctx context.Context, err error) error {
	status := string(r.result.Verdict)
	if err == nil {
		return r.localHooks(ctx, "local_after", status, r.Env.Hooks.LocalAfter)
	}
	return errors.Join(err, r.localHooks(context.WithoutCancel(ctx), "local_failed", status, r.Env.Hooks.LocalFailed))
}

// releaseDir is the folder of a release on the host.
func (m *member) releaseDir(id string) string { return path.Join(m.env.App.Path, "releases", id) }

func envNames(env map[string]string) string {
	names := ""
	for name := range env {
		if names != "" {
			names += ","
		}
		names += name
	}
	return names
}

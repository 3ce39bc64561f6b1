package process

import (
	"context"
	"maps"
	"slices"
	"strings"

	"al.essio.dev/pkg/shellescape"

	"godeploy/deploy"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// Aftermath implements deploy.Aftermather: how the host itself makes a release serve when the run has gone
// in the middle of its switch. It is nil where that cannot be said in one command of one user.
func (s *Service) Aftermath(_ context.Context, h deploy.Host) (*wire.Aftermath, error) {
	s = s.on(h)
	a := &wire.Aftermath{Env: deploy.ToldOf(s.env, h.Inventory(), "", "switch").Environ()}
	if !s.ways(h, a) {
		return nil, nil
	}
	_, byHooks := s.manager.(scripts)
	// A login that needs sudo does not see where other users' processes work; a full restart and the
	// health are the proof then.
	a.Proof = s.env.Process.Server == "gunicorn" && !byHooks && (h.Facts().UID == 0 || !s.env.SSH.Sudo)
	probe, err := deploy.ProbeOf(s.env, h.Inventory(), "")
	if err != nil {
		return nil, err
	}
	a.URL, a.Header, a.Tries, a.Interval, a.Timeout = probe.URL, probe.Header, probe.Tries, probe.Interval, probe.Timeout
	for i, span := range probe.Status { // one range holds them all
		if i == 0 || span.From < a.Low {
			a.Low = span.From
		}
		a.High = max(a.High, span.To)
	}
	return a, nil
}

// ways fills in how the service is restarted and stopped, by the user's hooks where there are any.
func (s *Service) ways(h deploy.Host, a *wire.Aftermath) bool {
	k := s.env.Hooks
	owner := deploy.OwnerUser(s.env)
	switch {
	case len(k.Restart) > 0:
		user, one := s.sameUser(k.Restart)
		graceful, full := "export GODEPLOY_GRACEFUL=1\n"+hookText(k.Restart), hookText(k.Restart)
		return one && s.as(h, a, user, &a.Graceful, graceful) && s.as(h, a, user, &a.Full, full) && s.stopping(h, a)
	case len(k.Start) > 0 && len(k.Stop) > 0:
		user, one := s.sameUser(slices.Concat(k.Stop, k.Start))
		return one && s.as(h, a, user, &a.Full, hookText(k.Stop)+hookText(k.Start)) && s.stopping(h, a)
	case len(k.Start) > 0 || len(k.Stop) > 0:
		return false // half by a hook, half by the manager
	}
	switch m := s.manager.(type) {
	case systemd:
		return m.asRootWay(h, &a.Full, "restart") && m.asRootWay(h, &a.Stop, "stop")
	case pidfile:
		line, err := s.env.Render("process.command", s.env.Process.Command, h.Inventory(), "")
		return err == nil && line != "" && s.as(h, a, owner, &a.Full, m.stopText()+m.startText(line)) && s.as(h, a, owner, &a.Stop, m.stopText())
	}
	return false
}

// stopping fills in the stop beside a restart by hooks.
func (s *Service) stopping(h deploy.Host, a *wire.Aftermath) bool {
	if list := s.env.Hooks.Stop; len(list) > 0 {
		user, one := s.sameUser(list)
		return one && s.as(h, a, user, &a.Stop, hookText(list))
	}
	switch m := s.manager.(type) {
	case systemd:
		return a.User != "" || m.asRootWay(h, &a.Stop, "stop")
	case pidfile:
		return s.as(h, a, deploy.OwnerUser(s.env), &a.Stop, m.stopText())
	}
	return true // nothing is known that stops it
}

// asRootWay is systemctl as a release runs it.
func (m systemd) asRootWay(h deploy.Host, into *[]string, verb string) bool {
	argv, err := m.asRoot(h, "systemctl", verb, m.unit())
	*into = argv
	return err == nil
}

// sameUser gives the user that all of the hooks run as; one is false when they differ.
func (s *Service) sameUser(list []inventory.Hook) (user string, one bool) {
	for i, h := range list {
		u := deploy.HookOf(s.env, "", h).User
		if i > 0 && u != user {
			return "", false
		}
		user = u
	}
	return user, true
}

// as is shell text run as a user: by the helper that is root, by sudo, or as the login itself. A helper
// that is root runs all of an aftermath as one user.
func (s *Service) as(h deploy.Host, a *wire.Aftermath, user string, into *[]string, text string) bool {
	argv := []string{"/bin/sh", "-c", text}
	facts := h.Facts()
	switch {
	case user == "" || user == facts.User:
	case facts.UID == 0:
		if a.User != "" && a.User != user {
			return false
		}
		a.User = user
	case s.env.SSH.Sudo:
		names := strings.Join(slices.Sorted(maps.Keys(a.Env)), ",")
		argv = append([]string{"sudo", "-n", "-u", user, "--preserve-env=" + names, "--"}, argv...)
	default:
		return false
	}
	*into = argv
	return true
}

// hookText runs hooks one after another, until one fails.
func hookText(list []inventory.Hook) string {
	var b strings.Builder
	for _, h := range list {
		b.WriteString("/bin/sh -c " + shellescape.Quote(h.Run) + " || exit\n")
	}
	return b.String()
}

// stopText ends the server that the pid file names, if it works inside the app's folder: the number may
// be anybody's by now. One that does not end is killed after ten seconds.
func (m pidfile) stopText() string {
	file, root := shellescape.Quote(m.file()), shellescape.Quote(m.env.App.Path)
	return `p=$(cat ` + file + ` 2>/dev/null) || p=
case $(readlink "/proc/$p/cwd" 2>/dev/null) in "$(readlink -f ` + root + `)"/*)
  kill -` + m.last() + ` "$p"; n=0
  while [ -d "/proc/$p" ] && [ "$(sed 's/.*) //;s/ .*//' "/proc/$p/stat" 2>/dev/null)" != Z ]; do
    n=$((n+1)); [ "$n" -lt 100 ] || { kill -KILL "$p"; break; }; sleep 0.1
  done;;
esac
`
}

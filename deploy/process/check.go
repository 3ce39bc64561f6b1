package process

import (
	"context"
	"strings"

	"al.essio.dev/pkg/shellescape"

	"godeploy/deploy"
	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/fault"
)

// Check implements deploy.Service: the new code must boot before any host switches to it, since workers
// that boot on broken code take the master with them. A server that is known by name boots once on a
// socket of its own; where that cannot be, the code is imported; where there is no way to check, that is
// told and the release goes on.
func (s *Service) Check(ctx context.Context, h deploy.Host, id string) error {
	s = s.on(h)
	dir := s.env.App.Path + "/releases/" + id
	told := deploy.ToldOf(s.env, h.Inventory(), id, "build").Environ()
	if s.env.Secrets.Command != "" {
		told["GODEPLOY_SECRETS"] = s.env.App.Path + "/.godeploy/env/" + id
	}
	if tried, err := s.tryOut(ctx, h, id, dir, told); tried || err != nil {
		return err
	}
	text, environ, err := s.checkText(ctx, h, id, dir)
	if err != nil {
		return err
	}
	if text == "" {
		s.report.Report(event.Event{Type: event.Warn, Host: h.Inventory().Name, Phase: "build",
			Msg: "check: not checked; set [process] check to prove that new code imports before it is switched to"})
		return nil
	}
	add(told, environ)
	hook := hooks.Hook{Name: "check", Run: text, User: deploy.OwnerUser(s.env), Timeout: s.env.Hooks.Timeout}
	place := hooks.Place{Host: h.Inventory().Name, Phase: "build", Dir: dir, Env: told}
	err = hooks.Run(ctx, hook, place, deploy.HostRunner{Host: h, Sudo: s.env.SSH.Sudo}, s.report)
	if f := fault.All(err); len(f) == 1 && f[0].Code == fault.HookFailed {
		f[0].Code, f[0].Msg = fault.CheckFailed, "the new code does not import"
		return f[0]
	}
	return err
}

// tryOut boots the staged release where that can be done.
func (s *Service) tryOut(ctx context.Context, h deploy.Host, id, dir string, told map[string]string) (tried bool, err error) {
	p := s.env.Process
	if p.Check != "" || p.Manager == "command" || p.Server == "custom" {
		return false, nil
	}
	f, err := s.manager.find(ctx, h)
	if err != nil {
		return false, err
	}
	words, err := s.trialWords(h, id, f)
	if err != nil {
		return false, err
	}
	text := trialText(p.Server, words, s.env.App.Path+"/current", dir)
	if text == "" {
		return false, nil
	}
	if f.Secret {
		text = withSecrets + ":\n" + text
	}
	add(told, f.Environ)
	t, err := s.newTrial(h, id, dir)
	if err != nil {
		return false, err
	}
	user := deploy.OwnerUser(s.env)
	if user == "" && h.Facts().UID == 0 {
		user = f.User // root boots nothing of the app's
	}
	return true, t.run(ctx, text, user, told)
}

// add puts KEY=VALUE pairs into an environment.
func add(told map[string]string, environ []string) {
	for _, pair := range environ {
		if key, value, ok := strings.Cut(pair, "="); ok {
			told[key] = value
		}
	}
}

// checkText is the command that proves the import, and the environment it needs.
func (s *Service) checkText(ctx context.Context, h deploy.Host, id, dir string) (string, []string, error) {
	p := s.env.Process
	if p.Check != "" {
		text, err := s.env.Render("process.check", p.Check, h.Inventory(), id)
		return text, nil, err
	}
	if p.Server != "gunicorn" || p.Manager == "command" {
		return "", nil, nil
	}
	f, err := s.manager.find(ctx, h)
	if err != nil {
		return "", nil, err
	}
	with := ""
	if f.Secret {
		with = withSecrets
	}
	if p.Command != "" {
		line, err := s.env.Render("process.command", p.Command, h.Inventory(), id)
		return with + "exec " + staged(line, s.env.App.Path+"/current", dir) + overrides(dir), f.Environ, err
	}
	text := derived(f.Command, s.env.App.Path+"/current", dir)
	if text == "" {
		with = ""
	}
	return with + text, f.Environ, nil
}

// withSecrets gives what follows the secrets of the staged release. The app's owner reads them, who runs
// it: the login may not be able to.
const withSecrets = `set -a && . "$GODEPLOY_SECRETS" && set +a && `

// staged makes a command line that reads files by way of current, such as its own configuration, read
// those of the staged release: current is the old release, or on a first one nothing at all.
func staged(line, current, dir string) string { return strings.ReplaceAll(line, current+"/", dir+"/") }

// overrides makes a gunicorn command line look at the staged release: of two --chdir the last one
// counts, and with only the literal one to current the check would read the OLD code.
func overrides(dir string) string {
	return " --check-config --chdir " + shellescape.Quote(dir)
}

// derived builds the check from a unit's ExecStart. A command that is no gunicorn, or that needs
// expansion by systemd, cannot be run here; "" says so.
func derived(command []string, current, dir string) string {
	if !isGunicorn(command) {
		return ""
	}
	for _, word := range command {
		if strings.ContainsAny(word, "$%") {
			return ""
		}
	}
	return "exec " + staged(shellescape.QuoteCommand(command), current, dir) + overrides(dir)
}

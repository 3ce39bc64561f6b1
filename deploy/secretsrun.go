package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// readSecrets runs [secrets] command on the operator's machine, once, and makes the release know what it
// printed. Nothing of that is reported; what stands in it is masked from here on.
func (r *run) readSecrets(ctx context.Context) error {
	command := r.Env.Secrets.Command
	if command == "" {
		return nil
	}
	out, err := r.printed(ctx, command)
	if err != nil {
		return err
	}
	secrets, err := ParseSecrets(out)
	if err != nil {
		return fault.New(fault.SecretsFailed, "the output of [secrets] command cannot be read: %v", err).
			Fact("%s", firstLine(command)).
			Hint("it has to be NAME=VALUE lines or one JSON object (docs/release.md, Secrets)")
	}
	r.Mask.Add(secrets.Values()...)
	r.secrets = &secrets
	if r.release.Secrets, err = secrets.Hash(r.Env.App.Name + "\x00" + r.Env.Name + "\x00" + r.Env.Secrets.File); err != nil {
		return err
	}
	if bare := secrets.Bare(); len(bare) > 0 {
		r.Report.Report(event.Event{Type: event.Warn, Phase: "secrets",
			Msg: "secrets: the values of " + strings.Join(bare, ", ") + " are shorter than 4 characters and are not masked in output"})
	}
	return nil
}

// errTooMuch ends a command that prints more than can be secrets.
var errTooMuch = errors.New("it prints more than 1 MiB")

// printed runs the command and gives its standard output. Its errors show what it wrote to standard
// error, without what looks like one of the secrets.
func (r *run) printed(ctx context.Context, command string) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	told := r.told(nil, "secrets")
	r.Report.Report(event.Event{Type: event.CmdStart, Phase: "secrets", Step: "secrets", Command: command})
	var out, said []byte
	ended, err := r.Local.Run(ctx, hooks.Command{Shell: command, Dir: r.Dir, Env: told.Environ(), Timeout: r.Env.Hooks.Timeout},
		func(stream string, p []byte) {
			if stream != "stdout" {
				said = append(said, p[:min(len(p), maxSecretsOutput-len(said))]...)
				return
			}
			out = append(out, p[:min(len(p), maxSecretsOutput+1-len(out))]...)
			if len(out) > maxSecretsOutput {
				cancel(errTooMuch)
			}
		})
	r.Report.Report(event.Event{Type: event.CmdEnd, Phase: "secrets", Step: "secrets", Command: command, Exit: &ended.Exit, MS: ended.Took.Milliseconds()})
	if why := failedWhy(ended, err, r.Env.Hooks.Timeout.String()); why != "" {
		f := fault.New(fault.SecretsFailed, "[secrets] command %s", why).Fact("%s", firstLine(command))
		values, whole := rough(string(out))
		if !whole {
			return nil, f
		}
		r.Mask.Add(values...)
		for _, line := range LastLines(r.Mask.Hide(string(said)), 4) {
			f.Fact("| %s", line)
		}
		return nil, f
	}
	return out, err
}

// failedWhy says how a command failed, "" when it did not, or was stopped with the run.
func failedWhy(ended hooks.Ended, err error, limit string) string {
	switch {
	case errors.Is(err, errTooMuch):
		return errTooMuch.Error()[len("it "):]
	case err != nil:
		return ""
	case ended.TimedOut:
		return "ran longer than " + limit
	case ended.Signal != "":
		return "was ended by signal " + ended.Signal
	case ended.Exit != 0:
		return fmt.Sprintf("exited with %d", ended.Exit)
	}
	return ""
}

// maxRough bounds what is looked for in the error output of a command that failed.
const maxRough = 2000

// rough gives what may be secrets in an output that could not be read: whole lines, what stands behind
// = and :, and what stands between quotes. whole is false when there is more.
func rough(out string) (values []string, whole bool) {
	seen := map[string]bool{}
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if seen[line] = true; len(seen) > maxRough {
			return nil, false
		}
		for _, sign := range []string{"=", ":"} {
			if _, value, ok := strings.Cut(line, sign); ok {
				seen[strings.Trim(value, " \t\"',")] = true
			}
		}
		for _, quote := range []string{`"`, `'`} {
			parts := strings.Split(line, quote)
			for i := 1; i < len(parts); i += 2 {
				seen[parts[i]] = true
			}
		}
	}
	return slices.Collect(maps.Keys(seen)), len(seen) <= 2*maxRough
}

func firstLine(text string) string {
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	return text
}

// lastLines gives the last few lines that are not blank, none of them very long.
// envFile is what a host gets of the secrets, nil when there are none.
func (r *run) envFile() *wire.EnvFile {
	if r.secrets == nil {
		return nil
	}
	return &wire.EnvFile{Path: r.Env.Secrets.File, Content: r.secrets.Render()}
}

// envPath is where a host keeps the secrets of a release.
func (m *member) envPath(id string) string { return path.Join(m.env.App.Path, ".godeploy/env", id) }

// giver is the command that makes the secrets of the release the app's owner's; nil when what this login
// makes is the owner's already. able is false when it has no way.
func (r *run) giver(m *member) (argv []string, able bool) {
	owner, facts := OwnerUser(r.Env), m.Facts()
	give := []string{"chown", "-h", "--", r.Env.App.Owner, m.envPath(r.release.ID)}
	switch helped := facts.Hash != ""; {
	case owner == "" || owner == facts.User, facts.UID == 0 && helped:
		return nil, true
	case facts.UID == 0:
		return give, true
	}
	return append([]string{"sudo", "-n"}, give...), facts.UID > 0 && r.Env.SSH.Sudo
}

// ownsSecrets finds out, before anything is changed, whether the secrets will belong to the app's owner:
// a file that only its owner may read is of no use to anybody else.
func (r *run) ownsSecrets(ctx context.Context, m *member) error {
	if r.Env.Secrets.Command == "" {
		return nil
	}
	argv, able := r.giver(m)
	owner, login := OwnerUser(r.Env), m.Facts().User
	if !able {
		return fault.New(fault.SudoNeeded, "the secrets have to belong to %s, but the login is %s without sudo", owner, login).
			Hint("set sudo = true in [ssh], or log in as %s or root", owner)
	}
	if len(argv) == 0 || argv[0] != "sudo" {
		return nil
	}
	ask := append([]string{"sudo", "-n", "-l"}, argv[2:]...)
	reply, err := m.Exec(ctx, wire.ExecRequest{Argv: ask, Timeout: time.Minute}, func(string, []byte) {})
	if err != nil || reply.Exit == 0 {
		return err
	}
	return fault.New(fault.SudoNeeded, "%s may not give the secrets to %s", login, owner).
		Fact("%s", strings.Join(argv, " ")).
		Hint("let sudo run this for %s without a password, or log in as %s or root", login, owner)
}

// giveSecrets makes the secrets of the release the owner's where the login is not.
func (r *run) giveSecrets(ctx context.Context, m *member) error {
	argv, _ := r.giver(m)
	if r.release.Secrets == "" || argv == nil {
		return nil
	}
	var said []byte
	reply, err := m.Exec(ctx, wire.ExecRequest{Argv: argv, Timeout: time.Minute}, func(_ string, p []byte) {
		said = append(said, p[:min(len(p), 4096-len(said))]...)
	})
	if err != nil || reply.Exit == 0 {
		return err
	}
	f := fault.New(fault.SudoNeeded, "the secrets cannot be given to %s", r.Env.App.Owner).Fact("%s", strings.Join(argv, " "))
	for _, line := range LastLines(string(said), 2) {
		f.Fact("| %s", line)
	}
	return f
}

// sameSecrets reads the secrets for hosts that lack a release which is resumed: they must be what the
// other hosts have.
func (r *run) sameSecrets(ctx context.Context, lacking []string) error {
	had := r.release.Secrets
	if err := r.readSecrets(ctx); err != nil {
		return err
	}
	if (had != "") == (r.secrets != nil) && r.release.Secrets == had {
		return nil
	}
	return fault.New(fault.SyncSourceChanged, "the secrets are not those that release %s was made with", r.release.ID).On(lacking...).
		Hint("they would have to be sent to hosts that lack it").Try("godeploy release %s", r.Env.Name)
}

// bringsSecrets refuses to resume a release that has no secrets where it should, as one that a sync has
// staged.
func (r *run) bringsSecrets(one wire.Release) error {
	if one.Secrets != "" || r.Env.Secrets.Command == "" {
		return nil
	}
	return fault.New(fault.ReleaseUnknown, "release %s was staged without its secrets", one.ID).
		Hint("a release brings them; it uses what was sent").Try("godeploy release %s", r.Env.Name)
}

// maySecretsStay reports whether a release may have the secrets that a new one would have, as far as that
// can be said without reading them.
func (r *run) maySecretsStay(one wire.Release) bool {
	return (one.Secrets != "") == (r.Env.Secrets.Command != "")
}

// learnSecrets makes the mask know the secrets of releases that lie on the hosts: what serves, and what
// the run goes to. A login that may not read them learns nothing; a release that was recorded with
// secrets and has none any more is refused when it is the one to go to.
func (r *run) learnSecrets(ctx context.Context) error {
	var mu sync.Mutex
	known := map[string]bool{}
	return each(ctx, r.members, r.Parallel, func(ctx context.Context, m *member) error {
		for _, id := range []string{m.state.Current, r.release.ID} {
			one, ok := find(m.state, id)
			mu.Lock()
			skip := !ok || one.Secrets == "" || known[one.Secrets] && id != r.release.ID
			known[one.Secrets] = true
			mu.Unlock()
			if skip {
				continue
			}
			reply, err := m.File(ctx, wire.FileRequest{Path: m.envPath(id)})
			if err == nil && !reply.Exists && id == r.release.ID {
				return fault.New(fault.RollbackNone, "the secrets of release %s are gone", id).On(m.name).
					Fact("%s is not there", m.envPath(id)).Try("godeploy releases %s", r.Env.Name)
			}
			if secrets, perr := ParseSecrets(reply.Content); err == nil && perr == nil {
				r.Mask.Add(secrets.Values()...)
			}
			if fault.Is(err, fault.SSHLost) {
				return err
			}
		}
		return nil
	})
}

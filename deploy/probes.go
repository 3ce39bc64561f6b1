package deploy

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
	filesync "godeploy/sync"
)

// ready finds what would stop the release on one host; nothing is changed by it.
func (r *run) ready(ctx context.Context, m *member) error {
	if err := refusal(r, m); err != nil {
		return err
	}
	if err := r.room(m); err != nil && len(Prunable(m.state.Releases, 1, m.state.Current, m.state.InUse...)) == 0 {
		return err // there is nothing to make room from
	}
	r.clock(m)
	if err := r.become(ctx, m); err != nil {
		return err
	}
	if err := r.tools(ctx, m); err != nil {
		return err
	}
	if err := r.ownsSecrets(ctx, m); err != nil {
		return err
	}
	return r.Service.Ready(ctx, m.Host)
}

// clock warns of a host whose clock is off: ids and logs mislead there, order does not depend on it.
func (r *run) clock(m *member) {
	now := m.Facts().Now
	if off := r.began.Sub(now).Abs(); !now.IsZero() && off > time.Minute {
		r.Report.Report(event.Event{Type: event.Warn, Host: m.name, Phase: "check", Code: string(fault.ClockSkew),
			Msg: fmt.Sprintf("check: its clock is off by about %s", off.Round(time.Second))})
	}
}

// sameKind warns of a fleet of several architectures: one tree with compiled files in it fits only one.
func (r *run) sameKind() error {
	kinds := map[string][]string{}
	for _, m := range r.members {
		f := m.Facts()
		kinds[f.OS+"/"+f.Arch] = append(kinds[f.OS+"/"+f.Arch], m.name)
	}
	if len(kinds) < 2 {
		return nil
	}
	var parts []string
	for kind, hosts := range kinds {
		parts = append(parts, kind+" on "+strings.Join(hosts, ", "))
	}
	slices.Sort(parts)
	r.Report.Report(event.Event{Type: event.Warn, Phase: "check", Code: string(fault.HelperArch),
		Msg: "check: the servers are of several kinds (" + strings.Join(parts, "; ") + "): compiled files of the tree fit only one"})
	return nil
}

// need is what a release takes of a host's disk.
type need struct{ bytes, nodes int64 }

// needOf counts what is new against the tree that unchanged files are linked from; nil when there is
// none. Folders and links are made anew in every release. A fifth of the bytes and a tenth of the inodes
// are put on top.
func needOf(tree, had *filesync.Manifest) need {
	old := map[string]filesync.Hash{}
	if had != nil {
		for i := range had.Entries {
			if e := &had.Entries[i]; e.Kind == filesync.File {
				old[e.Path] = e.Hash
			}
		}
	}
	var n need
	for i := range tree.Entries {
		e := &tree.Entries[i]
		if hash, has := old[e.Path]; e.Kind == filesync.File && has && hash == e.Hash {
			continue
		}
		n.nodes++
		n.bytes += e.Size
	}
	return need{n.bytes * 12 / 10, n.nodes*11/10 + 16}
}

// room refuses a host whose disk cannot hold what this release brings to it.
func (r *run) room(m *member) error {
	if r.source == nil {
		return nil
	}
	return roomFor(m.state, r.needs(m))
}

// needs is what the tree takes on a host. Hosts that build on the same tree need the same, which is
// worked out once.
func (r *run) needs(m *member) need {
	parent, ok := find(m.state, nearestTo(m.state, r.release))
	root := parent.Root
	if !ok || r.Env.Sync.Links == "copy" {
		root = ""
	}
	r.rooms.Lock()
	if r.rooms.needs == nil {
		r.rooms.needs = map[string]func() need{}
	}
	known, ok := r.rooms.needs[root]
	if !ok {
		known = sync.OnceValue(func() need { return r.needOver(root) })
		r.rooms.needs[root] = known
	}
	r.rooms.Unlock()
	return known()
}

// needOver is what the tree takes beside a release with this root, or by itself.
func (r *run) needOver(root string) need {
	if root == "" {
		return needOf(r.source.Manifest, nil)
	}
	if had := r.knownRoot(root); had != nil {
		return needOf(r.source.Manifest, had)
	}
	whole := needOf(r.source.Manifest, nil)
	return need{whole.bytes/20 + 16<<20, whole.nodes/20 + 100} // most of it is linked; a full disk still stops before the switch
}

func roomFor(s wire.State, n need) error {
	switch {
	case s.FreeBytes >= 0 && s.FreeBytes < n.bytes:
		return fault.New(fault.DiskFull, "no room for the release: %d MB free, %d MB needed", s.FreeBytes>>20, n.bytes>>20+1)
	case s.FreeNodes > 0 && s.FreeNodes < n.nodes:
		return fault.New(fault.InodeFull, "no inodes for the release: %d free, %d needed", s.FreeNodes, n.nodes)
	}
	return nil
}

// tools looks for the programs that the first hooks need, such as a python in the shared .venv: what is
// not there now stops every host, and not half of them in the middle.
func (r *run) tools(ctx context.Context, m *member) error {
	wanted := Programs(r.Env)
	if len(wanted) == 0 || m.Facts().OS == "" && m.Facts().Arch == "" { // an account for files alone tells neither
		return nil
	}
	argv := []string{"/bin/sh", "-c", `for p; do command -v "$p" >/dev/null 2>&1 || printf '%s\n' "$p"; done`, "sh"}
	for _, p := range wanted {
		if strings.Contains(p, "/") {
			p = path.Join(m.env.App.Path, "shared", p)
		}
		argv = append(argv, p)
	}
	var missing strings.Builder
	_, err := m.Exec(ctx, wire.ExecRequest{Argv: argv, Timeout: time.Minute}, func(stream string, p []byte) {
		if stream == "stdout" && missing.Len() < 4096 {
			missing.Write(p)
		}
	})
	lacking := strings.Fields(missing.String())
	if err != nil || len(lacking) == 0 {
		if fault.Is(err, fault.RemoteToolMissing) { // no shell for this login: the hooks will say more
			return nil
		}
		return err
	}
	f := fault.New(fault.RemoteToolMissing, "%s is not there, and a hook needs it", lacking[0])
	for _, p := range lacking[1:] {
		f.Fact("%s is not there either", p)
	}
	return f.Hint("install it once, or let a hook before make it").Try("godeploy exec %s -l %s -- ls -l %s", r.Env.Name, m.name, path.Dir(lacking[0]))
}

// become asks whether the login may run hooks as the users that they name.
func (r *run) become(ctx context.Context, m *member) error {
	facts := m.Facts()
	if facts.UID <= 0 { // root needs to ask nobody; an account for files alone has no id
		return nil
	}
	for _, user := range hookUsers(m.env) {
		if user == facts.User {
			continue
		}
		if !r.Env.SSH.Sudo {
			return errNotSudo(user, facts.User)
		}
		reply, err := m.Exec(ctx, wire.ExecRequest{Argv: []string{"sudo", "-n", "-l", "-u", user, "/bin/sh"}, Timeout: time.Minute}, func(string, []byte) {})
		if err != nil {
			return err
		}
		if reply.Exit != 0 {
			return fault.New(fault.SudoNeeded, "%s may not run hooks as %s", facts.User, user).
				Fact("sudoers line: %s", Sudoers(facts.User, []Sudo{HookSudo(user)})[0]).
				Hint("put the line into /etc/sudoers.d/godeploy on the host, as root").
				Try("ssh -t root@%s visudo -f /etc/sudoers.d/godeploy", m.Inventory().Address)
		}
	}
	return nil
}

// hookUsers names the users that hooks run as on a host, each once; the login's own is not among them.
func hookUsers(env *inventory.Env) []string {
	var users []string
	for _, list := range [][]inventory.Hook{env.Hooks.Release, env.Hooks.Once, env.Hooks.After} {
		for _, h := range list {
			if user := userOf(env, h.As); user != "" && h.On == "" && !slices.Contains(users, user) {
				users = append(users, user)
			}
		}
	}
	return users
}

// Programs names what the release hooks begin with: python, pip and what lies in a shared .venv. It stops
// at the first hook that is more than a plain command, since that one may make what the next ones need.
func Programs(env *inventory.Env) []string {
	var found []string
	for _, h := range env.Hooks.Release {
		words := strings.Fields(h.Run)
		if len(words) == 0 || h.On != "" || strings.ContainsAny(h.Run, "|&;<>()$`\\\"'*?[#~=%\n{") || strings.Contains(strings.Join(words[1:], " "), "venv") {
			break
		}
		if !slices.Contains(found, words[0]) && interpreter(env, words[0]) {
			found = append(found, words[0])
		}
	}
	return found
}

// interpreter reports whether a program is one to look for: an interpreter by its bare name, or a file
// below a shared folder.
func interpreter(env *inventory.Env, program string) bool {
	if !strings.Contains(program, "/") {
		return slices.Contains([]string{"python", "python3", "pip", "pip3", "uv", "poetry", "node", "npm", "yarn", "php", "composer", "ruby", "bundle"}, program)
	}
	return slices.ContainsFunc(env.Shared.Dirs, func(dir string) bool { return strings.HasPrefix(program, dir+"/") })
}

// errNewer says that a release is not to be resumed, since another has come out after it.
func errNewer(env, id, newer string) error {
	return fault.New(fault.ReleaseUnknown, "release %s was followed by %s", id, newer).
		Hint("going back to an older release is a rollback").
		Try("godeploy rollback %s %s", env, id).Try("godeploy release %s", env)
}

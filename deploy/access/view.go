package access

import (
	"bytes"
	"cmp"
	"context"
	"path"
	"strconv"
	"strings"
	"time"

	"godeploy/internal/wire"
	"godeploy/inventory"
)

// view is what sshd itself says about logging in to an account: the effective configuration for it.
type view struct {
	known    bool
	settings map[string]string // by name in lower case
	locked   bool              // the account's password is locked
}

const askTime = 15 * time.Second

// look asks sshd on the host. Only root may, or sudo where the file allows it; elsewhere the view is empty.
func (f *Fleet) look(ctx context.Context, a Account, user string) view {
	text, ok := f.asRoot(ctx, a, "/usr/sbin/sshd", "-T", "-C", "user="+user+",host=localhost,addr=127.0.0.1")
	v := view{known: ok, settings: map[string]string{}}
	for l := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimRight(l, "\r\n"), " ")
		if v.settings[name] == "" {
			v.settings[name] = value
		}
	}
	if v.settings["usepam"] == "no" {
		status, _ := f.asRoot(ctx, a, "/usr/bin/passwd", "-S", user)
		fields := strings.Fields(status)
		v.locked = len(fields) > 1 && strings.HasPrefix(fields[1], "L")
	}
	return v
}

// asRoot runs a program that only reads, and gives what it printed; false when it could not be run as root
// or ended badly.
func (f *Fleet) asRoot(ctx context.Context, a Account, argv ...string) (string, bool) {
	switch {
	case a.Facts().UID == 0:
	case f.Env.SSH.Sudo:
		argv = append([]string{"sudo", "-n", "--"}, argv...)
	default:
		return "", false
	}
	var out bytes.Buffer
	reply, err := a.Exec(ctx, wire.ExecRequest{Argv: argv, Timeout: askTime}, func(stream string, p []byte) {
		if stream == "stdout" && out.Len() < 256<<10 {
			out.Write(p)
		}
	})
	return out.String(), err == nil && reply.Exit == 0
}

// defaultFiles are those of an sshd that says nothing else.
func defaultFiles() []string { return []string{".ssh/authorized_keys", ".ssh/authorized_keys2"} }

// files are the files of keys that count for an account, the one to write to first; none when sshd reads
// none. home may be "" as long as it is not known.
func (f *Fleet) files(v view, user, home string, uid int) []string {
	patterns := defaultFiles()
	switch {
	case f.File != "":
		patterns = []string{f.File}
	case v.known && v.settings["authorizedkeysfile"] == "none":
		return nil
	case v.known && v.settings["authorizedkeysfile"] != "":
		patterns = strings.Fields(v.settings["authorizedkeysfile"])
	}
	var all []string
	for _, p := range patterns {
		p = strings.NewReplacer("%%", "%", "%u", user, "%h", home, "%U", strconv.Itoa(uid)).Replace(p)
		all = append(all, path.Clean(p))
	}
	return all
}

// account is whose keys are looked after on a host.
func (f *Fleet) account(a Account, h inventory.Host) string { return cmp.Or(f.user(h), a.Facts().User) }

// facts are what in sshd's view may be why a login with a key is refused, at most five lines.
func (v view) facts(r wire.KeyFileReply) []string {
	var all []string
	say := func(text string) {
		if len(all) < 5 {
			all = append(all, text)
		}
	}
	if v.locked {
		say("the account is locked, and with UsePAM no sshd lets a locked account in with no key: usermod -p '*' USER")
	}
	if v.settings["pubkeyauthentication"] == "no" {
		say("sshd -T: pubkeyauthentication no")
	}
	for _, name := range []string{"authenticationmethods", "allowusers", "denyusers", "allowgroups", "denygroups", "authorizedkeyscommand"} {
		if value := v.settings[name]; value != "" && value != "any" && value != "none" {
			say("sshd -T: " + name + " " + value)
		}
	}
	if value := v.settings["permitrootlogin"]; r.UID == 0 && value == "no" {
		say("sshd -T: permitrootlogin no")
	}
	strict := v.settings["strictmodes"] != "no"
	for _, p := range r.Way {
		if why := partTrouble(p, r); why != "" && strict {
			say(why)
		}
	}
	if !v.known {
		say("sshd's own view is not known: only root may ask it (sshd -T)")
	}
	return all
}

package doctor

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/inventory"
)

// Finding is one thing that is not as it should be.
type Finding struct {
	Host  string   `json:"host,omitempty"`
	Topic string   `json:"topic"`
	Note  bool     `json:"note,omitempty"` // worth knowing, and no reason to stop
	Msg   string   `json:"msg"`
	Facts []string `json:"facts,omitempty"`
	Fix   string   `json:"fix"` // what to do about it; a command line where one does it
	// Command are the words of a godeploy command that does it, "" first word excluded; nil when none does.
	Command []string `json:"command,omitempty"`
}

// Topics are the words of Finding.Topic, in the order of a report.
func Topics() []string {
	return []string{"dns", "ssh", "sudo", "disk", "inodes", "clock", "layout", "python", "unit", "ports", "limits", "nginx", "release", "others"}
}

// Asked is one host with its answer.
type Asked struct {
	Env  *inventory.Env
	Host inventory.Host
	Facts
	Began, Ended time.Time // by the operator's clock
	Who          string    // the operator, as the audit log names him
}

// Limits below which a host is in trouble.
const (
	leastDisk    = 512 << 10 // KiB
	leastNodes   = 20_000
	leastPercent = 5
	mostSkew     = 5 * time.Second
	leastFiles   = 1024 // what systemd gives by itself
)

// Judge gives the findings of one host, by topic.
func Judge(a Asked) []Finding {
	a.Env = a.Env.On(a.Host)
	if !a.Complete {
		return []Finding{a.finding("ssh", "the login does not run commands to their end").
			fix("the login needs a POSIX shell; see: ssh %s@%s sh -c 'echo it works'", orElse(a.User, "USER"), a.Host.Address)}
	}
	var all []Finding
	checks := []func(Asked) []Finding{sudo, disk, clock}
	if serves(a.Env, a.Host) {
		checks = append(checks, layout, python, unit, ports, limits, others)
	}
	for _, check := range append(checks, nginx) {
		all = append(all, check(a)...)
	}
	return all
}

func (a Asked) finding(topic, format string, args ...any) Finding {
	return Finding{Host: a.Host.Name, Topic: topic, Msg: fmt.Sprintf(format, args...)}
}

func (f Finding) fix(format string, args ...any) Finding {
	f.Fix = fmt.Sprintf(format, args...)
	return f
}

// by names a godeploy command as the fix, for this host alone.
func (a Asked) by(f Finding, words ...string) Finding {
	f.Command = append(slices.Clone(words), a.Env.Name, "-l", a.Host.Name)
	return f.fix("godeploy %s", strings.Join(f.Command, " "))
}

func (f Finding) note() Finding {
	f.Note = true
	return f
}

func sudo(a Asked) []Finding {
	switch {
	case a.UID == 0:
		return nil
	case a.NoSudo && a.Env.SSH.Sudo:
		return []Finding{a.finding("sudo", "sudo is not installed, and sudo = true").fix("as root there: apt-get install sudo")}
	case len(a.Denied) > 0:
		f := a.finding("sudo", "%s may not run %s by sudo -n", a.User, count(len(a.Denied), "command")).
			fix("godeploy doctor %s -l %s --sudoers, into /etc/sudoers.d/godeploy there", a.Env.Name, a.Host.Name)
		f.Facts = a.Denied
		return []Finding{f}
	case !a.Env.SSH.Sudo && len(needed(a)) > 0:
		return []Finding{a.finding("sudo", "%s is not root, and sudo is not set", a.User).
			fix("sudo = true in [env.%s.ssh], or log in as root", a.Env.Name)}
	}
	return nil
}

// needed are the rules that this login cannot do without.
func needed(a Asked) []deploy.Sudo {
	return slices.DeleteFunc(deploy.SudoRules(a.Env, a.Host), func(r deploy.Sudo) bool { return r.As == a.User })
}

func disk(a Asked) []Finding {
	var all []Finding
	if r := a.Disk; r.Total > 0 && (r.Free < leastDisk || r.Free*100/r.Total < leastPercent) {
		f := a.finding("disk", "%s free of %s on %s", deploy.Size(r.Free<<10), deploy.Size(r.Total<<10), r.Mount)
		all = append(all, f.fix("godeploy exec %s -l %s -- du -xh --max-depth=2 %s", a.Env.Name, a.Host.Name, r.Mount))
	}
	if r := a.Nodes; r.Total > 0 && (r.Free < leastNodes || r.Free*100/r.Total < leastPercent) {
		f := a.finding("inodes", "%s inodes free of %s on %s", deploy.Count(int(r.Free)), deploy.Count(int(r.Total)), r.Mount)
		all = append(all, f.fix("godeploy exec %s -l %s -- du -x --inodes --max-depth=2 %s", a.Env.Name, a.Host.Name, r.Mount))
	}
	return all
}

// clock: a host's clock is wrong when it stood, by seconds, outside the time in which it was asked.
func clock(a Asked) []Finding {
	said := time.Unix(a.Now, 0)
	var off time.Duration
	switch {
	case a.Now == 0:
		return nil
	case said.Before(a.Began):
		off = said.Sub(a.Began)
	case said.After(a.Ended):
		off = said.Sub(a.Ended)
	}
	if off.Abs() < mostSkew {
		return nil
	}
	way := "ahead"
	if off < 0 {
		way = "behind"
	}
	return []Finding{a.finding("clock", "the clock is %s %s", off.Abs().Round(time.Second), way).
		fix("as root there: timedatectl set-ntp true   (or set this machine's clock, if it is the wrong one)")}
}

func layout(a Asked) []Finding {
	var all []Finding
	p := a.Env.App.Path
	switch {
	case a.Unwritable != "" && a.Path:
		all = append(all, a.finding("layout", "%s cannot write in %s", a.User, p).fix("as root there: chown -R %s %s", a.User, p))
	case a.Unwritable != "":
		all = append(all, a.by(a.finding("layout", "%s is not there, and %s cannot make it", p, a.User), "setup"))
	}
	if a.Env.App.Layout == "inplace" {
		return all
	}
	switch {
	case a.NoLink:
		all = append(all, a.finding("layout", "%s/current is no link", p).
			fix("godeploy exec %s -l %s -- mv %s/current %s/before-godeploy", a.Env.Name, a.Host.Name, p, p))
	case a.Dangling:
		all = append(all, a.finding("layout", "current leads to %s, which is not there", path.Base(a.Current)).
			fix("godeploy rollback %s -l %s   (to a release that is still there)", a.Env.Name, a.Host.Name))
	}
	for _, file := range a.LacksFiles {
		all = append(all, a.finding("layout", "shared file %s is missing", file).fix("put it there once, by hand"))
	}
	return all
}

func python(a Asked) []Finding {
	var all []Finding
	for _, program := range a.LacksPrograms {
		all = append(all, a.finding("python", "%s is not there, and a release hook begins with it", program).
			fix("install it once there, or let a hook before it make it"))
	}
	for _, venv := range a.BrokenVenvs {
		all = append(all, a.finding("python", "%s leads to a python that is not there any more", venv).
			fix("make it anew: godeploy exec %s -l %s --as owner -- python3 -m venv --clear %s, then a release", a.Env.Name, a.Host.Name, venv))
	}
	return all
}

func nginx(a Asked) []Finding {
	switch a.Nginx {
	case "none":
		return []Finding{a.by(a.finding("nginx", "nginx is not installed"), "setup")}
	case "bad":
		f := a.finding("nginx", "nginx -t is not content").
			fix("godeploy ssh %s %s --tty -- sudo nginx -t", a.Env.Name, a.Host.Name)
		f.Facts = a.NginxSaid
		return []Finding{f}
	}
	return nil
}

func others(a Asked) []Finding {
	var all []Finding
	if f := a.Freeze; f.Holds(a.Ended) {
		found := a.finding("others", "changes are frozen by %s", f.By)
		if !f.Until.IsZero() {
			found.Msg += " until " + f.Until.UTC().Format(time.RFC3339)
		}
		if f.Message != "" {
			found.Msg += ": " + f.Message
		}
		// Not a command that --fix may run: whoever froze them meant it.
		all = append(all, found.fix("ask %s, then: godeploy lock release %s --steal", f.By, a.Env.Name))
	}
	if n := len(a.Audit); n > 0 && a.Audit[n-1].By != a.Who {
		e := a.Audit[n-1]
		all = append(all, a.finding("others", "the last change was %s by %s at %s: %s", e.Command, e.By, e.Time.UTC().Format(time.RFC3339), e.Outcome).
			fix("godeploy releases %s", a.Env.Name).note())
	}
	return all
}

// wantedPort is where the app must listen by the file; 0 when the file does not say.
func wantedPort(a Asked) int {
	if bind, err := a.Env.Render("process.bind", a.Env.Process.Bind, a.Host, ""); err == nil {
		if _, port, err := net.SplitHostPort(bind); err == nil {
			return number(port)
		}
	}
	text, err := a.Env.Render("health.url", a.Env.Health.URL, a.Host, "")
	if err != nil || text == "" {
		return 0
	}
	u, err := url.Parse(text)
	if err != nil || u.Port() == "" {
		return 0
	}
	if name := u.Hostname(); name != "localhost" && name != "127.0.0.1" && name != "::1" && name != a.Host.Address {
		return 0
	}
	return number(u.Port())
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

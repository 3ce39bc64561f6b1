package setup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"godeploy/internal/fault"
	"godeploy/templates"
)

// Plan is what takes a host from what it has to what it shall have. Notes are what somebody should know or
// has to do, whether or not something changes.
type Plan struct {
	Steps []Step
	Notes []string
}

// Decide compares and plans the groups of steps that are asked for; it does no I/O. A host that cannot be set
// up so, as one with a link where the app's folder belongs, is a fault.
func Decide(w Want, h Have, groups []string) (Plan, error) {
	p := &planner{w: w, h: h}
	var errs []error
	for _, one := range []struct {
		group string
		plan  func() error
	}{{Packages, p.packages}, {Users, p.users}, {Dirs, p.dirs}, {Venv, p.venv}, {Unit, p.unit}} {
		if slices.Contains(groups, one.group) && (w.IsApp || one.group == Packages) {
			errs = append(errs, one.plan())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Plan{}, err
	}
	return p.Plan, nil
}

type planner struct {
	Plan
	w Want
	h Have
}

func (p *planner) add(group, what, before, after string, run ...command) {
	p.Steps = append(p.Steps, Step{Group: group, What: what, Before: before, After: after, run: run})
}

func (p *planner) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

// aptScript installs its arguments. The lists of packages of a new server are empty, or old: they are fetched when
// it does not work without.
const aptScript = `export DEBIAN_FRONTEND=noninteractive
get() { apt-get -y -q -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=120 --no-install-recommends install -- "$@"; }
get "$@" || { apt-get -q update && get "$@"; }`

// installer is a package manager, with the words to which packages are appended.
type installer struct {
	program string
	words   []string
}

// managers are in the order in which they are looked for. Only apt is tried by the tests; dnf and apk stand here
// as their manuals have them.
func managers() []installer {
	return []installer{
		{"apt-get", []string{"/bin/sh", "-c", aptScript, "apt-get install"}},
		{"dnf", []string{"dnf", "-y", "-q", "install", "--"}},
		{"apk", []string{"apk", "add", "--no-progress", "--"}},
	}
}

func (p *planner) packages() error {
	var missing []string
	for _, name := range p.w.Packages {
		if !p.h.Packages[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		p.programs()
		return nil
	}
	for _, m := range managers() {
		if !p.h.Programs[m.program] {
			continue
		}
		p.add(Packages, strings.Join(missing, " "), "", "installed by "+m.program, command{argv: slices.Concat(m.words, missing)})
		return nil
	}
	return fault.New(fault.RemoteToolMissing, "none of apt-get, dnf and apk is on this host").
		Hint("install %s by hand, and empty [setup] packages", strings.Join(missing, " "))
}

// programs names what the app or the role needs and nobody asked to be installed.
func (p *planner) programs() {
	for _, name := range p.w.Programs {
		if !p.h.Programs[name] {
			p.note("%s is not there; name its package in [setup] packages, or install it", name)
		}
	}
}

// users makes the group and the user of [app] owner: system accounts that nobody logs in to.
func (p *planner) users() error {
	w, h := p.w, p.h
	if w.User == "" {
		return nil
	}
	group := w.UserGroup
	if group == "" {
		group = w.User
	}
	busybox := !h.Programs["useradd"] && h.Programs["adduser"]
	if !h.Groups[group] && (w.UserGroup != "" || busybox && !h.Users[w.User]) {
		argv := []string{"groupadd", "--system", "--", group}
		if busybox {
			argv = []string{"addgroup", "-S", group}
		}
		p.add(Users, "group "+group, "", "made", command{argv: argv})
	}
	if h.Users[w.User] {
		return nil
	}
	argv := []string{"useradd", "--system", "--home-dir", w.Path, "--no-create-home", "--shell", "/usr/sbin/nologin"}
	switch {
	case busybox:
		argv = []string{"adduser", "-S", "-D", "-H", "-h", w.Path, "-s", "/sbin/nologin", "-G", group, w.User}
	case w.UserGroup != "":
		argv = append(argv, "--gid", group, "--", w.User)
	default:
		argv = append(argv, "--user-group", "--", w.User)
	}
	p.add(Users, "user "+w.User, "", "made", command{argv: argv})
	return nil
}

// owners says whose a folder is: what godeploy writes in belongs to the login that releases, unless that is
// root, and what the app writes in to the app.
func (p *planner) owners(app bool) (user, group string) {
	user = p.w.User
	if user == "" || !app && !p.h.Root {
		user = p.h.Login
	}
	switch {
	case p.w.UserGroup != "":
		group = p.w.UserGroup
	case p.h.UserGrp[p.w.User] != "":
		group = p.h.UserGrp[p.w.User]
	case p.w.User != "":
		group = p.w.User
	}
	return user, group
}

// makeDir makes a folder below a base that nobody else can have turned into a link meanwhile: it is made from
// within its parent, whose real path is compared. Arguments: the base, the way below it or "", owner.
const makeDir = `set -eu
if [ -z "$2" ]; then p=${1%/*}; mkdir -p -m 0755 -- "${p:-/}"; cd -P -- "${p:-/}"; n=${1##*/}
else
  cd -P -- "$1"; b=$(pwd -P); r=$2; n=${r##*/}
  case $r in */*) cd -P -- "./${r%/*}"; [ "$(pwd -P)" = "$b/${r%/*}" ] || { echo "a link is on the way to $r" >&2; exit 1; };; esac
fi
[ -d "./$n" ] && [ ! -L "./$n" ] || mkdir -m 0755 -- "./$n"
chown -h -- "$3" "./$n"`

// dirs makes folders and puts owners and modes right that keep a release from working or let others write.
func (p *planner) dirs() error {
	w, h := p.w, p.h
	for _, f := range append([]folder{{"", false}}, w.folders()...) {
		full := strings.TrimSuffix(w.Path+"/"+f.rel, "/")
		user, group := p.owners(f.app)
		owner := user
		if group != "" {
			owner += ":" + group
		}
		has, there := h.Paths[full]
		make := command{argv: []string{"/bin/sh", "-c", makeDir, "makedir", w.Path, f.rel, owner}}
		switch {
		case !there:
			p.add(Dirs, full, "", "0755 "+owner, make)
		case has.Kind == "symbolic link" && f.app:
			// somebody's own arrangement, such as a mounted disk
		case has.Kind != "directory":
			return fault.New(fault.LayoutRefused, "%s is a %s, and the app's folder belongs there", full, has.Kind).
				Hint("move it away; or name its target as [app] path")
		case has.User != user:
			p.add(Dirs, full, fmt.Sprintf("%04o %s:%s", has.Mode, has.User, has.Group), fmt.Sprintf("%04o %s", has.Mode, owner), make)
			fallthrough
		default:
			p.mode(full, has, user)
		}
	}
	p.sharedFiles()
	return nil
}

// mode corrects modes that let everybody write or the owner not: others are somebody's choice.
func (p *planner) mode(full string, has Stat, user string) {
	if has.Mode&0o700 == 0o700 && has.Mode&0o002 == 0 {
		return
	}
	p.add(Dirs, full, fmt.Sprintf("%04o", has.Mode), "0755", command{as: user, argv: []string{"chmod", "0755", "--", full}})
}

// sharedFiles names the files that only a person can put there.
func (p *planner) sharedFiles() {
	for _, f := range p.w.Shared {
		full := p.w.Path + "/shared/" + f
		switch has, there := p.h.Paths[full]; {
		case !there:
			p.note("%s is missing; a release needs it, and only you have it", full)
		case has.Kind == "regular file" && has.Mode&0o004 != 0:
			p.note("%s can be read by everybody on the host", full)
		}
	}
}

// venv makes the virtual environment, once; what is in it is the release hook's.
func (p *planner) venv() error {
	if p.w.Venv == "" {
		return nil
	}
	dir := p.w.Path + "/shared/" + p.w.Venv
	if _, there := p.h.Paths[dir+"/bin/python3"]; there {
		return nil
	}
	user, _ := p.owners(false)
	p.add(Venv, dir, "", "made by python3 -m venv", command{as: user, argv: []string{"python3", "-m", "venv", "--", dir}})
	return nil
}

// unit writes the unit, its socket and the server's configuration, where they are missing or godeploy's own.
func (p *planner) unit() error {
	w, h := p.w, p.h
	switch {
	case w.UnitName == "":
		return nil
	case !h.Programs["systemctl"]:
		return fault.New(fault.RemoteToolMissing, "the host has no systemd").Hint(`set [process] manager to "pidfile" or "command"`)
	case p.foreignUnit():
		p.note("%s is your own and stays as it is; its ExecStart should have --chdir %s/current", w.UnitName, w.Path)
		return nil
	case !w.Managed:
		p.note("%s is not there; with [process] command setup writes it, else install it", w.UnitName)
		return nil
	}
	service, err := w.Service(h.CPUs, h.Login)
	if err != nil {
		return err
	}
	files, err := service.Files()
	if err != nil {
		return err
	}
	changed := false
	for _, f := range files {
		changed = p.unitFile(f) || changed
	}
	start := service.UnitName()
	if service.Socket {
		start = service.SocketName()
	}
	if changed || h.Unit["UnitFileState"] != "enabled" && start == w.UnitName {
		p.add(Unit, start, orNone(h.Unit["UnitFileState"]), "enabled", command{argv: []string{"systemctl", "daemon-reload"}},
			command{argv: []string{"systemctl", "-q", "enable", "--", start}})
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// foreignUnit reports whether the unit is there and not of godeploy's making.
func (p *planner) foreignUnit() bool {
	at := p.h.Unit["FragmentPath"]
	return p.h.Unit["LoadState"] == "loaded" && !templates.Ours([]byte(p.h.Files[at]))
}

func (p *planner) unitFile(f templates.File) bool {
	old, there := p.h.Files[f.Path]
	switch {
	case there && old == f.Text:
		return false
	case there && !templates.Ours([]byte(old)):
		p.note("%s is your own and stays as it is", f.Path)
		return false
	}
	before, after := "", "written"
	if there {
		before, after = "another text", "written anew"
	}
	p.Steps = append(p.Steps, Step{Group: Unit, What: f.Path, Before: before, After: after, Diff: diff(old, f.Text), run: []command{{file: &f}}})
	return true
}

// diff gives the lines that only one side has: the files are short.
func diff(old, now string) string {
	var b strings.Builder
	only := func(sign, text, other string) {
		for line := range strings.Lines(text) {
			if !strings.Contains("\n"+other, "\n"+line) {
				b.WriteString(sign + line)
			}
		}
	}
	only("-", old, now)
	only("+", now, old)
	return b.String()
}

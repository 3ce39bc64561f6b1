package setup

import (
	"context"
	"strconv"
	"strings"

	"godeploy/deploy"
	"godeploy/internal/fault"
)

// Have is what a host says of itself. Everything in it comes from the host and may be anything.
type Have struct {
	Login    string
	Root     bool // the login is root
	OS       string
	CPUs     int
	Programs map[string]bool // those of the package managers, and those asked about
	Users    map[string]bool
	UserGrp  map[string]string // the group of each user
	Groups   map[string]bool
	Paths    map[string]Stat   // those that are there
	Packages map[string]bool   // those asked about that are installed
	Files    map[string]string // texts of files asked about that are there
	Unit     map[string]string // properties of the unit
}

// Stat is one thing in the file system; links are not followed.
type Stat struct {
	Kind        string // as stat -c %F has it: directory, regular file, symbolic link
	Mode        uint32
	User, Group string
}

// lookScript prints what parse reads and changes nothing. Its arguments, each list ended by "--": programs,
// users, groups, paths, packages, files; then the unit or "".
const lookScript = `umask 077
echo "os $( . /etc/os-release 2>/dev/null; echo "$ID")"
echo "cpus $(getconf _NPROCESSORS_ONLN 2>/dev/null || grep -c '^processor' /proc/cpuinfo)"
has() { command -v "$1" >/dev/null 2>&1; }
for p in apt-get dnf apk useradd groupadd adduser addgroup systemctl; do has $p && echo "program $p"; done
while [ "$1" != -- ]; do has "$1" && echo "program $1"; shift; done; shift
while [ "$1" != -- ]; do
  if id -u -- "$1" >/dev/null 2>&1; then echo "user $1 $(id -gn -- "$1")"; fi
  shift
done; shift
while [ "$1" != -- ]; do
  if grep -q "^$1:" /etc/group || { has getent && getent group "$1" >/dev/null; }; then echo "group $1"; fi
  shift
done; shift
while [ "$1" != -- ]; do
  if s=$(stat -c '%a %U %G %F' -- "$1" 2>/dev/null); then echo "path $1 $s"; fi
  shift
done; shift
while [ "$1" != -- ]; do
  if has dpkg-query; then dpkg-query -W -f='${Status}' -- "$1" 2>/dev/null | grep -q '^install ok installed' && echo "package $1"
  elif has rpm; then rpm -q -- "$1" >/dev/null 2>&1 && echo "package $1"
  elif has apk; then apk info -e "$1" >/dev/null 2>&1 && echo "package $1"
  fi
  shift
done; shift
while [ "$1" != -- ]; do
  if [ -f "$1" ]; then echo "file $1"; head -c 65536 "$1" | sed 's/^/| /'; fi
  shift
done; shift
if [ -n "$1" ] && has systemctl; then
  systemctl show --no-pager --property LoadState,UnitFileState,FragmentPath,ActiveState,MainPID,ExecStart,WorkingDirectory -- "$1" | sed 's/^/unit /'
fi
exit 0`

// look asks a host all that Decide needs.
func look(ctx context.Context, root deploy.Root, w Want, files []string) (Have, error) {
	argv := []string{"/bin/sh", "-c", lookScript, "look"}
	list := func(words ...string) { argv = append(append(argv, words...), "--") }
	list(w.Programs...)
	list(nonEmpty(w.User)...)
	list(nonEmpty(w.UserGroup)...)
	list(w.paths()...)
	list(w.Packages...)
	list(files...)
	out, err := root.Must(ctx, append(argv, w.UnitName)...)
	if err != nil {
		return Have{}, err
	}
	h := parse(out)
	facts := root.Host.Facts()
	h.Login, h.Root = facts.User, facts.UID == 0
	if h.CPUs == 0 {
		return h, fault.New(fault.RemoteToolMissing, "the host does not answer as a Linux with a POSIX shell would").Fact("| %.200s", out)
	}
	return h, nil
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// paths are all that is looked for in the file system.
func (w Want) paths() []string {
	if !w.IsApp {
		return nil
	}
	paths := []string{w.Path, w.Path + "/current"}
	for _, f := range w.folders() {
		paths = append(paths, w.Path+"/"+f.rel)
	}
	for _, f := range w.Shared {
		paths = append(paths, w.Path+"/shared/"+f)
	}
	if w.Venv != "" {
		paths = append(paths, w.Path+"/shared/"+w.Venv+"/bin/python3", w.Path+"/shared/"+w.Venv)
	}
	return paths
}

func parse(out string) Have {
	h := Have{Programs: map[string]bool{}, Users: map[string]bool{}, UserGrp: map[string]string{}, Groups: map[string]bool{},
		Paths: map[string]Stat{}, Packages: map[string]bool{}, Files: map[string]string{}, Unit: map[string]string{}}
	file := ""
	for line := range strings.Lines(out) {
		word, rest, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		switch word {
		case "os":
			h.OS = rest
		case "cpus":
			h.CPUs, _ = strconv.Atoi(rest) // 0 is told by the caller
		case "program":
			h.Programs[rest] = true
		case "user":
			name, group, _ := strings.Cut(rest, " ")
			h.Users[name], h.UserGrp[name] = true, group
		case "group":
			h.Groups[rest] = true
		case "path":
			h.path(rest)
		case "package":
			h.Packages[rest] = true
		case "file":
			file = rest
			h.Files[file] = ""
		case "|":
			h.Files[file] += rest + "\n"
		case "unit":
			key, value, _ := strings.Cut(rest, "=")
			h.Unit[key] = value
		}
	}
	return h
}

// path reads "PATH MODE USER GROUP KIND…"; app.path and what lies below have no blanks.
func (h *Have) path(rest string) {
	f := strings.SplitN(rest, " ", 5)
	if len(f) != 5 {
		return
	}
	mode, err := strconv.ParseUint(f[1], 8, 32)
	if err != nil {
		return
	}
	h.Paths[f[0]] = Stat{Kind: f[4], Mode: uint32(mode), User: f[2], Group: f[3]}
}

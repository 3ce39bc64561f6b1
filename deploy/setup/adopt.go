package setup

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/templates"
)

// Adopt is the group of the steps that take a tree over, or give it back.
const Adopt = "adopt"

// adoptedFile says, below the app's path, which release was made of what lay there.
const adoptedFile = ".godeploy/adopted"

// DropIn is the file that makes a user's own unit serve current.
func DropIn(unit string) string { return "/etc/systemd/system/" + unit + ".d/50-godeploy-current.conf" }

// swapText exchanges two names in one step where the system has that call: whoever looks sees one or the
// other. Without it there is a moment in which neither is there.
const swapText = `swap() {
  python3 -c 'import ctypes, os, sys
l = ctypes.CDLL(None, use_errno=True)
sys.exit(l.renameat2(-100, os.fsencode(sys.argv[1]), -100, os.fsencode(sys.argv[2]), 2) != 0)' "$1" "$2" 2>/dev/null ||
  { mv -- "$1" "$1.godeploy-swap" && mv -- "$2" "$1" && mv -- "$1.godeploy-swap" "$2"; }
}
up() { u=; r=$1; while [ "${r#*/}" != "$r" ]; do u=../$u; r=${r#*/}; done; echo "$u"; }
`

// adoptScript makes a release of a tree, by hard links, puts what is shared into shared/ with a link in its
// place, and points current at the release. The tree stays where it is, so that what runs from it goes on. It
// is run by whom the tree belongs to. Arguments: the app's path; the release's id; its record; shared folders;
// "--"; shared files.
const adoptScript = `set -eu
` + swapText + `
cd -P -- "$1"; id=$2 record=$3; shift 3
[ ! -e current ] && [ ! -L current ] || { echo "current is there already" >&2; exit 1; }
mkdir -p releases shared .godeploy/releases
t=releases/.adopt-$id
rm -rf -- "$t"
mkdir -m 0755 "$t"
trap 'rm -rf -- "$t"' EXIT
for e in * .[!.]* ..?*; do
  case $e in releases|shared|.godeploy) continue;; esac
  if [ -e "./$e" ] || [ -L "./$e" ]; then cp -al -- "./$e" "$t/"; fi
done
list=
for d; do
  if [ "$d" = -- ]; then break; fi
  if [ -d "./$d" ] && [ ! -L "./$d" ]; then
    if [ -e "shared/$d" ]; then rmdir -- "shared/$d" || { echo "$d and shared/$d are both there" >&2; exit 1; }; fi
  elif [ ! -e "./$d" ]; then mkdir -p -- "shared/$d"; fi
done
while [ "$1" != -- ]; do
  d=$1; shift
  case $d in */*) mkdir -p -- "shared/${d%/*}" "$t/${d%/*}";; esac
  rm -rf -- "./$t/$d"
  ln -s -- "$(up "$d")../../shared/$d" "./$t/$d"
  if [ -d "./$d" ] && [ ! -L "./$d" ]; then
    ln -s -- "$(up "$d")shared/$d" "shared/$d"
    swap "./$d" "shared/$d"
    list="$list
dir $d"
  fi
done
shift
for f; do
  case $f in */*) mkdir -p -- "shared/${f%/*}" "$t/${f%/*}";; esac
  rm -f -- "./$t/$f"
  ln -s -- "$(up "$f")../../shared/$f" "./$t/$f"
  if [ -f "./$f" ] && [ ! -L "./$f" ]; then
    ln -- "./$f" "shared/$f"
    ln -s -- "$(up "$f")shared/$f" "./$f.godeploy-new"
    mv -f -- "./$f.godeploy-new" "./$f"
    list="$list
file $f"
  fi
done
printf 'release %s%s\n' "$id" "$list" >.godeploy/adopted.new
mv -f .godeploy/adopted.new .godeploy/adopted
printf '%s\n' "$record" >".godeploy/releases/$id.json"
mv -- "$t" "releases/$id"
ln -s "releases/$id" .godeploy/current.new
mv -f .godeploy/current.new current
sync`

// unadoptScript is the way back: what is shared returns to its place, and releases, shared and current go. The
// arguments are the app's path and the release's id.
const unadoptScript = `set -eu
` + swapText + `
cd -P -- "$1"; id=$2
while read -r kind name; do
  case $kind in
    dir) if [ -L "./$name" ] && [ -d "shared/$name" ]; then swap "./$name" "shared/$name"; rm -f -- "shared/$name"; fi;;
    file) if [ -L "./$name" ] && [ -f "shared/$name" ]; then mv -f -- "shared/$name" "./$name"; fi;;
  esac
done <.godeploy/adopted
rm -f current
rm -rf -- "releases/$id" ".godeploy/releases/$id.json" ".godeploy/manifests/$id"
find shared releases -depth -type d -exec rmdir -- {} + 2>/dev/null || :
rm -f .godeploy/adopted`

// AdoptWant is what a tree that is taken over becomes.
type AdoptWant struct {
	ID  string // of the release
	By  string
	Now time.Time
}

// DecideAdopt plans to take over what lies straight in the app's path; no steps when it is in releases
// already. It does no I/O.
func DecideAdopt(w Want, h Have, a AdoptWant) (Plan, error) {
	tree, there := h.Paths[w.Path]
	if _, already := h.Paths[w.Path+"/current"]; already || !w.IsApp {
		return Plan{}, nil
	}
	if !there || tree.Kind != "directory" {
		return Plan{}, fault.New(fault.LayoutRefused, "%s is no folder, so there is nothing to take over", w.Path).
			Try("godeploy setup, without --adopt")
	}
	record, err := json.Marshal(wire.Release{ID: a.ID, Seq: 1, Root: strings.Repeat("0", 64), Mark: wire.MarkLive,
		Message: "taken over from " + w.Path, By: a.By, Created: a.Now.UTC()})
	if err != nil {
		return Plan{}, err
	}
	argv := append([]string{"/bin/sh", "-c", adoptScript, "adopt", w.Path, a.ID, string(record)}, trimmed(w.SharedDirs)...)
	argv = append(append(argv, "--"), w.Shared...)
	step := Step{Group: Adopt, What: w.Path, Before: "code straight in it", After: "release " + a.ID}
	if h.Root { // what this login has made there must be the tree's owner's to write in
		for _, dir := range []string{".godeploy", ".godeploy/releases"} {
			step.run = append(step.run, command{argv: []string{"/bin/sh", "-c", makeDir, "makedir", w.Path, dir, tree.User + ":" + tree.Group}})
		}
	}
	step.run = append(step.run, command{as: tree.User, argv: argv})
	p := Plan{Steps: []Step{step}}
	p.current(w, h)
	return p, nil
}

func trimmed(dirs []string) []string {
	var list []string
	for _, d := range dirs {
		list = append(list, strings.TrimSuffix(d, "/"))
	}
	return list
}

// current makes the unit start its server in current from the next start on; what runs is left alone.
func (p *Plan) current(w Want, h Have) {
	argv := deploy.ExecStart(h.Unit["ExecStart"])
	switch {
	case w.UnitName == "" || h.Unit["LoadState"] != "loaded":
		return
	case !slices.ContainsFunc(argv[:min(len(argv), 4)], func(word string) bool { return strings.HasPrefix(path.Base(word), "gunicorn") }):
		p.Notes = append(p.Notes, fmt.Sprintf("%s does not start gunicorn by a command line that godeploy can change; make it work in %s/current", w.UnitName, w.Path))
		return
	case slices.Contains(argv, w.Path+"/current"):
		return
	}
	text := unitInCurrent(w.Path, argv, h.Unit["WorkingDirectory"])
	file := templates.File{Path: DropIn(w.UnitName), Text: text, Mode: 0o644}
	p.Steps = append(p.Steps, Step{Group: Adopt, What: file.Path, After: "written", Diff: diff("", text),
		run: []command{{file: &file}, {argv: []string{"systemctl", "daemon-reload"}}}})
	p.Notes = append(p.Notes, fmt.Sprintf("%s goes on as it runs; from its next start on it works in %s/current", w.UnitName, w.Path))
}

// unitInCurrent is the drop-in: the unit's own command, its configuration read from current, and the server
// told to go there.
func unitInCurrent(app string, argv []string, dir string) string {
	words := slices.Clone(argv)
	for i, word := range words {
		value, joined := strings.CutPrefix(word, "--config=")
		if i > 0 && (words[i-1] == "-c" || words[i-1] == "--config") {
			value, joined = word, true
		}
		if joined {
			words[i] = strings.TrimSuffix(word, value) + inCurrent(app, value, dir)
		}
	}
	words = append(words, "--chdir", app+"/current")
	for i, word := range words {
		words[i] = strings.NewReplacer("%", "%%", "$", "$$").Replace(word)
	}
	text := templates.Marker + " setup --adopt. setup --unadopt takes it away.\n[Service]\n"
	if dir := strings.TrimPrefix(dir, "!"); dir == app {
		text += "WorkingDirectory=" + app + "/current\n"
	}
	return text + "ExecStart=\nExecStart=" + strings.Join(words, " ") + "\n"
}

// inCurrent gives the name that a file of the tree has in current.
func inCurrent(app, name, dir string) string {
	switch {
	case strings.HasPrefix(name, app+"/"):
		return app + "/current" + strings.TrimPrefix(name, app)
	case !strings.HasPrefix(name, "/") && strings.TrimPrefix(dir, "!") == app:
		return app + "/current/" + name
	}
	return name
}

// DecideUnadopt plans the way back; no steps where nothing was taken over. state is the app's, as the host has
// it. A tree that has been released to since is refused: what lies in the app's path is older.
func DecideUnadopt(w Want, h Have, state wire.State) (Plan, error) {
	first, _, _ := strings.Cut(h.Files[w.Path+"/"+adoptedFile], "\n")
	id, ok := strings.CutPrefix(first, "release ")
	if !ok || wire.CheckID(id) != nil {
		return Plan{}, nil
	}
	if state.Current != id {
		return Plan{}, fault.New(fault.LayoutRefused, "current is %s, and what was taken over is %s", state.Current, id).
			Hint("what lies in %s is as old as that release", w.Path).Try("godeploy rollback ENV %s", id)
	}
	var p Plan
	if file, there := h.Files[DropIn(w.UnitName)]; there && w.UnitName != "" {
		p.Steps = append(p.Steps, Step{Group: Adopt, What: DropIn(w.UnitName), Before: "there", After: "removed", Diff: diff(file, ""),
			run: []command{{argv: []string{"rm", "-f", "--", DropIn(w.UnitName)}}, {argv: []string{"systemctl", "daemon-reload"}}}})
	}
	if slices.Contains(state.InUse, id) {
		p.Notes = append(p.Notes, fmt.Sprintf("a process runs in release %s; restart %s, and run this again", id, w.UnitName))
		return p, nil
	}
	p.Steps = append(p.Steps, Step{Group: Adopt, What: w.Path, Before: "release " + id, After: "code straight in it",
		run: []command{{as: h.Paths[w.Path].User, argv: []string{"/bin/sh", "-c", unadoptScript, "unadopt", w.Path, id}}}})
	return p, nil
}

// PlanAdopt looks at a host and plans to take over what lies there, or with back to give it back. It changes
// nothing.
func (s *Setter) PlanAdopt(ctx context.Context, h deploy.Host, w Want, a AdoptWant, back bool) (Outcome, error) {
	files := []string{w.Path + "/" + adoptedFile}
	if w.UnitName != "" {
		files = append(files, DropIn(w.UnitName))
	}
	have, err := look(ctx, s.Root(h), w, files)
	if err != nil {
		return Outcome{}, err
	}
	if !back {
		plan, err := DecideAdopt(w, have, a)
		return Outcome{Plan: plan}, err
	}
	state, err := h.State(ctx, nil)
	if err != nil {
		return Outcome{}, err
	}
	plan, err := DecideUnadopt(w, have, state)
	return Outcome{Plan: plan}, err
}

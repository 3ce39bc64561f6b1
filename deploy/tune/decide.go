package tune

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"godeploy/internal/fault"
)

// Change is one thing that will be different.
type Change struct {
	Kind   string `json:"kind"` // sysctl, or limit
	Name   string `json:"name"`
	Before string `json:"before"` // "" when nothing was set
	After  string `json:"after"`  // "" when nothing will be set
	Where  string `json:"where"`  // the file, or "kernel" for the live value
}

// File is one of our files that will be different; an empty text is no file.
type File struct{ Path, Before, After string }

// Set is one kernel setting that will be set at once.
type Set struct{ Key, Before, After string }

// Plan is what takes a host from what it has to what it shall have. The zero Plan changes nothing.
type Plan struct {
	Changes []Change
	Files   []File
	Sysctl  []Set
	Notes   []string // what somebody should know, whether or not something changes
}

// Nothing reports whether the host is as it shall be.
func (p Plan) Nothing() bool { return len(p.Files) == 0 && len(p.Sysctl) == 0 }

// units reports whether a drop-in changes, so that systemd must read its files anew.
func (p Plan) units() bool {
	return slices.ContainsFunc(p.Files, func(f File) bool { return strings.HasPrefix(f.Path, "/etc/systemd/") })
}

// inOrder gives the files in the order in which they are written: those of logins last, since sudo and every
// new session obey them at once.
func (p Plan) inOrder() (first, last []File) {
	for _, f := range p.Files {
		if f.Path == LimitsFile {
			last = append(last, f)
		} else {
			first = append(first, f)
		}
	}
	return first, last
}

// Decide compares, checks and plans; it does no I/O. A value that the kernel or its own sense forbids is a
// fault with code config-value, and all of them are told at once. A file at our place that is not ours is
// one with code layout-refused.
func Decide(w Want, h Have) (Plan, error) {
	errs := append(checkLimits(w, h), checkSysctl(w, h)...)
	for _, file := range sortedKeys(h.Files) {
		if _, ours := Ours(h.Files[file]); !ours {
			errs = append(errs, fault.New(fault.LayoutRefused, "%s is there and not godeploy's", file).
				Hint("move it away, or give it another name: godeploy writes no file that it did not make"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Plan{}, err
	}
	var p Plan
	p.sysctl(w, h)
	p.limits(w, h)
	p.Notes = append(append(p.Notes, overrides(w, h)...), memory(w, h)...)
	return p, nil
}

// sysctl plans the live values and their file. What a setting was before it was ours stays in the file, and
// a setting that is not wanted any more goes back to that.
func (p *Plan) sysctl(w Want, h Have) {
	old := h.Files[SysctlFile]
	mine, was := settings(old), before(old)
	for _, key := range sortedKeys(w.Sysctl) {
		if _, known := was[key]; !known {
			was[key] = h.Sysctl[key]
		}
		p.set(key, h.Sysctl[key], w.Sysctl[key])
	}
	for _, key := range sortedKeys(mine) {
		live, there := h.Sysctl[key]
		if _, wanted := w.Sysctl[key]; !wanted && there && live == mine[key] && was[key] != "" {
			p.set(key, live, was[key])
		}
	}
	p.file(SysctlFile, old, sysctlText(w.App, w.Sysctl, was))
	p.fileChanges("sysctl", SysctlFile, mine, w.Sysctl)
	p.otherApp(w, old)
}

func (p *Plan) set(key, live, want string) {
	if live != want {
		p.Sysctl = append(p.Sysctl, Set{key, live, want})
		p.Changes = append(p.Changes, Change{"sysctl", key, live, want, "kernel"})
	}
}

func (p *Plan) limits(w Want, h Have) {
	want := map[string]string{}
	for name, value := range w.Limits {
		want[name] = decimal(value)
	}
	p.file(LimitsFile, h.Files[LimitsFile], limitsText(w.App, w.Limits))
	p.fileChanges("limit", LimitsFile, limitsIn(h.Files[LimitsFile]), want)
	for _, unit := range w.Units {
		file := UnitFile(unit)
		p.file(file, h.Files[file], unitText(w.App, w.Limits))
		p.fileChanges("limit", file, limitsIn(h.Files[file]), want)
	}
}

func (p *Plan) file(name, old, text string) {
	if old != text {
		p.Files = append(p.Files, File{name, old, text})
	}
}

// fileChanges tells what is different in a file, key by key.
func (p *Plan) fileChanges(kind, file string, has, want map[string]string) {
	for _, key := range sortedKeys(want) {
		if has[key] != want[key] {
			p.Changes = append(p.Changes, Change{kind, key, has[key], want[key], file})
		}
	}
	for _, key := range sortedKeys(has) {
		if _, wanted := want[key]; !wanted {
			p.Changes = append(p.Changes, Change{kind, key, has[key], "", file})
		}
	}
}

func (p *Plan) otherApp(w Want, old string) {
	if app, ours := Ours(old); ours && app != w.App {
		p.Notes = append(p.Notes, fmt.Sprintf("%s was written for %s; a host has one set of settings, and now they are those of %s", SysctlFile, app, w.App))
	}
}

// limitsIn reads the hard limits out of one of our own files, of either kind, in limits.conf's units.
func limitsIn(content string) map[string]string {
	found := map[string]string{}
	for line := range strings.Lines(content) {
		if f := strings.Fields(line); len(f) == 4 && f[1] == "hard" {
			found[f[2]] = f[3]
		}
		directive, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		for _, l := range limits() {
			if l.unit == directive {
				found[l.name] = decimal(number(value) / l.factor)
			}
		}
	}
	return found
}

// overrides names what comes after our files and says otherwise.
func overrides(w Want, h Have) []string {
	var notes []string
	seen := map[string]bool{}
	for _, o := range h.Others {
		if dir := path.Dir(o.Path); !strings.HasSuffix(dir, "sysctl.d") && o.Path != "/etc/sysctl.conf" || seen[path.Base(o.Path)] {
			continue // of files with one name the first folder's counts
		}
		seen[path.Base(o.Path)] = true
		if o.Path != "/etc/sysctl.conf" && !after(o.Path, SysctlFile) {
			continue
		}
		for key, value := range settings(strings.Join(o.Lines, "\n")) {
			if want, mine := w.Sysctl[key]; mine && want != value {
				notes = append(notes, fmt.Sprintf("%s comes later and sets %s = %s: at the next boot that counts, not %s", o.Path, key, value, want))
			}
		}
	}
	notes = append(notes, limitOverrides(w, h)...)
	slices.Sort(notes)
	return slices.Compact(notes)
}

func limitOverrides(w Want, h Have) []string {
	var notes []string
	for _, o := range h.Others {
		pam, dropIn := strings.HasPrefix(o.Path, "/etc/security/"), strings.Contains(path.Dir(o.Path), ".service.d")
		for _, line := range o.Lines {
			name, value, who := "", "", ""
			if f := strings.Fields(line); pam && len(f) == 4 {
				who, name, value = f[0], f[2], f[3]
			} else if key, v, _ := strings.Cut(strings.TrimSpace(line), "="); dropIn {
				name, value = limitOfDirective(key), v
			}
			want, mine := w.Limits[name]
			later := strings.HasSuffix(path.Dir(o.Path), ".d") && after(o.Path, LimitsFile) || who != "" && who != "*" && who != "root"
			if l, _ := limitNamed(name); mine && later && o.Path != LimitsFile && value != decimal(want) && (pam || value != decimal(want*l.factor)) {
				notes = append(notes, fmt.Sprintf("%s sets %s, which counts before ours", o.Path, oneBlank(line)))
			}
		}
	}
	return notes
}

func limitOfDirective(directive string) string {
	for _, l := range limits() {
		if l.unit == directive {
			return l.name
		}
	}
	return ""
}

// memory warns of more connections than the host has room for, if all of them were busy at once.
func memory(w Want, h Have) []string {
	files, asked := w.Limits["nofile"]
	each := buffer(w, h, "net.ipv4.tcp_rmem") + buffer(w, h, "net.ipv4.tcp_wmem")
	if !asked || each == 0 || h.MemTotal == 0 || files <= h.MemTotal/each {
		return nil
	}
	return []string{fmt.Sprintf("%d connections with %d KiB of buffers each would take %.1f GB; this host has %.1f GB",
		files, each>>10, float64(files)*float64(each)/1e9, float64(h.MemTotal)/1e9)}
}

// buffer is the default size in a setting of the form "min default max".
func buffer(w Want, h Have, key string) uint64 {
	value, ok := w.Sysctl[key]
	if !ok {
		value = h.Sysctl[key]
	}
	if f := strings.Fields(value); len(f) == 3 {
		return number(f[1])
	}
	return 0
}

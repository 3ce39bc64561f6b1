// Package tune sets a host's limits and kernel settings to what [tune] asks for, and looks whether they
// hold where they count: in the processes that run and the queues that are open. What to do is decided by
// plain values (Decide, Verify); Host acts.
package tune

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"godeploy/inventory"
)

// The files that are godeploy's own. Nothing else on a host is written.
const (
	SysctlFile = "/etc/sysctl.d/60-godeploy.conf"
	LimitsFile = "/etc/security/limits.d/60-godeploy.conf"
)

// NginxUnit is what runs nginx on every distribution that has systemd.
const NginxUnit = "nginx.service"

// UnitFile is the drop-in that gives a unit its limits.
func UnitFile(unit string) string { return "/etc/systemd/system/" + unit + ".d/60-godeploy.conf" }

// Want is what one host shall have. Build it with WantOf.
type Want struct {
	App     string            // what the files say whose they are
	Limits  map[string]uint64 // by their name in limits.conf, in its units
	Sysctl  map[string]string // values with single blanks
	Units   []string          // whose processes the limits are for
	Backlog int               // that the app's server asks for; 0 is unknown
	Pidfile string            // of an app that no unit runs, "" for none
	Also    []string          // further settings to look at: those that our file on the host has
}

// WantOf gives what the file asks for on one host: the limits count for the app's unit where the app runs,
// and for nginx on hosts with that role.
func WantOf(env *inventory.Env, h inventory.Host) Want {
	t := env.TuneOf(h)
	w := Want{App: env.App.Name, Limits: map[string]uint64{}, Sysctl: map[string]string{}}
	for name, value := range t.Limits {
		w.Limits[name] = uint64(max(value, 0))
	}
	for key, value := range t.Sysctl {
		w.Sysctl[key] = oneBlank(string(value))
	}
	if slices.ContainsFunc(h.Roles, func(r string) bool { return slices.Contains(env.Release.Roles, r) }) {
		w.app(env)
	}
	if h.HasRole("nginx") {
		w.Units = append(w.Units, NginxUnit)
	}
	return w
}

func (w *Want) app(env *inventory.Env) {
	p := env.Process
	w.Backlog = p.Backlog
	switch {
	case p.Manager == "pidfile" && strings.HasPrefix(p.Pidfile, "/"):
		w.Pidfile = p.Pidfile
	case p.Manager == "pidfile":
		w.Pidfile = env.App.Path + "/current/" + p.Pidfile
	case p.Manager == "systemd" && p.Unit != "":
		w.Units = append(w.Units, p.Unit)
	case p.Manager == "systemd":
		w.Units = append(w.Units, env.App.Name+".service")
	}
}

// Nothing is the same host without anything that godeploy has set: what --revert goes to.
func (w Want) Nothing() Want {
	w.Limits, w.Sysctl = nil, nil
	return w
}

// Empty reports whether nothing is asked for.
func (w Want) Empty() bool { return len(w.Limits) == 0 && len(w.Sysctl) == 0 }

// limit is one resource limit in its three languages.
type limit struct {
	name    string // in limits.conf
	unit    string // directive of systemd.exec(5)
	proc    string // row of /proc/PID/limits
	factor  uint64 // of a limits.conf unit, in what the kernel counts
	least   uint64 // under which nobody could log in any more; in limits.conf's units
	prlimit string // option of prlimit(1)
}

func limits() []limit {
	return []limit{
		{"nofile", "LimitNOFILE", "Max open files", 1, 256, "nofile"},
		{"nproc", "LimitNPROC", "Max processes", 1, 64, "nproc"},
		{"memlock", "LimitMEMLOCK", "Max locked memory", 1024, 0, "memlock"},
		{"core", "LimitCORE", "Max core file size", 1024, 0, "core"},
		{"stack", "LimitSTACK", "Max stack size", 1024, 128, "stack"},
		{"fsize", "LimitFSIZE", "Max file size", 1024, 1024, "fsize"},
		{"data", "LimitDATA", "Max data size", 1024, 1, "data"},
		{"as", "LimitAS", "Max address space", 1024, 1, "as"},
		{"sigpending", "LimitSIGPENDING", "Max pending signals", 1, 1, "sigpending"},
		{"msgqueue", "LimitMSGQUEUE", "Max msgqueue size", 1, 0, "msgqueue"},
		{"rtprio", "LimitRTPRIO", "Max realtime priority", 1, 0, "rtprio"},
	}
}

func limitNamed(name string) (limit, bool) {
	for _, l := range limits() {
		if l.name == name {
			return l, true
		}
	}
	return limit{}, false
}

func limitNames() string {
	var names []string
	for _, l := range limits() {
		names = append(names, l.name)
	}
	return strings.Join(names, ", ")
}

func oneBlank(s string) string { return strings.Join(strings.Fields(s), " ") }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

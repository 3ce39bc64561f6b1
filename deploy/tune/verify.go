package tune

import (
	"fmt"
	"slices"
)

// Finding is one wanted value as it is where it counts.
type Finding struct {
	What  string `json:"what"` // "net.core.somaxconn", "nofile of swiper.service", "queue of 0.0.0.0:9000"
	Want  string `json:"want"`
	Live  string `json:"live"` // "" when it cannot be seen
	OK    bool   `json:"ok"`
	Note  string `json:"note,omitempty"`
	Start string `json:"restart,omitempty"` // the unit that must be restarted for the value to count
}

// Verify says, value by value, whether what is wanted holds in the kernel, in the processes that run, in the
// queues that are open, and for a new login. It does no I/O.
func Verify(w Want, h Have) []Finding {
	var found []Finding
	for _, key := range sortedKeys(w.Sysctl) {
		f := Finding{What: key, Want: w.Sysctl[key], Live: h.Sysctl[key]}
		f.OK = f.Live == f.Want
		found = append(found, f)
	}
	for _, name := range sortedKeys(w.Limits) {
		if h.Login != nil {
			found = append(found, login(name, w.Limits[name], h.Login))
		}
		for _, unit := range w.serving() {
			found = append(found, running(unit, name, w.Limits[name], h)...)
		}
	}
	if _, asked := w.Sysctl["net.core.somaxconn"]; asked {
		found = append(found, queues(w, h)...)
	}
	return append(found, connections(w, h)...)
}

// serving names the units, or the pid file, whose processes are looked at.
func (w Want) serving() []string {
	if w.Pidfile == "" {
		return w.Units
	}
	return append([]string{w.Pidfile}, w.Units...)
}

func login(name string, want uint64, has map[string]uint64) Finding {
	f := Finding{What: name + " of a new login", Want: decimal(want)}
	if live, seen := has[name]; seen {
		f.Live, f.OK = text(live), live == want
	}
	if !f.OK {
		f.Note = "limits.d counts for logins by PAM only: sshd needs UsePAM yes, and its PAM session pam_limits"
	}
	return f
}

func text(n uint64) string {
	if n == Unlimited {
		return "unlimited"
	}
	return decimal(n)
}

// running looks at the main process of a unit and at those it has started: the lowest limit of any counts.
func running(unit, name string, want uint64, h Have) []Finding {
	what := name + " of " + unit
	live, seen := Unlimited, false
	for _, p := range h.Processes {
		if has, ok := p.Limits[name]; p.Unit == unit && ok {
			live, seen = min(live, has, p.Soft[name]), true
		}
	}
	f := Finding{What: what, Want: decimal(want), Live: text(live), OK: seen && live == want}
	if unit == NginxUnit && name == "nofile" && seen && live >= want {
		f.OK = true // worker_rlimit_nofile may say more
	}
	switch {
	case !seen && h.Units[unit].Load == "loaded":
		f.Live, f.OK, f.Note = "", true, "it does not run; the limit counts when it is started"
	case !seen:
		f.Live, f.Note = "", "it is not there"
	case !f.OK:
		f.Start, f.Note = unit, "it was started before"
	}
	return []Finding{f}
}

// queues compares what may wait at each socket of ours with backlog and net.core.somaxconn: a queue keeps
// the length that it was opened with.
func queues(w Want, h Have) []Finding {
	var found []Finding
	limit := number(w.Sysctl["net.core.somaxconn"])
	for _, q := range h.Queues {
		unit := ownerOf(q, h)
		if !slices.Contains(w.serving(), unit) {
			continue
		}
		asked := uint64(511) // nginx's own on Linux, ngx_connection.h
		if unit != NginxUnit {
			asked = uint64(w.Backlog)
		}
		want := min(asked, limit)
		f := Finding{What: "queue of " + q.Address + " (" + unit + ")", Want: decimal(want), Live: fmt.Sprint(q.Max), OK: uint64(q.Max) >= want}
		switch {
		case !f.OK:
			f.Start, f.Note = unit, "it was opened before, or its server asks for no more"
		case uint64(q.Max) < limit && unit == NginxUnit:
			f.Note = fmt.Sprintf("nginx asks for %d; listen … backlog=%d would let it have net.core.somaxconn", q.Max, limit)
		case uint64(q.Max) < limit:
			f.Note = fmt.Sprintf("its backlog is the limit, not net.core.somaxconn = %d", limit)
		}
		found = append(found, f)
	}
	return found
}

// ownerOf is the unit one of whose processes listens on the queue, "" for another's.
func ownerOf(q Queue, h Have) string {
	for _, p := range h.Processes {
		if slices.Contains(q.PIDs, p.PID) {
			return p.Unit
		}
	}
	return ""
}

// connections holds nginx's worker_connections against the files that its workers may open: a proxied
// connection needs two.
func connections(w Want, h Have) []Finding {
	if !slices.Contains(w.Units, NginxUnit) || h.Nginx.Connections == 0 || w.Limits["nofile"] == 0 {
		return nil
	}
	files := Unlimited
	for _, p := range h.Processes {
		if p.Unit == NginxUnit && p.Parent > 0 {
			files = min(files, p.Soft["nofile"])
		}
	}
	if h.Nginx.RlimitNofile > 0 && files == Unlimited {
		files = h.Nginx.RlimitNofile
	}
	if files == Unlimited {
		return nil
	}
	need := 2 * h.Nginx.Connections
	f := Finding{What: "files of an nginx worker", Want: fmt.Sprintf(">= %d", need), Live: decimal(files), OK: files >= need}
	if !f.OK {
		f.Note = fmt.Sprintf("worker_connections is %d, and a proxied one needs two files", h.Nginx.Connections)
	}
	return []Finding{f}
}

// Restarts names the units that must be restarted for a value to count, without repetition.
func Restarts(found []Finding) []string {
	var units []string
	for _, f := range found {
		if f.Start != "" && !slices.Contains(units, f.Start) {
			units = append(units, f.Start)
		}
	}
	return units
}

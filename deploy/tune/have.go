package tune

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// Have is what a host says of itself. Everything in it comes from the host and may be anything.
type Have struct {
	NrOpen, PidMax uint64
	// Hard are the ceilings of limits that nobody on the host can raise, by limits.conf name, in its units;
	// empty on a host whose root may raise them.
	Hard      map[string]uint64
	Sysctl    map[string]string // live, of those asked about; a missing one does not exist
	ReadOnly  map[string]bool   // settings that root cannot write
	Files     map[string]string // our own files that exist
	Others    []Other           // other people's files that may say otherwise, in no order
	Units     map[string]Unit
	Processes []Process
	Queues    []Queue
	Nginx     Nginx
	Login     map[string]uint64 // limits of a new login, by name, in limits.conf's units; nil when nobody asked

	Overflows, Drops uint64 // connections that found a full queue, since boot
	MemTotal         uint64 // bytes
	MemFree          uint64 // bytes that programs can have
	Load             string // of 1, 5 and 15 minutes
	CPUs             int
	Disk             Disk // where the app lies
}

// Unlimited is a limit that is none.
const Unlimited = ^uint64(0)

// Other is a file that is not ours.
type Other struct {
	Path  string
	Lines []string // without comments
}

// Unit is a systemd unit as systemctl shows it.
type Unit struct {
	Load, Active string
	PID          int      // of the main process
	DropIns      []string // in the order in which they count
}

// Process is one that serves: a master, or a child of one.
type Process struct {
	Unit   string // or the pid file that names its master
	PID    int
	Parent int               // the master's, 0 for a master
	Age    int64             // seconds since it was started, -1 when unknown
	Limits map[string]uint64 // hard limits by limits.conf name, in its units; Unlimited is none
	Soft   map[string]uint64
}

// Queue is a socket that is listened on.
type Queue struct {
	Address string
	Waiting int // connections that wait to be accepted
	Max     int // how many may wait: the smaller of backlog and net.core.somaxconn at the time of listen(2)
	PIDs    []int
}

// Nginx is what nginx -T says; 0 is not said.
type Nginx struct{ Connections, RlimitNofile uint64 }

// Disk is a file system's room in bytes; zero when unknown.
type Disk struct{ Total, Free uint64 }

// parse reads what the script in look.go prints: one fact a line, its first word says which. What makes no
// sense is passed over.
func parse(out string) Have {
	h := Have{Hard: map[string]uint64{}, Sysctl: map[string]string{}, ReadOnly: map[string]bool{}, Files: map[string]string{}, Units: map[string]Unit{}}
	r := reader{have: &h, hard: map[string]uint64{}}
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		r.line(word, rest)
	}
	if r.bounded {
		h.Hard = r.hard
	}
	return h
}

// reader keeps where it is in the text.
type reader struct {
	have    *Have
	file    string // the own file whose lines come
	hard    map[string]uint64
	bounded bool
	ticks   float64
	uptime  float64
	names   []string // of the first TcpExt line
}

func (r *reader) line(word, rest string) {
	h := r.have
	switch word {
	case "nr_open":
		h.NrOpen = number(rest)
	case "pid_max":
		h.PidMax = number(rest)
	case "capbnd":
		r.capabilities(rest)
	case "hard":
		readLimit(rest, r.hard, nil)
	case "login":
		if h.Login == nil {
			h.Login = map[string]uint64{}
		}
		readLimit(rest, nil, h.Login)
	case "sysctl", "readonly":
		r.sysctl(word, rest)
	case "file", "|", "other", "<":
		r.content(word, rest)
	case "unit":
		r.unit(rest)
	case "proc", "limit":
		r.process(word, rest)
	case "queue":
		r.queue(rest)
	case "TcpExt:":
		r.netstat(strings.Fields(rest))
	default:
		r.machine(word, rest)
	}
}

// machine reads what status shows.
func (r *reader) machine(word, rest string) {
	h := r.have
	fields := strings.Fields(rest)
	switch {
	case word == "MemTotal:":
		h.MemTotal = number(rest) * 1024
	case word == "MemAvailable:":
		h.MemFree = number(rest) * 1024
	case word == "load" && len(fields) >= 3:
		h.Load = strings.Join(fields[:3], " ")
	case word == "cpus":
		h.CPUs = int(min(number(rest), 1<<20))
	case word == "disk" && len(fields) == 2:
		h.Disk = Disk{number(fields[0]) * 1024, number(fields[1]) * 1024}
	case word == "ticks":
		r.ticks = float64(number(rest))
	case word == "uptime":
		r.uptime, _ = strconv.ParseFloat(rest, 64) // 0 makes ages unknown
	case word == "nginx" && len(fields) == 2 && fields[0] == "worker_connections":
		h.Nginx.Connections = number(fields[1])
	case word == "nginx" && len(fields) == 2 && fields[0] == "worker_rlimit_nofile":
		h.Nginx.RlimitNofile = number(fields[1])
	}
}

func (r *reader) capabilities(hex string) {
	const sysResource = 24 // CAP_SYS_RESOURCE, capability.h
	set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
	r.bounded = err == nil && set&(1<<sysResource) == 0
}

func (r *reader) sysctl(word, rest string) {
	key, value, _ := strings.Cut(rest, " ")
	if word == "readonly" {
		r.have.ReadOnly[key] = true
		return
	}
	r.have.Sysctl[key] = oneBlank(value)
}

// content reads our own files line by line, and those of others.
func (r *reader) content(word, rest string) {
	h := r.have
	switch word {
	case "file":
		r.file = rest
		h.Files[rest] = ""
	case "|":
		h.Files[r.file] += rest + "\n"
	case "other":
		h.Others = append(h.Others, Other{Path: rest})
	case "<":
		if n := len(h.Others) - 1; n >= 0 {
			h.Others[n].Lines = append(h.Others[n].Lines, rest)
		}
	}
}

// unit reads "NAME KEY=VALUE".
func (r *reader) unit(rest string) {
	name, prop, _ := strings.Cut(rest, " ")
	key, value, _ := strings.Cut(prop, "=")
	u := r.have.Units[name]
	switch key {
	case "LoadState":
		u.Load = value
	case "ActiveState":
		u.Active = value
	case "MainPID":
		u.PID = int(min(number(value), 1<<30))
	case "DropInPaths":
		u.DropIns = strings.Fields(value)
	}
	r.have.Units[name] = u
}

// process reads "UNIT PID PARENT STARTED" and "PID ROW-OF-/proc/PID/limits".
func (r *reader) process(word, rest string) {
	fields := strings.Fields(rest)
	if word == "limit" {
		pid, row, _ := strings.Cut(rest, " ")
		if n := len(r.have.Processes) - 1; n >= 0 && strconv.Itoa(r.have.Processes[n].PID) == pid {
			p := &r.have.Processes[n]
			readLimit(row, p.Limits, p.Soft)
		}
		return
	}
	if len(fields) != 4 {
		return
	}
	p := Process{Unit: fields[0], PID: int(number(fields[1])), Parent: int(number(fields[2])), Age: -1, Limits: map[string]uint64{}, Soft: map[string]uint64{}}
	if started := float64(number(fields[3])); r.ticks > 0 && r.uptime > 0 && started > 0 {
		p.Age = int64(max(r.uptime-started/r.ticks, 0))
	}
	r.have.Processes = append(r.have.Processes, p)
}

// queue reads a line of ss: "LISTEN 0 128 0.0.0.0:9000 0.0.0.0:* users:((...pid=7,...))", with the kind
// of socket in front for those of unix.
func (r *reader) queue(rest string) {
	fields := strings.Fields(rest)
	at := slices.Index(fields, "LISTEN")
	if at < 0 || len(fields) < at+4 {
		return
	}
	q := Queue{Waiting: int(number(fields[at+1])), Max: int(number(fields[at+2])), Address: fields[at+3]}
	for _, part := range strings.Split(fields[len(fields)-1], "pid=")[1:] {
		pid, _, _ := strings.Cut(part, ",")
		q.PIDs = append(q.PIDs, int(number(pid)))
	}
	r.have.Queues = append(r.have.Queues, q)
}

// netstat reads the two lines of /proc/net/netstat: names, then values.
func (r *reader) netstat(fields []string) {
	if r.names == nil {
		r.names = fields
		return
	}
	for i, name := range r.names {
		if i >= len(fields) {
			return
		}
		switch name {
		case "ListenOverflows":
			r.have.Overflows = number(fields[i])
		case "ListenDrops":
			r.have.Drops = number(fields[i])
		}
	}
}

// readLimit reads "Max open files            1024                 524288               files".
func readLimit(row string, hard, soft map[string]uint64) {
	for _, l := range limits() {
		rest, ok := strings.CutPrefix(row, l.proc+" ")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 2 {
			continue
		}
		if soft != nil {
			soft[l.name] = l.read(fields[0])
		}
		if hard != nil {
			hard[l.name] = l.read(fields[1])
		}
	}
}

func (l limit) read(value string) uint64 {
	if value == "unlimited" {
		return Unlimited
	}
	return number(value) / l.factor
}

// number is the number at the beginning of a text, 0 for none.
func number(s string) uint64 {
	s = strings.TrimSpace(s)
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(s[:end], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// after reports whether a file of a *.d folder is read after ours.
func after(file, ours string) bool {
	return path.Base(file) > path.Base(ours)
}

package doctor

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	"godeploy/internal/wire"
)

// Facts is what a host has answered. What it did not say is the zero value.
type Facts struct {
	Complete bool  // the script came to its end
	Now      int64 // the host's clock, in seconds
	User     string
	UID      int
	Kernel   string // "Linux x86_64"

	Disk, Nodes Room

	Path       bool   // the app's folder is there
	Unwritable string // the folder in which something would have to be made, and cannot
	Current    string // where the link current leads to
	Dangling   bool
	NoLink     bool // current is there and no link
	Freeze     *wire.Freeze
	Audit      []wire.AuditEntry // the newest, oldest first

	Unit      map[string]string
	Show      string // the unit's properties as systemctl printed them
	NoSystemd bool
	Somaxconn int
	Listening map[int]bool // nil when it is not known

	Nginx     string // "", ok, bad or none
	NginxSaid []string

	NoSudo        bool
	Denied        []string // commands that sudo refuses: user, program, words
	LacksPrograms []string
	LacksFiles    []string
	BrokenVenvs   []string
}

// Room is what df says of a file system, in KiB or in inodes; a zero Total is unknown.
type Room struct {
	Total, Free int64
	Mount       string
}

// MaxAnswer bounds what is read of a host's answer.
const MaxAnswer = 1 << 20

// Read takes an answer apart. Text is of the host: no line of it makes Read fail, and one that makes no
// sense is passed over.
func Read(answer []byte) Facts {
	f := Facts{Unit: map[string]string{}}
	text := string(answer[:min(len(answer), MaxAnswer)])
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "\t")
		if ok {
			f.take(key, value)
		}
	}
	return f
}

func (f *Facts) take(key, value string) {
	switch key {
	case "end":
		f.Complete = true
	case "now":
		f.Now, _ = strconv.ParseInt(value, 10, 64)
	case "user":
		f.User = value
	case "uid":
		f.UID = number(value)
	case "kernel":
		f.Kernel = value
	case "disk":
		f.Disk = room(value)
	case "nodes":
		f.Nodes = room(value)
	case "somaxconn":
		f.Somaxconn = number(value)
	case "nginx":
		f.Nginx = value
	case "nginx-said":
		f.NginxSaid = append(f.NginxSaid, value)
	default:
		f.takeApp(key, value)
	}
}

// takeApp takes what is said of the app.
func (f *Facts) takeApp(key, value string) {
	switch key {
	case "path":
		f.Path = true
	case "unwritable":
		f.Unwritable = value
	case "current":
		f.Current = value
	case "dangling":
		f.Dangling = true
	case "current-is":
		f.NoLink = true
	case "freeze":
		f.Freeze = wire.ReadFreeze([]byte(value))
	case "no-systemd":
		f.NoSystemd = true
	case "listened":
		f.listen(-1)
	case "listen":
		if port, err := strconv.ParseUint(value, 16, 16); err == nil {
			f.listen(int(port))
		}
	case "no-sudo":
		f.NoSudo = true
	case "audit":
		var e wire.AuditEntry
		if json.Unmarshal([]byte(value), &e) == nil && e.Check() == nil {
			f.Audit = append(f.Audit, e)
		}
	case "unit":
		name, text, _ := strings.Cut(value, "=")
		f.Unit[name] = text
		f.Show += value + "\n"
	default:
		f.takeList(key, value)
	}
}

func (f *Facts) listen(port int) {
	if f.Listening == nil {
		f.Listening = map[int]bool{}
	}
	if port >= 0 {
		f.Listening[port] = true
	}
}

func (f *Facts) takeList(key, value string) {
	lists := map[string]*[]string{
		"denied": &f.Denied, "lacks-program": &f.LacksPrograms, "lacks-file": &f.LacksFiles, "broken-venv": &f.BrokenVenvs,
	}
	if list := lists[key]; list != nil {
		*list = append(*list, value)
	}
}

func number(text string) int {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0
	}
	return n
}

// room reads a line of `df -P`, whose first column may hold blanks, and whose numbers may be dashes.
func room(line string) Room {
	m := regexp.MustCompile(`\s(\d+)\s+(\d+)\s+(\d+)\s+\d+%\s+(/.*)$`).FindStringSubmatch(line)
	if m == nil {
		return Room{}
	}
	total, err := strconv.ParseInt(m[1], 10, 64)
	free, err2 := strconv.ParseInt(m[3], 10, 64)
	if err != nil || err2 != nil {
		return Room{}
	}
	return Room{Total: total, Free: free, Mount: m[4]}
}

package templates

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"godeploy/internal/fault"
)

// Marker begins every file that godeploy writes on a host. A file that lacks it is somebody's own and is
// never written over.
const Marker = "# Written by godeploy"

// Service is what the files of an app's service are rendered from.
type Service struct {
	App     string // names the unit and its folder below /run
	Unit    string // name of the unit, "" = App + ".service"
	User    string // whom it runs as
	Group   string // "" is the user's own
	Current string // the link to the live release
	Server  string // gunicorn, uwsgi, custom
	Command string // the server's command line, as it would be typed in Current
	Bind    string // host:port or unix:PATH; "" leaves it to the command
	Workers int    // 0 leaves it to the server
	Class   string // gunicorn's worker class, "" is sync
	Threads int    // of each worker; 0 is 1
	Backlog int    // connections that may wait; 0 leaves it to the server
	Timeout time.Duration
	// StopTimeout is how long open requests have to end.
	StopTimeout time.Duration
	NoFile      int    // open files; 0 leaves it to systemd
	Socket      bool   // systemd holds the listener
	EnvFile     string // file of KEY=VALUE lines, read if it is there; "" is none
}

// File is one file to be written on a host, as root.
type File struct {
	Path string // absolute
	Text string
	Mode uint32
}

// Files gives all files of a service: the unit, its socket where systemd holds the listener, and the
// server's configuration where it has one and the command line does not name one of the user's own.
// Each begins with Marker. Errors are faults with code config-value.
func (s Service) Files() ([]File, error) {
	unit, err := Unit(s)
	if err != nil {
		return nil, err
	}
	files := []File{{"/etc/systemd/system/" + s.UnitName(), unit, 0o644}}
	if s.Socket {
		text, err := Socket(s)
		if err != nil {
			return nil, err
		}
		files = append(files, File{"/etc/systemd/system/" + s.SocketName(), text, 0o644})
	}
	if name, text := ServerConfig(s); name != "" {
		files = append(files, File{name, text, 0o644})
	}
	return files, nil
}

// UnitName is the name of the service's unit.
func (s Service) UnitName() string {
	if s.Unit != "" {
		return s.Unit
	}
	return s.App + ".service"
}

// SocketName is the name of the unit that holds the service's listener.
func (s Service) SocketName() string { return strings.TrimSuffix(s.UnitName(), ".service") + ".socket" }

// PIDFile is where the server's main process writes its number: gunicorn's needs one that systemd knows
// too, or an upgrade in place would end the unit.
func (s Service) PIDFile() string { return "/run/" + s.App + "/" + s.Server + ".pid" }

// Ours reports whether a file on a host is one that godeploy wrote.
func Ours(content []byte) bool { return strings.HasPrefix(string(content), Marker) }

// Unit renders the systemd unit. The server goes to Current by its own --chdir: the folder of
// WorkingDirectory alone would be the release that was live when it started, for ever.
func Unit(s Service) (string, error) {
	exec, err := s.execStart()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, which writes it anew. Changes of yours belong into a drop-in: systemctl edit %s\n", Marker, s.UnitName())
	fmt.Fprintf(&b, "[Unit]\nDescription=%s\nAfter=network.target\n", unitText(s.App+", served by "+s.Server))
	if s.Socket {
		fmt.Fprintf(&b, "Requires=%s\nAfter=%s\n", s.SocketName(), s.SocketName())
	}
	b.WriteString("\n[Service]\n")
	s.kind(&b)
	line(&b, "User", s.User)
	line(&b, "Group", s.Group)
	if s.EnvFile != "" {
		fmt.Fprintf(&b, "EnvironmentFile=-%s\n", unitText(s.EnvFile))
	}
	fmt.Fprintf(&b, "RuntimeDirectory=%s\nExecStart=%s\n", s.App, exec)
	if s.Server != "custom" {
		b.WriteString("ExecReload=/bin/kill -s HUP $MAINPID\n")
	}
	// mixed: the server ends its own workers, in its own time; what is left after that is killed.
	fmt.Fprintf(&b, "KillMode=mixed\nTimeoutStopSec=%d\n", int(max(s.StopTimeout, time.Second)/time.Second)+5)
	if s.NoFile > 0 {
		fmt.Fprintf(&b, "LimitNOFILE=%d\n", s.NoFile)
	}
	b.WriteString("Restart=on-failure\nRestartSec=1\n\n[Install]\nWantedBy=multi-user.target\n")
	return b.String(), nil
}

// kind says how systemd learns that the service is up, and which process is the main one.
func (s Service) kind(b *strings.Builder) {
	switch s.Server {
	case "gunicorn":
		fmt.Fprintf(b, "Type=notify\nPIDFile=%s\n", s.PIDFile())
	case "uwsgi":
		b.WriteString("Type=notify\nNotifyAccess=main\n")
	default:
		fmt.Fprintf(b, "Type=exec\nWorkingDirectory=%s\n", unitText(s.Current))
	}
}

func line(b *strings.Builder, key, value string) {
	if value != "" {
		fmt.Fprintf(b, "%s=%s\n", key, unitText(value))
	}
}

// Socket renders the unit that holds the listener while the service restarts behind it.
func Socket(s Service) (string, error) {
	listen, err := s.listen()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, which writes it anew. Changes of yours belong into a drop-in: systemctl edit %s\n", Marker, s.SocketName())
	fmt.Fprintf(&b, "[Unit]\nDescription=%s\n\n[Socket]\nListenStream=%s\n", unitText("the listener of "+s.App), unitText(listen))
	if s.Backlog > 0 {
		fmt.Fprintf(&b, "Backlog=%d\n", s.Backlog)
	}
	if strings.HasPrefix(listen, "/") {
		line(&b, "SocketUser", s.User)
		line(&b, "SocketGroup", s.Group)
	}
	fmt.Fprintf(&b, "Service=%s\n\n[Install]\nWantedBy=sockets.target\n", s.UnitName())
	return b.String(), nil
}

// listen is [process] bind as systemd writes it.
func (s Service) listen() (string, error) {
	if where, ok := strings.CutPrefix(s.Bind, "unix:"); ok {
		return where, nil
	}
	host, port, ok := cutPort(s.Bind)
	switch {
	case !ok:
		return "", problem("process.bind", errors.New("must be host:port or unix:PATH for a socket of systemd's"))
	case host == "":
		return port, nil
	}
	return s.Bind, nil
}

func cutPort(bind string) (host, port string, ok bool) {
	i := strings.LastIndexByte(bind, ':')
	if i < 0 || i+1 == len(bind) || strings.Trim(bind[i+1:], "0123456789") != "" {
		return "", "", false
	}
	return bind[:i], bind[i+1:], true
}

// execStart is the unit's command line: the user's own, with what godeploy knows put in.
func (s Service) execStart() (string, error) {
	words, err := s.Argv()
	if err != nil {
		return "", err
	}
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = unitWord(w)
	}
	return strings.Join(list, " "), nil
}

// Argv gives the words that the unit starts the server by. Errors are faults with code config-value.
func (s Service) Argv() ([]string, error) {
	words, plain := Words(s.Command)
	switch {
	case s.Command == "":
		return nil, fault.New(fault.ConfigValue, "process.command is needed to write a unit").
			Hint("set [process] command to what starts the server, such as \".venv/bin/gunicorn swiper.wsgi\"")
	case !plain:
		return nil, fault.New(fault.ConfigValue, "process.command needs a shell, and a unit has none").
			Hint("put it into a script of the project and name that, or write the unit yourself")
	}
	words[0] = s.within(words[0])
	switch s.Server {
	case "gunicorn":
		return s.gunicorn(words), nil
	case "uwsgi":
		return s.uwsgi(words), nil
	}
	return words, nil
}

// within makes a path that was meant from Current absolute, and leaves a bare name of a program.
func (s Service) within(name string) string {
	if !strings.Contains(name, "/") || strings.HasPrefix(name, "/") {
		return name
	}
	return path.Join(s.Current, name)
}

// unitText makes a value of a unit file of a text: a "%" would be looked up.
func unitText(text string) string { return strings.ReplaceAll(text, "%", "%%") }

// unitWord makes one word of a command line in a unit (systemd.service(5), "Command lines").
func unitWord(word string) string {
	plain := strings.ReplaceAll(unitText(word), "$", "$$")
	if word != "" && !strings.ContainsAny(word, " \t\"'\\;") {
		return plain
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\t", `\t`).Replace(plain) + `"`
}

package process

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// systemd drives a unit by systemctl.
type systemd struct{ *Service }

func (m systemd) unit() string { return deploy.UnitName(m.env) }

func (m systemd) ready(ctx context.Context, h deploy.Host) error {
	props, err := m.show(ctx, h)
	if err != nil {
		return err
	}
	if props["LoadState"] != "loaded" {
		return fault.New(fault.RemoteToolMissing, "unit %s is %s", m.unit(), props["LoadState"]).
			Hint("install the unit once, as root; its ExecStart should have --chdir %s/current", m.env.App.Path).
			Try("godeploy exec %s -l %s -- systemctl status %s", m.env.Name, h.Inventory().Name, m.unit())
	}
	current := m.env.App.Path + "/current"
	if why := strays(deploy.ExecStart(props["ExecStart"]), workingDir(props), current); why != "" && m.env.Process.Server == "gunicorn" {
		return fault.New(fault.ReleaseNotLive, "unit %s can never serve a release: %s", m.unit(), why).
			Hint("its ExecStart needs --chdir %s; then: systemctl daemon-reload && systemctl restart %s", current, m.unit())
	}
	argv, err := m.asRoot(h, "systemctl", "restart", m.unit())
	if err != nil || h.Facts().UID == 0 {
		return err
	}
	did, err := command(ctx, h, append([]string{"sudo", "-n", "-l"}, argv[2:]...))
	if err == nil && did.Exit != 0 {
		return m.needSudo(h, argv[2:])
	}
	return err
}

// show reads the unit's properties; systemctl prints one KEY=VALUE a line.
func (m systemd) show(ctx context.Context, h deploy.Host) (map[string]string, error) {
	out, err := output(ctx, h, "systemctl", "show", "--no-pager", "--property",
		"LoadState,ActiveState,MainPID,ExecStart,WorkingDirectory,Environment,EnvironmentFiles,PIDFile,User,CanReload,TriggeredBy", "--", m.unit())
	if err != nil {
		return nil, err
	}
	return properties(out), nil
}

// properties parses what `systemctl show` prints. A key that stands more than once keeps all values,
// a line each.
func properties(text string) map[string]string {
	props := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "=")
		if !ok {
			continue
		}
		if had, twice := props[key]; twice {
			value = had + "\n" + value
		}
		props[key] = value
	}
	return props
}

func (m systemd) find(ctx context.Context, h deploy.Host) (found, error) {
	props, err := m.show(ctx, h)
	if err != nil {
		return found{State: "unknown"}, err
	}
	pid, err := strconv.Atoi(props["MainPID"])
	if err != nil || pid < 2 {
		pid = 0
	}
	f := found{PID: pid, State: props["ActiveState"], Command: deploy.ExecStart(props["ExecStart"]), Dir: workingDir(props)}
	f.PIDFile, f.User, f.Reloads = props["PIDFile"], props["User"], props["CanReload"] == "yes"
	f.Activated = m.activated(ctx, h, props["TriggeredBy"])
	f.Environ = m.environ(ctx, h, props)
	f.Secret = m.env.Secrets.Command != "" && slices.Contains(environFiles(props), m.env.App.Path+"/current/"+m.env.Secrets.File)
	return f, nil
}

// activated reports whether a socket unit holds the service's listener now.
func (m systemd) activated(ctx context.Context, h deploy.Host, triggers string) bool {
	for _, name := range strings.Fields(triggers) {
		if !strings.HasSuffix(name, ".socket") {
			continue
		}
		if out, err := output(ctx, h, "systemctl", "show", "--no-pager", "--property", "ActiveState", "--", name); err == nil &&
			properties(out)["ActiveState"] == "active" {
			return true
		}
	}
	return false
}

// workingDir is the unit's folder; systemctl marks one that may be missing with "!".
func workingDir(props map[string]string) string {
	dir := strings.TrimPrefix(props["WorkingDirectory"], "!")
	if !strings.HasPrefix(dir, "/") { // [not set], or the home of its user
		return ""
	}
	return strings.TrimSuffix(dir, "/")
}

// environ is the environment that the unit gives its process, as far as this login may read it.
func (m systemd) environ(ctx context.Context, h deploy.Host, props map[string]string) []string {
	list := strings.Fields(props["Environment"])
	for _, name := range environFiles(props) {
		reply, err := h.File(ctx, wire.FileRequest{Path: name})
		if err != nil || !reply.Exists {
			continue
		}
		list = append(list, environFile(string(reply.Content))...)
	}
	return list
}

// environFiles gives the files that the unit's environment comes from, without those that are patterns.
func environFiles(props map[string]string) []string {
	var files []string
	for line := range strings.Lines(props["EnvironmentFiles"]) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " (")
		if name != "" && !strings.ContainsAny(name, "*?[") {
			files = append(files, name)
		}
	}
	return files
}

// environFile reads KEY=VALUE lines as systemd.exec(5) describes EnvironmentFile=: comments begin
// with # or ;, a value may stand in quotes.
func environFile(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, "=")
		if !ok || line[0] == '#' || line[0] == ';' {
			continue
		}
		value = strings.TrimSpace(value)
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		list = append(list, strings.TrimSpace(key)+"="+value)
	}
	return list
}

func (m systemd) systemctl(ctx context.Context, h deploy.Host, words ...string) error {
	argv, err := m.asRoot(h, append([]string{"systemctl"}, words...)...)
	if err != nil {
		return err
	}
	_, err = output(ctx, h, argv...)
	return err
}

// start forgives a unit first what has failed: one that was started too often with broken code would not be
// started with good code either.
func (m systemd) start(ctx context.Context, h deploy.Host) error {
	if props, err := m.show(ctx, h); err == nil && props["ActiveState"] == "failed" {
		_ = m.systemctl(ctx, h, "reset-failed", m.unit()) // where it is not allowed the start may still be
	}
	return m.systemctl(ctx, h, "start", m.unit())
}

func (m systemd) stop(ctx context.Context, h deploy.Host) error {
	return m.systemctl(ctx, h, "stop", m.unit())
}

func (m systemd) restart(ctx context.Context, h deploy.Host) error {
	return m.systemctl(ctx, h, "restart", m.unit())
}

// signal goes by a process file descriptor where this login may signal the process, else by systemd.
func (m systemd) signal(ctx context.Context, h deploy.Host, p wire.Proc, name string) error {
	if uid := h.Facts().UID; uid == 0 || uid == p.UID {
		return h.Signal(ctx, wire.SignalRequest{PID: p.PID, Start: p.Start, Signal: name})
	}
	return m.systemctl(ctx, h, "kill", "-s", name, "--kill-who=main", m.unit())
}

func (m systemd) why(ctx context.Context, h deploy.Host) []string {
	argv, err := m.asRoot(h, deploy.JournalTail(m.unit())...)
	if err != nil {
		return nil
	}
	out, err := output(ctx, h, argv...)
	if err != nil {
		return nil
	}
	return deploy.LastLines(out, 4)
}

package process

import (
	"context"
	"path"
	"slices"
	"strconv"
	"strings"

	"al.essio.dev/pkg/shellescape"

	"godeploy/deploy"
	"godeploy/hooks"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// pidfile drives a server that is started by hand and writes its pid to a file.
type pidfile struct{ *Service }

func (m pidfile) file() string {
	if strings.HasPrefix(m.env.Process.Pidfile, "/") {
		return m.env.Process.Pidfile
	}
	return m.env.App.Path + "/current/" + m.env.Process.Pidfile
}

func (m pidfile) ready(_ context.Context, h deploy.Host) error {
	if m.env.Process.Command == "" && len(m.env.Hooks.Start) == 0 {
		return fault.New(fault.ConfigValue, "manager = \"pidfile\" does not know how to start the service").
			On(h.Inventory().Name).Hint("set [process] command, or write a start hook")
	}
	if file := m.env.Process.Pidfile; !outlives(file, m.env.Shared.Dirs) {
		return fault.New(fault.ConfigValue, "pidfile %s lies in the release, where it is out of sight after a switch", file).
			On(h.Inventory().Name).Hint("give an absolute path, or put its folder into [shared] dirs")
	}
	return nil
}

// outlives reports whether a pid file is the same one before and after a switch. One inside the
// release is not: what serves would be taken for stopped, and started a second time.
func outlives(file string, sharedDirs []string) bool {
	if strings.HasPrefix(file, "/") {
		return true
	}
	return slices.ContainsFunc(sharedDirs, func(d string) bool {
		return strings.HasPrefix(path.Clean(file), path.Clean(d)+"/")
	})
}

// find reads the pid file and believes it only when the process it names works inside the app's
// folder: a number left over from before a reboot may be anybody's by now.
func (m pidfile) find(ctx context.Context, h deploy.Host) (found, error) {
	down := found{State: "inactive", Command: strings.Fields(m.env.Process.Command), PIDFile: m.file(), User: deploy.OwnerUser(m.env)}
	reply, err := h.File(ctx, wire.FileRequest{Path: m.file()})
	if err != nil || !reply.Exists {
		return down, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(reply.Content)))
	if err != nil || pid < 2 {
		return down, nil
	}
	procs, err := h.Procs(ctx, pid)
	down.Gone = err == nil && len(procs) == 0
	if err != nil || len(procs) == 0 || !m.ours(ctx, h, procs[0]) {
		return down, err
	}
	down.PID, down.State = pid, "active"
	return down, nil
}

func (m pidfile) ours(ctx context.Context, h deploy.Host, p wire.Proc) bool {
	if line := strings.Fields(m.env.Process.Command); isGunicorn(line) && len(p.Args) > 0 && !isGunicorn(p.Args) && !strings.HasPrefix(p.Args[0], "gunicorn: ") {
		return false // somebody at work in the app's folder, who has the number now
	}
	root, err := output(ctx, h, "readlink", "-f", "--", m.env.App.Path)
	return err == nil && strings.HasPrefix(m.cwd(ctx, h, p), strings.TrimSpace(root)+"/")
}

// start runs the command line in current, detached, with its output in .godeploy/service.log.
func (m pidfile) start(ctx context.Context, h deploy.Host) error {
	line, err := m.env.Render("process.command", m.env.Process.Command, h.Inventory(), "")
	if err != nil {
		return err
	}
	if err := m.ownLog(ctx, h); err != nil {
		return err
	}
	text := m.startText(line)
	hook := hooks.Hook{Name: "start", Run: text, User: deploy.OwnerUser(m.env), Timeout: commandTime, Keep: true}
	told := deploy.ToldOf(m.env, h.Inventory(), "", "switch")
	place := hooks.Place{Host: h.Inventory().Name, Phase: "switch", Dir: m.env.App.Path + "/current", Env: told.Environ()}
	return hooks.Run(ctx, hook, place, deploy.HostRunner{Host: h, Sudo: m.env.SSH.Sudo}, m.report)
}

// log is the file that takes what the server says.
func (m pidfile) log() string { return m.env.App.Path + "/.godeploy/service.log" }

// ownLog makes the log the app's owner's when that is not the login: the folder it lies in is the
// login's, and a shell that cannot open it would start nothing and say nothing.
func (m pidfile) ownLog(ctx context.Context, h deploy.Host) error {
	owner := deploy.OwnerUser(m.env)
	if owner == "" || owner == h.Facts().User {
		return nil
	}
	for _, words := range [][]string{{"touch", "--", m.log()}, {"chown", "-h", owner, "--", m.log()}} {
		argv, err := m.asRoot(h, words...)
		if err != nil {
			return err
		}
		if _, err := output(ctx, h, argv...); err != nil {
			return err
		}
	}
	return nil
}

// startText is the shell text that starts the command. The command itself is the user's own shell
// text; what godeploy adds to it is quoted. gunicorn writes its pid file itself, and again when it is
// upgraded; for anything else the shell writes it.
func (m pidfile) startText(line string) string {
	file, log := shellescape.Quote(m.file()), shellescape.Quote(m.log())
	if m.env.Process.Server == "gunicorn" {
		// A file that names another process by now would keep gunicorn from starting.
		return "rm -f -- " + file + " && exec nohup /bin/sh -c " + shellescape.Quote("exec "+line+" --pid "+file) + " >>" + log + " 2>&1 </dev/null &"
	}
	return "nohup /bin/sh -c " + shellescape.Quote("exec "+line) + " >>" + log + " 2>&1 </dev/null & echo $! > " + file
}

// stop asks the main process to end and waits; one that has not ended by then is killed.
func (m pidfile) stop(ctx context.Context, h deploy.Host) error {
	f, procs, err := m.look(ctx, h)
	if err != nil || f.PID == 0 {
		return err
	}
	return m.end(ctx, h, procs[0], m.last())
}

// last is the signal that ends the server: TERM would make uWSGI reload.
func (m pidfile) last() string {
	if m.env.Process.Server == "uwsgi" {
		return "QUIT"
	}
	return "TERM"
}

func (m pidfile) restart(ctx context.Context, h deploy.Host) error {
	if err := m.stop(ctx, h); err != nil {
		return err
	}
	return m.start(ctx, h)
}

func (m pidfile) signal(ctx context.Context, h deploy.Host, p wire.Proc, name string) error {
	if uid := h.Facts().UID; uid == 0 || uid == p.UID || !m.env.SSH.Sudo {
		return h.Signal(ctx, wire.SignalRequest{PID: p.PID, Start: p.Start, Signal: name})
	}
	_, err := output(ctx, h, "sudo", "-n", "kill", "-"+name, strconv.Itoa(p.PID))
	return err
}

func (m pidfile) why(ctx context.Context, h deploy.Host) []string {
	out, err := output(ctx, h, "tail", "-n", "4", "--", m.log())
	if err != nil {
		return nil
	}
	return deploy.LastLines(out, 4)
}

package process

import (
	"path"
	"slices"
	"strings"

	"godeploy/inventory"
	"godeploy/templates"
)

// The ways to restart, by their words in [process] graceful.
const (
	viaHUP     = "hup"
	viaUSR2    = "usr2"
	viaReload  = "reload"
	viaSocket  = "socket"
	viaRestart = "restart"
)

// choice is how a running service is restarted, and why so.
type choice struct {
	How string
	Why string
}

// String says it in words for a line of the report.
func (c choice) String() string { return c.how() + ", since " + c.Why }

func (c choice) how() string {
	return map[string]string{viaHUP: "by HUP", viaUSR2: "by USR2, a second gunicorn beside the first",
		viaReload: "by the unit's own reload", viaSocket: "behind systemd's socket", viaRestart: "in full"}[c.How]
}

// choose decides from facts alone. HUP makes a server load new code only when it was started with a
// literal --chdir to current: started otherwise its working folder is the release it began with, and
// its new workers would serve that one again.
func choose(p inventory.Process, f found, current string, graceful bool) choice {
	mode := strings.ToLower(p.Graceful)
	switch {
	case !graceful:
		return choice{viaRestart, "a full restart was asked for"}
	case f.Booting:
		return choice{viaRestart, "it is not up, so a full restart loses nothing"}
	case mode == "auto" || mode == "":
		return best(p, f, current)
	}
	if why := cannot(mode, p, f, current); why != "" {
		return choice{viaRestart, why}
	}
	return choice{mode, "[process] graceful says so"}
}

// best is what `auto` comes to: what loses no request, and of that what makes none wait for a boot.
func best(p inventory.Process, f found, current string) choice {
	noHUP, noUSR2 := stays(p, f, current), cannot(viaUSR2, p, f, current)
	switch {
	case noHUP == "" && f.Stalls && noUSR2 == "":
		return choice{viaUSR2, "the app boots longer than [release] stall_budget, and on HUP requests would wait for it"}
	case noHUP == "":
		return choice{viaHUP, p.Server + " runs with --chdir " + current}
	case f.Activated:
		return choice{viaSocket, noHUP + ", and systemd holds its listener"}
	case p.Server == "gunicorn" && noUSR2 == "":
		return choice{viaUSR2, noHUP}
	}
	return choice{viaRestart, noHUP}
}

// cannot says why a way to restart is not open to what runs, "" when it is. HUP with a configuration of
// the user's own may work by what is written there: that one is not refused for a --chdir that is missing.
func cannot(mode string, p inventory.Process, f found, current string) string {
	switch mode {
	case viaHUP:
		if p.Server == "gunicorn" && f.Preloads {
			return "gunicorn preloads the app and would keep the old code on HUP"
		}
	case viaUSR2:
		return noUpgrade(p, f, current)
	case viaReload:
		if p.Manager != "systemd" || !f.Reloads {
			return "there is no unit that says how it is reloaded (ExecReload)"
		}
		if p.Server == "gunicorn" && f.Preloads {
			return "gunicorn preloads the app and would keep the old code on a reload"
		}
	case viaSocket:
		if !f.Activated {
			return "systemd does not hold its listener"
		}
	}
	return ""
}

// noUpgrade says why gunicorn cannot be upgraded in place. Systemd follows the main process only by a pid
// file that it knows: without one the end of the old master is the end of the unit.
func noUpgrade(p inventory.Process, f found, current string) string {
	command := f.begun(p, current)
	named, has := templates.Option(command, "--pid", "-p")
	switch {
	case p.Server != "gunicorn":
		return "only gunicorn is upgraded by USR2"
	case !followsCurrent(command, current):
		return "gunicorn does not run with --chdir " + current + ", so USR2 would start the old code"
	case f.PIDFile == "" && p.Manager == "systemd":
		return "the unit has no PIDFile=, so systemd would end the new gunicorn with the old one"
	case f.PIDFile == "" || has && path.Clean(named) != path.Clean(f.PIDFile):
		return "gunicorn's --pid is not the pid file " + f.PIDFile
	}
	return ""
}

// stays says why a server would serve the old code after HUP, "" when it would not.
func stays(p inventory.Process, f found, current string) string {
	command := f.begun(p, current)
	switch {
	case p.Server != "gunicorn" && p.Server != "uwsgi":
		return "only gunicorn and uWSGI are known to load new code on HUP"
	case p.Server == "gunicorn" && f.Preloads:
		return "gunicorn preloads the app and would keep the old code on HUP"
	case p.Server == "uwsgi" && f.Workers == 0 && f.PID > 0:
		return "uWSGI runs without a master"
	case !followsCurrent(command, current):
		return p.Server + " does not run with --chdir " + current + ", so HUP would keep the old code"
	}
	return ""
}

// begun is the command line that what runs was started with. The file or the unit may have been changed
// since, so the process's own word counts where it can be seen: gunicorn under setproctitle shows none.
func (f found) begun(p inventory.Process, current string) []string {
	switch {
	case isServer(f.Running, p.Server):
		return f.Running
	case p.Command != "" && !(p.Manager == "systemd" && len(f.Command) > 0):
		line := strings.ReplaceAll(p.Command, "{{.App.Current}}", current)
		if words, ok := templates.Words(line); ok {
			return words
		}
		return strings.Fields(line)
	}
	return f.Command
}

// isServer reports whether words are a command line of a server that is known by name: the program itself,
// a script run by python, or a module of python's.
func isServer(words []string, server string) bool {
	switch server {
	case "gunicorn":
		return isGunicorn(words)
	case "uwsgi":
		return len(words) > 0 && strings.HasPrefix(path.Base(words[0]), "uwsgi")
	}
	return false
}

// isGunicorn reports whether words are a command line of gunicorn's.
func isGunicorn(words []string) bool {
	for _, word := range words[:min(len(words), 4)] {
		if base := path.Base(word); base == "gunicorn" || base == "gunicorn3" {
			return true
		}
	}
	return false
}

// workers is how many workers a command line asks for, 1 when it leaves that to something else.
func workers(server string, command []string) int {
	names := []string{"--workers", "-w"}
	if server == "uwsgi" {
		names = []string{"--processes", "--workers", "-p"}
		if _, has := templates.Option(command, "--cheaper"); has {
			return 1
		}
	}
	text, _ := templates.Option(command, names...)
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' || n > 10_000 {
			return 1
		}
		n = n*10 + int(c-'0')
	}
	return max(n, 1)
}

// chdir is the folder that a command line names with --chdir, the last one if there are several.
func chdir(command []string) string {
	dir := ""
	for i, word := range command {
		word = strings.Trim(word, `"'`)
		if value, joined := strings.CutPrefix(word, "--chdir="); joined {
			dir = value
		} else if word == "--chdir" && i+1 < len(command) {
			dir = strings.Trim(command[i+1], `"'`)
		}
	}
	return strings.TrimSuffix(dir, "/")
}

// followsCurrent reports whether the command line has a literal --chdir to current, or to a folder in it.
func followsCurrent(command []string, current string) bool {
	dir := chdir(command)
	return dir == current || strings.HasPrefix(dir, current+"/")
}

// strays says why a command line can never serve a release, "" when nothing is known against it: its
// gunicorn works in a folder that is not current, whatever is switched. With a file of its own (-c) it
// may go elsewhere by itself.
func strays(command []string, dir, current string) string {
	if !isGunicorn(command) {
		return ""
	}
	if to := chdir(command); to != "" {
		if to != current && !strings.HasPrefix(to, current+"/") {
			return "it starts gunicorn with --chdir " + to
		}
		return ""
	}
	ownFile := slices.ContainsFunc(command, func(word string) bool {
		return word == "-c" || word == "--config" || strings.HasPrefix(word, "--config=")
	})
	if !ownFile && dir != "" && dir != current && !strings.HasPrefix(dir, current+"/") {
		return "it starts gunicorn in " + dir
	}
	return ""
}

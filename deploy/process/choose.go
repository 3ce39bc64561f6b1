package process

import (
	"path"
	"slices"
	"strings"

	"godeploy/inventory"
)

// The ways to restart.
const (
	viaHUP     = "hup"
	viaRestart = "restart"
)

// choice is how a running service is restarted, and why so.
type choice struct {
	How string
	Why string
}

// choose decides from facts alone. HUP makes gunicorn load new code only when it was started with a
// literal --chdir to current: started otherwise its working folder is the release it began with, and
// its new workers would serve that one again.
func choose(p inventory.Process, f found, current string, graceful bool) choice {
	mode := strings.ToLower(p.Graceful)
	command := f.begun(p, current)
	switch {
	case !graceful:
		return choice{viaRestart, "a full restart was asked for"}
	case f.Booting:
		return choice{viaRestart, "it is not up, so a full restart loses nothing"}
	case mode == "restart":
		return choice{viaRestart, "[process] graceful says so"}
	case p.Server != "gunicorn":
		if mode == "hup" {
			return choice{viaHUP, "[process] graceful says so"}
		}
		return choice{viaRestart, "only gunicorn is known to load new code on HUP"}
	case slices.Contains(command, "--preload"):
		return choice{viaRestart, "gunicorn runs with --preload and would keep the old code on HUP"}
	case mode == "hup":
		return choice{viaHUP, "[process] graceful says so"}
	case followsCurrent(command, current):
		return choice{viaHUP, "gunicorn runs with --chdir " + current}
	}
	return choice{viaRestart, "gunicorn does not run with --chdir " + current + ", so HUP would keep the old code"}
}

// begun is the command line that what runs was started with. The file or the unit may have been changed
// since, so the process's own word counts where it can be seen: gunicorn under setproctitle shows none.
func (f found) begun(p inventory.Process, current string) []string {
	switch {
	case isGunicorn(f.Running):
		return f.Running
	case p.Command != "":
		return strings.Fields(strings.ReplaceAll(p.Command, "{{.App.Current}}", current))
	}
	return f.Command
}

// isGunicorn reports whether words are a command line of gunicorn's: the program itself, a script run
// by python, or a module of python's.
func isGunicorn(words []string) bool {
	for _, word := range words[:min(len(words), 4)] {
		if base := path.Base(word); base == "gunicorn" || base == "gunicorn3" {
			return true
		}
	}
	return false
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

// followsCurrent reports whether the command line has a literal --chdir to current.
func followsCurrent(command []string, current string) bool { return chdir(command) == current }

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

package process

import (
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
	command := f.Command
	if p.Command != "" {
		command = strings.Fields(strings.ReplaceAll(p.Command, "{{.App.Current}}", current))
	}
	switch {
	case !graceful:
		return choice{viaRestart, "a full restart was asked for"}
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

// followsCurrent reports whether the command line has a literal --chdir to current.
func followsCurrent(command []string, current string) bool {
	for i, word := range command {
		word = strings.Trim(word, `"'`)
		value, joined := strings.CutPrefix(word, "--chdir=")
		if word == "--chdir" && i+1 < len(command) {
			value, joined = strings.Trim(command[i+1], `"'`), true
		}
		if joined && strings.TrimSuffix(value, "/") == current {
			return true
		}
	}
	return false
}

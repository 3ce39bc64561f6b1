package deploy

import (
	"time"

	"godeploy/inventory"
)

// HookLine is one hook of the file with all that decides how it is run.
type HookLine struct {
	Name    string   `json:"name"`  // its key in [hooks]
	Hosts   []string `json:"hosts"` // where it runs, empty on the operator's machine; of once: where it may
	User    string   `json:"user,omitempty"`
	Dir     string   `json:"dir"`     // "." is the folder of godeploy.toml
	Timeout string   `json:"timeout"` // as time.Duration writes it
	Run     string   `json:"run"`
}

// HookLines lists the hooks of the file for some hosts of the environment, in the order in which a release
// comes to them; setup's stand first. A hook that none of the hosts runs is left out, and so are hooks of
// servers that godeploy does not release to.
func HookLines(env *inventory.Env, hosts []inventory.Host) []HookLine {
	path, h := env.App.Path, env.Hooks
	staged, current := path+"/releases/ID", path+"/current"
	var all []HookLine
	add := func(name, dir string, local bool, list []inventory.Hook) {
		for _, one := range list {
			line := HookLine{Name: name, Dir: dir, Run: one.Run, Timeout: limitOf(env, one).String()}
			if !local {
				line.User, line.Hosts = userOf(env, one.As), chosen(env, one, hosts)
			}
			if local || len(line.Hosts) > 0 {
				all = append(all, line)
			}
		}
	}
	add("setup", path, false, h.Setup)
	add("local_before", ".", true, h.LocalBefore)
	add("release", staged, false, h.Release)
	add("once", staged, false, h.Once)
	add("restart", current, false, h.Restart)
	add("stop", current, false, h.Stop)
	add("start", current, false, h.Start)
	add("after", current, false, h.After)
	add("local_after", ".", true, h.LocalAfter)
	add("local_failed", ".", true, h.LocalFailed)
	return all
}

func limitOf(env *inventory.Env, h inventory.Hook) time.Duration {
	return HookOf(env, "", h).Timeout
}

// chosen names those of the hosts that a hook is for.
func chosen(env *inventory.Env, h inventory.Hook, hosts []inventory.Host) []string {
	r := &run{Fleet: &Fleet{Env: env}}
	names := []string{}
	for _, one := range hosts {
		if r.wanted(h, &member{name: one.Name}) {
			names = append(names, one.Name)
		}
	}
	return names
}

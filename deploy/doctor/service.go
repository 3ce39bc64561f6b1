package doctor

import (
	"strings"

	"godeploy/deploy"
	"godeploy/deploy/process"
)

// unit judges the app's systemd unit.
func unit(a Asked) []Finding {
	if a.Env.Process.Manager != "systemd" {
		return nil
	}
	name := deploy.UnitName(a.Env)
	if a.NoSystemd {
		return []Finding{a.finding("unit", "there is no systemd here").fix("manager = \"pidfile\" or \"command\" in [process]")}
	}
	switch state := a.Unit["LoadState"]; state {
	case "":
		return nil // systemctl did not answer: nothing is known
	case "loaded":
	default:
		return []Finding{a.by(a.finding("unit", "%s is %s", name, state), "setup")}
	}
	var all []Finding
	if a.Unit["ActiveState"] != "active" && a.Current != "" {
		f := a.by(a.finding("unit", "%s is %s (%s)", name, a.Unit["ActiveState"], a.Unit["SubState"]), "start")
		all = append(all, f)
	}
	if why := process.Stray(a.Env, a.Show); why != "" {
		all = append(all, a.finding("unit", "%s can never serve a release: %s", name, why).
			fix("its ExecStart needs --chdir %s/current; then as root: systemctl daemon-reload && systemctl restart %s", a.Env.App.Path, name))
	}
	if a.Unit["NeedDaemonReload"] == "yes" {
		all = append(all, a.finding("unit", "the file of %s has changed since systemd read it", name).fix("as root there: systemctl daemon-reload"))
	}
	if a.Unit["UnitFileState"] == "disabled" {
		all = append(all, a.finding("unit", "%s does not start with the machine", name).fix("as root there: systemctl enable %s", name))
	}
	if n := number(a.Unit["NRestarts"]); n >= 3 {
		all = append(all, a.finding("unit", "systemd has restarted %s %d times", name, n).
			fix("godeploy logs %s -l %s", a.Env.Name, a.Host.Name).note())
	}
	return all
}

// ports compares where the app should listen with where somebody does.
func ports(a Asked) []Finding {
	port := wantedPort(a)
	if port == 0 || a.Listening == nil {
		return nil
	}
	running := a.Unit["ActiveState"] == "active"
	switch {
	case running && !a.Listening[port]:
		return []Finding{a.finding("ports", "%s is active and nobody listens on port %d", deploy.UnitName(a.Env), port).
			fix("[process] bind or [health] url names another port than the app; see: godeploy logs %s -l %s", a.Env.Name, a.Host.Name)}
	case a.Env.Process.Manager == "systemd" && a.Unit["LoadState"] == "loaded" && !running && a.Listening[port]:
		return []Finding{a.finding("ports", "port %d is taken, and not by %s", port, deploy.UnitName(a.Env)).
			fix("see whose it is: godeploy exec %s -l %s -- ss -ltnp sport = :%d", a.Env.Name, a.Host.Name, port)}
	}
	return nil
}

// limits judges what a busy app runs into first.
func limits(a Asked) []Finding {
	var all []Finding
	want := max(a.Env.Tune.Limits["nofile"], leastFiles)
	if text := a.Unit["LimitNOFILESoft"]; text != "" && text != "infinity" && number(text) < want {
		all = append(all, a.by(a.finding("limits", "%s may have %s files open, and needs %d", deploy.UnitName(a.Env), text, want), "tune"))
	}
	if n, backlog := a.Somaxconn, a.Env.Process.Backlog; n > 0 && backlog > n {
		all = append(all, a.by(a.finding("limits", "the kernel holds %d waiting connections, and [process] backlog is %d", n, backlog), "tune"))
	}
	return all
}

// Fleet judges the answers of all hosts together: those that serve should serve the same.
func Fleet(all []Asked) []Finding {
	first := ""
	var differ []string
	for _, a := range all {
		if !a.Complete || !serves(a.Env, a.Host) || a.Env.App.Layout == "inplace" {
			continue
		}
		release := strings.TrimPrefix(a.Current, "releases/")
		if first == "" {
			first = release
		}
		differ = append(differ, a.Host.Name+" "+orElse(release, "none"))
	}
	for _, line := range differ {
		if !strings.HasSuffix(line, " "+orElse(first, "none")) {
			f := Finding{Topic: "release", Msg: "servers differ in their release", Facts: differ}
			return []Finding{f.fix("godeploy release %s, or back: godeploy rollback %s", all[0].Env.Name, all[0].Env.Name)}
		}
	}
	return nil
}

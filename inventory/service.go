package inventory

import (
	"strings"

	"godeploy/templates"
)

// Service gives what the files of the app's service are rendered from on one host. Cpus are the host's;
// login is who logs in there, and whom the service runs as when [app] owner does not say. Errors are
// faults with code config-value.
func (e *Env) Service(h Host, cpus int, login string) (templates.Service, error) {
	p, data := e.Process, e.TemplateData(h, "")
	s := templates.Service{
		App: e.App.Name, Unit: p.Unit, User: login, Current: data.App.Current, Server: p.Server,
		Workers: p.Workers.Of(cpus), Class: p.Class, Threads: p.Threads, Backlog: p.Backlog,
		Timeout: p.Timeout, StopTimeout: p.StopTimeout, Socket: p.Socket, NoFile: e.noFile(h),
	}
	if e.App.Owner != "" {
		s.User, s.Group, _ = strings.Cut(e.App.Owner, ":")
	}
	if e.Secrets.Command != "" {
		s.EnvFile = data.App.Current + "/" + e.Secrets.File
	}
	var err error
	if s.Command, err = e.Render("process.command", p.Command, h, ""); err != nil {
		return s, err
	}
	s.Bind, err = e.Render("process.bind", p.Bind, h, "")
	return s, err
}

// noFile is the largest limit of open files that [tune] gives the host, 0 when it says nothing.
func (e *Env) noFile(h Host) int {
	limit := e.Tune.Limits["nofile"]
	for _, name := range h.Roles {
		if n := e.Role[name].Tune.Limits["nofile"]; n > 0 {
			limit = n
		}
	}
	return limit
}

package inventory

import (
	"errors"
	"strings"

	"godeploy/templates"
)

// TemplateData is what {{…}} can name on one host for one release; the id may be empty.
func (e *Env) TemplateData(h Host, releaseID string) templates.Data {
	e = e.On(h)
	d := templates.Data{
		Host:    templates.Host{Name: h.Name, Address: h.Address, Weight: h.Weight},
		App:     templates.App{Name: e.App.Name, Path: e.App.Path, Current: e.App.Path + "/current", Shared: e.App.Path + "/shared"},
		Env:     templates.Env{Name: e.Name},
		Release: templates.Release{ID: releaseID, Path: e.App.Path + "/releases/" + releaseID},
	}
	if strings.Contains(h.Address, ":") {
		d.Host.Address = "[" + h.Address + "]"
	}
	if len(h.Roles) > 0 {
		d.Host.Role = h.Roles[0]
	}
	if e.App.Layout == "inplace" {
		d.App.Current, d.Release.Path = e.App.Path, e.App.Path
	}
	return d
}

// Render fills in the {{…}} of process.bind, process.command, process.check or health.url for one
// host. The key is what messages call the field.
func (e *Env) Render(key, text string, h Host, releaseID string) (string, error) {
	return templates.Line(key, text, e.TemplateData(h, releaseID))
}

// checkTemplate checks every branch of a template; what it renders to is looked at later, per host.
func checkTemplate(s string) error {
	if err := checkLine(s); err != nil {
		return err
	}
	var bad *templates.Error
	if err := templates.Check(s); errors.As(err, &bad) {
		return &templateError{valueError{bad.Msg, bad.Hint}, bad.Offset}
	}
	return nil
}

// templateError is a valueError that knows where in the string it is.
type templateError struct {
	valueError
	offset int
}

package inventory

import (
	"path/filepath"

	"godeploy/internal/fault"
	"godeploy/templates"
)

// OwnNginx is a template of the user's own for the nginx file.
type OwnNginx struct {
	Template *templates.NginxTemplate
	Err      error // why there is none: it cannot be read, or the lint refuses it
}

// readTemplates reads what [nginx] template names, for every environment. What is wrong with one is kept for
// the commands that need it, and for check.
func (f *File) readTemplates() {
	for _, name := range f.order {
		e := f.envs[name]
		if e.Nginx == nil || e.Nginx.Template == "" {
			continue
		}
		path := e.Nginx.Template
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(f.Path), path)
		}
		e.OwnNginx = &OwnNginx{}
		text, _, err := readBounded(path)
		if err != nil {
			own := fault.New(fault.ConfigValue, "nginx.template names %s, which cannot be read", e.Nginx.Template).Wrap(err)
			e.OwnNginx.Err = own.At(f.Origin(name, "nginx.template"))
			continue
		}
		e.OwnNginx.Template, e.OwnNginx.Err = templates.ParseNginxTemplate(path, string(text))
	}
}

// nginx looks at what a push would need: where the app hosts listen, and the user's own template.
func (w *finder) nginx() {
	if w.env.Nginx == nil || len(w.env.NginxHosts()) == 0 {
		return
	}
	_, err := w.env.NginxSite()
	w.found = append(w.found, fault.All(err)...)
}

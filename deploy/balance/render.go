package balance

import (
	"godeploy/inventory"
	"godeploy/templates"
)

// File is one rendered file and where it lies on the balancer hosts.
type File struct {
	Path    string
	Content []byte
	Main    bool // lines of nginx's main context; else of its http context
}

// Render gives the files of an environment in a state; they are the same for every balancer host. The
// first one is the site's. Errors are those of SiteOf, and of the user's own template.
func Render(env *inventory.Env, state State) ([]File, error) {
	if env.Balancer.Kind == "haproxy" {
		return renderHaproxy(env, state)
	}
	site, err := SiteOf(env, state)
	if err != nil {
		return nil, err
	}
	content, err := templates.RenderNginx(site)
	if err != nil {
		return nil, err
	}
	files := []File{{Path: env.NginxFile(), Content: content}}
	main, err := templates.RenderNginxMain(site)
	if main != nil && err == nil {
		files = append(files, File{Path: env.Nginx.MainFile, Content: main, Main: true})
	}
	return files, err
}

// render is Render for the hosts of a tier.
func (n *Tier) render(state State) ([]File, error) { return Render(n.Env, state) }

func renderHaproxy(env *inventory.Env, state State) ([]File, error) {
	site, err := env.HaproxySite()
	if err == nil {
		err = state.apply(env, site.Upstream.Servers)
	}
	if err != nil {
		return nil, err
	}
	content, err := templates.RenderHaproxy(site)
	return []File{{Path: env.Balancer.File, Content: content}}, err
}

// siteFile is where the site's file lies.
func (n *Tier) siteFile() string {
	if n.Env.Balancer.Kind == "haproxy" {
		return n.Env.Balancer.File
	}
	return n.Env.NginxFile()
}

// Package templates renders the few fields of godeploy.toml that may hold {{…}}. A template can
// read its Data and call quote, default and join, nothing else: no loop, no included template, no
// method, so that rendering always ends and its size is bounded.
package templates

// Data is what a template sees.
type Data struct {
	Host    Host
	App     App
	Env     Env
	Release Release
}

// Host is the host a text is rendered for.
type Host struct {
	Name    string
	Address string // IPv6 in brackets, so that {{.Host.Address}}:80 is right for both kinds
	Weight  int
	Role    string // its first role
}

// App is the deployed app, with its folders on the host.
type App struct {
	Name    string
	Path    string
	Current string // the link to the live release
	Shared  string
}

// Env is the environment.
type Env struct {
	Name string
}

// Release is the release at hand.
type Release struct {
	ID   string
	Path string // its own folder, not the link
}

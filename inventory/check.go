package inventory

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"godeploy/internal/fault"
	"godeploy/templates"
)

// checker looks at one environment as a whole: what keys mean together.
type checker struct {
	f   *File
	env *Env
	doc *document // the one the environment stands in
	bad *problems
}

func (c *checker) all(entries []namedEntry) {
	c.app()
	c.shared()
	c.process()
	c.release()
	c.hooks()
	c.nginx()
	c.balancer()
	c.people()
	c.hosts(entries)
	c.jumps()
	c.rendered()
}

// at finds where a key is set, or else its section, or else the environment.
func (c *checker) at(path ...string) (*document, []string) {
	for ; len(path) > 0; path = path[:len(path)-1] {
		if doc, whole := c.f.source(c.env.Name, path); doc != nil {
			return doc, whole
		}
	}
	return c.doc, []string{"env", c.env.Name}
}

// refuse reports the value of a key.
func (c *checker) refuse(err error, path ...string) {
	doc, whole := c.at(path...)
	e := doc.valueFault(whole, err)
	// The place may be the section, when the key itself is a default.
	e.Msg = keyName(path) + " " + err.Error()
	c.bad.add(e)
}

// missing reports a key that must be set.
func (c *checker) missing(hint string, path ...string) {
	doc, whole := c.at(path...)
	if p := doc.place(whole); p.value >= 0 && p.end-p.value > len(`""`) {
		return // it has a value, which was refused
	}
	e := fault.New(fault.ConfigMissing, "%s is not set", dotted(path)).At(doc.keyPos(whole))
	if hint != "" {
		e.Hint("%s", hint)
	}
	c.bad.add(e)
}

func dotted(path []string) string {
	var parts []string
	for _, p := range path {
		if !isElement(p) {
			parts = append(parts, quoteKey(p))
		}
	}
	return strings.Join(parts, ".")
}

func (c *checker) app() {
	if c.env.App.Name == "" {
		c.missing("", "app", "name")
	}
	if c.env.App.Path == "" {
		c.missing(`the folder of the app on its hosts, such as "/opt/swiper"`, "app", "path")
	}
}

// shared sees to it that no two keys claim one place in a release.
func (c *checker) shared() {
	owner := map[string]string{}
	claim := func(name, key string, path ...string) {
		name = strings.TrimSuffix(name, "/")
		if name == "" {
			return
		}
		if first, taken := owner[name]; taken {
			c.refuse(badValue("names %q, which %s names too", name, first), path...)
			return
		}
		owner[name] = key
	}
	for i, s := range c.env.Shared.Dirs {
		claim(s, "[shared] dirs", "shared", "dirs", element(i))
	}
	for i, s := range c.env.Shared.Files {
		claim(s, "[shared] files", "shared", "files", element(i))
	}
	for i, s := range c.env.Release.Carry {
		claim(s, "[release] carry", "release", "carry", element(i))
	}
	c.secrets(claim)
}

// secrets sees to it that the file of secrets has a place of its own: below a folder that is a link the
// link to it would stand in every release at once.
func (c *checker) secrets(claim func(name, key string, path ...string)) {
	file := strings.TrimSuffix(c.env.Secrets.File, "/")
	switch {
	case c.env.Secrets.Command == "":
		return
	case file == "":
		c.missing("the secrets need it, such as file = \".env.secrets\"", "secrets", "file")
		return
	}
	claim(file, "[secrets] file", "secrets", "file")
	taken := slices.Concat(c.env.Shared.Dirs, c.env.Shared.Files, c.env.Release.Carry)
	for _, other := range taken {
		other = strings.TrimSuffix(other, "/")
		switch {
		case strings.HasPrefix(file, other+"/"):
			c.refuse(badValue("lies in %q, which is not the release's own", other), "secrets", "file")
		case strings.HasPrefix(other, file+"/"):
			c.refuse(badValue("is a folder for %q", other), "secrets", "file")
		}
	}
}

func (c *checker) process() {
	p, h := c.env.Process, c.env.Hooks
	if p.Manager == "pidfile" && p.Pidfile == "" {
		c.missing(`manager "pidfile" needs it, such as pidfile = "logs/gunicorn.pid"`, "process", "pidfile")
	}
	if p.Manager == "command" && p.Command == "" && len(h.Start) == 0 && len(h.Restart) == 0 {
		c.missing(`manager "command" needs it, or start, stop and restart in [hooks]`, "process", "command")
	}
}

func (c *checker) release() {
	r := c.env.Release
	if len(r.Roles) == 0 {
		c.refuse(badValue("must name at least one role"), "release", "roles")
	}
	c.ramp(r.Batch)
	if r.Strategy == "canary" {
		c.canary()
	}
	total := len(c.env.ReleaseHosts())
	if n := r.MaxUnavailable; total > 0 && !n.Percent && n.N > total {
		c.refuse(badValue("is more than the hosts that a release goes to (%d)", total), "release", "max_unavailable")
	}
}

func (c *checker) canary() {
	name := c.env.Release.Canary
	if name == "" {
		c.missing(`strategy "canary" needs the host that goes first`, "release", "canary")
		return
	}
	h, ok := c.env.Host(name)
	if !ok {
		err := badValue("names the unknown host %q", name)
		if near := nearest(name, hostNames(c.env.Hosts)); near != "" {
			err.hinted("did you mean %q?", near)
		}
		c.refuse(err, "release", "canary")
	} else if !containsAny(h.Roles, c.env.Release.Roles) {
		c.refuse(badValue("names %q, a host that a release does not go to", name), "release", "canary")
	}
}

// ramp checks that a ramp goes up and reaches everybody.
func (c *checker) ramp(b Batch) {
	if !b.IsRamp() {
		return
	}
	for i := 1; i < len(b); i++ {
		if b[i].Percent == b[i-1].Percent && b[i].N <= b[i-1].N {
			c.refuse(badValue("must be larger than the entry before it"), "release", "batch", element(i))
		}
	}
	if last := b[len(b)-1]; last != (Share{100, true}) {
		c.refuse(badValue(`must end with "100%%"`), "release", "batch", element(len(b)-1))
	}
}

func (c *checker) hooks() {
	for _, list := range c.env.Hooks.Lists() {
		local := strings.HasPrefix(list.Name, "local_")
		for i, h := range list.Hooks {
			path := []string{"hooks", list.Name, element(i)}
			if local && (h.As != "owner" || h.On != "") {
				c.refuse(badValue("runs on this machine; as and on are for hosts"), path...)
			}
		}
	}
}

// HookList is the hooks of one name.
type HookList struct {
	Name  string
	Hooks []Hook
}

// Lists gives the hooks by name, in the order in which they can run.
func (h Hooks) Lists() []HookList {
	return []HookList{
		{"local_before", h.LocalBefore}, {"setup", h.Setup}, {"release", h.Release}, {"once", h.Once},
		{"start", h.Start}, {"stop", h.Stop}, {"restart", h.Restart}, {"after", h.After},
		{"local_after", h.LocalAfter}, {"local_failed", h.LocalFailed},
	}
}

func (c *checker) nginx() {
	n := c.env.Nginx
	if n == nil {
		return
	}
	if n.Certificate == "" && n.Key != "" {
		c.missing("a TLS key needs its certificate", "nginx", "certificate")
	}
	if n.Key == "" && n.Certificate != "" {
		c.missing("a TLS certificate needs its key", "nginx", "key")
	}
	for i, l := range n.Location {
		if l.Sync != "" && l.Alias == "" {
			c.refuse(badValue("needs an alias, the folder it is pushed to"), "nginx", "location", element(i), "sync")
		}
		if l.Proxy != "" && l.Proxy != c.env.UpstreamName() {
			c.refuse(badValue("names the unknown upstream %q", l.Proxy).hinted("the app hosts are the upstream %q", c.env.UpstreamName()),
				"nginx", "location", element(i), "proxy")
		}
	}
	c.nginxSite()
}

func (c *checker) people() {
	seen := map[string]bool{}
	for i, p := range c.env.People {
		if p.Name != "" && seen[p.Name] {
			c.refuse(badValue("stands twice"), "people", element(i), "name")
		}
		seen[p.Name] = true
	}
}

// rendered fills in the templates for one host of each address family and looks at the result.
func (c *checker) rendered() {
	for _, h := range c.samples() {
		c.render(h, c.env.Process.Bind, "process", "bind")
		c.render(h, c.env.Process.Command, "process", "command")
		c.render(h, c.env.Process.Check, "process", "check")
		if text, ok := c.render(h, c.env.Health.URL, "health", "url"); ok && text != "" {
			if err := checkURL(text); err != nil {
				c.refuse(err, "health", "url")
			}
		}
	}
}

func (c *checker) render(h Host, text string, path ...string) (string, bool) {
	out, err := templates.Line(path[1], text, c.env.TemplateData(h, "20261123-104107-4f2c9e1"))
	if err == nil {
		return out, true
	}
	msg := err.Error()
	if all := fault.All(err); len(all) > 0 {
		msg = strings.TrimPrefix(all[0].Msg, path[1]+" ")
	}
	c.refuse(badValue("%s", msg), path...)
	return "", false
}

func (c *checker) samples() []Host {
	var v4, v6 *Host
	hosts := c.env.ReleaseHosts()
	for i := range hosts {
		if strings.Contains(hosts[i].Address, ":") {
			v6 = &hosts[i]
		} else if v4 == nil {
			v4 = &hosts[i]
		}
	}
	var some []Host
	for _, h := range []*Host{v4, v6} {
		if h != nil {
			some = append(some, *h)
		}
	}
	if some == nil {
		some = []Host{{Name: "app1", Address: "192.0.2.1", Roles: []string{"app"}, Weight: 1}}
	}
	return some
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return badValue("is not a URL once filled in: %q", text)
	}
	port, err := strconv.Atoi(u.Port())
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return badValue("must start with http:// or https://")
	case u.User != nil:
		return badValue("must not hold a user or a password")
	case u.Hostname() == "":
		return badValue("names no host")
	case u.Port() != "" && (err != nil || port < 1 || port > 65535):
		return badValue("has a port that is not from 1 to 65535")
	case u.Fragment != "":
		return badValue("must not hold a # part")
	}
	return nil
}

package inventory

import (
	"slices"
	"strings"

	"godeploy/templates"
)

// HasBalancer reports whether the file says what stands before the app hosts: [nginx], or kind "haproxy".
func (e *Env) HasBalancer() bool { return e.Balancer.Kind == "haproxy" || e.Nginx != nil }

// FrontHosts gives the hosts of the balancer, which have the role that is called as its kind, in the order
// of the file.
func (e *Env) FrontHosts() []Host { return e.withRole(e.Balancer.Kind) }

// BalancerTitle is the name of the balancer for people.
func (e *Env) BalancerTitle() string {
	if e.Balancer.Kind == "haproxy" {
		return "HAProxy"
	}
	return "nginx"
}

// Servers gives the app hosts as the balancer is to have them, all in service. Errors are those of
// NginxSite or of HaproxySite, whichever is the balancer's.
func (e *Env) Servers() ([]templates.NginxServer, error) {
	if e.Balancer.Kind == "haproxy" {
		site, err := e.HaproxySite()
		return site.Upstream.Servers, err
	}
	site, err := e.NginxSite()
	return site.Upstream.Servers, err
}

// HaproxySite gives the typed values of the HAProxy file, with every app host in service. Errors are faults
// that name the place in the file; a site that is given passes its Check.
func (e *Env) HaproxySite() (templates.HaproxySite, error) {
	site := e.haproxyFrame()
	servers, places, err := e.upstreamServers()
	if err != nil {
		return site, err
	}
	site.Upstream.Servers = servers
	return site, placed(site.Check(), places)
}

// haproxyFrame is the site without its servers.
func (e *Env) haproxyFrame() templates.HaproxySite {
	b := e.Balancer
	site := templates.HaproxySite{
		App: e.App.Name, Env: e.Name, Whole: b.Whole,
		Upstream: templates.NginxUpstream{Name: b.Backend, Method: b.Method, Keepalive: b.Keepalive},
		Redirect: b.Redirect, Certificate: b.Certificate, ConnectTimeout: b.ConnectTimeout, ClientTimeout: b.ClientTimeout,
		ServerTimeout: b.ServerTimeout, ErrorPage: b.ErrorPage, Socket: b.Socket, ShutdownTimeout: b.ShutdownTimeout, MaxConnections: b.MaxConnections,
	}
	if site.Upstream.Name == "" {
		site.Upstream.Name = e.App.Name + "_servers"
	}
	if site.Socket == "" {
		site.Socket = "/run/haproxy/godeploy-" + e.App.Name + ".sock"
	}
	site.Listen, _ = ParseListen(b.Listen) // read once already, when the file was checked
	site.Headers, site.ProxyHeaders = headersOf(b.Headers), headersOf(b.ProxyHeaders)
	return site
}

// balancer checks what the keys of [balancer] mean together, and with others.
func (c *checker) balancer() {
	if c.env.Balancer.Kind != "haproxy" {
		if c.env.Release.Drain == "haproxy" {
			c.refuse(badValue(`is "haproxy", and the balancer is nginx`).hinted(`set [balancer] kind = "haproxy"`), "release", "drain")
		}
		return
	}
	if c.env.Release.Drain == "nginx" {
		c.refuse(badValue(`is "nginx", and the balancer is HAProxy`).hinted(`set "haproxy" or "auto"`), "release", "drain")
	}
	c.haproxyGate()
	site := c.env.haproxyFrame()
	if len(site.Listen) == 0 {
		return // what does not parse was reported
	}
	site.Upstream.Servers = c.standIns()
	for _, f := range site.Check() {
		key, msg, _ := strings.Cut(f.Msg, " ")
		c.refuse(&valueError{msg, f.Cause}, strings.Split(key, ".")...)
	}
}

// haproxyGate refuses goals that HAProxy's counters cannot show: they have no times but a mean.
func (c *checker) haproxyGate() {
	goals, err := ParseGate(c.env.Release.Gate)
	if err != nil {
		return // reported
	}
	if i := slices.IndexFunc(goals, func(g Goal) bool { return g.Metric != "5xx" && g.Metric != "4xx" }); i >= 0 {
		c.refuse(badValue("has a goal for %s, which HAProxy does not count", goals[i].Metric).
			hinted("behind HAProxy a gate can have goals for 5xx and 4xx"), "release", "gate")
	}
}

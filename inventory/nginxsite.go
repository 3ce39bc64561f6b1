package inventory

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"godeploy/internal/fault"
	"godeploy/templates"
)

// UpstreamName is the name of the upstream block: [nginx] upstream, else one made of the app's name.
func (e *Env) UpstreamName() string {
	if e.Nginx != nil && e.Nginx.Upstream != "" {
		return e.Nginx.Upstream
	}
	return e.App.Name + "_servers"
}

// NginxFile is where the site's file lies on the nginx hosts.
func (e *Env) NginxFile() string {
	if e.Nginx != nil && e.Nginx.File != "" {
		return e.Nginx.File
	}
	return "/etc/nginx/conf.d/godeploy-" + e.App.Name + ".conf"
}

// NginxHosts gives the hosts of role nginx, in the order of the file.
func (e *Env) NginxHosts() []Host { return e.withRole("nginx") }

// BalancedHosts gives the hosts that requests are spread over: those of role app, or of [release] roles
// where no host has it, in the order of the file.
func (e *Env) BalancedHosts() []Host {
	if apps := e.withRole("app"); len(apps) > 0 {
		return apps
	}
	var hosts []Host
	for _, h := range e.Hosts {
		if containsAny(h.Roles, e.Release.Roles) {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

func (e *Env) withRole(role string) []Host {
	var hosts []Host
	for _, h := range e.Hosts {
		if h.HasRole(role) {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// NginxSite gives the typed values of the nginx file, with every app host in service. Errors are faults
// that name the place in the file, or in the template of the user's own; a site that is given passes its
// Check and its CheckTemplate.
func (e *Env) NginxSite() (templates.NginxSite, error) {
	if e.Nginx == nil {
		return templates.NginxSite{}, fault.New(fault.ConfigMissing, "%s has no [nginx]", e.Name).
			Hint("docs/nginx.md shows the smallest one")
	}
	if n := e.OwnNginx; n != nil && n.Err != nil {
		return templates.NginxSite{}, n.Err
	}
	site := e.siteFrame()
	servers, places, err := e.upstreamServers()
	if err != nil {
		return site, err
	}
	site.Upstream.Servers = servers
	if err := placed(site.Check(), places); err != nil {
		return site, err
	}
	switch {
	case e.OwnNginx != nil:
		site.Template = e.OwnNginx.Template
		return site, site.CheckTemplate()
	case e.Nginx.Template != "":
		return site, fault.New(fault.Internal, "nginx.template was not read")
	}
	return site, nil
}

// upstreamServers are the balanced hosts as servers, and where each stands in the file.
func (e *Env) upstreamServers() ([]templates.NginxServer, map[string]fault.Pos, error) {
	places := map[string]fault.Pos{}
	var servers []templates.NginxServer
	var errs []error
	for _, h := range e.BalancedHosts() {
		s, err := e.nginxServer(h)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		places["hosts."+h.Name] = h.Pos
		servers = append(servers, s)
	}
	return servers, places, errors.Join(errs...)
}

// placed gives what a Check has found, each at the place of its host.
func placed(found []*fault.Error, places map[string]fault.Pos) error {
	var errs []error
	for _, f := range found {
		if pos, ok := places[strings.SplitN(f.Msg, " ", 2)[0]]; ok {
			f.At(pos)
		}
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

// siteFrame is the site without its servers.
func (e *Env) siteFrame() templates.NginxSite {
	n := e.Nginx
	site := templates.NginxSite{
		App: e.App.Name, Env: e.Name,
		Upstream: templates.NginxUpstream{Name: e.UpstreamName(), Method: n.Method, Keepalive: n.Keepalive},
		Names:    n.Names, Certificate: n.Certificate, Key: n.Key, Redirect: n.Redirect,
		BodySize: n.ClientMaxBodySize, ConnectTimeout: n.ConnectTimeout, SendTimeout: n.SendTimeout, ReadTimeout: n.ReadTimeout,
		Gzip: n.Gzip, ErrorPage: n.ErrorPage, Maintenance: n.Maintenance, AccessLog: n.AccessLog,
	}
	if site.AccessLog == "" {
		site.AccessLog = "/var/log/nginx/godeploy-" + e.App.Name + ".log"
	}
	site.Listen, _ = ParseListen(n.Listen) // read once already, when the file was checked
	site.Headers, site.ProxyHeaders = headersOf(n.Headers), headersOf(n.ProxyHeaders)
	for _, l := range n.Location {
		site.Locations = append(site.Locations, templates.NginxLocation{Path: l.Path, Alias: l.Alias, Root: l.Root,
			Proxy: l.Proxy != "", WebSocket: l.WebSocket, Expires: l.Expires, NoLog: !l.AccessLog, Synced: l.Sync != "" && l.Alias != ""})
	}
	if len(site.Locations) == 0 {
		site.Locations = []templates.NginxLocation{{Path: "/", Proxy: true}}
	}
	if n.MainFile != "" {
		site.Main = templates.NginxMain{ShutdownTimeout: n.WorkerShutdownTimeout, OpenFiles: n.WorkerRlimitNofile}
	}
	return site
}

func headersOf(lines []string) []templates.NginxHeader {
	var all []templates.NginxHeader
	for _, line := range lines {
		h, _ := templates.ParseNginxHeader(line) // read once already, when the file was checked
		all = append(all, h)
	}
	return all
}

// nginxServer is a host as a server of the upstream: where [process] bind says that it listens, else at
// the port of its health check; app_address goes before both addresses.
func (e *Env) nginxServer(h Host) (templates.NginxServer, error) {
	s := templates.NginxServer{Name: h.Name, Weight: h.Weight, Backup: h.Backup}
	if e.Balancer.Kind == "haproxy" {
		s.MaxFails, s.FailTimeout = e.Balancer.MaxFails, e.Balancer.FailTimeout
	} else {
		s.MaxFails, s.FailTimeout = e.Nginx.MaxFails, e.Nginx.FailTimeout
	}
	host, port, err := e.listens(h)
	if err != nil {
		return s, err
	}
	if s.Port, err = strconv.Atoi(port); err != nil || s.Port < 1 || s.Port > 65535 {
		return s, fault.New(fault.ConfigValue, "hosts.%s has port %.20q; a port is from 1 to 65535", h.Name, port).At(h.Pos)
	}
	if ip, err := netip.ParseAddr(host); err != nil || ip.IsUnspecified() {
		host = h.Address
	}
	if h.AppAddress != "" {
		host = h.AppAddress
	}
	if s.Address, err = netip.ParseAddr(host); err != nil {
		return s, fault.New(fault.ConfigValue, "hosts.%s has no IP address: %q is a name", h.Name, host).At(h.Pos).
			Hint("a name that does not resolve would make nginx refuse every later reload; give the host its IP address: app_address = \"10.0.0.1\"")
	}
	return s, nil
}

// listens gives address and port at which the app of a host listens; the address may be "" or unspecified.
func (e *Env) listens(h Host) (host, port string, err error) {
	if e.Process.Bind != "" {
		bind, err := e.Render("process.bind", e.Process.Bind, h, "")
		if err != nil {
			return "", "", err
		}
		if regexp.MustCompile(`^[0-9]+$`).MatchString(bind) {
			return "", bind, nil
		}
		if host, port, err = net.SplitHostPort(bind); err != nil || strings.HasPrefix(bind, "unix:") {
			return "", "", fault.New(fault.ConfigValue, "process.bind is %.80q on %s, to which nginx on another host cannot connect", bind, h.Name).
				Hint(`write an address and a port, such as bind = "{{.Host.Address}}:9000"`)
		}
		return host, port, nil
	}
	if e.Health.URL != "" {
		text, err := e.Render("health.url", e.Health.URL, h, "")
		if err != nil {
			return "", "", err
		}
		if u, err := url.Parse(text); err == nil && u.Port() != "" {
			return "", u.Port(), nil
		}
	}
	return "", "", fault.New(fault.ConfigMissing, "process.bind is not set, so the port of the app on %s is not known", h.Name).
		Hint(`write it in [process], such as bind = "{{.Host.Address}}:9000"`)
}

// nginxSite checks what the keys of [nginx] mean together. Addresses and ports of the hosts are looked at
// by the commands that need them.
func (c *checker) nginxSite() {
	site := c.env.siteFrame()
	if len(site.Listen) == 0 {
		return // what does not parse was reported
	}
	if site.Certificate == "" || site.Key == "" { // reported where the other one stands
		site.Certificate, site.Key = "", ""
	}
	site.Upstream.Servers = c.standIns()
	for _, f := range site.Check() {
		key, msg, _ := strings.Cut(f.Msg, " ")
		at := keyPath(key)
		if at[0] == "hosts" { // the only thing about a host that is not its own: whether it may be a backup
			at, msg = []string{"nginx", "method"}, "has a host that "+msg
		}
		c.refuse(&valueError{msg, f.Cause}, at...)
	}
}

// standIns are servers in the place of the environment's: one of each kind.
func (c *checker) standIns() []templates.NginxServer {
	plain := templates.NginxServer{Name: "plain", Address: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Port: 80, Weight: 1}
	backup := templates.NginxServer{Name: "backup", Address: netip.AddrFrom4([4]byte{192, 0, 2, 2}), Port: 80, Weight: 1, Backup: true}
	backups := 0
	hosts := c.env.BalancedHosts()
	for _, h := range hosts {
		if h.Backup {
			backups++
		}
	}
	switch {
	case backups == 0:
		return []templates.NginxServer{plain}
	case backups == len(hosts):
		return []templates.NginxServer{backup}
	}
	return []templates.NginxServer{plain, backup}
}

// keyPath splits "nginx.location[0].path" as at and refuse want it.
func keyPath(key string) []string {
	m := regexp.MustCompile(`^nginx\.location\[(\d+)\](?:\.(.+))?$`).FindStringSubmatch(key)
	if m == nil {
		return strings.Split(key, ".")
	}
	n, _ := strconv.Atoi(m[1]) // digits by the expression
	path := []string{"nginx", "location", element(n)}
	if m[2] != "" {
		path = append(path, m[2])
	}
	return path
}

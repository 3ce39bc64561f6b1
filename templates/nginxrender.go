package templates

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strconv"
	"strings"
	"time"

	"godeploy/internal/fault"
)

// RenderNginx gives the nginx file of a site, for the http context. The same site gives the same bytes.
// Errors are faults of code config-value, joined: what Check says. The file begins with its Stamp.
func RenderNginx(site NginxSite) ([]byte, error) {
	if err := joined(site.Check()); err != nil {
		return nil, err
	}
	blank, err := site.body("")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(blank))
	body, err := site.body(hex.EncodeToString(sum[:8]))
	return site.stamped(body), err
}

// RenderNginxMain gives the lines for nginx's main context; nil when there are none.
func RenderNginxMain(site NginxSite) ([]byte, error) {
	if err := joined(site.Check()); err != nil {
		return nil, err
	}
	var list []Directive
	if t := site.Main.ShutdownTimeout; t > 0 {
		list = append(list, simple("worker_shutdown_timeout", nginxTime(t)))
	}
	if n := site.Main.OpenFiles; n > 0 {
		list = append(list, simple("worker_rlimit_nofile", strconv.Itoa(n)))
	}
	if len(list) == 0 {
		return nil, nil
	}
	var b strings.Builder
	if err := emit(&b, list, 0); err != nil {
		return nil, problem("nginx", err)
	}
	site.Upstream.Servers = nil // the state of the servers is the other file's
	return site.stamped(b.String()), nil
}

func joined(list []*fault.Error) error {
	if len(list) == 0 {
		return nil
	}
	errs := make([]error, len(list))
	for i, e := range list {
		errs[i] = e
	}
	return joinErrors(errs)
}

// body is the file without its stamp; mark is what the probe answers.
func (s *NginxSite) body(mark string) (string, error) {
	if s.Template != nil {
		return s.own(mark)
	}
	log := "godeploy_" + s.App
	list := []Directive{s.Upstream.directive(), logFormat(log)}
	if s.Redirect > 0 {
		list = append(list, s.redirect())
	}
	list = append(list, s.server(log, mark))
	var b strings.Builder
	if err := emit(&b, list, 0); err != nil {
		return "", problem("nginx", err)
	}
	return b.String(), nil
}

func logFormat(name string) Directive {
	return variable("log_format", name,
		`$remote_addr - $remote_user [$time_iso8601] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`+NginxLogTail)
}

// probe answers with the mark.
func probe(mark string) Directive {
	return block([]string{"location", "=", NginxProbePath}, simple("access_log", "off"),
		simple("add_header", NginxMarkHeader, mark, "always"), simple("return", "204"))
}

func (u *NginxUpstream) directive() Directive {
	method, _ := ParseNginxMethod(u.Method) // Check has read it
	list := []Directive{simple("zone", u.Name, "256k")}
	if method.Words != nil {
		list = append(list, Directive{Args: method.Words, vars: true})
	}
	for _, s := range u.Servers {
		list = append(list, s.directive())
	}
	if u.Keepalive > 0 {
		list = append(list, simple("keepalive", strconv.Itoa(u.Keepalive)))
	}
	return block([]string{"upstream", u.Name}, list...)
}

func (s *NginxServer) directive() Directive {
	args := []string{"server", s.Endpoint()}
	if w := s.Effective(); w != 1 {
		args = append(args, "weight="+strconv.Itoa(w))
	}
	args = append(args, "max_fails="+strconv.Itoa(s.MaxFails), "fail_timeout="+nginxTime(s.FailTimeout))
	if s.Backup {
		args = append(args, "backup")
	}
	if s.Down {
		args = append(args, "down")
	}
	return Directive{Args: args, note: s.Name}
}

// Effective is the weight that counts now.
func (s *NginxServer) Effective() int {
	if s.Warm > 0 {
		return s.Warm
	}
	return s.Weight
}

func (s *NginxSite) names() Directive {
	if len(s.Names) == 0 {
		return simple("server_name", "_")
	}
	return Directive{Args: append([]string{"server_name"}, s.Names...)}
}

// redirect sends what comes in clear to the same address under https.
func (s *NginxSite) redirect() Directive {
	target := "https://$host"
	if port := s.Listen[0].Port; port != 443 {
		target += ":" + strconv.Itoa(port)
	}
	return block([]string{"server"}, simple("listen", strconv.Itoa(s.Redirect)), s.names(), variable("return", "308", target+"$request_uri"))
}

func (s *NginxSite) server(log, mark string) Directive {
	var list []Directive
	for _, l := range s.Listen {
		list = append(list, l.directive(s.Certificate != ""))
	}
	list = append(list, s.names())
	if s.Certificate != "" {
		list = append(list, simple("ssl_certificate", s.Certificate), simple("ssl_certificate_key", s.Key),
			simple("ssl_protocols", "TLSv1.2", "TLSv1.3"), simple("ssl_session_timeout", "1d"), simple("ssl_session_tickets", "off"))
	}
	if s.BodySize != "" {
		list = append(list, simple("client_max_body_size", s.BodySize))
	}
	if s.AccessLog != "" {
		list = append(list, simple("access_log", s.AccessLog, log))
	}
	for _, h := range s.Headers {
		list = append(list, simple("add_header", h.Name, h.Value, "always"))
	}
	if s.Gzip {
		list = append(list, simple("gzip", "on"), simple("gzip_proxied", "any"), simple("gzip_vary", "on"), simple("gzip_min_length", "1024"),
			simple("gzip_types", "text/plain", "text/css", "application/javascript", "text/javascript", "application/json", "application/xml", "image/svg+xml"))
	}
	list = append(list, s.pages()...)
	list = append(list, probe(mark))
	for _, l := range s.Locations {
		list = append(list, s.locations(l)...)
	}
	return block([]string{"server"}, list...)
}

func (l NginxListen) directive(tls bool) Directive {
	at := strconv.Itoa(l.Port)
	switch {
	case l.Address.Is6():
		at = "[" + l.Address.String() + "]:" + at
	case l.Address.IsValid():
		at = l.Address.String() + ":" + at
	}
	if tls {
		return simple("listen", at, "ssl")
	}
	return simple("listen", at)
}

const (
	errorPlace       = "/.godeploy/error"
	maintenancePlace = "@godeploy_maintenance"
)

// pages are what is shown when the app cannot answer, and while it may not. The maintenance page is a
// named location: an internal redirect to a path would meet the condition again.
func (s *NginxSite) pages() []Directive {
	var list []Directive
	if s.ErrorPage != "" {
		list = append(list, simple("error_page", "502", "504", errorPlace), block([]string{"location", "=", errorPlace},
			simple("internal"), simple("default_type", "text/html"), simple("alias", s.ErrorPage)))
		if s.Maintenance == "" {
			list[0].Args = []string{"error_page", "502", "503", "504", errorPlace}
		}
	}
	if s.Maintenance != "" {
		list = append(list, simple("error_page", "503", maintenancePlace), block([]string{"location", maintenancePlace},
			simple("root", path.Dir(s.Maintenance)), simple("default_type", "text/html"), simple("add_header", "Retry-After", "60", "always"),
			simple("try_files", "/"+path.Base(s.Maintenance), "=503")))
	}
	return list
}

// locations are a location and the one that hides godeploy's own folder in it.
func (s *NginxSite) locations(l NginxLocation) []Directive {
	if !l.Synced {
		return []Directive{s.location(l)}
	}
	return []Directive{block([]string{"location", "^~", l.place() + ".godeploy/"}, simple("return", "404")), s.location(l)}
}

func (s *NginxSite) location(l NginxLocation) Directive {
	args := append([]string{"location"}, strings.Split(l.Path, " ")...)
	var list []Directive
	switch {
	case l.Proxy:
		list = s.proxy(l)
	case l.Root != "":
		list = append(list, simple("root", l.Root))
	case strings.HasPrefix(l.Path, "= "):
		list = append(list, simple("alias", strings.TrimSuffix(l.Alias, "/")))
	default: // both end with /: nginx puts the one in the place of the other
		list = append(list, simple("alias", strings.TrimSuffix(l.Alias, "/")+"/"))
	}
	if l.Expires != "" {
		list = append(list, simple("expires", l.Expires))
	}
	if l.NoLog {
		list = append(list, simple("access_log", "off"))
	}
	return block(args, list...)
}

// proxy passes requests on. A request that may have changed something is never sent twice: nginx does
// that only with non_idempotent, which is never written.
func (s *NginxSite) proxy(l NginxLocation) []Directive {
	connection, read := "", s.ReadTimeout
	if l.WebSocket {
		connection, read = "upgrade", max(read, time.Hour)
	}
	var list []Directive
	if s.Maintenance != "" {
		list = append(list, block([]string{"if", "(-f", s.Maintenance + ")"}, simple("return", "503")))
	}
	list = append(list,
		simple("proxy_pass", "http://"+s.Upstream.Name), simple("proxy_http_version", "1.1"),
		simple("proxy_set_header", "Connection", connection), variable("proxy_set_header", "Host", "$host"),
		variable("proxy_set_header", "X-Real-IP", "$remote_addr"), variable("proxy_set_header", "X-Forwarded-For", "$proxy_add_x_forwarded_for"),
		variable("proxy_set_header", "X-Forwarded-Proto", "$scheme"))
	if l.WebSocket {
		list = append(list, variable("proxy_set_header", "Upgrade", "$http_upgrade"))
	}
	for _, h := range s.ProxyHeaders {
		list = append(list, simple("proxy_set_header", h.Name, h.Value))
	}
	return append(list, simple("proxy_next_upstream", "error", "timeout"),
		simple("proxy_connect_timeout", nginxTime(s.ConnectTimeout)), simple("proxy_send_timeout", nginxTime(s.SendTimeout)),
		simple("proxy_read_timeout", nginxTime(read)))
}

// nginxTime is a time in seconds where it is whole, for some directives know no smaller unit.
func nginxTime(d time.Duration) string {
	if d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

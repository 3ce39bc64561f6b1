package templates

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"godeploy/internal/fault"
)

func bad(format string, args ...any) *Error { return &Error{Msg: fmt.Sprintf(format, args...)} }

func hinted(e *Error, hint string) *Error { e.Hint = hint; return e }

func is(expr, s string) bool { return regexp.MustCompile(`^(?:` + expr + `)$`).MatchString(s) }

// CheckNginxWord wants a name that nginx reads as one word wherever it stands.
func CheckNginxWord(s string) error {
	if !is(`[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}`, s) {
		return bad("must be at most 64 letters, digits and . _ -")
	}
	return nil
}

// CheckServerName wants a host name, with a wildcard label at one end at most.
func CheckServerName(s string) error {
	name := strings.TrimPrefix(strings.TrimPrefix(s, "*"), ".")
	if len(s) > 253 || strings.HasPrefix(s, "*") && !strings.HasPrefix(s, "*.") || !is(`[A-Za-z0-9_]([A-Za-z0-9_-]|\.[A-Za-z0-9_])*(\.\*)?\.?`, name) {
		return hinted(bad("must be a server name, such as www.example.com or *.example.com"), "a regular expression needs a template of your own: [nginx] template")
	}
	return nil
}

// CheckNginxPath wants a clean absolute path without characters that mean something to nginx.
func CheckNginxPath(s string) error {
	switch {
	case !strings.HasPrefix(s, "/") || path.Clean(s) != s || s == "/":
		return bad("must be a clean absolute path")
	case len(s) > 1024 || !utf8.ValidString(s) || strings.ContainsAny(s, " ;{}()\"'\\$#*?[]") || hasControl(s):
		return bad("must be a path without spaces and ; { } ( ) \" ' \\ $ # * ? [ ]")
	}
	return nil
}

// CheckLocationPath wants a prefix "/x/", perhaps with "= " or "^~ " before it.
func CheckLocationPath(s string) error {
	if !is(`(= |\^~ )?/[A-Za-z0-9/._~%+,:@-]{0,500}`, s) || strings.Contains(s, "..") {
		return hinted(bad(`must be a path such as "/statics/", or "= /exact"`), "a regular expression needs a template of your own: [nginx] template")
	}
	return nil
}

// CheckNginxSize wants a size as nginx writes it.
func CheckNginxSize(s string) error {
	if !is(`[0-9]{1,9}[kKmMgG]?`, s) {
		return bad(`must be a size such as "20m"`)
	}
	return nil
}

// CheckNginxExpires wants what the directive expires takes, without its forms with @ and variables.
func CheckNginxExpires(s string) error {
	if !is(`max|off|epoch|-?[0-9]{1,6}[smhdwMy]?`, s) {
		return bad(`must be a time such as "30d", or max, off or epoch`)
	}
	return nil
}

// ParseNginxHeader reads "Name: value"; the value is constant text.
func ParseNginxHeader(s string) (NginxHeader, error) {
	name, value, ok := strings.Cut(s, ":")
	h := NginxHeader{Name: name, Value: strings.TrimSpace(value)}
	if !ok {
		return h, bad(`must be a header such as "X-Frame-Options: DENY"`)
	}
	return h, h.check()
}

func (h NginxHeader) check() error {
	switch {
	case !is(`[A-Za-z][A-Za-z0-9-]{0,63}`, h.Name):
		return bad("needs a header name of letters, digits and -")
	case strings.Contains(h.Value, "$"):
		return hinted(bad("must not hold a $, which nginx would fill in"), "a variable needs a template of your own: [nginx] template")
	case h.Value == "" || len(h.Value) > 1024 || hasControl(h.Value) || !utf8.ValidString(h.Value):
		return bad("needs a value of one line")
	case strings.EqualFold(h.Name, NginxMarkHeader) || strings.EqualFold(h.Name, "Content-Length") || strings.EqualFold(h.Name, "Transfer-Encoding"):
		return bad("must not set %s", h.Name)
	}
	return nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 })
}

// NginxMethod is how requests are spread, as words of the upstream block: none for round robin by weight.
// Backup says whether the method may have backup servers.
type NginxMethod struct {
	Words  []string
	Backup bool
}

// ParseNginxMethod reads rr, weight, ip_hash, least_conn, "random", "random two", "hash KEY" and
// "hash KEY consistent". KEY is uri, addr, host, or cookie_, header_ or arg_ with a name.
func ParseNginxMethod(s string) (NginxMethod, error) {
	words := strings.Split(s, " ")
	switch {
	case s == "rr" || s == "weight":
		return NginxMethod{Backup: true}, nil
	case s == "least_conn":
		return NginxMethod{Words: words, Backup: true}, nil
	case s == "ip_hash" || s == "random" || s == "random two":
		return NginxMethod{Words: words}, nil
	case words[0] == "hash" && (len(words) == 2 || len(words) == 3 && words[2] == "consistent"):
		key, ok := hashKey(words[1])
		if ok {
			words[1] = key
			return NginxMethod{Words: words}, nil
		}
	}
	return NginxMethod{}, hinted(bad(`must be rr, weight, ip_hash, least_conn, "hash KEY consistent" or "random two"`),
		"KEY is uri, addr, host, cookie_NAME, header_NAME or arg_NAME")
}

// hashKey gives the nginx variable for a key.
func hashKey(key string) (string, bool) {
	switch key {
	case "uri":
		return "$request_uri", true
	case "addr":
		return "$remote_addr", true
	case "host":
		return "$host", true
	}
	kind, name, ok := strings.Cut(key, "_")
	if !ok || !is(`[a-z0-9_]{1,40}`, name) {
		return "", false
	}
	prefix, ok := map[string]string{"cookie": "$cookie_", "header": "$http_", "arg": "$arg_"}[kind]
	return prefix + name, ok
}

// problems collects what is wrong with a site, field by field.
type problems struct{ list []*fault.Error }

func (p *problems) add(field string, err error) {
	if err != nil {
		p.list = append(p.list, problem(field, err).(*fault.Error))
	}
}

func (p *problems) when(wrong bool, field, format string, args ...any) {
	if wrong {
		p.add(field, bad(format, args...))
	}
}

func (p *problems) optional(field, value string, check func(string) error) {
	if value != "" {
		p.add(field, check(value))
	}
}

// Check gives what nginx would refuse, or would take for something else than was meant; nil when there is
// nothing. The faults have code config-value and name the key of godeploy.toml.
func (s *NginxSite) Check() []*fault.Error {
	p := &problems{}
	p.add("app.name", CheckNginxWord(s.App))
	p.add("env", CheckNginxWord(s.Env))
	s.Upstream.check(p)
	s.checkServer(p)
	for i, l := range s.Locations {
		l.check(p, fmt.Sprintf("nginx.location[%d]", i), s.Locations[:i])
	}
	p.when(s.Main.ShutdownTimeout < 0 || s.Main.ShutdownTimeout%time.Millisecond != 0, "nginx.worker_shutdown_timeout", "must be whole milliseconds")
	p.when(s.Main.OpenFiles < 0 || s.Main.OpenFiles > 1<<30, "nginx.worker_rlimit_nofile", "is out of range")
	return p.list
}

func (u *NginxUpstream) check(p *problems) {
	p.add("nginx.upstream", CheckNginxWord(u.Name))
	method, err := ParseNginxMethod(u.Method)
	p.add("nginx.method", err)
	p.when(u.Keepalive < 0 || u.Keepalive > 65535, "nginx.keepalive", "must be from 0 to 65535")
	p.when(len(u.Servers) == 0, "nginx.upstream", "has no server")
	names, ends, serving, plain := map[string]bool{}, map[string]bool{}, 0, 0
	for _, s := range u.Servers {
		s.check(p)
		p.when(names[s.Name], "hosts."+s.Name, "stands in the upstream twice")
		p.when(ends[s.Endpoint()], "hosts."+s.Name, "has the address %s of another server", s.Endpoint())
		names[s.Name], ends[s.Endpoint()] = true, true
		if err == nil && s.Backup && !method.Backup {
			p.add("hosts."+s.Name, bad("is a backup, which method %q cannot have", u.Method))
		}
		if !s.Down {
			serving++
		}
		if !s.Backup {
			plain++
		}
	}
	p.when(len(u.Servers) > 0 && serving == 0, "nginx.upstream", "has no server left in service")
	p.when(len(u.Servers) > 0 && plain == 0, "nginx.upstream", "has backups only")
}

func (s *NginxServer) check(p *problems) {
	at := "hosts." + s.Name
	p.add(at, CheckNginxWord(s.Name))
	p.when(!s.Address.IsValid() || s.Address.Zone() != "" || s.Address.IsUnspecified() || s.Address.IsMulticast(), at, "has no IP address that nginx could pass requests to")
	p.when(s.Port < 1 || s.Port > 65535, at, "has port %d; a port is from 1 to 65535", s.Port)
	p.when(s.Weight < 1 || s.Weight > 65535, at, "has weight %d; a weight is from 1 to 65535", s.Weight)
	p.when(s.Warm < 0 || s.Warm > 65535, at, "has weight %d; a weight is from 1 to 65535", s.Warm)
	p.when(s.MaxFails < 0 || s.MaxFails > 65535, "nginx.max_fails", "must be from 0 to 65535")
	p.when(s.FailTimeout < 0 || s.FailTimeout%time.Second != 0, "nginx.fail_timeout", "must be whole seconds")
}

func (s *NginxSite) checkServer(p *problems) {
	p.when(len(s.Listen) == 0, "nginx.listen", "is empty")
	seen := map[NginxListen]bool{}
	for _, l := range s.Listen {
		p.when(l.Port < 1 || l.Port > 65535, "nginx.listen", "has port %d; a port is from 1 to 65535", l.Port)
		p.when(l.Address.IsValid() && l.Address.Zone() != "", "nginx.listen", "has a zone")
		p.when(seen[l] || l.Port == s.Redirect, "nginx.listen", "names port %d twice", l.Port)
		seen[l] = true
	}
	names := map[string]bool{}
	for _, n := range s.Names {
		p.add("nginx.names", CheckServerName(n))
		p.when(names[strings.ToLower(n)], "nginx.names", "has %.80q twice", n)
		names[strings.ToLower(n)] = true
	}
	p.when((s.Certificate == "") != (s.Key == ""), "nginx.certificate", "and key belong together")
	p.optional("nginx.certificate", s.Certificate, CheckNginxPath)
	p.optional("nginx.key", s.Key, CheckNginxPath)
	p.when(s.Redirect != 0 && s.Certificate == "", "nginx.redirect", "needs a certificate")
	p.when(s.Redirect < 0 || s.Redirect > 65535, "nginx.redirect", "must be a port")
	p.optional("nginx.client_max_body_size", s.BodySize, CheckNginxSize)
	s.checkTraffic(p)
}

func (s *NginxSite) checkTraffic(p *problems) {
	for _, h := range s.Headers {
		p.add("nginx.headers", h.check())
	}
	for _, h := range s.ProxyHeaders {
		p.add("nginx.proxy_headers", h.check())
		p.when(isForwarded(h.Name), "nginx.proxy_headers", "must not set %.80s, which is set already", h.Name)
	}
	for _, t := range []struct {
		key string
		d   time.Duration
	}{{"connect_timeout", s.ConnectTimeout}, {"send_timeout", s.SendTimeout}, {"read_timeout", s.ReadTimeout}} {
		p.when(t.d < time.Millisecond || t.d%time.Millisecond != 0, "nginx."+t.key, "must be whole milliseconds")
	}
	p.optional("nginx.error_page", s.ErrorPage, CheckNginxPath)
	p.optional("nginx.maintenance", s.Maintenance, CheckNginxPath)
	p.optional("nginx.access_log", s.AccessLog, CheckNginxPath)
}

// isForwarded tells the headers that every proxied request gets.
func isForwarded(name string) bool {
	switch strings.ToLower(name) {
	case "host", "connection", "upgrade", "x-real-ip", "x-forwarded-for", "x-forwarded-proto":
		return true
	}
	return false
}

func (l *NginxLocation) check(p *problems, at string, before []NginxLocation) {
	p.add(at+".path", CheckLocationPath(l.Path))
	same := slices.ContainsFunc(before, func(other NginxLocation) bool { return l.place() == other.place() })
	p.when(same, at+".path", "stands in two locations")
	p.when(l.place() == "= "+NginxProbePath, at+".path", "is godeploy's own")
	kinds := 0
	for _, has := range []bool{l.Alias != "", l.Root != "", l.Proxy} {
		if has {
			kinds++
		}
	}
	p.when(kinds != 1, at, "needs one of alias, root and proxy")
	p.optional(at+".alias", strings.TrimSuffix(l.Alias, "/"), CheckNginxPath)
	p.optional(at+".root", strings.TrimSuffix(l.Root, "/"), CheckNginxPath)
	p.when(l.Alias != "" && !strings.HasPrefix(l.Path, "= ") && !strings.HasSuffix(l.Path, "/"), at+".path", "must end with /, or requests could leave the folder of its alias")
	p.when(l.Synced && (l.Alias == "" || strings.HasPrefix(l.Path, "= ")), at+".sync", "needs an alias, the folder it is pushed to")
	p.optional(at+".expires", l.Expires, CheckNginxExpires)
	p.when(l.WebSocket && !l.Proxy, at+".websocket", "is for a location with proxy")
}

// place is what nginx compares: to it "^~ /x/" and "/x/" are one location.
func (l *NginxLocation) place() string { return strings.TrimPrefix(l.Path, "^~ ") }

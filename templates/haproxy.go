package templates

import (
	"net/netip"
	"strings"
	"time"

	"godeploy/internal/fault"
)

// HaproxySite is everything that the HAProxy file of one app says, as typed values. Check says whether all
// of them can stand in a file; RenderHaproxy refuses a site that does not pass. HAProxy 2.4 and later read
// the file; a cookie as the key of a hash needs 2.6.
type HaproxySite struct {
	App, Env string
	// Whole says that the file is all that HAProxy reads: it has user, group and chroot too.
	Whole    bool
	Upstream NginxUpstream

	Listen      []NginxListen
	Redirect    int    // port whose requests are sent to https, 0 for none
	Certificate string // file with certificate and key on the HAProxy host, "" without TLS

	Headers        []NginxHeader // of every answer
	ProxyHeaders   []NginxHeader // of every request to the app
	ConnectTimeout time.Duration
	ClientTimeout  time.Duration
	ServerTimeout  time.Duration
	ErrorPage      string // HTML file on the HAProxy host that is shown for 502, 503 and 504; "" is HAProxy's own

	Socket          string        // path of the runtime socket
	ShutdownTimeout time.Duration // old workers end after so long, 0 sets none
	MaxConnections  int           // 0 leaves it to HAProxy
}

// HaproxyProbePath is to HAProxy what NginxProbePath is to nginx; the mark has the same header.
const HaproxyProbePath = "/.godeploy/haproxy"

// HaproxyMaxWeight is the largest weight that HAProxy knows.
const HaproxyMaxWeight = 256

// HaproxyMethod is how requests are spread, as lines of the backend. Hashes marks those methods by which a
// client or a key stays with its server.
type HaproxyMethod struct {
	Lines  [][]string
	Hashes bool
}

// ParseHaproxyMethod reads the methods of ParseNginxMethod. Every hash is a consistent one: a server that is
// drained leaves the others' clients where they are.
func ParseHaproxyMethod(s string) (HaproxyMethod, error) {
	if _, err := ParseNginxMethod(s); err != nil {
		return HaproxyMethod{}, err
	}
	words := strings.Split(s, " ")
	switch words[0] {
	case "least_conn":
		return HaproxyMethod{Lines: [][]string{{"balance", "leastconn"}}}, nil
	case "random":
		draws := map[int]string{1: "random(1)", 2: "random(2)"}[len(words)]
		return HaproxyMethod{Lines: [][]string{{"balance", draws}}}, nil
	case "ip_hash":
		return hashing("source"), nil
	case "hash":
		return hashing(haproxyKey(words[1])...), nil
	}
	return HaproxyMethod{Lines: [][]string{{"balance", "roundrobin"}}}, nil
}

func hashing(by ...string) HaproxyMethod {
	return HaproxyMethod{Lines: [][]string{append([]string{"balance"}, by...), {"hash-type", "consistent"}}, Hashes: true}
}

// haproxyKey gives the algorithm for a key that ParseNginxMethod has let through.
func haproxyKey(key string) []string {
	switch key {
	case "uri":
		return []string{"uri", "whole"}
	case "addr":
		return []string{"source"}
	case "host":
		return []string{"hdr(host)"}
	}
	kind, name, _ := strings.Cut(key, "_")
	switch kind {
	case "cookie":
		return []string{"hash", "req.cook(" + name + ")"}
	case "header": // as nginx has it, whose variables cannot hold a -
		return []string{"hdr(" + strings.ReplaceAll(name, "_", "-") + ")"}
	}
	return []string{"url_param", name}
}

// Check gives what HAProxy would refuse, or would take for something else than was meant; nil when there is
// nothing. The faults have code config-value and name the key of godeploy.toml.
func (s *HaproxySite) Check() []*fault.Error {
	p := &problems{}
	p.add("app.name", CheckNginxWord(s.App))
	p.add("env", CheckNginxWord(s.Env))
	s.checkUpstream(p)
	s.checkListen(p)
	for _, h := range s.Headers {
		p.add("balancer.headers", h.check())
	}
	for _, h := range s.ProxyHeaders {
		p.add("balancer.proxy_headers", h.check())
		p.when(isForwarded(h.Name), "balancer.proxy_headers", "must not set %.80s, which is set already", h.Name)
	}
	for _, t := range []struct {
		key string
		d   time.Duration
	}{{"connect_timeout", s.ConnectTimeout}, {"client_timeout", s.ClientTimeout}, {"server_timeout", s.ServerTimeout}} {
		p.when(t.d < time.Millisecond || t.d > 24*time.Hour || t.d%time.Millisecond != 0, "balancer."+t.key, "must be whole milliseconds, a day at most")
	}
	p.when(s.ShutdownTimeout < 0 || s.ShutdownTimeout > 24*time.Hour || s.ShutdownTimeout%time.Millisecond != 0, "balancer.shutdown_timeout", "must be whole milliseconds, a day at most")
	p.when(s.MaxConnections < 0 || s.MaxConnections > 10_000_000, "balancer.max_connections", "is out of range")
	p.optional("balancer.error_page", s.ErrorPage, CheckNginxPath)
	p.add("balancer.socket", CheckSocketPath(s.Socket))
	return p.list
}

// CheckSocketPath wants a path that a unix socket can have, with room for the name under which HAProxy makes
// it first.
func CheckSocketPath(path string) error {
	if err := CheckNginxPath(path); err != nil {
		return err
	}
	if len(path) > 80 {
		return bad("must be at most 80 bytes long, as it is the path of a socket")
	}
	return nil
}

func (s *HaproxySite) checkListen(p *problems) {
	p.when(len(s.Listen) == 0, "balancer.listen", "is empty")
	seen := map[NginxListen]bool{}
	for _, l := range s.Listen {
		p.when(l.Port < 1 || l.Port > 65535, "balancer.listen", "has port %d; a port is from 1 to 65535", l.Port)
		p.when(l.Address.IsValid() && l.Address.Zone() != "", "balancer.listen", "has a zone")
		p.when(seen[l] || l.Port == s.Redirect, "balancer.listen", "names port %d twice", l.Port)
		seen[l] = true
	}
	p.optional("balancer.certificate", s.Certificate, CheckNginxPath)
	p.when(s.Redirect != 0 && s.Certificate == "", "balancer.redirect", "needs a certificate")
	p.when(s.Redirect < 0 || s.Redirect > 65535, "balancer.redirect", "must be a port")
}

func (s *HaproxySite) checkUpstream(p *problems) {
	u := s.Upstream
	p.add("balancer.backend", CheckNginxWord(u.Name))
	_, err := ParseHaproxyMethod(u.Method)
	p.add("balancer.method", err)
	p.when(u.Keepalive < 0 || u.Keepalive > 65535, "balancer.keepalive", "must be from 0 to 65535")
	p.when(len(u.Servers) == 0, "balancer.backend", "has no server")
	names, ends, serving, plain := map[string]bool{}, map[netip.AddrPort]bool{}, 0, 0
	for i := range u.Servers {
		one := &u.Servers[i]
		end := netip.AddrPortFrom(one.Address, uint16(one.Port))
		one.checkHaproxy(p)
		p.when(names[one.Name], "hosts."+one.Name, "stands in the backend twice")
		p.when(ends[end], "hosts."+one.Name, "has the address %s of another server", end)
		names[one.Name], ends[end] = true, true
		if !one.Down {
			serving++
		}
		if !one.Backup {
			plain++
		}
	}
	p.when(len(u.Servers) > 0 && serving == 0, "balancer.backend", "has no server left in service")
	p.when(len(u.Servers) > 0 && plain == 0, "balancer.backend", "has backups only")
}

func (s *NginxServer) checkHaproxy(p *problems) {
	at := "hosts." + s.Name
	p.add(at, CheckNginxWord(s.Name))
	p.when(!s.Address.IsValid() || s.Address.Zone() != "" || s.Address.IsUnspecified() || s.Address.IsMulticast(), at, "has no IP address that HAProxy could pass requests to")
	p.when(s.Port < 1 || s.Port > 65535, at, "has port %d; a port is from 1 to 65535", s.Port)
	p.when(s.Weight < 1 || s.Weight > HaproxyMaxWeight, at, "has weight %d; a weight of HAProxy's is from 1 to %d", s.Weight, HaproxyMaxWeight)
	p.when(s.Warm < 0 || s.Warm > HaproxyMaxWeight, at, "has weight %d; a weight of HAProxy's is from 1 to %d", s.Warm, HaproxyMaxWeight)
	p.when(s.MaxFails < 0 || s.MaxFails > 65535, "balancer.max_fails", "must be from 0 to 65535")
	p.when(s.FailTimeout < 0 || s.FailTimeout > 24*time.Hour || s.FailTimeout%time.Second != 0, "balancer.fail_timeout", "must be whole seconds, a day at most")
}

package templates

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// HaproxyLine is one line of a HAProxy file: its words, and whether it begins a section.
type HaproxyLine struct {
	Words   []string
	Section bool
}

// haproxyLines collects a file. Words are what HAProxy is to read: the emitter quotes them.
type haproxyLines []HaproxyLine

func (l *haproxyLines) section(words ...string) { *l = append(*l, HaproxyLine{words, true}) }

func (l *haproxyLines) add(words ...string) { *l = append(*l, HaproxyLine{Words: words}) }

// RenderHaproxy gives the HAProxy file of a site. The same site gives the same bytes. Errors are faults of
// code config-value, joined: what Check says. The file begins with its Stamp, whose mark has two parts: the
// first is over the site with every server in service, the second over the state of the servers, which can
// change without a reload.
func RenderHaproxy(site HaproxySite) ([]byte, error) {
	if err := joined(site.Check()); err != nil {
		return nil, err
	}
	still := site
	still.Upstream.Servers = append([]NginxServer(nil), site.Upstream.Servers...)
	for i := range still.Upstream.Servers {
		still.Upstream.Servers[i].Down, still.Upstream.Servers[i].Warm = false, 0
	}
	blank, err := emitHaproxy(still.lines(""))
	if err != nil {
		return nil, problem("balancer", err)
	}
	sum := sha256.Sum256([]byte(blank))
	mark := hex.EncodeToString(sum[:8]) + "." + StateMark(site.Upstream.Servers)
	body, err := emitHaproxy(site.lines(mark))
	if err != nil {
		return nil, problem("balancer", err)
	}
	return stamped(site.App, site.Env, "balancer", site.Upstream.Servers, body), nil
}

// StateMark is a sum over who is in service with which weight.
func StateMark(servers []NginxServer) string {
	var b strings.Builder
	for _, s := range servers {
		weight := s.Effective()
		if s.Down { // then it does not matter
			weight = 0
		}
		fmt.Fprintf(&b, "%s %t %d\n", s.Name, s.Down, weight)
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:4])
}

func (s *HaproxySite) lines(mark string) haproxyLines {
	var l haproxyLines
	s.global(&l)
	s.defaults(&l)
	if s.Redirect > 0 {
		s.redirect(&l)
	}
	s.frontend(&l, mark)
	s.backend(&l)
	return l
}

func (s *HaproxySite) own() string { return "godeploy_" + s.App }

func (s *HaproxySite) global(l *haproxyLines) {
	l.section("global")
	if s.Whole {
		l.add("log", "/dev/log", "local0")
		l.add("chroot", "/var/lib/haproxy")
		l.add("user", "haproxy")
		l.add("group", "haproxy")
	}
	l.add("stats", "socket", s.Socket, "mode", "600", "level", "admin", "expose-fd", "listeners")
	if s.ShutdownTimeout > 0 {
		l.add("hard-stop-after", haproxyTime(s.ShutdownTimeout))
	}
	if s.MaxConnections > 0 {
		l.add("maxconn", strconv.Itoa(s.MaxConnections))
	}
}

func (s *HaproxySite) defaults(l *haproxyLines) {
	l.section("defaults", s.own())
	l.add("mode", "http")
	l.add("log", "global")
	l.add("option", "httplog")
	l.add("option", "dontlognull")
	l.add("timeout", "connect", haproxyTime(s.ConnectTimeout))
	l.add("timeout", "client", haproxyTime(s.ClientTimeout))
	l.add("timeout", "server", haproxyTime(s.ServerTimeout))
	l.add("timeout", "http-request", "30s")
	l.add("timeout", "http-keep-alive", "60s")
	l.add("timeout", "tunnel", "1h")
	if s.ErrorPage != "" {
		for _, status := range []string{"502", "503", "504"} {
			l.add("http-error", "status", status, "content-type", "text/html", "file", s.ErrorPage)
		}
	}
}

// redirect sends what comes in clear to the same address under https.
func (s *HaproxySite) redirect(l *haproxyLines) {
	l.section("frontend", s.own()+"_redirect", "from", s.own())
	l.add("bind", ":"+strconv.Itoa(s.Redirect))
	if port := s.Listen[0].Port; port != 443 {
		l.add("http-request", "redirect", "code", "308", "location", "https://%[req.hdr(host),field(1,:)]:"+strconv.Itoa(port)+"%[pathq]")
		return
	}
	l.add("http-request", "redirect", "scheme", "https", "code", "308")
}

func (s *HaproxySite) frontend(l *haproxyLines, mark string) {
	l.section("frontend", s.own(), "from", s.own())
	for _, on := range s.Listen {
		l.add(on.bind(s.Certificate)...)
	}
	l.add("http-request", "set-log-level", "silent", "if", "{", "path", HaproxyProbePath, "}")
	l.add("http-request", "return", "status", "204", "hdr", NginxMarkHeader, mark, "if", "{", "path", HaproxyProbePath, "}")
	l.add("option", "forwardfor")
	l.add("http-request", "set-header", "X-Real-IP", "%[src]")
	proto := "http"
	if s.Certificate != "" {
		proto = "https"
	}
	l.add("http-request", "set-header", "X-Forwarded-Proto", proto)
	for _, h := range s.ProxyHeaders {
		l.add("http-request", "set-header", h.Name, haproxyLogFormat(h.Value))
	}
	for _, h := range s.Headers {
		l.add("http-after-response", "set-header", h.Name, haproxyLogFormat(h.Value))
	}
	l.add("default_backend", s.Upstream.Name)
}

func (l NginxListen) bind(certificate string) []string {
	at := ":" + strconv.Itoa(l.Port)
	if l.Address.Is6() {
		at = "[" + l.Address.String() + "]" + at
	} else if l.Address.IsValid() {
		at = l.Address.String() + at
	}
	words := []string{"bind", at}
	if l.Address.Is6() {
		words = append(words, "v6only")
	}
	if certificate != "" {
		words = append(words, "ssl", "crt", certificate, "ssl-min-ver", "TLSv1.2", "alpn", "h2,http/1.1")
	}
	return words
}

// backend passes requests on. A request that may have changed something is never sent twice: only one to
// which no server was found listening goes to another, and a GET that was not answered.
func (s *HaproxySite) backend(l *haproxyLines) {
	u := &s.Upstream
	l.section("backend", u.Name, "from", s.own())
	method, _ := ParseHaproxyMethod(u.Method) // Check has read it
	for _, line := range method.Lines {
		l.add(line...)
	}
	l.add("option", "allbackups")
	l.add("option", "redispatch", "1")
	l.add("retries", "2")
	l.add("retry-on", "conn-failure", "empty-response")
	l.add("http-request", "disable-l7-retry", "if", "!{", "method", "GET", "HEAD", "OPTIONS", "}")
	if u.Keepalive > 0 {
		l.add("http-reuse", "safe")
	} else {
		l.add("option", "http-server-close")
	}
	for i := range u.Servers {
		l.add(u.Servers[i].haproxy(u.Keepalive)...)
	}
}

// haproxy is the server's line. A drained one is disabled: that holds through a reload and a reboot, and the
// runtime socket can take it back.
func (s *NginxServer) haproxy(keepalive int) []string {
	words := []string{"server", s.Name, s.Endpoint(), "weight", strconv.Itoa(s.Effective())}
	if keepalive > 0 {
		words = append(words, "pool-max-conn", strconv.Itoa(keepalive))
	}
	if s.MaxFails > 0 {
		every := max(s.FailTimeout/time.Duration(s.MaxFails), 100*time.Millisecond).Truncate(time.Millisecond)
		words = append(words, "check", "inter", haproxyTime(every), "fall", strconv.Itoa(s.MaxFails), "rise", "1",
			"observe", "layer4", "error-limit", strconv.Itoa(s.MaxFails), "on-error", "mark-down")
	}
	if s.Backup {
		words = append(words, "backup")
	}
	if s.Down {
		words = append(words, "disabled")
	}
	return words
}

// haproxyLogFormat writes constant text where HAProxy takes a format.
func haproxyLogFormat(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// haproxyTime is a time in seconds where it is whole: HAProxy takes no more than 2^31 of a unit.
func haproxyTime(d time.Duration) string {
	if d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

// maxHaproxyLine is what every HAProxy reads as one line, and maxHaproxyWords as its words.
const (
	maxHaproxyLine  = 2000
	maxHaproxyWords = 64
)

// emitHaproxy writes lines as HAProxy reads them. A word that is not a plain one is quoted, and one that
// cannot be written so that HAProxy reads it back as it is, is an error.
func emitHaproxy(lines haproxyLines) (string, error) {
	var b strings.Builder
	for i, line := range lines {
		var words []string
		for _, w := range line.Words {
			word, err := haproxyWord(w)
			if err != nil {
				return "", fmt.Errorf("%s %w", line.Words[0], err)
			}
			words = append(words, word)
		}
		text := strings.Join(words, " ")
		if len(text) > maxHaproxyLine || len(words) > maxHaproxyWords {
			return "", fmt.Errorf("%s %w", line.Words[0], bad("makes a line of more than %d bytes", maxHaproxyLine))
		}
		switch {
		case !line.Section:
			b.WriteString("    ")
		case i > 0:
			b.WriteString("\n")
		}
		b.WriteString(text + "\n")
	}
	return b.String(), nil
}

// haproxyWord writes one word. Between single quotes nothing means anything to HAProxy, neither \ nor $.
func haproxyWord(s string) (string, error) {
	if hasControl(s) || !utf8.ValidString(s) {
		return "", bad("has a word with a control character")
	}
	if s != "" && !strings.ContainsAny(s, " #\\\"'$~") {
		return s, nil
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'", nil
}

package templates

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func smallHaproxy() HaproxySite {
	return HaproxySite{
		App: "swiper", Env: "prod", Whole: true, Upstream: smallSite().Upstream, Listen: []NginxListen{{Port: 80}},
		ConnectTimeout: 2 * time.Second, ClientTimeout: time.Minute, ServerTimeout: time.Minute, Socket: "/run/haproxy/godeploy-swiper.sock",
		ShutdownTimeout: 30 * time.Second,
	}
}

// fullHaproxy uses every key.
func fullHaproxy() HaproxySite {
	s := smallHaproxy()
	u := fullSite().Upstream
	s.Upstream, s.Listen = u, fullSite().Listen
	s.Redirect, s.Certificate, s.Whole = 80, "/etc/ssl/private/swiper.pem", false
	s.Headers, s.ProxyHeaders = fullSite().Headers, []NginxHeader{{"X-Quoted", `a "b" \c {d} 'e' # 100% %[src]`}}
	s.ErrorPage, s.MaxConnections = "/srv/swiper/50x.html", 20_000
	s.ConnectTimeout = 1500 * time.Millisecond
	return s
}

func TestRenderHaproxyIsWhatTheGoldenFilesSay(t *testing.T) {
	t.Parallel()
	for name, site := range map[string]HaproxySite{"small": smallHaproxy(), "full": fullHaproxy()} {
		got, err := RenderHaproxy(site)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "../haproxy/"+name+".cfg", got)
	}
}

// The first part of the mark stays while only the state of the servers changes; the second says it.
func TestHaproxyMarkTellsTheStateFromTheRest(t *testing.T) {
	t.Parallel()
	mark := func(change func(*HaproxySite)) (string, string) {
		site := smallHaproxy()
		site.Upstream.Servers = slices.Clone(site.Upstream.Servers)
		change(&site)
		file, err := RenderHaproxy(site)
		if err != nil {
			t.Fatal(err)
		}
		stamp, ok := ReadStamp(file)
		if !ok || !stamp.Intact || stamp.App != "swiper" {
			t.Fatalf("got stamp %+v of\n%s", stamp, file)
		}
		if again, _ := ReadStamp(append(file, '\n')); again.Intact {
			t.Error("an edit is not seen")
		}
		still, state, _ := strings.Cut(stamp.Mark, ".")
		return still, state
	}
	still, state := mark(func(*HaproxySite) {})
	down, downState := mark(func(s *HaproxySite) { s.Upstream.Servers[1].Down = true })
	warm, warmState := mark(func(s *HaproxySite) { s.Upstream.Servers[1].Warm = 3 })
	other, otherState := mark(func(s *HaproxySite) { s.ServerTimeout = time.Second })
	if still != down || still != warm || still == other || len(still) != 16 {
		t.Errorf("first parts: %s %s %s %s", still, down, warm, other)
	}
	if state == downState || state == warmState || downState == warmState || state != otherState || len(state) != 8 {
		t.Errorf("second parts: %s %s %s %s", state, downState, warmState, otherState)
	}
}

// haproxyTest runs haproxy -c over a file, as any user: what the machine has not got is left out.
func haproxyTest(t testing.TB, file string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	for _, line := range []string{"    chroot /var/lib/haproxy\n", "    user haproxy\n", "    group haproxy\n"} {
		file = strings.Replace(file, line, "", 1)
	}
	if !strings.Contains(file, "log /dev/log") { // what stands in the files beside it
		file = "global\n    log 127.0.0.1 local0\n" + file
	}
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(haproxyProgram(t), "-c", "-f", path).CombinedOutput()
	return string(out), err
}

func haproxyProgram(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
		t.Fatal("haproxy is not installed")
	}
	t.Skip("haproxy is not installed")
	return ""
}

// bothPEM is a file with certificate and key, as HAProxy wants them.
func bothPEM(t *testing.T) string {
	t.Helper()
	crt, key := certificate(t)
	path := filepath.Join(t.TempDir(), "both.pem")
	var both []byte
	for _, name := range []string{crt, key} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, text...)
	}
	if err := os.WriteFile(path, both, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRenderedFilesPassHaproxy(t *testing.T) {
	t.Parallel()
	full := fullHaproxy()
	full.Certificate, full.ErrorPage = bothPEM(t), filepath.Join(t.TempDir(), "50x.html")
	if err := os.WriteFile(full.ErrorPage, []byte("<p>soon</p>\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sites := map[string]HaproxySite{"small": smallHaproxy(), "full": full}
	for _, method := range []string{"weight", "ip_hash", "random", "random two", "hash uri", "hash uri consistent", "hash addr", "hash host",
		"hash cookie_sessionid consistent", "hash header_x_user", "hash arg_id", "least_conn"} {
		s := smallHaproxy()
		s.Upstream = smallSite().Upstream
		s.Upstream.Method = method
		s.Upstream.Servers[2].Down, s.Upstream.Servers[1].Backup = true, true
		sites[method] = s
	}
	for name, site := range sites {
		file, err := RenderHaproxy(site)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if out, err := haproxyTest(t, string(file)); err != nil || strings.Contains(out, "WARNING") || strings.Contains(out, "ALERT") {
			t.Errorf("%s: haproxy -c: %v: %s\n%s", name, err, out, file)
		}
	}
}

func TestHaproxyRefusesWhatItCannotSay(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*HaproxySite){
		"has weight 257; a weight of HAProxy's is from 1 to 256": func(s *HaproxySite) { s.Upstream.Servers[0].Weight = 257 },
		"has weight 0":                   func(s *HaproxySite) { s.Upstream.Servers[0].Weight = 0 },
		"has port 99999":                 func(s *HaproxySite) { s.Upstream.Servers[0].Port = 99999 },
		"has no server":                  func(s *HaproxySite) { s.Upstream.Servers = nil },
		"has the address 10.0.0.1:9000":  func(s *HaproxySite) { s.Upstream.Servers[1].Address = s.Upstream.Servers[0].Address },
		"stands in the backend twice":    func(s *HaproxySite) { s.Upstream.Servers[1].Name = "app1" },
		"no server left in service":      func(s *HaproxySite) { each(s, func(n *NginxServer) { n.Down = true }) },
		"has backups only":               func(s *HaproxySite) { each(s, func(n *NginxServer) { n.Backup = true }) },
		"names port 80 twice":            func(s *HaproxySite) { s.Listen = append(s.Listen, s.Listen[0]) },
		"needs a certificate":            func(s *HaproxySite) { s.Redirect = 81 },
		"must not set X-Forwarded-For":   func(s *HaproxySite) { s.ProxyHeaders = []NginxHeader{{"X-Forwarded-For", "1"}} },
		"must be at most 80 bytes long":  func(s *HaproxySite) { s.Socket = "/run/" + strings.Repeat("x", 80) },
		"balancer.method must be":        func(s *HaproxySite) { s.Upstream.Method = "first" },
		"balancer.error_page must be":    func(s *HaproxySite) { s.ErrorPage = "x.html" },
		"server_timeout must be whole":   func(s *HaproxySite) { s.ServerTimeout = 0 },
		"more than 2000 bytes":           func(s *HaproxySite) { s.Headers = []NginxHeader{{"X-Long", strings.Repeat("'", 1000)}} },
		"has no IP address that HAProxy": func(s *HaproxySite) { s.Upstream.Servers[0].Address = netip.Addr{} },
	} {
		site := smallHaproxy()
		change(&site)
		file, err := RenderHaproxy(site)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q\n%s", err, want, file)
		}
	}
}

func each(s *HaproxySite, change func(*NginxServer)) {
	for i := range s.Upstream.Servers {
		change(&s.Upstream.Servers[i])
	}
}

// readHaproxy reads a file word by word as HAProxy's parse_line does: it is what the emitter is held against.
// A variable would have been filled in, so one that is not between single quotes is an error.
func readHaproxy(text string) ([][]string, error) {
	var lines [][]string
	for line := range strings.Lines(text) {
		words, err := haproxyWords(strings.TrimRight(line, "\n"))
		if err != nil {
			return nil, err
		}
		if words != nil {
			lines = append(lines, words)
		}
	}
	return lines, nil
}

func haproxyWords(line string) (words []string, err error) {
	var word strings.Builder
	in, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == 0 && (c == ' ' || c == '\t' || c == '#'):
			if in {
				words = append(words, word.String())
			}
			word.Reset()
			if in = false; c == '#' {
				return words, nil
			}
		case c == '\'' && quote != '"', c == '"' && quote != '\'':
			if in = true; quote == 0 {
				quote = c
			} else {
				quote = 0
			}
		case c == '\\' && quote != '\'' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			in = true
		case c == '$' && quote != '\'':
			return nil, fmt.Errorf("a variable in %q", line)
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("an open quote in %q", line)
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}

// Whatever is put into a field is refused, or stands in the file as just that word.
func TestNothingBreaksOutOfAHaproxyFile(t *testing.T) {
	t.Parallel()
	fields := haproxyFields()
	for _, evil := range haproxyEvil() {
		for name, put := range fields {
			site := fullHaproxy()
			site.Upstream.Servers = slices.Clone(site.Upstream.Servers)
			put(&site, evil)
			file, err := RenderHaproxy(site)
			if err != nil {
				continue
			}
			checkHaproxyWords(t, name+" "+evil, site, string(file))
		}
	}
}

// haproxyFields puts a text into each field of a site that holds text; the test below sees that none is
// forgotten.
func haproxyFields() map[string]func(*HaproxySite, string) {
	return map[string]func(*HaproxySite, string){
		"App":                func(s *HaproxySite, v string) { s.App = v },
		"Env":                func(s *HaproxySite, v string) { s.Env = v },
		"Upstream.Name":      func(s *HaproxySite, v string) { s.Upstream.Name = v },
		"Upstream.Method":    func(s *HaproxySite, v string) { s.Upstream.Method = v },
		"Upstream.Key":       func(s *HaproxySite, v string) { s.Upstream.Method = "hash cookie_" + v },
		"Server.Name":        func(s *HaproxySite, v string) { s.Upstream.Servers[0].Name = v },
		"Certificate":        func(s *HaproxySite, v string) { s.Certificate = v },
		"Certificate.path":   func(s *HaproxySite, v string) { s.Certificate = "/etc/" + v },
		"Headers.Name":       func(s *HaproxySite, v string) { s.Headers = []NginxHeader{{v, "x"}} },
		"Headers.Value":      func(s *HaproxySite, v string) { s.Headers = []NginxHeader{{"X-A", v}} },
		"ProxyHeaders.Name":  func(s *HaproxySite, v string) { s.ProxyHeaders = []NginxHeader{{v, "x"}} },
		"ProxyHeaders.Value": func(s *HaproxySite, v string) { s.ProxyHeaders = []NginxHeader{{"X-A", v}} },
		"ErrorPage":          func(s *HaproxySite, v string) { s.ErrorPage = "/srv/" + v },
		"Socket":             func(s *HaproxySite, v string) { s.Socket = "/run/" + v },
	}
}

func TestEveryTextOfAHaproxySiteIsTried(t *testing.T) {
	t.Parallel()
	fields := haproxyFields()
	for f := range reflect.TypeFor[HaproxySite]().Fields() {
		tried := false
		for name := range fields {
			tried = tried || name == f.Name || strings.HasPrefix(name, f.Name+".")
		}
		if kind := f.Type.Kind(); (kind == reflect.String || kind == reflect.Struct || kind == reflect.Slice && f.Name != "Listen") && !tried {
			t.Errorf("nothing is put into %s", f.Name)
		}
	}
}

func haproxyEvil() []string {
	return []string{"", " ", "a b", "#", "a#b", `\`, `a\`, `\n`, `"`, `'`, `a"b`, `a'b`, `''`, `'\''`, `" deny "`, "$HOME", "${HOME}", `"${HOME}"`, "%", "%%", "%[src]", "%[env(HOME)]",
		"a\nhttp-request deny", "a\r\nx", "a\x00b", "\u2028", "\x1b[31m", "\xff", "{", "}", "if", "a if { always_true }", "or", "!", "||", ";", "`id`", "$(id)", "..", "../../x", "/", "-f", "--",
		".if", "global", "frontend x", "a,b", "a(b)", "~", "@1", "user root", strings.Repeat("x", 3000), strings.Repeat("'", 500), "é", "日本"}
}

// checkHaproxyWords reads a file back: it has the lines that the site has, word by word.
func checkHaproxyWords(t *testing.T, what string, site HaproxySite, file string) {
	t.Helper()
	got, err := readHaproxy(file)
	if err != nil {
		t.Fatalf("%s: %v\n%s", what, err, file)
	}
	stamp, ok := ReadStamp([]byte(file))
	if !ok || !stamp.Intact {
		t.Fatalf("%s: the stamp is lost\n%s", what, file)
	}
	var want [][]string
	for _, line := range site.lines(stamp.Mark) {
		want = append(want, line.Words)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// FuzzHaproxyHeader puts any text into a header's value: HAProxy takes the file, and its words are the site's.
// With GODEPLOY_FUZZ_HAPROXY each is given to haproxy -c too.
func FuzzHaproxyHeader(f *testing.F) {
	for _, evil := range haproxyEvil() {
		f.Add(evil)
	}
	f.Fuzz(func(t *testing.T, value string) {
		site := smallHaproxy()
		site.Headers, site.ProxyHeaders = []NginxHeader{{"X-A", value}}, []NginxHeader{{"X-B", value}}
		file, err := RenderHaproxy(site)
		if err != nil {
			return
		}
		checkHaproxyWords(t, value, site, string(file))
		if os.Getenv("GODEPLOY_FUZZ_HAPROXY") == "" {
			return
		}
		if out, err := haproxyTest(t, string(file)); err != nil || strings.Contains(out, "ALERT") {
			t.Errorf("%q: haproxy -c: %v: %s", value, err, out)
		}
	})
}

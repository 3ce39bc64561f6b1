package templates

import (
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

func server(name, address string, weight int) NginxServer {
	return NginxServer{Name: name, Address: netip.MustParseAddr(address), Port: 9000, Weight: weight, MaxFails: 3, FailTimeout: 10 * time.Second}
}

// smallSite is what an almost empty [nginx] gives.
func smallSite() NginxSite {
	return NginxSite{
		App: "swiper", Env: "prod",
		Upstream: NginxUpstream{Name: "swiper_servers", Method: "rr", Keepalive: 64, Servers: []NginxServer{
			server("app1", "10.0.0.1", 10), server("app2", "10.0.0.2", 20), server("app3", "10.0.0.3", 20), server("app4", "10.0.0.4", 20)}},
		Listen: []NginxListen{{Port: 80}}, BodySize: "20m",
		ConnectTimeout: 2 * time.Second, SendTimeout: time.Minute, ReadTimeout: time.Minute,
		AccessLog: "/var/log/nginx/godeploy-swiper.log", Locations: []NginxLocation{{Path: "/", Proxy: true}},
	}
}

// fullSite uses every key.
func fullSite() NginxSite {
	s := smallSite()
	s.Upstream.Method = "least_conn"
	s.Upstream.Servers[1].Warm, s.Upstream.Servers[2].Down, s.Upstream.Servers[3].Backup = 5, true, true
	s.Upstream.Servers[0].Address = netip.MustParseAddr("2001:db8::1")
	s.Listen = []NginxListen{{Port: 443}, {Address: netip.MustParseAddr("10.0.0.11"), Port: 8443}, {Address: netip.MustParseAddr("::"), Port: 443}}
	s.Names = []string{"swiper.example.com", "*.example.org", ".example.net"}
	s.Certificate, s.Key, s.Redirect = "/etc/ssl/swiper.pem", "/etc/ssl/private/swiper.key", 80
	s.Headers = []NginxHeader{{"Strict-Transport-Security", "max-age=31536000; includeSubDomains"}, {"X-Frame-Options", "DENY"}}
	s.ProxyHeaders = []NginxHeader{{"X-Quoted", `a "b" \c {d}`}}
	s.Gzip, s.ErrorPage, s.Maintenance = true, "/opt/swiper/pages/50x.html", "/var/www/maintenance.html"
	s.ConnectTimeout = 1500 * time.Millisecond
	s.Locations = []NginxLocation{
		{Path: "/statics/", Alias: "/opt/swiper/current/frontend/statics/", Expires: "30d", NoLog: true},
		{Path: "^~ /medias/", Root: "/srv/swiper", Expires: "7d"},
		{Path: "= /favicon.ico", Alias: "/srv/swiper/favicon.ico"},
		{Path: "/ws/", Proxy: true, WebSocket: true},
		{Path: "/", Proxy: true},
	}
	s.Main = NginxMain{ShutdownTimeout: 30 * time.Second, OpenFiles: 65535}
	return s
}

func TestRenderNginxIsWhatTheGoldenFilesSay(t *testing.T) {
	t.Parallel()
	for name, site := range map[string]NginxSite{"small": smallSite(), "full": fullSite()} {
		got, err := RenderNginx(site)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".conf", got)
	}
	main, err := RenderNginxMain(fullSite())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "main.conf", main)
	if main, err := RenderNginxMain(smallSite()); main != nil || err != nil {
		t.Errorf("a site without main lines gives %q, %v", main, err)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "nginx", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != string(got) {
		t.Errorf("%s differs (go test ./templates -update writes it): %v\n%s", name, err, got)
	}
}

// nginxTest runs nginx -t over lines of the main and of the http context, as any user: the ports must be
// high, and the addresses this machine's, for nginx tries to bind them.
func nginxTest(t *testing.T, main, http string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("nginx"); err != nil {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatal("nginx is not installed")
		}
		t.Skip("nginx is not installed")
	}
	dir := t.TempDir()
	http = strings.ReplaceAll(http, "/var/log/nginx/", dir+"/")
	files := map[string]string{
		"nginx.conf": "pid nginx.pid; error_log stderr;\n" + main + "events {}\nhttp {\n" +
			"client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n" +
			"access_log access.log;\ninclude site.conf;\n}\n",
		"site.conf": http,
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("nginx", "-t", "-q", "-p", dir, "-c", filepath.Join(dir, "nginx.conf")).CombinedOutput()
	return string(out), err
}

func TestRenderedFilesPassNginx(t *testing.T) {
	t.Parallel()
	full := fullSite()
	full.Certificate, full.Key = certificate(t)
	full.Redirect = 18080
	full.Listen = []NginxListen{{Port: 18443}, {Address: netip.MustParseAddr("127.0.0.1"), Port: 18444}}
	main, err := RenderNginxMain(full)
	if err != nil {
		t.Fatal(err)
	}
	sites := map[string]NginxSite{"small": smallSite(), "full": full}
	for _, method := range []string{"weight", "ip_hash", "random", "random two", "hash uri", "hash uri consistent", "hash addr", "hash host",
		"hash cookie_sessionid consistent", "hash header_x_user", "hash arg_id", "least_conn"} {
		s := smallSite()
		s.Upstream.Method = method
		s.Upstream.Servers[2].Down = true
		sites[method] = s
	}
	for name, site := range sites {
		if name != "full" {
			site.Listen = []NginxListen{{Port: 18080}}
		}
		file, err := RenderNginx(site)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if out, err := nginxTest(t, string(main), string(file)); err != nil || out != "" {
			t.Errorf("%s: nginx -t: %v: %s\n%s", name, err, out, file)
		}
	}
}

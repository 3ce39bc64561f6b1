package inventory

import (
	"strings"
	"testing"

	"godeploy/templates"
)

const haproxyFile = `version = 1
[app]
name = "swiper"
path = "/opt/swiper"
[process]
bind = "{{.Host.Address}}:9000"
[balancer]
kind = "haproxy"
%s
[env.prod.hosts]
lb1 = { role = "haproxy", address = "192.0.2.11" }
app1 = { role = "app", address = "10.0.0.1", weight = 10 }
app2 = { role = "app", address = "10.0.0.2", weight = 20, backup = true }
`

func TestHaproxySiteHasTheHosts(t *testing.T) {
	t.Parallel()
	env, err := mustParse(t, strings.Replace(haproxyFile, "%s", "method = \"ip_hash\"\nlisten = \"8080\"", 1)).Env("prod")
	if err != nil {
		t.Fatal(err)
	}
	site, err := env.HaproxySite()
	if err != nil || len(site.Upstream.Servers) != 2 || !site.Upstream.Servers[1].Backup || site.Upstream.Servers[0].MaxFails != 3 || site.Listen[0].Port != 8080 {
		t.Fatalf("got %+v, %v", site, err)
	}
	if site.Socket != "/run/haproxy/godeploy-swiper.sock" || site.Upstream.Name != "swiper_servers" || !site.Whole {
		t.Errorf("the defaults are %+v", site)
	}
	if env.Drains() != "haproxy" || len(env.FrontHosts()) != 1 || env.BalancerTitle() != "HAProxy" {
		t.Errorf("got %q, %v", env.Drains(), env.FrontHosts())
	}
	if file, err := templates.RenderHaproxy(site); err != nil || !strings.Contains(string(file), "balance source\n    hash-type consistent\n") {
		t.Errorf("got %s, %v", file, err)
	}
}

// What HAProxy would refuse, or cannot do, is refused with its place when the file is read.
func TestHaproxyKeysAreRefusedWithTheirPlace(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		`redirect = 80`:                    "redirect needs a certificate",
		`listen = "80,80"`:                 "listen names port 80 twice",
		`method = "first"`:                 "method must be",
		`socket = "relative"`:              "socket must be",
		`headers = ["X-A: $HOME"]`:         "must not hold a $",
		`proxy_headers = ["X-Real-IP: 1"]`: "must not set X-Real-IP",
		"[release]\ngate = \"p95 < 1.5x\"": "gate has a goal for p95, which HAProxy does not count",
		"[release]\ndrain = \"nginx\"":     "drain is \"nginx\", and the balancer is HAProxy",
	} {
		_, err := Parse("godeploy.toml", []byte(strings.Replace(haproxyFile, "%s", line, 1)), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
	src := strings.Replace(strings.Replace(haproxyFile, "%s", "", 1), `kind = "haproxy"`, "[release]\ndrain = \"haproxy\"", 1)
	if _, err := Parse("godeploy.toml", []byte(src), nil); err == nil || !strings.Contains(err.Error(), "the balancer is nginx") {
		t.Errorf("drain without the kind: %v", err)
	}
}

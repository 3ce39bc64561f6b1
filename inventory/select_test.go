package inventory

import (
	"strings"
	"testing"

	"godeploy/internal/fault"
)

func TestSelect(t *testing.T) {
	t.Parallel()
	e := mustEnv(t, loadFull(t), "prod")
	for _, c := range []struct{ limit, want string }{
		{"", "ngx1 ngx2 app1 app2 app3 app4"},
		{"app3", "app3"},
		{"app4,app1", "app1 app4"},
		{"app1|app1", "app1"},
		{"app1|ngx2", "ngx2 app1"},
		{"app*", "app1 app2 app3 app4"},
		{"app[12]", "app1 app2"},
		{"role:app", "app1 app2 app3 app4"},
		{"role:a*", "app1 app2 app3 app4"},
		{"tag:big, ngx1", "ngx1 app4"},
		{"!app3", "ngx1 ngx2 app1 app2 app4"},
		{"role:app,!app3", "app1 app2 app4"},
		{"role:app|!tag:big", "app1 app2 app3"},
		{"@failed", "app2 app4"},
		{"role:app,!@failed", "app1 app3"},
	} {
		var patterns []string
		if c.limit != "" {
			patterns = strings.Split(c.limit, "|")
		}
		hosts, err := e.Select(patterns, []string{"app4", "gone", "app2"})
		var got []string
		for _, h := range hosts {
			got = append(got, h.Name)
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%q: got %v, %v, want %s", c.limit, got, err, c.want)
		}
	}
}

func TestSelectRefuses(t *testing.T) {
	t.Parallel()
	e := mustEnv(t, loadFull(t), "prod")
	for _, c := range []struct {
		limit string
		code  fault.Code
		text  string
	}{
		{"ap1", fault.HostUnknown, `prod has no host "ap1" (has: app1`},
		{"app1,web9", fault.HostUnknown, `"web9"`},
		{"!app9", fault.HostUnknown, `"app9"`},
		{"web*", fault.LimitEmpty, `matches "web*"`},
		{"role:web", fault.LimitEmpty, `role "web" (has: app, nginx)`},
		{"tag:small", fault.LimitEmpty, `tag "small" (has: big)`},
		{"@failed", fault.LimitEmpty, "failed in the last run"},
		{"!ngx*,!app*", fault.LimitEmpty, "leaves no host of prod"},
		{"app1,!app1", fault.Usage, "both"},
		{"app1,!role:app", fault.Usage, `names app1 and leaves it out by "!role:app"`},
		{"role:app,!role:app", fault.Usage, "both"},
		{"group:x", fault.Usage, `unknown word "group:"`},
		{"@all", fault.Usage, `unknown word "@all"`},
		{"", fault.Usage, "empty pattern"},
		{"app1,", fault.Usage, "empty pattern"},
		{"!", fault.Usage, "empty pattern"},
		{"app[", fault.Usage, "malformed"},
	} {
		hosts, err := e.Select([]string{c.limit}, nil)
		all := fault.All(err)
		if hosts != nil || len(all) != 1 || all[0].Code != c.code || !strings.Contains(all[0].Msg, c.text) {
			t.Errorf("%q: got %v, %v, want %s with %q", c.limit, hosts, err, c.code, c.text)
		}
	}
}

func TestReleaseHostsStartWithTheCanary(t *testing.T) {
	t.Parallel()
	e := mustEnv(t, mustParse(t, head+"[release]\nstrategy = \"canary\"\ncanary = \"b\"\nroles = [\"app\", \"web\"]\n[env.p.hosts]\na = { role = \"web\" }\nn = { role = \"nginx\" }\nb = { roles = [\"x\", \"app\"] }\nc = { role = \"app\" }\n"), "")
	if got := hostOrder(e.ReleaseHosts()); got != "b a c" {
		t.Errorf("got %s, want b a c", got)
	}
	if v := e.View(nil); len(v.Hosts) != 4 || v.Hosts[1].Jump == nil || v.Hosts[1].Line != 10 {
		t.Errorf("view: got %+v", v)
	}
}

func hostOrder(hosts []Host) string {
	var names []string
	for _, h := range hosts {
		names = append(names, h.Name)
	}
	return strings.Join(names, " ")
}

func TestWaveSize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lines string
		total int
		want  int
	}{
		{`batch = "1"`, 10, 1},
		{`batch = "25%"`, 10, 2},
		{`batch = "25%"`, 3, 1},
		{`batch = "100%"`, 4, 4},
		{`batch = 9`, 4, 4},
		{"batch = 9\nmax_unavailable = \"50%\"", 4, 2},
		{"batch = \"1\"\nmax_unavailable = \"50%\"", 4, 1},
		{`strategy = "all"`, 7, 7},
		{`batch = [2, "100%"]`, 7, 2},
	} {
		r := mustEnv(t, mustParse(t, withKey("release", c.lines)), "").Release
		if got := r.WaveSize(c.total); got != c.want {
			t.Errorf("%q of %d: got %d, want %d", c.lines, c.total, got, c.want)
		}
	}
}

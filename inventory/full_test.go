package inventory

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"godeploy/internal/fault"
)

func loadFull(t *testing.T) *File {
	t.Helper()
	f, err := Load("testdata/full.toml")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFullFileLoads(t *testing.T) {
	t.Parallel()
	f := loadFull(t)
	if got, want := f.EnvNames(), []string{"prod", "staging"}; !cmp.Equal(got, want) {
		t.Errorf("environments: got %v, want %v", got, want)
	}
	if got := f.DefaultEnv(); got != "prod" {
		t.Errorf("default environment: got %q, want prod", got)
	}
	e := mustEnv(t, f, "")
	if e.Name != "prod" || !e.Confirm || e.Branch != "master" || !e.SSH.Sudo || e.Release.Strategy != "canary" {
		t.Errorf("prod is not as the file has it: %+v", e)
	}
	if e.Health.Interval != time.Second || !e.Health.Status.Has(204) || e.Health.Status.Has(301) {
		t.Errorf("health: got %+v", e.Health)
	}
	if got := e.Process.Workers.Of(4); got != 9 {
		t.Errorf("workers on 4 CPUs: got %d, want 9", got)
	}
	if e.Tune.Limits["nofile"] != 65535 || e.Tune.Sysctl["net.core.somaxconn"] != "4096" || e.Role["db"].Tune.Sysctl["vm.swappiness"] != "1" {
		t.Errorf("tune: got %+v, role db %+v", e.Tune, e.Role["db"])
	}
	if len(e.Nginx.Location) != 3 || e.Nginx.Location[0].AccessLog || !e.Nginx.Location[1].AccessLog {
		t.Errorf("locations: got %+v", e.Nginx.Location)
	}
	staging := mustEnv(t, f, "staging")
	if staging.Confirm || staging.SSH.Sudo || staging.Release.Strategy != "rolling" {
		t.Errorf("staging took something from prod: %+v", staging)
	}
}

func TestHostsKeepTheOrderOfTheFile(t *testing.T) {
	t.Parallel()
	e := mustEnv(t, loadFull(t), "prod")
	var got []string
	for _, h := range e.Hosts {
		got = append(got, h.Name)
	}
	if want := []string{"ngx1", "ngx2", "app1", "app2", "app3", "app4"}; !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	want := Host{
		Name: "app4", Address: "10.0.0.4", Roles: []string{"app"}, Weight: 20, Tags: []string{"big"}, Port: 22, AnyPort: true, User: "deploy",
		Jump: [][]string{{"ngx1"}, {"ngx2"}},
		Pos:  fault.Pos{File: "testdata/full.toml", Line: 181, Col: 1, Key: "[env.prod.hosts] app4"},
	}
	if diff := cmp.Diff(want, e.Hosts[5]); diff != "" {
		t.Errorf("app4 (-want +got):\n%s", diff)
	}
	if len(e.Hosts[0].Jump) != 0 {
		t.Errorf("ngx1 has a jump: %v", e.Hosts[0].Jump)
	}
	reversed := mustEnv(t, mustParse(t, head+"[env.prod.hosts.zz]\naddress = \"10.0.0.1\"\n[env.prod.hosts]\naa.address = \"10.0.0.2\"\nmm = {}\n"), "")
	if names := reversed.Hosts[0].Name + reversed.Hosts[1].Name + reversed.Hosts[2].Name; names != "zzaamm" {
		t.Errorf("hosts written in three ways: got %s, want zz, aa, mm", names)
	}
}

func TestSmallestFileIsShortAndLoads(t *testing.T) {
	t.Parallel()
	const path = "../examples/godeploy.toml"
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(src), "\n"); n >= 15 {
		t.Errorf("the smallest file has %d lines, want fewer than 15", n)
	}
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	e := mustEnv(t, f, "")
	if got := len(e.ReleaseHosts()); got != 2 {
		t.Errorf("got %d hosts to release to, want 2", got)
	}
	if got := f.NotBuilt(""); len(got) != 0 {
		t.Errorf("the smallest file asks for what is not built: %v", got)
	}
	if got := f.Findings(""); len(got) != 0 {
		t.Errorf("the smallest file has findings: %v", got)
	}
}

func TestEnvironmentInAFileOfItsOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "godeploy.toml"), head+"[env.dev.hosts]\nbox = { role = \"app\" }\n")
	write(t, filepath.Join(dir, "godeploy.prod.toml"), "confirm = true\n[release]\nbatch = 2\n[hosts]\napp1 = { address = \"10.0.0.1\", wieght = 2 }\n")
	_, err := Load(filepath.Join(dir, "godeploy.toml"))
	all := fault.All(err)
	if len(all) != 1 || all[0].Code != fault.ConfigUnknownKey || filepath.Base(all[0].Pos.File) != "godeploy.prod.toml" || all[0].Pos.Line != 5 || all[0].Pos.Col != 32 {
		t.Fatalf("got %v at %v, want the unknown key at godeploy.prod.toml:5:32", err, all)
	}
	write(t, filepath.Join(dir, "godeploy.prod.toml"), "confirm = true\n[release]\nbatch = 2\n[hosts]\napp1 = { role = \"app\" }\n")
	f, err := Load(filepath.Join(dir, "godeploy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	e := mustEnv(t, f, "prod")
	if !e.Confirm || e.Release.WaveSize(5) != 2 || len(e.Hosts) != 1 || mustEnv(t, f, "dev").Release.WaveSize(5) != 1 {
		t.Errorf("got %+v", e)
	}
	if got := f.Origin("prod", "release.batch"); filepath.Base(got.File) != "godeploy.prod.toml" || got.Line != 3 {
		t.Errorf("origin of the batch: got %v", got)
	}
	write(t, filepath.Join(dir, "godeploy.dev.toml"), "[hosts]\nbox = {}\n")
	if _, err := Load(filepath.Join(dir, "godeploy.toml")); err == nil || !strings.Contains(err.Error(), `environment "dev" stands in`) {
		t.Errorf("an environment in two places: got %v, want an error", err)
	}
}

func TestFindGoesUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(dir, "godeploy.toml")
	write(t, want, head)
	if got, err := Find(deep); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if err := os.Remove(want); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(deep); !fault.Is(err, fault.ConfigMissing) {
		t.Errorf("without a file: got %v, want %s", err, fault.ConfigMissing)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOverlays(t *testing.T) {
	t.Parallel()
	f := mustParse(t, head+`
[sync]
exclude = ["a"]
exclude_add = ["z"]
[release]
batch = "2"
roles = ["app", "web"]
[tune.sysctl]
"vm.a" = 1
"vm.b" = 2
[env.prod.sync]
exclude_add = ["b"]
[env.prod.release]
roles = ["web"]
[env.prod.tune.sysctl]
"vm.b" = 3
[env.prod.hosts]
w = { role = "web", address = "10.0.0.1" }
[env.dev.sync]
exclude = ["c"]
[env.dev.hosts]
d = { role = "app", address = "10.0.0.2" }
`)
	prod, dev := mustEnv(t, f, "prod"), mustEnv(t, f, "dev")
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"excludes are added to", prod.Sync.Excludes(), []string{"a", "z", "b"}},
		{"excludes are replaced", dev.Sync.Excludes(), []string{"c", "z"}},
		{"lists are replaced", prod.Release.Roles, []string{"web"}},
		{"other environments keep theirs", dev.Release.Roles, []string{"app", "web"}},
		{"scalars of the top stay", prod.Release.Batch, Batch{{N: 2}}},
		{"tables are merged", prod.Tune.Sysctl, map[string]Sysctl{"vm.a": "1", "vm.b": "3"}},
		{"and not into each other", dev.Tune.Sysctl, map[string]Sysctl{"vm.a": "1", "vm.b": "2"}},
		{"origin of the environment", f.Origin("prod", "release.roles").Line, 17},
		{"origin of the top", f.Origin("dev", "release.roles").Line, 10},
		{"origin of a quoted key", f.Origin("prod", `tune.sysctl."vm.b"`).Line, 19},
		{"origin of a default", f.Origin("prod", "release.drain").Line, 0},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}

func TestUnknownEnvironmentNamesThoseThatExist(t *testing.T) {
	t.Parallel()
	f := loadFull(t)
	_, err := f.Env("prd")
	all := fault.All(err)
	if len(all) != 1 || all[0].Code != fault.EnvUnknown || !strings.Contains(all[0].Msg, "prod, staging") || all[0].Cause != `did you mean "prod"?` {
		t.Errorf("got %+v", all)
	}
	two := mustParse(t, head+"[env.a.hosts]\nx = {}\n[env.b.hosts]\ny = {}\n")
	if _, err := two.Env(""); !fault.Is(err, fault.EnvUnknown) {
		t.Errorf("no name among two: got %v, want %s", err, fault.EnvUnknown)
	}
}

func TestHostTakesFromRoleAndSSH(t *testing.T) {
	t.Parallel()
	e := mustEnv(t, mustParse(t, head+`
[ssh]
user = "all"
port = 2200
[env.prod.role.app]
user = "apps"
jump = ["gate", "gate2,inner"]
[env.prod.hosts]
gate = { address = "Gate.Example.COM." }
gate2 = { address = "[2001:DB8::1]", roles = ["app", "nginx"] }
inner = { user = "me", port = 22 }
a = { role = "app" }
b = { role = "app", user = "own", port = 7, jump = [] }
c = { role = "app", jump = "inner" }
`), "")
	type row struct {
		Address, User string
		Port          int
		Jump          [][]string
	}
	want := map[string]row{
		"gate":  {"gate.example.com", "all", 2200, nil},
		"gate2": {"2001:db8::1", "apps", 2200, nil}, // one of the hops of its own role
		"inner": {"inner", "me", 22, nil},
		"a":     {"a", "apps", 2200, [][]string{{"gate"}, {"gate2", "inner"}}},
		"b":     {"b", "own", 7, nil},
		"c":     {"c", "apps", 2200, [][]string{{"inner"}}},
	}
	for _, h := range e.Hosts {
		if diff := cmp.Diff(want[h.Name], row{h.Address, h.User, h.Port, h.Jump}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", h.Name, diff)
		}
	}
}

func TestRenderFillsInTheHost(t *testing.T) {
	t.Parallel()
	e := mustEnv(t, mustParse(t, head+"[process]\nbind = \"{{.Host.Address}}:9000\"\ncommand = \"run {{.App.Current}} {{.Release.Path}} $HOME\"\n[env.prod.hosts]\na = { address = \"::1\", role = \"app\" }\n"), "")
	h := e.Hosts[0]
	for _, c := range []struct{ text, want string }{
		{e.Process.Bind, "[::1]:9000"},
		{e.Process.Command, "run /opt/swiper/current /opt/swiper/releases/R1 $HOME"},
	} {
		if got, err := e.Render("x", c.text, h, "R1"); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.text, got, err, c.want)
		}
	}
}

package setup

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"godeploy/internal/fault"
	"godeploy/inventory"
)

func envOf(t *testing.T, more string) *inventory.Env {
	t.Helper()
	file, err := inventory.Parse("godeploy.toml", []byte(`[app]
name = "shop"
path = "/opt/shop"
owner = "web:www"
[shared]
dirs = ["logs", "media/big", ".venv"]
files = ["conf/.env"]
[process]
command = "gunicorn shop.wsgi"
`+more+`
[env.prod.hosts]
a = { role = "app", address = "10.0.0.1" }
n = { role = "nginx", address = "10.0.0.2" }
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := file.Env("prod")
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// bare is a Debian on which root logs in, with nothing on it.
func bare() Have {
	return Have{Login: "root", Root: true, OS: "debian", CPUs: 2, Users: map[string]bool{}, UserGrp: map[string]string{}, Groups: map[string]bool{},
		Programs: map[string]bool{"apt-get": true, "useradd": true, "groupadd": true, "systemctl": true, "python3": true},
		Paths:    map[string]Stat{}, Packages: map[string]bool{}, Files: map[string]string{}, Unit: map[string]string{"LoadState": "not-found"}}
}

func told(p Plan) []string {
	var all []string
	for _, s := range p.Steps {
		all = append(all, fmt.Sprintf("%s %s: %s -> %s", s.Group, s.What, s.Before, s.After))
	}
	return all
}

// done is the host after a plan, as far as the tests look at it.
func done(h Have, p Plan) Have {
	h.Users, h.Groups, h.UserGrp = map[string]bool{"web": true}, map[string]bool{"www": true}, map[string]string{"web": "www"}
	h.Paths, h.Files, h.Packages = maps.Clone(h.Paths), maps.Clone(h.Files), maps.Clone(h.Packages)
	for _, s := range p.Steps {
		switch s.Group {
		case Dirs:
			h.Paths[s.What] = Stat{"directory", 0o755, "web", "www"}
		case Venv:
			h.Paths[s.What+"/bin/python3"] = Stat{"symbolic link", 0o777, "web", "www"}
		case Packages:
			for _, name := range strings.Fields(s.What) {
				h.Packages[name] = true
			}
		case Unit:
			for _, c := range s.run {
				if c.file != nil {
					h.Files[c.file.Path] = c.file.Text
				}
			}
			h.Unit = map[string]string{"LoadState": "loaded", "UnitFileState": "enabled", "FragmentPath": "/etc/systemd/system/shop.service"}
		}
	}
	return h
}

func plan(t *testing.T, w Want, h Have) Plan {
	t.Helper()
	p, err := Decide(w, h, Groups())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestABareHostIsMadeReadyAndASecondRunDoesNothing(t *testing.T) {
	t.Parallel()
	env := envOf(t, "[setup]\npackages = [\"gunicorn\", \"curl\"]\nvenv = \".venv\"")
	w := WantOf(env, env.Hosts[0])
	p := plan(t, w, bare())
	want := []string{
		"packages gunicorn curl:  -> installed by apt-get",
		"users group www:  -> made",
		"users user web:  -> made",
		"dirs /opt/shop:  -> 0755 web:www",
		"dirs /opt/shop/releases:  -> 0755 web:www",
		"dirs /opt/shop/shared:  -> 0755 web:www",
		"dirs /opt/shop/shared/logs:  -> 0755 web:www",
		"dirs /opt/shop/shared/media:  -> 0755 web:www",
		"dirs /opt/shop/shared/media/big:  -> 0755 web:www",
		"dirs /opt/shop/shared/conf:  -> 0755 web:www",
		"venv /opt/shop/shared/.venv:  -> made by python3 -m venv",
		"unit /etc/systemd/system/shop.service:  -> written",
		"unit /etc/godeploy/shop.gunicorn.py:  -> written",
		"unit shop.service: none -> enabled",
	}
	if d := cmp.Diff(want, told(p)); d != "" {
		t.Error(d)
	}
	if len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "/opt/shop/shared/conf/.env is missing") {
		t.Errorf("notes are %q", p.Notes)
	}
	if again := plan(t, w, done(bare(), p)); len(again.Steps) != 0 {
		t.Errorf("a second run would do %q", told(again))
	}
}

func TestInstallersAndAccountsOfEachSystem(t *testing.T) {
	t.Parallel()
	env := envOf(t, "[setup]\npackages = [\"nginx\"]")
	w := WantOf(env, env.Hosts[0])
	for tools, want := range map[string]string{
		"apt-get useradd groupadd": "/bin/sh -c " + aptScript + " apt-get install nginx\n" +
			"groupadd --system -- www\nuseradd --system --home-dir /opt/shop --no-create-home --shell /usr/sbin/nologin --gid www -- web",
		"dnf useradd groupadd": "dnf -y -q install -- nginx\n" +
			"groupadd --system -- www\nuseradd --system --home-dir /opt/shop --no-create-home --shell /usr/sbin/nologin --gid www -- web",
		"apk adduser addgroup": "apk add --no-progress -- nginx\n" +
			"addgroup -S www\nadduser -S -D -H -h /opt/shop -s /sbin/nologin -G www web",
	} {
		h := bare()
		h.Programs = map[string]bool{}
		for _, name := range strings.Fields(tools) {
			h.Programs[name] = true
		}
		p, err := Decide(w, h, []string{Packages, Users})
		var got []string
		for _, s := range p.Steps {
			for _, c := range s.run {
				got = append(got, strings.Join(c.argv, " "))
			}
		}
		if strings.Join(got, "\n") != want || err != nil {
			t.Errorf("%s: got\n%s, %v\nwant\n%s", tools, strings.Join(got, "\n"), err, want)
		}
	}
	h := bare()
	h.Programs = nil
	if _, err := Decide(w, h, []string{Packages}); !fault.Is(err, fault.RemoteToolMissing) {
		t.Errorf("without a package manager: %v", err)
	}
}

func TestWhatIsSomebodysOwnStays(t *testing.T) {
	t.Parallel()
	env := envOf(t, "")
	w := WantOf(env, env.Hosts[0])
	ready := done(bare(), plan(t, w, bare()))
	for name, tt := range map[string]struct {
		change func(*Have)
		steps  []string
		note   string
		code   fault.Code
	}{
		"a unit of one's own": {func(h *Have) { h.Files["/etc/systemd/system/shop.service"] = "[Service]\n" }, nil, "shop.service is your own", ""},
		"a configuration of one's own": {func(h *Have) { h.Files["/etc/godeploy/shop.gunicorn.py"] = "workers = 1\n" }, nil,
			"/etc/godeploy/shop.gunicorn.py is your own", ""},
		"an old unit of ours": {func(h *Have) {
			h.Files["/etc/systemd/system/shop.service"] = "# Written by godeploy\n"
		}, []string{"unit /etc/systemd/system/shop.service: another text -> written anew", "unit shop.service: enabled -> enabled"}, "", ""},
		"a disk at a shared folder": {func(h *Have) { h.Paths["/opt/shop/shared/logs"] = Stat{"symbolic link", 0o777, "root", "root"} }, nil, "", ""},
		"a link at releases":        {func(h *Have) { h.Paths["/opt/shop/releases"] = Stat{"symbolic link", 0o777, "root", "root"} }, nil, "", fault.LayoutRefused},
		"a narrower mode":           {func(h *Have) { h.Paths["/opt/shop"] = Stat{"directory", 0o750, "web", "www"} }, nil, "", ""},
		"open to everybody": {func(h *Have) { h.Paths["/opt/shop"] = Stat{"directory", 0o777, "web", "www"} },
			[]string{"dirs /opt/shop: 0777 -> 0755"}, "", ""},
		"another's folder": {func(h *Have) { h.Paths["/opt/shop/shared/logs"] = Stat{"directory", 0o755, "root", "root"} },
			[]string{"dirs /opt/shop/shared/logs: 0755 root:root -> 0755 web:www"}, "", ""},
		"a secret that all can read": {func(h *Have) { h.Paths["/opt/shop/shared/conf/.env"] = Stat{"regular file", 0o644, "web", "www"} }, nil, "can be read by everybody", ""},
	} {
		h := ready
		h.Paths, h.Files = maps.Clone(ready.Paths), maps.Clone(ready.Files)
		tt.change(&h)
		p, err := Decide(w, h, Groups())
		if tt.code != "" {
			if !fault.Is(err, tt.code) {
				t.Errorf("%s: got %v, want %s", name, err, tt.code)
			}
			continue
		}
		noted := tt.note == "" || slices.ContainsFunc(p.Notes, func(n string) bool { return strings.Contains(n, tt.note) })
		if d := cmp.Diff(tt.steps, told(p)); d != "" || err != nil || !noted {
			t.Errorf("%s: %v, notes %q\n%s", name, err, p.Notes, d)
		}
	}
}

func TestHostsOfOtherRolesAreOnlyLookedAt(t *testing.T) {
	t.Parallel()
	env := envOf(t, "")
	p := plan(t, WantOf(env, env.Hosts[1]), bare())
	if len(p.Steps) != 0 || len(p.Notes) != 1 || !strings.HasPrefix(p.Notes[0], "nginx is not there") {
		t.Errorf("got steps %q, notes %q", told(p), p.Notes)
	}
}

// A login that is not root keeps what it writes itself; what the app writes is the app's.
func TestFoldersOfALoginThatIsNotRoot(t *testing.T) {
	t.Parallel()
	env := envOf(t, "")
	h := bare()
	h.Login, h.Root = "deploy", false
	p, err := Decide(WantOf(env, env.Hosts[0]), h, []string{Dirs})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range p.Steps {
		got[s.What] = s.After
	}
	if got["/opt/shop/releases"] != "0755 deploy:www" || got["/opt/shop/shared/logs"] != "0755 web:www" {
		t.Errorf("got %v", got)
	}
}

// What a host says may be anything.
func FuzzParse(f *testing.F) {
	text, err := os.ReadFile("testdata/look.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("path /a 999 b\npath /a 755 u g directory\nfile\n| x\nunit a\ncpus -1\nuser\n")
	env, err := inventory.Parse("godeploy.toml", []byte("[app]\nname=\"shop\"\npath=\"/opt/shop\"\n[env.prod.hosts]\na={role=\"app\"}\n"), nil)
	if err != nil {
		f.Fatal(err)
	}
	e, err := env.Env("prod")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, out string) {
		_, _ = Decide(WantOf(e, e.Hosts[0]), parse(out), Groups()) // an error is an answer too
	})
}

func TestParseReadsWhatARealHostSaid(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/look.txt")
	if err != nil {
		t.Fatal(err)
	}
	h := parse(string(text))
	if h.OS != "debian" || h.CPUs < 1 || !h.Programs["apt-get"] || !h.Users["root"] || h.UserGrp["root"] != "root" || !h.Groups["daemon"] ||
		h.Paths["/etc"] != (Stat{"directory", 0o755, "root", "root"}) || !h.Packages["bash"] || h.Packages["nosuch"] ||
		!strings.Contains(h.Files["/etc/os-release"], "ID=debian\n") || h.Users["nosuch"] || len(h.Paths) != 1 {
		t.Errorf("read as %+v", h)
	}
}

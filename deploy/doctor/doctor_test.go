package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"godeploy/deploy"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

const file = `version = 1
[app]
name = "swiper"
path = "%s"
owner = "app"
[shared]
dirs = [".venv", "logs"]
files = [".env"]
[process]
unit = "swiper.service"
bind = "127.0.0.1:9000"
[hooks]
release = [".venv/bin/pip install -r requirements.txt"]
[health]
url = "http://127.0.0.1:9000/healthz"
[nginx]
names = ["www.example.com", "*.example.com"]
[env.prod.ssh]
user = "deploy"
sudo = true
[env.prod.hosts]
ngx1 = { role = "nginx", address = "203.0.113.1" }
ngx2 = { role = "nginx", address = "ngx2.example.com" }
app1 = { role = "app", address = "10.0.0.1", jump = ["ngx1"] }
app2 = { role = "app", address = "10.0.0.2", jump = ["ngx1"] }
`

func envOf(t *testing.T, path string) *inventory.Env {
	t.Helper()
	f, err := inventory.Parse("godeploy.toml", []byte(fmt.Sprintf(file, path)), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := f.Env("prod")
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func hostOf(t *testing.T, env *inventory.Env, name string) inventory.Host {
	t.Helper()
	h, ok := env.Host(name)
	if !ok {
		t.Fatalf("no host %s", name)
	}
	return h
}

// well is a host on which nothing is wrong.
func well(t *testing.T, name string) Asked {
	env := envOf(t, "/opt/swiper")
	began := time.Unix(1_800_000_000, 0)
	return Asked{Env: env, Host: hostOf(t, env, name), Began: began, Ended: began.Add(time.Second), Who: "ops@laptop", Facts: Read([]byte(
		"now\t1800000000\nuser\tdeploy\nuid\t1000\nkernel\tLinux x86_64\n" +
			"disk\t/dev/sda 1 41152736 9000000 30000000 24% /\nnodes\t/dev/sda 1 2621440 100000 2521440 4% /\n" +
			"writable\t/opt/swiper\npath\tfolder\ncurrent\treleases/20260101-000000-0000000\n" +
			"audit\t" + `{"t":"2026-01-01T00:00:00Z","run":"20260101-000000","by":"ops@laptop","command":"release","outcome":"ok","verdict":"done","ms":1}` + "\n" +
			"unit\tLoadState=loaded\nunit\tActiveState=active\nunit\tSubState=running\nunit\tUnitFileState=enabled\nunit\tNeedDaemonReload=no\nunit\tNRestarts=0\n" +
			"unit\tExecStart={ path=/usr/bin/gunicorn ; argv[]=/usr/bin/gunicorn --chdir /opt/swiper/current swiper.wsgi ; ignore_errors=no }\n" +
			"unit\tLimitNOFILESoft=1024\nsomaxconn\t4096\nlistened\tyes\nlisten\t2328\nnginx\tok\nend\tyes\n"))}
}

func TestAHostThatIsWellHasNoFindings(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"app1", "ngx1"} {
		if got := Judge(well(t, name)); len(got) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := Fleet([]Asked{well(t, "ngx1"), well(t, "app1"), well(t, "app2")}); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// trouble is what one thing that is wrong comes to.
type trouble struct {
	name, host, topic string
	wrong             func(*Asked)
	msg               string
	command           string // "" for a person's hands
	note              bool
}

func troubles() []trouble {
	set := func(key, value string) func(*Asked) { return func(a *Asked) { a.Unit[key] = value } }
	return []trouble{
		{"no shell", "app1", "ssh", func(a *Asked) { a.Complete = false }, "does not run commands", "", false},
		{"denied", "app1", "sudo", func(a *Asked) { a.Denied = []string{"root /usr/bin/systemctl start swiper.service"} }, "may not run 1 command", "", false},
		{"no sudo", "app1", "sudo", func(a *Asked) { a.NoSudo = true }, "sudo is not installed", "", false},
		{"sudo not set", "app1", "sudo", func(a *Asked) { a.Env.SSH.Sudo = false }, "deploy is not root, and sudo is not set", "", false},
		{"disk", "ngx1", "disk", func(a *Asked) { a.Disk.Free = 300 << 10 }, "314.6 MB free", "", false},
		{"disk share", "app1", "disk", func(a *Asked) { a.Disk.Free = a.Disk.Total / 30 }, "free of", "", false},
		{"inodes", "app1", "inodes", func(a *Asked) { a.Nodes.Free = 1000 }, "1,000 inodes free of 2,621,440", "", false},
		{"behind", "app1", "clock", func(a *Asked) { a.Now -= 90 }, "the clock is 1m30s behind", "", false},
		{"ahead", "ngx1", "clock", func(a *Asked) { a.Now += 61 }, "the clock is 1m0s ahead", "", false},
		{"not writable", "app1", "layout", func(a *Asked) { a.Unwritable = "/opt/swiper" }, "deploy cannot write", "", false},
		{"not there", "app1", "layout", func(a *Asked) { a.Path, a.Unwritable = false, "/opt" }, "is not there", "setup prod -l app1", false},
		{"a folder", "app1", "layout", func(a *Asked) { a.NoLink = true }, "is no link", "", false},
		{"dangling", "app1", "layout", func(a *Asked) { a.Dangling = true }, "20260101-000000-0000000, which is not there", "", false},
		{"shared file", "app1", "layout", func(a *Asked) { a.LacksFiles = []string{"/opt/swiper/shared/.env"} }, ".env is missing", "", false},
		{"program", "app1", "python", func(a *Asked) { a.LacksPrograms = []string{"python3"} }, "python3 is not there", "", false},
		{"venv", "app1", "python", func(a *Asked) { a.BrokenVenvs = []string{"/opt/swiper/shared/.venv"} }, "not there any more", "", false},
		{"no systemd", "app1", "unit", func(a *Asked) { a.NoSystemd = true }, "no systemd", "", false},
		{"no unit", "app1", "unit", set("LoadState", "not-found"), "swiper.service is not-found", "setup prod -l app1", false},
		{"down", "app1", "unit", set("ActiveState", "failed"), "swiper.service is failed", "start prod -l app1", false},
		{"reload", "app1", "unit", set("NeedDaemonReload", "yes"), "has changed", "", false},
		{"disabled", "app1", "unit", set("UnitFileState", "disabled"), "does not start with the machine", "", false},
		{"restarts", "app1", "unit", set("NRestarts", "7"), "7 times", "", true},
		{"stray", "app1", "unit", func(a *Asked) { a.Show = strings.ReplaceAll(a.Show, "/current", "/releases/x") }, "can never serve a release", "", false},
		{"port", "app1", "ports", func(a *Asked) { a.Listening = map[int]bool{22: true} }, "nobody listens on port 9000", "", false},
		{"files", "app1", "limits", set("LimitNOFILESoft", "256"), "256 files", "tune prod -l app1", false},
		{"backlog", "app1", "limits", func(a *Asked) { a.Somaxconn = 128 }, "holds 128 waiting connections", "tune prod -l app1", false},
		{"nginx", "ngx1", "nginx", func(a *Asked) { a.Nginx, a.NginxSaid = "bad", []string{"unknown directive"} }, "not content", "", false},
		{"no nginx", "ngx1", "nginx", func(a *Asked) { a.Nginx = "none" }, "not installed", "setup prod -l ngx1", false},
		{"other", "app1", "others", func(a *Asked) { a.Who = "kim@desk" }, "the last change was release by ops@laptop", "", true},
		{"frozen", "app1", "others", func(a *Asked) { a.Freeze = wire.ReadFreeze([]byte("audit until Friday")) }, "frozen by somebody: audit until Friday", "", false},
	}
}

func TestEachTroubleIsFoundAndHasAFix(t *testing.T) {
	t.Parallel()
	for _, tt := range troubles() {
		a := well(t, tt.host)
		tt.wrong(&a)
		got := Judge(a)
		i := slices.IndexFunc(got, func(f Finding) bool { return f.Topic == tt.topic && strings.Contains(f.Msg, tt.msg) })
		if i < 0 {
			t.Errorf("%s: found %+v", tt.name, got)
			continue
		}
		if f := got[i]; f.Fix == "" || f.Note != tt.note || strings.Join(f.Command, " ") != tt.command || f.Host != tt.host || !slices.Contains(Topics(), f.Topic) {
			t.Errorf("%s: %+v", tt.name, f)
		}
	}
}

func TestAPortThatIsTakenBySomebodyElse(t *testing.T) {
	t.Parallel()
	a := well(t, "app1")
	a.Unit["ActiveState"] = "inactive"
	got := Judge(a)
	if i := slices.IndexFunc(got, func(f Finding) bool { return f.Topic == "ports" }); i < 0 || !strings.Contains(got[i].Msg, "port 9000 is taken") || got[i].Fix == "" {
		t.Errorf("%+v", got)
	}
}

func TestServersThatDifferAreOneFinding(t *testing.T) {
	t.Parallel()
	a, b := well(t, "app1"), well(t, "app2")
	b.Current = "releases/20260102-000000-1111111"
	got := Fleet([]Asked{a, b})
	if len(got) != 1 || got[0].Fix == "" || !slices.Equal(got[0].Facts, []string{"app1 20260101-000000-0000000", "app2 20260102-000000-1111111"}) {
		t.Errorf("%+v", got)
	}
	b.Current = ""
	if got := Fleet([]Asked{a, b}); len(got) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestNamesLeadToEveryNginxHost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		names map[string][]string
		want  []string // messages
		note  bool
	}{
		{"well", map[string][]string{"ngx2.example.com": {"203.0.113.2"}, "www.example.com": {"203.0.113.1", "203.0.113.2"}}, nil, false},
		{"one is left out", map[string][]string{"ngx2.example.com": {"203.0.113.2"}, "www.example.com": {"203.0.113.1"}}, []string{"does not lead to every nginx host"}, false},
		{"a CDN", map[string][]string{"ngx2.example.com": {"203.0.113.2"}, "www.example.com": {"198.51.100.7"}}, []string{"leads to none"}, true},
		{"no site", map[string][]string{"ngx2.example.com": {"203.0.113.2"}}, []string{"www.example.com has no address"}, false},
		{"no host", map[string][]string{"www.example.com": {"203.0.113.1"}}, []string{"ngx2.example.com has no address"}, false},
	} {
		env := envOf(t, "/opt/swiper")
		got := DNS(context.Background(), env, env.Hosts, func(_ context.Context, name string) ([]string, error) {
			if found := tt.names[name]; found != nil {
				return found, nil
			}
			return nil, errors.New("no such host")
		})
		if len(got) != len(tt.want) {
			t.Errorf("%s: %+v", tt.name, got)
			continue
		}
		for i, want := range tt.want {
			if !strings.Contains(got[i].Msg, want) || got[i].Fix == "" || got[i].Topic != "dns" || got[i].Note != tt.note {
				t.Errorf("%s: %+v", tt.name, got[i])
			}
		}
	}
}

// ask runs the script here, as the login shell's child would.
func ask(t *testing.T, shell string, argv []string, script string) Facts {
	t.Helper()
	cmd := exec.Command(shell, argv[1:]...)
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return Read(out)
}

func TestTheScriptTellsWhatIsThere(t *testing.T) {
	t.Parallel()
	shells := []string{"/bin/sh"}
	for _, more := range []string{"/bin/bash", "/bin/busybox"} {
		if _, err := os.Stat(more); err == nil {
			shells = append(shells, more)
		}
	}
	for _, shell := range shells {
		dir := filepath.Join(t.TempDir(), "o'd app")
		for _, d := range []string{"releases/20260101-000000-0000000", "shared/.venv/bin", ".godeploy"} {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		link(t, "releases/20260101-000000-0000000", filepath.Join(dir, "current"))
		link(t, "/nowhere/python3", filepath.Join(dir, "shared/.venv/bin/python"))
		line := `{"t":"2026-01-01T00:00:00Z","run":"r","by":"kim@desk","command":"release","outcome":"ok","verdict":"done","ms":1}` + "\n"
		if err := os.WriteFile(filepath.Join(dir, ".godeploy/audit.log"), []byte("noise\n"+line), 0o600); err != nil {
			t.Fatal(err)
		}
		env := envOf(t, "/opt/swiper")
		env.App.Path, env.SSH.Sudo = dir, false
		argv, script := Command(env, hostOf(t, env, "app1"))
		if shell == "/bin/busybox" {
			argv = slices.Insert(argv, 1, "sh")
		}
		f := ask(t, shell, argv, script)
		if !f.Complete || f.Now == 0 || f.User == "" || !strings.HasPrefix(f.Kernel, "Linux ") || f.Disk.Total == 0 || f.Disk.Free == 0 || f.Listening == nil {
			t.Errorf("%s: %+v", shell, f)
		}
		if !f.Path || f.Unwritable != "" || f.Current != "releases/20260101-000000-0000000" || f.Dangling || f.NoLink || len(f.Audit) != 1 || f.Audit[0].By != "kim@desk" {
			t.Errorf("%s: %+v", shell, f)
		}
		if !slices.Equal(f.LacksPrograms, []string{".venv/bin/pip"}) || !slices.Equal(f.LacksFiles, []string{dir + "/shared/.env"}) ||
			!slices.Equal(f.BrokenVenvs, []string{dir + "/shared/.venv"}) {
			t.Errorf("%s: %+v", shell, f)
		}
		if have, err := os.ReadFile("/proc/sys/net/core/somaxconn"); err == nil && number(string(have)) != f.Somaxconn {
			t.Errorf("%s: somaxconn is %s and was read as %d", shell, have, f.Somaxconn)
		}
		if off := time.Since(time.Unix(f.Now, 0)).Abs(); off > 2*time.Minute {
			t.Errorf("%s: now is %s off", shell, off)
		}
	}
}

func link(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

func TestTheScriptChangesNothingAndHearsNoWords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	env := envOf(t, "/opt/swiper")
	env.App.Path, env.Shared.Files = dir+"/$(touch "+dir+"/evil)/`touch "+dir+"/evil`", []string{"; touch " + dir + "/evil"}
	argv, script := Command(env, hostOf(t, env, "app1"))
	if f := ask(t, "/bin/sh", argv, script); !f.Complete || len(f.LacksFiles) != 1 {
		t.Errorf("%+v", f)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestSudoersIsWhatVisudoReads(t *testing.T) {
	t.Parallel()
	visudo, err := exec.LookPath("visudo")
	if err != nil {
		if visudo, err = exec.LookPath("/usr/sbin/visudo"); err != nil {
			if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
				t.Fatal("visudo is not installed")
			}
			t.Skip("visudo is not installed")
		}
	}
	env := envOf(t, "/opt/swiper")
	env.Secrets.Command = "pass show swiper"
	env.Process.Unit = `swiper@a:b.service`
	env.App.Owner, env.Process.Graceful = "app:www-data", "usr2"
	text := Sudoers("deploy", append(deploy.SudoRules(env, hostOf(t, env, "app1")), deploy.SudoRules(env, hostOf(t, env, "ngx1"))...)) + Sudoers(`DOM\kim lee`, deploy.SudoRules(env, hostOf(t, env, "ngx1")))
	env.App.Owner = ""
	text += Sudoers("kim", deploy.SudoRules(env, hostOf(t, env, "app1")))
	path := filepath.Join(t.TempDir(), "godeploy")
	if err := os.WriteFile(path, []byte(text), 0o440); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(visudo, "-c", "-f", path).CombinedOutput(); err != nil {
		t.Errorf("%v: %s\n%s", err, out, text)
	}
	for _, want := range []string{
		`deploy ALL=(root) NOPASSWD: /usr/bin/systemctl restart swiper@a\:b.service`,
		`deploy ALL=(root) NOPASSWD: /usr/bin/systemctl reset-failed swiper@a\:b.service`,
		`deploy ALL=(root) NOPASSWD: /usr/bin/systemctl kill -s USR2 --kill-who\=main swiper@a\:b.service`,
		`deploy ALL=(app) NOPASSWD:SETENV: /bin/sh`,
		`deploy ALL=(root) NOPASSWD: /usr/bin/chown -h -- app\:www-data /opt/swiper/.godeploy/env/*`,
		`deploy ALL=(root) NOPASSWD: /usr/sbin/nginx -t -q`,
		`kim ALL=(root) NOPASSWD: /usr/bin/kill -WINCH [0-9]*`, // whoever the app's processes belong to
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("disk\t/dev/sda 1 41152736 9000000 30000000 24% /\nlisten\tFFFFF\nuid\t-\nend\tyes"))
	f.Add([]byte("unit\t=\nunit\tExecStart\naudit\t{}\nnow\t99999999999999999999\n\t\t\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		facts := Read(b)
		if facts.Disk.Total < 0 || facts.Disk.Free < 0 || len(facts.Audit) > len(b) {
			t.Errorf("%+v", facts)
		}
		facts.Complete = true
		env, err := inventory.Parse("godeploy.toml", []byte(fmt.Sprintf(file, "/opt/swiper")), nil)
		if err != nil {
			t.Fatal(err)
		}
		prod, err := env.Env("prod")
		if err != nil {
			t.Fatal(err)
		}
		for _, finding := range Judge(Asked{Env: prod, Host: prod.Hosts[2], Facts: facts}) {
			if finding.Fix == "" {
				t.Errorf("%+v", finding)
			}
		}
	})
}

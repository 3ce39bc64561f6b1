package inventory

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"godeploy/internal/fault"
)

// keysOf gives the keys and lines of notes, sorted as they come.
func keysOf(notes []NotBuilt) string {
	var keys []string
	for _, n := range notes {
		keys = append(keys, n.Key)
	}
	return strings.Join(keys, " ")
}

func TestNotBuiltKeysOfTheFullFile(t *testing.T) {
	t.Parallel()
	f := loadFull(t)
	const want = "bench"
	if got := keysOf(f.NotBuilt("prod")); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := keysOf(f.NotBuiltFor("release", "prod")); got != "" {
		t.Errorf("for a release: got %s", got)
	}
	if got := keysOf(f.NotBuiltFor("exec", "prod")); got != "" {
		t.Errorf("exec needs none of them, got %s", got)
	}
	for _, n := range f.NotBuilt("prod") {
		if n.Pos.Line == 0 || n.Feature == "" {
			t.Errorf("%s has no place or no feature: %+v", n.Key, n)
		}
	}
}

func TestEachValueNotBuiltIsRefusedByItsCommands(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ section, line, command, key string }{
		{"app", `layout = "inplace"`, "status", "app.layout"},
		{"env.prod.app", `layout = "inplace"`, "restart", "app.layout"},
	} {
		src := withKey(c.section, c.line)
		f := mustParse(t, src)
		notes := f.NotBuiltFor(c.command, "")
		if keysOf(notes) != c.key || !strings.HasPrefix(at(src, notes[0].Pos), strings.Fields(c.line)[0]) {
			t.Errorf("[%s] %s: %s refuses for %q", c.section, c.line, c.command, notes)
			continue
		}
		if e := notes[0].Fault(); e.Code != fault.ConfigNotBuilt || !strings.Contains(e.Msg, c.key) || e.Pos.Line == 0 {
			t.Errorf("%s: fault is %+v", c.key, e)
		}
	}
}

func TestWhatIsBuiltIsNotRefused(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{"app", `layout = "releases"`}, {"sync", "gitignore = true"}, {"sync", `bandwidth = "1MB/s"`}, {"sync", `links = "reflink"`}, {"sync", `verify = "all"`},
		{"sync", `max_delete = "10%"`},
		{"process", `graceful = "Restart"`}, {"process", `server = "custom"`}, {"process", `server = "uwsgi"`},
		{"process", `graceful = "USR2"`}, {"process", `graceful = "reload"`}, {"process", `graceful = "socket"`}, {"process", "socket = true"}, {"release", `drain = "off"`}, {"release", `drain = "auto"`},
		{"release", `drain = "nginx"`}, {"balancer", `kind = "haproxy"`}, {"release", `drain_wait = "1s"`}, {"release", `gate = "5xx < 1%"`}, {"release", `bake = "1s"`}, {"nginx", `method = "rr"`},
		{"secrets", `command = "x"`}, {"release", `migrations = "x"`},
		{"release", `batch = "25%"`}, {"release", `on_failure = "stop"`}, {"release", `on_failure = "continue"`}, {"release", `batch = [1, "100%"]`}, {"release", `restart = "full"`}, {"release", `carry = [".venv"]`},
	} {
		if got := mustParse(t, withKey(c[0], c[1])).NotBuilt(""); len(got) != 0 {
			t.Errorf("[%s] %s: got %v", c[0], c[1], got)
		}
	}
}

func TestDrains(t *testing.T) {
	t.Parallel()
	lb := "\nlb = { role = \"nginx\", address = \"192.0.2.9\" }\n"
	for _, c := range []struct{ section, line, more, want string }{
		{"nginx", `method = "rr"`, lb, "nginx"},
		{"nginx", `method = "rr"`, "", ""},
		{"release", `drain = "auto"`, lb, ""},
		{"release", `drain = "nginx"`, "", "nginx"},
		{"release", `drain = "off"`, lb, ""},
		{"balancer", `kind = "haproxy"`, strings.Replace(lb, "nginx", "haproxy", 1), "haproxy"},
		{"balancer", `kind = "haproxy"`, lb, ""},
	} {
		src := withKey(c.section, c.line)
		if c.more != "" {
			src = strings.Replace(src, "[env.prod.hosts]\n", "[env.prod.hosts]"+c.more, 1)
		}
		env, err := mustParse(t, src).Env("")
		if err != nil {
			t.Fatal(err)
		}
		if got := env.Drains(); got != c.want {
			t.Errorf("[%s] %s: got %q, want %q", c.section, c.line, got, c.want)
		}
	}
}

func TestEveryKeyOfTheListExists(t *testing.T) {
	t.Parallel()
	keys := map[string]bool{}
	for _, k := range allKeys() {
		keys[k.key] = true
		for i := range k.key {
			if k.key[i] == '.' {
				keys[strings.TrimSuffix(k.key[:i], "[]")] = true
			}
		}
	}
	for _, l := range laters() {
		name := strings.NewReplacer("[*]", "[]", "role.*", "role.ROLE").Replace(l.key)
		if !keys[name] {
			t.Errorf("%s is no key", l.key)
		}
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "godeploy.toml")
	write(t, filepath.Join(dir, "plain.sh"), "#!/bin/sh\n")
	write(t, filepath.Join(dir, "crlf.sh"), "#!/bin/sh\r\ntrue\r\n")
	write(t, filepath.Join(dir, "good.sh"), "#!/bin/sh\ntrue\n")
	for _, name := range []string{"crlf.sh", "good.sh"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, path, head+`
[hooks]
local_before = ["./gone.sh x", "./plain.sh", "./good.sh", "make x"]
release = ["./crlf.sh", ".venv/bin/pip install", { run = "true", on = "role:db" }]
after = "curl -H 'token: abcdef1234567' x"
[env.prod.role.ap]
user = "x"
[env.prod.hosts]
a = { role = "web", address = "10.0.0.1" }
b = { role = "web", address = "10.0.0.1" }
`)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range f.Findings("prod") {
		got = append(got, strings.ReplaceAll(e.Msg, path, "FILE")+" "+strings.TrimPrefix(e.Pos.String(), path))
	}
	want := []string{
		"no host of prod has the role app, so a release would go nowhere ",
		"host b has the address, port and user of a :13:1  [env.prod.hosts] b",
		`no host of prod has the role "ap" :9:16  [env.prod.role] ap`,
		"local_before hook runs ./gone.sh, which is not there :6:17  [hooks] local_before",
		"local_before hook runs ./plain.sh, which is not executable :6:32  [hooks] local_before",
		"release hook runs ./crlf.sh, whose first line ends with CR LF :7:12  [hooks] release",
		`release hook runs nowhere: no host of prod is "role:db" :7:50  [hooks] release`,
		"hooks.after looks as if it held a secret :8:1  [hooks] after",
		"FILE may be written by everybody ",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

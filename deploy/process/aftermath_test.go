package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

func serviceOf(t *testing.T, path, more string) *Service {
	t.Helper()
	f, err := inventory.Parse("godeploy.toml", []byte(`version = 1
[app]
name = "shop"
path = "`+path+`"
owner = "shop:shop"
`+more+`
[env.test.hosts]
app1 = { role = "app", address = "192.0.2.1" }
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := f.Env("test")
	if err != nil {
		t.Fatal(err)
	}
	return New(env, event.Discard{})
}

func TestAHostIsToldHowToServeAlone(t *testing.T) {
	t.Parallel()
	root, login := wire.HelloReply{User: "root"}, wire.HelloReply{User: "deploy", UID: 1000}
	const sudo = "[env.test.ssh]\nsudo = true\n"
	for _, tt := range []struct {
		name, more string
		facts      wire.HelloReply
		full, stop string // the beginning; "nil" for no aftermath at all
		user       string
	}{
		{"systemd as root", "", root, "systemctl restart shop.service", "systemctl stop shop.service", ""},
		{"systemd by sudo", sudo, login, "sudo -n systemctl restart", "sudo -n systemctl stop", ""},
		{"systemd, but not allowed", "", login, "nil", "", ""},
		{"restart hook as the owner", "[hooks]\nrestart = [\"./r\"]", root, "/bin/sh -c /bin/sh -c ./r || exit", "", "shop"},
		{"restart hook by sudo", "[hooks]\nrestart = [\"./r\"]\n" + sudo, login, "sudo -n -u shop --preserve-env=GODEPLOY,", "sudo -n systemctl stop", ""},
		{"stop and start hooks", "[hooks]\nstart = [\"./on\"]\nstop = [\"./off\"]", root, "/bin/sh -c /bin/sh -c ./off || exit\n/bin/sh -c ./on || exit", "/bin/sh -c /bin/sh -c ./off", "shop"},
		{"hooks of two users", "[hooks]\nrestart = [\"./a\", { run = \"./b\", as = \"root\" }]", root, "nil", "", ""},
		{"half by a hook", "[hooks]\nstart = [\"./on\"]", root, "nil", "", ""},
		{"pid file", "[process]\nmanager = \"pidfile\"\npidfile = \"/run/shop.pid\"\ncommand = \"gunicorn shop\"", root, "/bin/sh -c p=$(cat /run/shop.pid", "/bin/sh -c p=", "shop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, err := serviceOf(t, "/opt/shop", tt.more).Aftermath(t.Context(), &noting{facts: tt.facts})
			if err != nil {
				t.Fatal(err)
			}
			if a == nil {
				if tt.full != "nil" {
					t.Error("the host cannot act alone")
				}
				return
			}
			if err := a.Check(); err != nil {
				t.Error(err)
			}
			if full := strings.Join(a.Full, " "); !strings.HasPrefix(full, tt.full) {
				t.Errorf("restarts by %q, want %q", full, tt.full)
			}
			if stop := strings.Join(a.Stop, " "); !strings.HasPrefix(stop, tt.stop) {
				t.Errorf("stops by %q, want %q", stop, tt.stop)
			}
			if a.User != tt.user {
				t.Errorf("as %q, want %q", a.User, tt.user)
			}
		})
	}
}

func TestAHostIsToldWhatHealthIs(t *testing.T) {
	t.Parallel()
	s := serviceOf(t, "/opt/shop", "[health]\nurl = \"http://{{.Host.Name}}:9000/up\"\nstatus = \"200,204,301-302\"\nrelease_header = \"X-Release\"")
	a, err := s.Aftermath(t.Context(), &noting{facts: wire.HelloReply{User: "root"}})
	if err != nil || a == nil {
		t.Fatal(a, err)
	}
	if a.URL != "http://app1:9000/up" || a.Low != 200 || a.High != 302 || a.Header != "X-Release" || !a.Proof {
		t.Errorf("got %+v", a)
	}
}

// The text that stops a server ends it when it works in the app's folder, and nobody else.
func TestStopTextEndsOnlyWhatIsOurs(t *testing.T) {
	t.Parallel()
	for _, inside := range []bool{true, false} {
		dir := t.TempDir()
		if resolved, err := filepath.EvalSymlinks(dir); err == nil {
			dir = resolved
		}
		at := filepath.Join(dir, "app", "current")
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		server := exec.Command("sleep", "60")
		if server.Dir = at; !inside {
			server.Dir = dir
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- server.Wait() }()
		file := filepath.Join(dir, "pid")
		if err := os.WriteFile(file, []byte(strconv.Itoa(server.Process.Pid)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		s := serviceOf(t, filepath.Join(dir, "app"), "[process]\nmanager = \"pidfile\"\npidfile = \""+file+"\"\ncommand = \"x\"")
		if out, err := exec.Command("/bin/sh", "-c", pidfile{s}.stopText()).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		select {
		case <-ended:
			if !inside {
				t.Error("a stranger was ended")
			}
		case <-time.After(map[bool]time.Duration{true: 10 * time.Second, false: 0}[inside]):
			if inside {
				t.Error("the server was not ended")
			}
			_ = server.Process.Kill()
			<-ended
		}
	}
}

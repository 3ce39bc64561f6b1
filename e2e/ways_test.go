package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"godeploy/e2e/hosts"
)

// Without the helper a release has weaker guarantees, which are said, and the same result.
func TestReleaseWithoutHelper(t *testing.T) {
	t.Parallel()
	bare := site{ssh: "user = \"deploy\"\nsudo = true\nhelper = false"}
	ctx, o := newSite(t, bare, "lb1", "app1", "app2", "db1")
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	v1 := o.release(ctx, named(t, "v1"))
	o.wholeOn(ctx, v1)
	o.write(named(t, "v2"))
	out := o.want(ctx, 0, "release", "prod", "--yes")
	if v2 := strings.TrimSpace(out.stdout); v2 == v1 {
		t.Error("v2 was not released")
	} else {
		o.wholeOn(ctx, v2)
	}
	if !strings.Contains(out.stderr, "no helper (helper = false)") {
		t.Error("what is lost without the helper is not said")
	}
	o.write(named(t, "v3-health"))
	o.want(ctx, 5, "release", "prod", "--yes")
	o.want(ctx, 0, "rollback", "prod", v1, "--yes")
	o.wholeOn(ctx, v1)
	bare.more = "[tune.limits]\nnofile = 16384\n"
	o.configure(bare)
	o.want(ctx, 0, "tune", "prod", "--restart", "--exit-code")
	o.wholeOn(ctx, v1)
	// One look of status at both servers: their processes are known, and each limit holds.
	if out := o.want(ctx, 0, "status", "prod", "--json", "--exit-code").stdout; strings.Count(out, `"master"`) != 2 || strings.Contains(out, `"drift":true`) || strings.Contains(out, `"drift": true`) {
		t.Errorf("status without the helper: %s", out)
	}
	if out, err := o.fleet.Host("app1").Sh(ctx, "ls -d /home/deploy/.cache/godeploy /opt/swiper/.godeploy/lock.d 2>/dev/null || echo none"); err != nil || out != "none\n" {
		t.Errorf("app1 has %q, %v, want neither a helper nor a lock left", out, err)
	}
}

// A home that forbids programs sends the helper to its second folder, and no release fails for it.
func TestNoexecHome(t *testing.T) {
	t.Parallel()
	ctx, o := newSite(t, site{}, "lb1", "app1", "db1")
	_, err := o.fleet.Host("app1").Sh(ctx, "mkdir -p /home/deploy/.cache && mount -t tmpfs -o noexec,mode=700,uid=$(id -u deploy),gid=$(id -g deploy) tmpfs /home/deploy/.cache")
	must(t, err)
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	o.wholeOn(ctx, o.release(ctx, named(t, "v1")))
	if out, err := o.fleet.Host("app1").Sh(ctx, "ls /var/tmp/godeploy-$(id -u deploy)"); err != nil || !strings.HasPrefix(out, "helper-") {
		t.Errorf("got %q, %v, want the helper in /var/tmp", out, err)
	}
}

// The same release with a gunicorn that is started by hand, and with nothing but the user's scripts.
func TestOtherManagers(t *testing.T) {
	t.Parallel()
	command := "/usr/bin/gunicorn --chdir {{.App.Current}} -c {{.App.Current}}/swiper/gunicorn-config.py swiper.wsgi"
	script := "start-stop-daemon --oknodo --pidfile /opt/swiper/shared/script.pid"
	for name, s := range map[string]site{
		"pidfile": {process: fmt.Sprintf("manager = \"pidfile\"\npidfile = \"/opt/swiper/shared/gunicorn.pid\"\ncommand = %q", command)},
		"command": {
			process: "manager = \"command\"\ncheck = \"/usr/bin/gunicorn --check-config --chdir {{.Release.Path}} swiper.wsgi\"",
			hooks: fmt.Sprintf("start = [%q]\nstop = [%q]",
				script+" --start --background --startas /usr/bin/gunicorn -- --chdir /opt/swiper/current -c /opt/swiper/current/swiper/gunicorn-config.py --pid /opt/swiper/shared/script.pid swiper.wsgi",
				script+" --stop --retry TERM/10/KILL/5"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, o := newSite(t, s, "lb1", "app1", "db1")
			o.want(ctx, 0, "keys", "trust", "prod", "--yes")
			v1 := o.release(ctx, named(t, "v1"))
			o.serves(ctx, v1)
			v2 := o.release(ctx, named(t, "v2"))
			o.serves(ctx, v2)
			o.write(named(t, "v3-import"))
			o.want(ctx, 5, "release", "prod", "--yes")
			o.serves(ctx, v2)
			o.want(ctx, 0, "restart", "prod", "--graceful", "--yes")
			o.want(ctx, 0, "rollback", "prod", "--yes")
			o.serves(ctx, v1)
			o.want(ctx, 0, "stop", "prod")
			if _, err := o.fleet.Host("app1").Sh(ctx, "curl -s 10.0.0.1:9000/healthz"); err == nil {
				t.Error("it still answers after stop")
			}
			o.want(ctx, 0, "start", "prod")
			o.serves(ctx, v1)
		})
	}
}

// serves asks the app hosts themselves.
func (o *operator) serves(ctx context.Context, id string) {
	o.t.Helper()
	for _, h := range o.fleet.Role("app") {
		out, err := h.Sh(ctx, "readlink "+hosts.AppPath+"/current; curl -sI "+h.Private()+":9000/healthz")
		if err != nil || !strings.Contains(out, "releases/"+id) || !strings.Contains(out, "X-Release: "+id) {
			o.t.Errorf("%s: got %q, %v, want it to have and serve %s", h.Name, out, err, id)
		}
	}
}

// What cannot work is said before anything is changed, with the way out.
func TestBadInputChangesNothing(t *testing.T) {
	t.Parallel()
	ctx, o := newSite(t, site{}, "lb1", "app1", "app2", "db1")
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	app1 := o.fleet.Host("app1")
	at := func(line string) func() {
		return func() {
			t.Helper()
			if out, err := app1.Sh(ctx, line); err != nil {
				t.Fatalf("%s: %v: %s", line, err, out)
			}
		}
	}
	for _, tt := range []struct {
		name  string
		code  int
		text  []string
		args  []string
		spoil func()
		mend  func()
	}{
		{name: "an environment that is not there", code: 64, args: []string{"release", "prd"}, text: []string{"env-unknown", "prod"}},
		{name: "a host that is not there", code: 64, args: []string{"release", "prod", "-l", "app9"}, text: []string{"app9", "app1"}},
		{name: "a refused login", code: 4, text: []string{"ssh-auth", "app1"},
			spoil: at("mv /home/deploy/.ssh/authorized_keys /root/kept"), mend: at("mv /root/kept /home/deploy/.ssh/authorized_keys")},
		{name: "a changed host key", code: 4, text: []string{"ssh-hostkey-changed", "app1", "keys trust prod"},
			spoil: at("mkdir /root/keys && mv /etc/ssh/ssh_host_* /root/keys && ssh-keygen -qA && systemctl restart ssh"),
			mend:  at("mv -f /root/keys/* /etc/ssh/ && systemctl restart ssh")},
		{name: "no sudo", code: 5, text: []string{"sudo-needed", "NOPASSWD: /usr/bin/systemctl"},
			spoil: at("mv /etc/sudoers.d /root/sudoers.d && mkdir /etc/sudoers.d"), mend: at("rmdir /etc/sudoers.d && mv /root/sudoers.d /etc/sudoers.d")},
		{name: "current is a real folder", code: 5, text: []string{"layout-refused", "current", "before-godeploy"},
			spoil: at("install -d -o deploy " + hosts.AppPath + "/current"), mend: at("rmdir " + hosts.AppPath + "/current")},
		{name: "a shared file is missing", code: 5, text: []string{"shared-missing", "shared/.env"},
			spoil: at("mv /opt/swiper/shared/.env /root/env"), mend: at("mv /root/env /opt/swiper/shared/.env")},
		{name: "the unit is missing", code: 5, text: []string{"swiper.service", "not-found"},
			spoil: at("mv /etc/systemd/system/swiper.service /root/ && systemctl daemon-reload"),
			mend:  at("mv /root/swiper.service /etc/systemd/system/ && systemctl daemon-reload")},
		{name: "a folder that cannot be written", code: 5, text: []string{"sudo-needed", "chown -R deploy"},
			spoil: at("chown root /opt/swiper"), mend: at("chown deploy /opt/swiper")},
		{name: "a host without power", code: 4, text: []string{"app1"},
			spoil: func() { must(t, app1.PowerCut(ctx)) }, mend: func() {
				must(t, app1.Boot(ctx))
				_, _ = app1.Sh(ctx, "systemctl is-system-running --wait") // "degraded" is an exit status too: the unit has no release yet
			}},
	} {
		before := o.disk(ctx, "app2")
		if tt.spoil != nil {
			tt.spoil()
		}
		args := tt.args
		if args == nil {
			args = []string{"release", "prod"}
		}
		out := o.run(ctx, append(args, "--yes")...)
		if tt.name == "a host without power" {
			if s := o.status(ctx); s.Whole || s.Hosts[0].Service != "unreachable" || s.Hosts[1].Service == "unreachable" {
				t.Errorf("status with app1 dead is %+v", s)
			}
		}
		if tt.mend != nil {
			tt.mend()
		}
		if out.code != tt.code {
			t.Errorf("%s: exit %d, want %d", tt.name, out.code, tt.code)
		}
		for _, want := range tt.text {
			if !strings.Contains(out.stderr, want) {
				t.Errorf("%s: the error does not say %q", tt.name, want)
			}
		}
		if after := o.disk(ctx, "app2"); after != before {
			t.Errorf("%s: app2 was changed:\n%s\nbefore:\n%s", tt.name, after, before)
		}
	}
	o.wholeOn(ctx, o.release(ctx, named(t, "v1")))
}

// disk lists what lies below the app's path.
func (o *operator) disk(ctx context.Context, host string) string {
	o.t.Helper()
	out, err := o.fleet.Host(host).Sh(ctx, "find "+hosts.AppPath+" -printf '%p %s %l\\n' | sort")
	must(o.t, err)
	return out
}

// Names that would break a shell, a line protocol or a log go through a whole release as they are.
func TestOddNamesGoThroughARelease(t *testing.T) {
	t.Parallel()
	ctx, o := newSite(t, site{}, "lb1", "app1", "db1")
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	names := []string{"-rf", "two\nlines", "tab\there", "$(touch pwned)", "quote'\"", "\xff\xfe", " lead", "trail ", "\x1b[31mred", strings.Repeat("x", 255)}
	for _, name := range names {
		must(t, os.WriteFile(filepath.Join(o.project, "frontend", name), []byte(name), 0o644))
	}
	id := o.release(ctx, named(t, "v1"))
	o.wholeOn(ctx, id)
	for _, name := range names {
		out, err := o.fleet.Host("app1").Exec(ctx, "cat", "--", hosts.AppPath+"/current/frontend/"+name)
		if err != nil || out != name {
			t.Errorf("%q: got %q, %v", name, out, err)
		}
	}
}

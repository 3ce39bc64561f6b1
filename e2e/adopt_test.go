package e2e

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"godeploy/e2e/hosts"
)

// oldUnit is how people without a tool run the app: from the folder its code lies in.
const oldUnit = `[Unit]
Description=swiper, from one folder
[Service]
Type=notify
User=deploy
RuntimeDirectory=swiper
WorkingDirectory=/opt/swiper
ExecStart=/usr/bin/gunicorn -c swiper/gunicorn-config.py --pid /run/swiper/gunicorn.pid swiper.wsgi
KillMode=mixed
[Install]
WantedBy=multi-user.target
`

// layInPlace puts the project straight into the app's path of an app host, and runs it from there.
func (o *operator) layInPlace(ctx context.Context, h *hosts.Host) {
	o.t.Helper()
	packed := exec.CommandContext(ctx, "tar", "-C", o.project, "--exclude", "godeploy.toml", "-cf", "-", ".")
	pipe, err := packed.StdoutPipe()
	must(o.t, err)
	unpack, err := h.Command(ctx, "sh", "-euc", "mkdir -p /opt/swiper; tar -C /opt/swiper -xf -")
	must(o.t, err)
	unpack.Stdin = pipe
	must(o.t, packed.Start())
	must(o.t, unpack.Run())
	must(o.t, packed.Wait())
	must(o.t, h.WriteFile(ctx, "/opt/swiper/.env", []byte(hosts.Dotenv), 0o600))
	must(o.t, h.WriteFile(ctx, "/opt/swiper/medias/one.jpg", []byte("a picture\n"), 0o644))
	must(o.t, h.WriteFile(ctx, "/etc/systemd/system/swiper.service", []byte(oldUnit), 0o644))
	_, err = h.Sh(ctx, "chown -R deploy:deploy /opt/swiper; cd /opt/swiper; runuser -u deploy -- python3 manage.py migrate --noinput; "+
		"systemctl daemon-reload; systemctl -q enable --now swiper.service")
	must(o.t, err)
}

// treeOf lists the app's folder: kinds, links, sizes; without what python keeps.
func treeOf(ctx context.Context, t *testing.T, h *hosts.Host) string {
	t.Helper()
	out, err := h.Sh(ctx, `cd /opt/swiper; find . -path ./.godeploy -prune -o -name __pycache__ -prune -o -type d -printf '%p %u\n' -o -printf '%p %y %l %s %u\n' | sort; cat medias/one.jpg; systemctl cat swiper.service | grep -v '^#'`)
	must(t, err)
	return out
}

// Code that lies straight in the app's path is taken over while it serves, given back, taken over again, and
// released over: what serves does not notice any of the first three.
func TestAdopt(t *testing.T) {
	t.Parallel()
	ctx, f := bootFleet(t, hosts.Options{Only: []string{"lb1", "app1", "db1"}})
	o := newOperator(t, f)
	o.write(named(t, "v1"))
	o.configure(site{})
	app1 := f.Host("app1")
	o.layInPlace(ctx, app1)
	must(t, f.Balance(ctx))
	must(t, f.Answers(ctx, "/healthz"))
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	before := treeOf(ctx, t, app1)
	pid, err := app1.Exec(ctx, "systemctl", "show", "-p", "MainPID", "swiper.service")
	must(t, err)

	load := f.Load(ctx, hosts.LoadOptions{URLs: f.URLs("/"), Rate: 50})
	o.want(ctx, 0, "setup", "prod", "--adopt")
	out, err := app1.Sh(ctx, `cd /opt/swiper; cat current/medias/one.jpg medias/one.jpg; readlink current/.env .env medias; stat -c %U releases shared current/manage.py; ls -A releases | wc -l; stat -c %h manage.py
systemctl show -p WorkingDirectory --value swiper.service; systemctl show -p ExecStart --value swiper.service | grep -o 'argv.*--chdir [^ ]*'`)
	want := `a picture
a picture
../../shared/.env
shared/.env
shared/medias
deploy
deploy
deploy
1
2
/opt/swiper/current
argv[]=/usr/bin/gunicorn -c /opt/swiper/current/swiper/gunicorn-config.py --pid /run/swiper/gunicorn.pid swiper.wsgi --chdir /opt/swiper/current
`
	if err != nil || out != want {
		t.Errorf("after --adopt: %v, got\n%s\nwant\n%s", err, out, want)
	}
	if again := o.want(ctx, 0, "setup", "prod", "--adopt"); !strings.Contains(again.stderr, "Set up: 0 changes") {
		t.Error("a second --adopt changed something")
	}
	o.want(ctx, 0, "setup", "prod", "--unadopt")
	if now := treeOf(ctx, t, app1); now != before {
		t.Errorf("after --unadopt: got\n%s\nwant\n%s", now, before)
	}
	o.want(ctx, 0, "setup", "prod", "--adopt")
	load.Until(ctx, func(r hosts.Report) bool { return r.Requests > 300 })
	if now, err := app1.Exec(ctx, "systemctl", "show", "-p", "MainPID", "swiper.service"); err != nil || now != pid {
		t.Errorf("the server was restarted: %q, before %q, %v", now, pid, err)
	}
	report := load.Stop()
	t.Log(report)
	if report.Failed != 0 || report.Requests < 300 {
		t.Errorf("load saw %v, want at least 300 requests and none failed", report)
	}
	o.wholeOn(ctx, o.release(ctx, named(t, "v2")))
	if out := o.want(ctx, 5, "setup", "prod", "--unadopt"); !strings.Contains(out.stderr, "godeploy rollback") {
		t.Error("--unadopt after a release does not say how to go back first")
	}
}

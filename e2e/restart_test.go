package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"godeploy/e2e/hosts"
	"godeploy/inventory"
)

// restartRow is one line of the table of restarts: a server, a way to restart it, and what is wrong with it
// or with the release that comes.
type restartRow struct{ server, way, odd string }

// What can be odd about a restart.
const (
	good     = "good"
	noImport = "import error"
	ill      = "boots, then 500s"
	slow     = "slow 3 s import"
	preload  = "preload"
	physical = "physical cwd"
	deaf     = "worker ignores TERM"
	stale    = "stale pidfile"
	reused   = "reused pid"
	astray   = "pidfile of another, server runs"
	tried    = "import error, with trial"
)

// restartRows is the whole table.
func restartRows() []restartRow {
	var rows []restartRow
	for _, server := range []string{"gunicorn", "uwsgi"} {
		for _, way := range []string{"auto", "hup", "usr2", "reload", "socket", "restart"} {
			if server == "uwsgi" && way == "usr2" {
				continue // USR2 tells of its statistics
			}
			for _, odd := range []string{good, noImport, ill, slow, preload, physical, deaf} {
				rows = append(rows, restartRow{server, way, odd})
			}
		}
		for _, odd := range []string{stale, reused, astray, tried} {
			rows = append(rows, restartRow{server, "hup", odd})
		}
		for _, way := range []string{"auto", "usr2", "restart"} { // reload and socket are a unit's, which needs no pid file
			if server == "uwsgi" && way == "usr2" {
				continue
			}
			for _, odd := range []string{stale, reused, astray} {
				rows = append(rows, restartRow{server, way, odd})
			}
		}
	}
	return rows
}

// wanted is what a row has to come to: yes, the new release serves and it is said; no, it is undone; or
// refused before anything is changed.
func (r restartRow) wanted() string {
	bySignal := r.way == "hup" || r.way == "reload"
	switch {
	case r.odd == noImport, r.odd == ill, r.odd == tried, r.odd == astray:
		return "no"
	case r.odd == preload && r.server == "gunicorn" && bySignal, r.odd == physical && r.way == "usr2":
		return "refused"
	case r.odd == physical && bySignal:
		return "no"
	}
	return "yes"
}

// quiet reports whether no request may fail: whatever comes, on the ways that keep the listener and that
// let go of no worker before its time.
func (r restartRow) quiet() bool {
	kept := r.way == "hup" || r.way == "usr2" || r.way == "auto" || r.way == "socket" && r.odd == good // its full restart waits for what serves
	return kept && r.odd != noImport && r.odd != ill && r.odd != deaf && r.wanted() == "yes" && !r.byHand() && r.odd != physical || r.way == "usr2" && r.odd == noImport
}

// byHand reports whether the server is started by hand and known by its pid file.
func (r restartRow) byHand() bool { return r.odd == stale || r.odd == reused || r.odd == astray }

// command is [process] command.
func (r restartRow) command() string {
	line := "/usr/bin/gunicorn --workers 2 --graceful-timeout 2"
	if r.server == "uwsgi" {
		line = "/usr/bin/uwsgi --plugin python3"
		if r.byHand() {
			line += " --master --need-app --processes 2 --http-socket 0.0.0.0:9000"
		}
	} else if r.byHand() {
		line += " --bind 0.0.0.0:9000"
	}
	if r.odd == preload && r.server == "gunicorn" {
		line += " --preload"
	}
	if r.odd != physical {
		line += " --chdir {{.App.Current}}"
	}
	if r.server == "uwsgi" {
		return line + " --module shop:application"
	}
	return line + " shop:application"
}

// place is where rows are tried: an app host behind a port of its own on the nginx host, and somebody who
// releases to it. Two places do not know of each other.
type place struct {
	*operator
	host *hosts.Host
	url  string
}

// file is godeploy.toml for a row. The check is left out of what is tried: a broken release has to come as
// far as the restart.
func (r restartRow) file(o place) string {
	check := "check = \"true\"\n"
	if r.odd == tried {
		check = ""
	}
	manager := ""
	if r.byHand() {
		manager = "manager = \"pidfile\"\npidfile = \"/opt/swiper/shared/server.pid\"\n"
	}
	return fmt.Sprintf(`version = 1
[app]
name = "swiper"
path = "/opt/swiper"
[process]
server = %q
%sgraceful = %q
workers = 2
stop_timeout = "3s"
bind = "0.0.0.0:9000"
socket = %v
%scommand = %q
[health]
url = "http://{{.Host.Address}}:9000/"
interval = "200ms"
tries = 10
settle = "300ms"
[env.prod.ssh]
user = "deploy"
sudo = true
keys = [%q]
[env.prod.role.app]
jump = ["lb1"]
[env.prod.hosts]
lb1 = { role = "nginx", address = %q }
%s = { role = "app", address = %q }
`, r.server, manager, r.way, r.way == "socket", check, r.command(), o.fleet.KeyFile, o.fleet.Host("lb1").Addr(), o.host.Name, o.host.Addr())
}

// app is the one file of the project. It tells by where its code lies which release it is.
func (r restartRow) app(version string) string {
	lines := []string{"import os, signal, time", "# " + version, "HERE = os.path.basename(os.path.dirname(os.path.realpath(__file__)))", "STATUS = '200 OK'"}
	next := version == "next"
	switch {
	case next && (r.odd == noImport || r.odd == tried):
		lines = append(lines, "raise ImportError('on purpose')")
	case next && r.odd == ill:
		lines = append(lines, "STATUS = '500 Broken'")
	case next && r.odd == slow:
		lines = append(lines, "time.sleep(3)")
	case !next && r.odd == deaf:
		lines = append(lines, "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
	}
	return strings.Join(append(lines, "", "def application(environ, start):",
		"    start(STATUS, [('X-Release', HERE), ('Content-Length', '2')])", "    return [b'ok']", ""), "\n")
}

// write puts the project and its file where the operator works.
func (r restartRow) write(o place, version string) {
	o.t.Helper()
	must(o.t, os.MkdirAll(o.project, 0o755))
	must(o.t, os.WriteFile(filepath.Join(o.project, "shop.py"), []byte(r.app(version)), 0o644))
	file := r.file(o)
	if version == "first" { // by a way that is never refused
		file = strings.Replace(file, fmt.Sprintf("graceful = %q", r.way), `graceful = "auto"`, 1)
	}
	must(o.t, os.WriteFile(filepath.Join(o.project, "godeploy.toml"), []byte(file), 0o644))
}

// install gives the host an empty app and the unit that godeploy renders for the row.
func (r restartRow) install(ctx context.Context, o place) {
	o.t.Helper()
	h := o.host
	_, err := h.Sh(ctx, "systemctl -q stop swiper.socket swiper.service 2>/dev/null || true; pkill -KILL 'gunicorn|uwsgi|^sleep$' || true; "+
		"rm -rf /opt/swiper /etc/systemd/system/swiper.* /etc/godeploy; mkdir -p /opt/swiper/shared /etc/godeploy; chown -R deploy: /opt/swiper; systemctl reset-failed; systemctl daemon-reload")
	must(o.t, err)
	if r.byHand() {
		return
	}
	f, err := inventory.Parse("godeploy.toml", []byte(r.file(o)), nil)
	must(o.t, err)
	env, err := f.Env("prod")
	must(o.t, err)
	host := env.ReleaseHosts()[0]
	service, err := env.Service(host, 2, "deploy")
	must(o.t, err)
	files, err := service.Files()
	must(o.t, err)
	for _, one := range files {
		text := one.Text
		if r.odd == physical {
			text = strings.Replace(text, " --chdir /opt/swiper/current", "", 1)
			text = strings.Replace(text, "[Service]\n", "[Service]\nWorkingDirectory=/opt/swiper/current\n", 1)
		}
		must(o.t, h.WriteFile(ctx, one.Path, []byte(text), os.FileMode(one.Mode)))
	}
	start := "systemctl daemon-reload"
	if r.way == "socket" {
		start += "; systemctl start swiper.socket"
	}
	_, err = h.Sh(ctx, start)
	must(o.t, err)
}

// prepare brings what a row's pid file needs, after the first release serves.
func (r restartRow) prepare(ctx context.Context, o place) {
	o.t.Helper()
	line := map[string]string{
		stale:  "pkill -KILL 'gunicorn|uwsgi'; echo 4194000 > /opt/swiper/shared/server.pid",
		reused: "pkill -KILL 'gunicorn|uwsgi'; cd /opt/swiper/current; nohup sleep 600 >/dev/null 2>&1 & echo $! > /opt/swiper/shared/server.pid",
		astray: "echo 4194000 > /opt/swiper/shared/server.pid",
	}[r.odd]
	if line != "" {
		_, err := o.host.Sh(ctx, line)
		must(o.t, err)
	}
}

// seen is what a row came to.
type seen struct {
	verdict, serves string
	load            hosts.Report
	took            time.Duration
	said            string
}

// run tries one row.
func (r restartRow) run(ctx context.Context, o place) seen {
	o.t.Helper()
	r.install(ctx, o)
	r.write(o, "first")
	before := strings.TrimSpace(o.want(ctx, 0, "release", "prod", "--yes").stdout)
	r.prepare(ctx, o)
	r.write(o, "next")
	load := o.fleet.Load(ctx, hosts.LoadOptions{URLs: []string{o.url}, Rate: 50, Timeout: 20 * time.Second})
	began := time.Now()
	out := o.run(ctx, "release", "prod", "--yes")
	got := seen{took: time.Since(began), said: out.stdout + out.stderr}
	after := strings.TrimSpace(out.stdout)
	got.load = load.Stop()
	// The new release serves only if everybody is served it.
	releases := o.answers(ctx, 20)
	switch {
	case out.code == 0:
		got.verdict = "yes"
	case out.code == 64:
		got.verdict = "refused"
	default:
		got.verdict = "no"
	}
	switch {
	case len(releases) != 1:
		got.serves = fmt.Sprintf("%d releases", len(releases))
	case releases[before]:
		got.serves = "the old one"
	case out.code == 0 && releases[after]:
		got.serves = "the new one"
	case releases[""]:
		got.serves = "none"
	default:
		got.serves = "the new one, unsaid"
	}
	return got
}

// answers asks the app by itself and gives the releases that it was told; "" is no good answer.
func (o place) answers(ctx context.Context, n int) map[string]bool {
	o.t.Helper()
	out, err := o.host.Sh(ctx, fmt.Sprintf(
		`curl -s -m 10 -H 'Connection: close' -w 'is %%{http_code} %%header{x-release}\n' -o /dev/null 'http://%s:9000/?[1-%d]' || true`, o.host.Addr(), n))
	must(o.t, err)
	got := map[string]bool{}
	for line := range strings.Lines(out) {
		if answer, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "is "); ok {
			id, good := strings.CutPrefix(answer, "200 ")
			if !good {
				id = ""
			}
			got[strings.TrimSpace(id)] = true
		}
	}
	return got
}

// judge says what is wrong with what was seen of a row. A yes while the old release serves is the one thing
// that may never be.
func (r restartRow) judge(got seen) string {
	switch {
	case got.verdict == "yes" && got.serves != "the new one":
		return "FALSE YES: it serves " + got.serves
	case got.verdict != r.wanted():
		return "the verdict is " + got.verdict + ", want " + r.wanted()
	case got.verdict != "yes" && got.serves != "the old one":
		return "it serves " + got.serves + " in the end"
	case r.quiet() && got.load.Failed > 0:
		return fmt.Sprintf("%d requests failed", got.load.Failed)
	}
	return ""
}

// newRestarts boots what the table needs, a place for each of the app hosts.
func newRestarts(t *testing.T, names ...string) (context.Context, []place) {
	t.Helper()
	ctx, f := bootFleet(t, hosts.Options{Only: append([]string{"lb1"}, names...)})
	lb := f.Host("lb1")
	var config strings.Builder
	for i, name := range names {
		fmt.Fprintf(&config, "server { listen %d; location / { proxy_pass http://%s:9000; proxy_connect_timeout 2s; } }\n", 8000+i, f.Host(name).Addr())
	}
	must(t, lb.WriteFile(ctx, "/etc/nginx/conf.d/restarts.conf", []byte(config.String()), 0o644))
	// Rows that wait at the same time must not find Debian's 768 connections used up by each other.
	_, err := lb.Sh(ctx, "sed -i 's/worker_connections .*/worker_connections 8192;/; 1i worker_rlimit_nofile 16384;' /etc/nginx/nginx.conf; nginx -qt; systemctl reload-or-restart nginx")
	must(t, err)
	var places []place
	for i, name := range names {
		o := place{newOperator(t, f), f.Host(name), fmt.Sprintf("http://%s:%d/", lb.Public(), 8000+i)}
		restartRow{"gunicorn", "hup", good}.write(o, "first")
		o.want(ctx, 0, "keys", "trust", "prod", "--yes")
		places = append(places, o)
	}
	return ctx, places
}

// A sample of the table of restarts; make restart-table tries all of it.
func TestRestartsAreProven(t *testing.T) {
	t.Parallel()
	ctx, places := newRestarts(t, "app1")
	ways := map[restartRow]string{
		{"gunicorn", "usr2", noImport}: "by USR2, a second gunicorn beside the first, since [process] graceful says so",
		{"gunicorn", "auto", preload}:  "by USR2, a second gunicorn beside the first, since gunicorn preloads the app",
		{"gunicorn", "hup", physical}:  "by HUP, since [process] graceful says so",
		{"gunicorn", "socket", good}:   "behind systemd's socket, since [process] graceful says so",
		{"uwsgi", "hup", good}:         "by HUP, since [process] graceful says so",
	}
	for row := range ways {
		got := row.run(ctx, places[0])
		if wrong := row.judge(got); wrong != "" {
			t.Errorf("%+v: %s; %v", row, wrong, got.load)
		}
		// The old release serves or the new one does: the next restart is foretold with its reason either way.
		plan := places[0].want(ctx, 0, "release", "prod", "--dry-run").stdout
		if want := "\nrestart\n  app1: " + ways[row]; !strings.Contains(plan, want) {
			t.Errorf("%+v: the plan does not say %q:\n%s", row, want, plan)
		}
	}
	got := restartRow{"gunicorn", "hup", preload}.run(ctx, places[0])
	if got.verdict != "refused" || got.serves != "the old one" || got.load.Failed > 0 || !strings.Contains(got.said, "gunicorn preloads the app and would keep the old code on HUP") {
		t.Errorf("HUP of a server that preloads is %s, it serves %s, %v:\n%s", got.verdict, got.serves, got.load, got.said)
	}
}

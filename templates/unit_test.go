package templates

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"godeploy/internal/fault"
)

func swiper(server, command string) Service {
	return Service{App: "swiper", User: "deploy", Group: "www", Current: "/opt/swiper/current", Server: server, Command: command,
		Bind: "10.0.0.1:9000", Workers: 5, Class: "sync", Threads: 1, Backlog: 2048, Timeout: 30 * time.Second, StopTimeout: 20 * time.Second, NoFile: 65535}
}

func TestExecStart(t *testing.T) {
	t.Parallel()
	socket := swiper("gunicorn", "gunicorn swiper.wsgi")
	socket.Socket = true
	bare := swiper("uwsgi", "uwsgi --module swiper.wsgi")
	bare.Socket = true
	for _, c := range []struct {
		service Service
		want    string
	}{
		{swiper("gunicorn", ".venv/bin/gunicorn swiper.wsgi"),
			"/opt/swiper/current/.venv/bin/gunicorn --config /etc/godeploy/swiper.gunicorn.py --chdir /opt/swiper/current --bind 10.0.0.1:9000 --pid /run/swiper/gunicorn.pid swiper.wsgi"},
		{swiper("gunicorn", "gunicorn -c swiper/conf.py -b :8000 -p /tmp/x.pid swiper.wsgi"),
			"gunicorn --chdir /opt/swiper/current --pid /run/swiper/gunicorn.pid --config /opt/swiper/current/swiper/conf.py -b :8000 swiper.wsgi"},
		{swiper("gunicorn", `gunicorn --chdir=/opt/swiper/current/src --access-logformat '%(h)s "%(r)s"' app`),
			`gunicorn --config /etc/godeploy/swiper.gunicorn.py --bind 10.0.0.1:9000 --pid /run/swiper/gunicorn.pid --chdir=/opt/swiper/current/src --access-logformat "%%(h)s \"%%(r)s\"" app`},
		{socket, "gunicorn --config /etc/godeploy/swiper.gunicorn.py --chdir /opt/swiper/current --pid /run/swiper/gunicorn.pid swiper.wsgi"},
		{swiper("uwsgi", "uwsgi --plugin python3 --module swiper.wsgi"),
			"uwsgi --ini /etc/godeploy/swiper.uwsgi.ini --chdir /opt/swiper/current --http-socket 10.0.0.1:9000 --plugin python3 --module swiper.wsgi"},
		{swiper("uwsgi", "uwsgi --ini=deploy/uwsgi.ini --socket :3031"),
			"uwsgi --chdir /opt/swiper/current --ini=/opt/swiper/current/deploy/uwsgi.ini --socket :3031"},
		{bare, "uwsgi --ini /etc/godeploy/swiper.uwsgi.ini --chdir /opt/swiper/current --protocol http --module swiper.wsgi"},
		{swiper("custom", "bin/serve --name '$x'"), "/opt/swiper/current/bin/serve --name $$x"},
	} {
		unit, err := Unit(c.service)
		if err != nil || !strings.Contains(unit, "\nExecStart="+c.want+"\n") {
			t.Errorf("%s: %v\n%s\nwant %s", c.service.Command, err, unit, c.want)
		}
		if !Ours([]byte(unit)) || strings.Contains(unit, "WorkingDirectory=") != (c.service.Server == "custom") {
			t.Errorf("%s:\n%s", c.service.Command, unit)
		}
	}
}

func TestWholeUnit(t *testing.T) {
	t.Parallel()
	s := swiper("gunicorn", "gunicorn swiper.wsgi")
	s.Socket, s.EnvFile = true, "/opt/swiper/current/.env"
	files, err := s.Files()
	if err != nil || len(files) != 3 {
		t.Fatalf("got %v, %v", files, err)
	}
	want := Marker + `, which writes it anew. Changes of yours belong into a drop-in: systemctl edit swiper.service
[Unit]
Description=swiper, served by gunicorn
After=network.target
Requires=swiper.socket
After=swiper.socket

[Service]
Type=notify
PIDFile=/run/swiper/gunicorn.pid
User=deploy
Group=www
EnvironmentFile=-/opt/swiper/current/.env
RuntimeDirectory=swiper
ExecStart=gunicorn --config /etc/godeploy/swiper.gunicorn.py --chdir /opt/swiper/current --pid /run/swiper/gunicorn.pid swiper.wsgi
ExecReload=/bin/kill -s HUP $MAINPID
KillMode=mixed
TimeoutStopSec=25
LimitNOFILE=65535
Restart=on-failure
RestartSec=1

[Install]
WantedBy=multi-user.target
`
	if files[0].Text != want || files[0].Path != "/etc/systemd/system/swiper.service" {
		t.Errorf("%s:\n%s\nwant\n%s", files[0].Path, files[0].Text, want)
	}
	if f := files[1]; f.Path != "/etc/systemd/system/swiper.socket" || !strings.Contains(f.Text, "\nListenStream=10.0.0.1:9000\nBacklog=2048\nService=swiper.service\n") {
		t.Errorf("%s:\n%s", f.Path, f.Text)
	}
	if f := files[2]; f.Path != "/etc/godeploy/swiper.gunicorn.py" || !strings.Contains(f.Text, "\nworkers = 5\nbacklog = 2048\ntimeout = 30\ngraceful_timeout = 20\n") {
		t.Errorf("%s:\n%s", f.Path, f.Text)
	}
	for _, f := range files {
		if !Ours([]byte(f.Text)) {
			t.Errorf("%s lacks the marker", f.Path)
		}
	}
}

func TestSocketListens(t *testing.T) {
	t.Parallel()
	for bind, want := range map[string]string{
		":9000": "ListenStream=9000\n", "[::1]:9000": "ListenStream=[::1]:9000\n", "0.0.0.0:80": "ListenStream=0.0.0.0:80\n",
		"unix:/run/swiper.sock": "ListenStream=/run/swiper.sock\nBacklog=2048\nSocketUser=deploy\nSocketGroup=www\n",
	} {
		s := swiper("gunicorn", "gunicorn app")
		s.Bind = bind
		if got, err := Socket(s); err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: got %s, %v, want %s", bind, got, err, want)
		}
	}
	for _, bind := range []string{"", "host", "host:", "fd://3"} {
		s := swiper("gunicorn", "gunicorn app")
		s.Bind, s.Socket = bind, true
		if _, err := s.Files(); !fault.Is(err, fault.ConfigValue) {
			t.Errorf("%q: got %v, want a fault", bind, err)
		}
	}
}

func TestUnitRefuses(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"": "is needed", "cd src && gunicorn app": "needs a shell", "A=b gunicorn app": "needs a shell", "gunicorn $APP": "needs a shell", `gunicorn "`: "needs a shell",
	} {
		if _, err := Unit(swiper("gunicorn", command)); !fault.Is(err, fault.ConfigValue) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", command, err, want)
		}
	}
}

func TestWordsAreTheShells(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"a b", " a\t b ", `a 'b c' "d  e" f\ g`, `''`, `a "" b`, `a"b"'c'`, `"a\"b\\c\d"`, `'a\b'`, "a --x=y z"} {
		words, ok := Words(line)
		out, err := exec.Command("sh", "-c", `printf '%s\0' `+line).Output()
		if err != nil || !ok || strings.Join(words, "\x00")+"\x00" != string(out) {
			t.Errorf("%s: got %q, %v; the shell has %q, %v", line, words, ok, out, err)
		}
	}
	for _, line := range []string{"", "  ", "a; b", "a $b", "a `b`", "a > b", "a*", "a & b", "~/a", `a "b`, "a 'b", `a "$b"`, "A=1 b", "a\nb", "a #b", "(a)", `a "` + "`b`" + `"`} {
		if words, ok := Words(line); ok {
			t.Errorf("%q: got %q, want it to be left to a shell", line, words)
		}
	}
}

func FuzzWords(f *testing.F) {
	f.Add(`a 'b' "c\" d" e\ f`)
	f.Fuzz(func(t *testing.T, text string) {
		words, ok := Words(text)
		if !ok {
			return
		}
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = quote(w)
		}
		if again, _ := Words(strings.Join(quoted, " ")); !slices.Equal(again, words) {
			t.Errorf("%q: got %q, and quoted again %q", text, words, again)
		}
	})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	words := strings.Fields("gunicorn -b :1 --bind=:2 --bind :3 -b:4 --bind-x :5 -w4 app --pid")
	if v, ok := Option(words, "--bind", "-b"); !ok || v != ":4" {
		t.Errorf("got %q, %v, want the last one", v, ok)
	}
	if v, ok := Option(words, "-w", "--workers"); !ok || v != "4" {
		t.Errorf("got %q, %v", v, ok)
	}
	if got := strings.Join(Without(words, "--bind", "-b", "--pid"), " "); got != "gunicorn --bind-x :5 -w4 app" {
		t.Errorf("got %s", got)
	}
	if _, ok := Option(words, "--chdir"); ok {
		t.Error("found what is not there")
	}
}

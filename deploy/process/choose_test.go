package process

import (
	"strings"
	"testing"

	"godeploy/deploy"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

func TestChooseHowToRestart(t *testing.T) {
	t.Parallel()
	const current = "/opt/swiper/current"
	gunicorn := inventory.Process{Server: "gunicorn", Graceful: "auto"}
	for _, tt := range []struct {
		name     string
		process  inventory.Process
		command  string
		graceful bool
		want     string
	}{
		{"follows current", gunicorn, "/usr/bin/gunicorn --chdir /opt/swiper/current app.wsgi", true, viaHUP},
		{"joined by =", gunicorn, "/usr/bin/gunicorn --chdir=/opt/swiper/current/ app.wsgi", true, viaHUP},
		{"quoted", gunicorn, `gunicorn --chdir "/opt/swiper/current" app.wsgi`, true, viaHUP},
		{"a release's own folder", gunicorn, "gunicorn --chdir /opt/swiper/releases/x app.wsgi", true, viaRestart},
		{"WorkingDirectory only", gunicorn, "gunicorn app.wsgi", true, viaRestart},
		{"preload keeps old code", gunicorn, "gunicorn --preload --chdir /opt/swiper/current app.wsgi", true, viaRestart},
		{"a full restart was asked for", gunicorn, "gunicorn --chdir /opt/swiper/current app.wsgi", false, viaRestart},
		{"unknown command", gunicorn, "", true, viaRestart},
		{"custom server", inventory.Process{Server: "custom", Graceful: "auto"}, "server --chdir /opt/swiper/current", true, viaRestart},
		{"custom server that is said to reload", inventory.Process{Server: "custom", Graceful: "HUP"}, "server", true, viaHUP},
		{"said to restart", inventory.Process{Server: "gunicorn", Graceful: "restart"}, "gunicorn --chdir /opt/swiper/current", true, viaRestart},
		{"from the file's own command", inventory.Process{Server: "gunicorn", Graceful: "auto", Command: ".venv/bin/gunicorn --chdir {{.App.Current}} app.wsgi"}, "", true, viaHUP},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := found{Command: strings.Fields(tt.command), Preloads: strings.Contains(tt.command, "--preload")}
			got := choose(tt.process, f, current, tt.graceful)
			if got.How != tt.want || got.Why == "" {
				t.Errorf("got %q because %q, want %q", got.How, got.Why, tt.want)
			}
		})
	}
}

// A unit that is on its way up, or fails and is started again and again, has a main process that HUP would end.
func TestChooseDoesNotTellWhatIsNotUp(t *testing.T) {
	t.Parallel()
	const current = "/opt/swiper/current"
	p := inventory.Process{Server: "gunicorn", Graceful: "hup"}
	f := found{Command: strings.Fields("gunicorn --chdir /opt/swiper/current app.wsgi"), Booting: true}
	if got := choose(p, f, current, true); got.How != viaRestart {
		t.Errorf("got %q because %q, want %q", got.How, got.Why, viaRestart)
	}
	master, worker := wire.Proc{PID: 7}, wire.Proc{PID: 8}
	s := &Service{env: &inventory.Env{Config: inventory.Config{Process: p}}}
	for _, tt := range []struct {
		state string
		procs []wire.Proc
		want  bool
	}{
		{"active", []wire.Proc{master, worker}, false},
		{"reloading", []wire.Proc{master, worker}, false},
		{"activating", []wire.Proc{master, worker}, true},
		{"deactivating", []wire.Proc{master, worker}, true},
		{"active", []wire.Proc{master}, true},
	} {
		if got := s.booting(found{State: tt.state, Workers: len(tt.procs) - 1}); got != tt.want {
			t.Errorf("%s with %d processes: got %v, want %v", tt.state, len(tt.procs), got, tt.want)
		}
	}
}

// The unit was edited and nobody restarted what runs: HUP would go to a master of the old kind.
func TestChooseGoesByWhatRuns(t *testing.T) {
	t.Parallel()
	const current = "/opt/swiper/current"
	p := inventory.Process{Server: "gunicorn", Graceful: "auto"}
	unit := strings.Fields("/usr/bin/gunicorn --chdir /opt/swiper/current app.wsgi")
	for running, want := range map[string]string{
		"/usr/bin/python3 /usr/bin/gunicorn --chdir /opt/swiper app.wsgi":         viaRestart,
		"/usr/bin/python3 /usr/bin/gunicorn --chdir /opt/swiper/current app.wsgi": viaHUP,
		"python3 -m gunicorn --preload --chdir /opt/swiper/current app.wsgi":      viaRestart,
		"gunicorn: master [app.wsgi]":                                             viaHUP, // no words to go by: the unit's
		"":                                                                        viaHUP,
	} {
		got := choose(p, found{Command: unit, Running: strings.Fields(running), Preloads: strings.Contains(running, "--preload")}, current, true)
		if got.How != want {
			t.Errorf("%q: got %q because %q, want %q", running, got.How, got.Why, want)
		}
	}
}

func TestUnitsThatCanNeverServeARelease(t *testing.T) {
	t.Parallel()
	const current = "/opt/swiper/current"
	for _, tt := range []struct {
		command, dir string
		strays       bool
	}{
		{"/usr/bin/gunicorn --chdir /opt/swiper/current app.wsgi", "", false},
		{"/usr/bin/gunicorn --chdir /opt/swiper app.wsgi", "", true},
		{"/usr/bin/gunicorn --chdir=/opt/swiper app.wsgi", current, true},
		{"/usr/bin/gunicorn --chdir /opt/swiper --chdir /opt/swiper/current/src app.wsgi", "", false},
		{"/usr/bin/gunicorn app.wsgi", "/opt/swiper", true},
		{"/usr/bin/gunicorn app.wsgi", current, false},
		{"/usr/bin/gunicorn -c conf.py app.wsgi", "/opt/swiper", false},
		{"/usr/bin/gunicorn app.wsgi", "", false},
		{"/usr/bin/node server.js", "/opt/swiper", false},
		{"", "/opt/swiper", false},
	} {
		if why := strays(strings.Fields(tt.command), tt.dir, current); (why != "") != tt.strays {
			t.Errorf("%q in %q: got %q, want it to stray: %v", tt.command, tt.dir, why, tt.strays)
		}
	}
}

func TestSystemctlShowIsRead(t *testing.T) {
	t.Parallel()
	const text = `LoadState=loaded
ActiveState=active
MainPID=4711
ExecStart={ path=/usr/bin/gunicorn ; argv[]=/usr/bin/gunicorn --chdir /opt/swiper/current -c conf.py swiper.wsgi ; ignore_errors=no ; start_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }
Environment=A=1 B=two
EnvironmentFiles=/opt/swiper/shared/.env (ignore_errors=no)
EnvironmentFiles=/etc/default/swiper (ignore_errors=yes)
`
	props := properties(text)
	if props["MainPID"] != "4711" || props["LoadState"] != "loaded" {
		t.Errorf("got %v", props)
	}
	if n := strings.Count(props["EnvironmentFiles"], "\n"); n != 1 {
		t.Errorf("got %q, want both files", props["EnvironmentFiles"])
	}
	got := strings.Join(deploy.ExecStart(props["ExecStart"]), " ")
	if want := "/usr/bin/gunicorn --chdir /opt/swiper/current -c conf.py swiper.wsgi"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if deploy.ExecStart("") != nil {
		t.Error("an empty ExecStart has no words")
	}
}

func TestEnvironFile(t *testing.T) {
	t.Parallel()
	const text = "# comment\n; another\n\nA=1\nB = \"two words\" \n'C'\nD='x=y'\r\nE=\n"
	got := strings.Join(environFile(text), "|")
	if want := "A=1|B=two words|D=x=y|E="; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDerivedCheckLooksAtTheStagedRelease(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ command, want string }{
		{"/usr/bin/gunicorn --chdir /opt/s/current s.wsgi", "exec /usr/bin/gunicorn --chdir /opt/s/current s.wsgi --check-config --chdir /opt/s/releases/x"},
		{"/usr/bin/python3 /usr/bin/gunicorn s.wsgi", "exec /usr/bin/python3 /usr/bin/gunicorn s.wsgi --check-config --chdir /opt/s/releases/x"},
		{"/usr/bin/gunicorn -c /opt/s/current/conf.py s.wsgi", "exec /usr/bin/gunicorn -c /opt/s/releases/x/conf.py s.wsgi --check-config --chdir /opt/s/releases/x"},
		{"/opt/s/.venv/bin/python -m gunicorn s.wsgi", "exec /opt/s/.venv/bin/python -m gunicorn s.wsgi --check-config --chdir /opt/s/releases/x"},
		{"/usr/bin/gunicorn --bind ${ADDR} s.wsgi", ""},
		{"/usr/bin/node server.js", ""},
		{"", ""},
	} {
		if got := derived(strings.Fields(tt.command), "/opt/s/current", "/opt/s/releases/x"); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.command, got, tt.want)
		}
	}
}

func TestShapeCountsWorkers(t *testing.T) {
	t.Parallel()
	for n, want := range []string{"process 7 runs", "main process 7, 1 worker,", "main process 7, 2 workers, all"} {
		procs := append([]wire.Proc{{PID: 7}}, make([]wire.Proc, n)...)
		if got := shape(procs); got != want {
			t.Errorf("%d workers: %q, want %q", n, got, want)
		}
	}
}

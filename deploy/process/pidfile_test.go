package process

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// noting is a host on which every command succeeds; it keeps which there were.
type noting struct {
	deploy.Host
	facts wire.HelloReply
	ran   []string
}

func (h *noting) Inventory() inventory.Host { return inventory.Host{Name: "app1"} }
func (h *noting) Facts() wire.HelloReply    { return h.facts }
func (h *noting) Exec(_ context.Context, req wire.ExecRequest, _ func(string, []byte)) (wire.ExecReply, error) {
	h.ran = append(h.ran, req.User+": "+strings.Join(req.Argv[:min(len(req.Argv), 5)], " "))
	return wire.ExecReply{}, nil
}

func byPidfile(t *testing.T, more, pidfile string) *Service {
	t.Helper()
	f, err := inventory.Parse("godeploy.toml", []byte(`version = 1
[app]
name = "shop"
path = "/opt/shop"
`+more+`
[shared]
dirs = ["logs", "run/a"]
[process]
manager = "pidfile"
pidfile = "`+pidfile+`"
command = "gunicorn --chdir {{.App.Current}} shop.wsgi"
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

// A pid file inside the release is another one after the switch: the server would be started twice.
func TestPidfileMustOutliveASwitch(t *testing.T) {
	t.Parallel()
	for file, fine := range map[string]bool{
		"/run/shop.pid": true, "logs/shop.pid": true, "run/a/shop.pid": true,
		"shop.pid": false, "run/shop.pid": false, "logs2/shop.pid": false,
	} {
		err := byPidfile(t, "", file).Ready(t.Context(), &noting{})
		if fine && err != nil || !fine && !fault.Is(err, fault.ConfigValue) {
			t.Errorf("%s: got %v, want fine to be %v", file, err, fine)
		}
	}
}

// The log lies in a folder of the login's: a server that runs as somebody else could not open it, and
// the shell that starts it would end without a word.
func TestLogIsTheOwnersBeforeTheStart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, owner string
		facts       wire.HelloReply
		want        []string
	}{
		{"the login runs it", "", wire.HelloReply{User: "deploy", UID: 1000}, nil},
		{"the owner is the login", `owner = "deploy:deploy"`, wire.HelloReply{User: "deploy", UID: 1000}, nil},
		{"the login is root", `owner = "deploy:deploy"`, wire.HelloReply{User: "root"},
			[]string{": touch -- /opt/shop/.godeploy/service.log", ": chown -h deploy -- /opt/shop/.godeploy/service.log"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := &noting{facts: tt.facts}
			s := byPidfile(t, tt.owner, "logs/shop.pid")
			if err := (pidfile{s}).start(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			if n := len(h.ran) - 1; strings.Join(h.ran[:n], "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("before the start: got %q, want %q", h.ran[:n], tt.want)
			}
			if last := h.ran[len(h.ran)-1]; !strings.Contains(last, "/bin/sh -c") {
				t.Errorf("started by %q", last)
			}
		})
	}
}

// reloading is a host whose gunicorn rewrites its pid file on HUP, as gunicorn does: for a few looks
// there is none. Its workers are replaced meanwhile.
type reloading struct {
	noting
	hung bool
	look int // since the HUP
}

func (h *reloading) Exec(_ context.Context, req wire.ExecRequest, output func(string, []byte)) (wire.ExecReply, error) {
	if req.Argv[0] == "readlink" { // no links on the way
		output("stdout", []byte(req.Argv[len(req.Argv)-1]+"\n"))
	}
	return wire.ExecReply{}, nil
}

func (h *reloading) File(context.Context, wire.FileRequest) (wire.FileReply, error) {
	return wire.FileReply{Exists: !h.hung || h.look > 3, Content: []byte("172\n")}, nil
}

func (h *reloading) Signal(context.Context, wire.SignalRequest) error {
	h.hung = true
	return nil
}

func (h *reloading) Procs(context.Context, int) ([]wire.Proc, error) {
	const old, now = "/opt/shop/releases/20261123-104107-4f2c9e1", "/opt/shop/releases/20261123-114107-4f2c9e2"
	args := strings.Fields("gunicorn --chdir /opt/shop/current shop.wsgi")
	worker := wire.Proc{PID: 173, PPID: 172, Start: 2, CWD: old}
	if h.hung {
		h.look++
	}
	if h.look > 2 {
		worker = wire.Proc{PID: 174, PPID: 172, Start: 3, CWD: now}
	}
	return []wire.Proc{{PID: 172, Start: 1, CWD: old, Args: args}, worker}, nil
}

func TestAPidfileThatIsRewrittenOnHUPIsNoDeath(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := byPidfile(t, "", "logs/shop.pid")
		if err := s.Restart(t.Context(), &reloading{}, "20261123-114107-4f2c9e2", true); err != nil {
			t.Error(err)
		}
	})
}

// failing is a host whose service ends at once, again and again, until it is started anew.
type failing struct {
	reloading
	started bool
}

func (h *failing) Exec(ctx context.Context, req wire.ExecRequest, output func(string, []byte)) (wire.ExecReply, error) {
	if req.Keep {
		h.started = true
	}
	return h.reloading.Exec(ctx, req, output)
}

func (h *failing) File(context.Context, wire.FileRequest) (wire.FileReply, error) {
	return wire.FileReply{Exists: !h.hung || h.started, Content: []byte("172\n")}, nil
}

func (h *failing) Signal(context.Context, wire.SignalRequest) error {
	h.hung = true
	return fault.New(fault.ExecFailed, "process 172 has ended")
}

func (h *failing) Procs(ctx context.Context, pid int) ([]wire.Proc, error) {
	if h.hung && !h.started {
		return nil, nil
	}
	return h.reloading.Procs(ctx, pid)
}

func TestAServiceThatEndsByItselfIsStarted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &failing{}
		if err := byPidfile(t, "", "logs/shop.pid").Restart(t.Context(), h, "20261123-114107-4f2c9e2", true); err != nil || !h.started {
			t.Errorf("got %v, started %v", err, h.started)
		}
	})
}

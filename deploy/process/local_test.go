package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/sshtest"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// local is a host that is this machine: commands are run, processes are looked at.
type local struct{ deploy.Host }

func (local) Inventory() inventory.Host { return inventory.Host{Name: "here", Address: "127.0.0.1"} }
func (local) Facts() wire.HelloReply    { return wire.HelloReply{UID: os.Getuid(), OS: "linux"} }

func (local) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (local) Exec(ctx context.Context, req wire.ExecRequest, output func(string, []byte)) (wire.ExecReply, error) {
	if req.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, req.Timeout)
		defer stop()
	}
	cmd := exec.CommandContext(ctx, req.Argv[0], req.Argv[1:]...)
	cmd.Dir, cmd.Env = req.Dir, []string{"PATH=" + os.Getenv("PATH"), "PWD=" + req.Dir, "PYTHONDONTWRITEBYTECODE=1"}
	for k, v := range req.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	var mu sync.Mutex
	cmd.Stdout, cmd.Stderr = sink(func(p []byte) { mu.Lock(); output("stdout", p); mu.Unlock() }), sink(func(p []byte) { mu.Lock(); output("stderr", p); mu.Unlock() })
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return wire.ExecReply{}, err
	}
	return wire.ExecReply{Exit: cmd.ProcessState.ExitCode()}, ctx.Err()
}

type sink func([]byte)

func (s sink) Write(p []byte) (int, error) { s(p); return len(p), nil }

func (local) Procs(_ context.Context, pid int) ([]wire.Proc, error) {
	first, ok := procAt(pid)
	if !ok {
		return nil, nil
	}
	list := []wire.Proc{first}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		n, _ := strconv.Atoi(filepath.Base(dir))
		if p, ok := procAt(n); ok && p.PPID == pid {
			list = append(list, p)
		}
	}
	return list, nil
}

func procAt(pid int) (wire.Proc, bool) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	text, err := os.ReadFile(dir + "stat")
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if err != nil || len(f) < 20 || f[0] == "Z" {
		return wire.Proc{}, false
	}
	p := wire.Proc{PID: pid, UID: os.Getuid()}
	p.PPID, _ = strconv.Atoi(f[1])
	p.Start, _ = strconv.ParseUint(f[19], 10, 64)
	p.CWD, _ = os.Readlink(dir + "cwd")
	args, _ := os.ReadFile(dir + "cmdline")
	p.Args = strings.Split(strings.TrimRight(string(args), "\x00"), "\x00")
	return p, true
}

func (local) Signal(_ context.Context, req wire.SignalRequest) error {
	names := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL, "USR2": syscall.SIGUSR2}
	if p, ok := procAt(req.PID); !ok || p.Start != req.Start {
		return os.ErrProcessDone
	}
	return syscall.Kill(req.PID, names[req.Signal])
}

func (local) File(_ context.Context, req wire.FileRequest) (wire.FileReply, error) {
	b, err := os.ReadFile(req.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return wire.FileReply{}, nil
	}
	return wire.FileReply{Exists: true, Content: b}, err
}

func (local) State(context.Context, []string) (wire.State, error) { return wire.State{}, nil }

// heard keeps what was reported.
type heard struct {
	mu   sync.Mutex
	list []event.Event
}

func (l *heard) Report(e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, e)
}

func (l *heard) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, e := range l.list {
		b.WriteString(e.Msg + "\n")
	}
	return b.String()
}

const goodApp = `import os
def app(env, start):
    start(os.environ.get("STATUS", "200 OK"), [("Content-Type", "text/plain"), ("X-Release", os.path.basename(os.getcwd()))])
    return [b"ok"]
`

// shop is an app below a folder of the test's own, whose processes end with the test.
type shop struct {
	t    *testing.T
	path string
	port int
	log  *heard
	*Service
}

// newShop makes the app with two releases, of which "one" is current. The lines are [process]'s.
func newShop(t *testing.T, tool, process, more string) *shop {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatalf("%s is needed", tool)
		}
		t.Skipf("%s is not installed", tool)
	}
	s := &shop{t: t, path: filepath.Join(t.TempDir(), "shop"), port: sshtest.FreePort(t, "127.0.0.1"), log: &heard{}}
	for _, id := range []string{"one", "two"} {
		s.write(id, goodApp)
	}
	if err := errors.Join(os.MkdirAll(s.path+"/shared/run", 0o755), os.MkdirAll(s.path+"/.godeploy", 0o755)); err != nil {
		t.Fatal(err)
	}
	s.point("one")
	text := fmt.Sprintf("version = 1\n[app]\nname = \"shop\"\npath = %q\n[process]\nstop_timeout = \"4s\"\nmanager = \"pidfile\"\npidfile = \"%s/shared/run/pid\"\nbind = \"127.0.0.1:%d\"\n%s\n"+
		"[health]\nurl = \"http://127.0.0.1:%d/\"\ninterval = \"50ms\"\ntimeout = \"20s\"\ntries = 4\n%s\n[env.test.hosts]\nhere = { role = \"app\", address = \"127.0.0.1\" }\n",
		s.path, s.path, s.port, strings.ReplaceAll(process, "PORT", strconv.Itoa(s.port)), s.port, more)
	f, err := inventory.Parse("godeploy.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := f.Env("test")
	if err != nil {
		t.Fatal(err)
	}
	s.Service = New(env, s.log)
	t.Cleanup(s.close)
	return s
}

func (s *shop) write(id, app string) {
	s.t.Helper()
	dir := s.path + "/releases/" + id
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(dir+"/site.ini", []byte("[uwsgi]\nplugin = python3\nmodule = shopapp:app\nmaster = true\nhttp-socket = 127.0.0.1:1\nchdir = "+s.path+"/current\n"), 0o644),
		os.WriteFile(dir+"/shopapp.py", []byte(app), 0o644)); err != nil {
		s.t.Fatal(err)
	}
}

// point makes a release the current one.
func (s *shop) point(id string) {
	s.t.Helper()
	if err := errors.Join(os.Symlink("releases/"+id, s.path+"/new"), os.Rename(s.path+"/new", s.path+"/current")); err != nil {
		s.t.Fatal(err)
	}
}

// close ends what works in the app's folder.
func (s *shop) close() {
	deadline := time.Now().Add(30 * time.Second)
	for {
		left := 0
		all, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range all {
			if cwd, err := os.Readlink(dir + "/cwd"); err == nil && strings.HasPrefix(cwd, s.path+"/") {
				pid, _ := strconv.Atoi(filepath.Base(dir))
				if p, ok := procAt(pid); ok && pid != os.Getpid() {
					_ = syscall.Kill(p.PID, syscall.SIGKILL)
					left++
				}
			}
		}
		if left == 0 || time.Now().After(deadline) {
			return
		}
		time.Sleep(20 * time.Millisecond) // a killed process takes a moment to be gone
	}
}

// want fails the test unless an error is nil or says so.
func (s *shop) want(err error, says string) {
	s.t.Helper()
	if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
		s.t.Fatalf("got %v, want %q; told:\n%s", err, says, s.log.text())
	}
}

// explained is an error with its facts.
func explained(err error) string {
	var b strings.Builder
	for _, f := range fault.All(err) {
		b.WriteString(f.Error() + "\n" + strings.Join(f.Facts, "\n") + "\n")
	}
	return b.String()
}

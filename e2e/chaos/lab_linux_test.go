package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"godeploy/deploy"
	"godeploy/deploy/overssh"
	"godeploy/deploy/process"
	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
	filesync "godeploy/sync"
)

// canary is a secret of the app's that must never be written down anywhere else (I14).
const canary = "CANARY-7f3a9c51"

// lab is a fleet of three hosts, each a folder with an app in it, a service and a helper of its own.
type lab struct {
	t     *testing.T
	dir   string
	env   *inventory.Env
	clock time.Time
	known map[string]string // release id to the name of its version
	boot  string            // boot id of all hosts; "" is the kernel's
	disk  *disk             // of host b, where its power is cut

	mu  sync.Mutex // clock, known and log
	log []string   // what the last run reported
}

// hostNames in the order of the file.
func hostNames() []string { return []string{"a", "b", "c"} }

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), known: map[string]string{}, clock: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)}
	for _, d := range []string{"bin", "src"} {
		l.must(os.Mkdir(filepath.Join(l.dir, d), 0o755))
	}
	l.scripts()
	l.empty()
	l.configure(l.serve())
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) put(path, content string, mode os.FileMode) {
	l.t.Helper()
	l.must(os.MkdirAll(filepath.Dir(path), 0o755))
	l.must(os.WriteFile(path, []byte(content), mode))
}

// empty gives every host a folder for an app that was never released.
func (l *lab) empty() {
	for _, h := range hostNames() {
		l.must(os.RemoveAll(l.host(h)))
		l.must(os.MkdirAll(filepath.Join(l.host(h), "run"), 0o755))
		l.must(os.MkdirAll(filepath.Join(l.shop(h), "shared"), 0o755))
		l.put(filepath.Join(l.shop(h), "shared/secret.env"), "KEY="+canary+"\n", 0o600)
	}
}

func (l *lab) host(h string) string { return filepath.Join(l.dir, "hosts", h) }
func (l *lab) shop(h string) string { return filepath.Join(l.host(h), "shop") }

// scripts are the app's hooks. What the service serves is what its restart reads through current: the
// release, and the first line of its code. A killed one leaves the service as it was.
func (l *lab) scripts() {
	head := `#!/bin/sh
set -eu
run=${GODEPLOY_PATH%/shop}/run
echo "begin ${GODEPLOY_RELEASE:-none} $$" >>"$run/log"
trap 'echo "end ${GODEPLOY_RELEASE:-none} $$" >>"$run/log"' EXIT
`
	restart := head + `read -r code <"$GODEPLOY_CURRENT/app.txt"
to=$(readlink "$GODEPLOY_CURRENT")
printf '%s\n%s\n' "${to##*/}" "$code" >"$run/serving.new"
mv "$run/serving.new" "$run/serving"
`
	l.put(filepath.Join(l.dir, "bin/restart"), restart, 0o755)
	l.put(filepath.Join(l.dir, "bin/stop"), head+"rm -f \"$run/serving\"\n", 0o755)
	l.put(filepath.Join(l.dir, "bin/build"), head+"[ -r secret.env ]\necho built >.built\n", 0o755)
}

// serve is the service of every host: it answers for what its restart has read.
func (l *lab) serve() (address string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	l.must(err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, code := l.serving(strings.Trim(r.URL.Path, "/"))
		w.Header().Set("X-Release", id)
		if !healthy(strings.Trim(r.URL.Path, "/"), code) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	l.t.Cleanup(func() { _ = server.Close(); <-done })
	return listener.Addr().String()
}

// serving is what a host's service serves right now, "" for nothing.
func (l *lab) serving(h string) (id, code string) {
	b, err := os.ReadFile(filepath.Join(l.host(h), "run/serving"))
	if err != nil {
		return "", ""
	}
	id, code, _ = strings.Cut(strings.TrimSpace(string(b)), "\n")
	return id, code
}

// healthy: code says on which host it does not come up.
func healthy(h, code string) bool { return code != "" && !strings.Contains(code, "bad-on-"+h) }

func (l *lab) configure(address string) {
	text := fmt.Sprintf(`version = 1
[app]
name = "shop"
path = "%[1]s/hosts/{{.Host.Name}}/shop"
keep = 3
[shared]
dirs = ["data"]
files = ["secret.env"]
[process]
manager = "command"
[release]
batch = "1"
[health]
url = "http://%[2]s/{{.Host.Name}}"
interval = "10ms"
timeout = "10s"
tries = 3
settle = "0s"
release_header = "X-Release"
[hooks]
release = ["%[1]s/bin/build"]
start = ["%[1]s/bin/restart"]
restart = ["%[1]s/bin/restart"]
stop = ["%[1]s/bin/stop"]
[env.test.hosts]
a = { role = "app", address = "127.0.0.1" }
b = { role = "app", address = "127.0.0.2" }
c = { role = "app", address = "127.0.0.3" }
`, l.dir, address)
	f, err := inventory.Parse("godeploy.toml", []byte(text), nil)
	l.must(err)
	l.env, err = f.Env("test")
	l.must(err)
}

// version makes a source tree, once, and names it; bad names the host on which it does not come up.
func (l *lab) version(name, bad string) string {
	dir := filepath.Join(l.dir, "src", name)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	code := "code of " + name
	if bad != "" {
		code += " bad-on-" + bad
	}
	l.put(filepath.Join(dir, "app.txt"), code+"\n", 0o644)
	l.put(filepath.Join(dir, "bin/run"), "#!/bin/sh\n# "+name+"\n", 0o755)
	l.put(filepath.Join(dir, "lib/same.py"), strings.Repeat("the same in every version\n", 200), 0o644)
	l.put(filepath.Join(dir, "lib/deep/er/"+name+".py"), strings.Repeat(name+"\n", 3000), 0o600)
	l.put(filepath.Join(dir, "static/empty"), "", 0o644)
	l.must(os.Symlink("../app.txt", filepath.Join(dir, "lib/link")))
	return dir
}

// run is one command over the fleet as an operator would give it.
type run struct {
	command string // release or rollback
	version string
	bad     string
	ask     string
}

// crew is what a run works with: connected hosts and the processes behind them.
type crew struct {
	l       *lab
	tap     *tap
	mu      sync.Mutex
	helpers []*helperProcess
	dead    bool // the controller is
}

type helperProcess struct {
	host  string
	cmd   *exec.Cmd
	pipe  io.ReadWriteCloser
	ended chan struct{}
}

// spawn starts a helper for a host with a fault of its own.
func (c *crew) spawn(ctx context.Context, h inventory.Host, env []string, o wire.Options) (deploy.Host, error) {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		// Nobody is there to try again; this is the one answer after which a run does not.
		return nil, fault.New(fault.LockHeld, "the controller is dead")
	}
	if c.l.boot != "" {
		env = append(slices.Clone(env), bootEnv+"="+c.l.boot)
	}
	p, err := startHelper(h.Name, env)
	if err == nil {
		c.helpers = append(c.helpers, p)
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return overssh.Over(ctx, c.l.env, h, c.tap.pipe(h.Name, p.pipe), o)
}

type ends struct {
	io.WriteCloser
	out *os.File
}

func (e *ends) Read(b []byte) (int, error) { return e.out.Read(b) }
func (e *ends) Close() error               { return errors.Join(e.WriteCloser.Close(), e.out.Close()) }

func startHelper(host string, env []string) (*helperProcess, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), helperEnv+"=1"), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = w
	err = errors.Join(cmd.Start(), w.Close())
	if err != nil {
		return nil, err
	}
	p := &helperProcess{host: host, cmd: cmd, pipe: &ends{in, r}, ended: make(chan struct{})}
	go func() { defer close(p.ended); _ = cmd.Wait() }()
	return p, nil
}

// kill ends the helper of a host at once.
func (c *crew) kill(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.helpers {
		if p.host == host || host == "" {
			_ = p.cmd.Process.Kill() // it may have ended
			<-p.ended
		}
	}
}

// cut is the end of the controller as the hosts see it: every pipe closes, and no new one comes.
func (c *crew) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	for _, p := range c.helpers {
		_ = p.pipe.Close()
	}
}

// await waits until every helper has ended and says how long that took.
func (c *crew) await(limit time.Duration) (time.Duration, error) {
	began := time.Now()
	timeout := time.After(limit)
	c.mu.Lock()
	helpers := slices.Clone(c.helpers)
	c.mu.Unlock()
	for _, p := range helpers {
		select {
		case <-p.ended:
		case <-timeout:
			_ = p.cmd.Process.Kill()
			return limit, fmt.Errorf("the helper of %s goes on after %s", p.host, limit)
		}
	}
	return time.Since(began), nil
}

// Report keeps what a run says, for the one who reads a failed test.
func (l *lab) Report(e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Type != event.Progress && len(l.log) < 400 {
		l.log = append(l.log, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", e.Type, e.Host, e.Msg, e.Error)))
	}
}

// marker is a line of the test's own in what was told.
func marker(text string) event.Event { return event.Event{Type: event.Info, Msg: "--- " + text} }

func (l *lab) told() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.log, "\n")
}

// fleet connects a crew; faults gives the environment of each host's first helper.
func (l *lab) fleet(ctx context.Context, c *crew, who string, faults map[string][]string, o wire.Options) (*deploy.Fleet, error) {
	l.mu.Lock()
	now := l.clock
	l.mu.Unlock()
	f := &deploy.Fleet{
		Env: l.env, Service: process.New(l.env, l), Local: hooks.Local{}, Report: l, Parallel: 4,
		Holder: wire.Holder{Who: who, Run: fmt.Sprintf("%s-%d", who, now.Unix()), PID: os.Getpid()},
		Dir:    l.dir,
	}
	f.Now = func() time.Time { return now }
	f.Again = func(ctx context.Context, h inventory.Host) (deploy.Host, error) { return c.spawn(ctx, h, nil, o) }
	for _, h := range l.env.Hosts {
		host, err := c.spawn(ctx, h, faults[h.Name], o)
		if err != nil {
			overssh.Close(f.Hosts)
			return nil, err
		}
		f.Hosts = append(f.Hosts, host)
	}
	return f, nil
}

// do carries a run out over a connected fleet.
func (l *lab) do(ctx context.Context, f *deploy.Fleet, r run) (*deploy.Result, error) {
	if r.command == "rollback" {
		return f.Rollback(ctx, r.ask, "")
	}
	var src *filesync.Source
	defer func() {
		if src != nil {
			_ = src.Close()
		}
	}()
	return f.Release(ctx, deploy.Want{Scan: func(ctx context.Context) (_ *filesync.Source, err error) {
		src, err = filesync.Scan(ctx, l.version(r.version, r.bad), filesync.ScanOptions{})
		return src, err
	}})
}

// tick moves the clock: every run has an id of its own.
func (l *lab) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock = l.clock.Add(time.Minute)
}

// learned notes which version a release was made from.
func (l *lab) learned(id, version string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id != "" {
		l.known[id] = version
	}
}

// plain is a run in which nothing goes wrong, to its end.
func (l *lab) plain(r run) (*deploy.Result, *tap, error) {
	l.tick()
	t := newTap(0)
	c := &crew{l: l, tap: t}
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	f, err := l.fleet(ctx, c, "next", nil, wire.Options{})
	if err != nil {
		return nil, t, err
	}
	result, err := l.do(ctx, f, r)
	overssh.Close(f.Hosts)
	_, aerr := c.await(30 * time.Second)
	if r.command == "release" {
		l.learned(result.Release, r.version)
	}
	return result, t, errors.Join(err, aerr)
}

package balance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/sshtest"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

const (
	virtualRoot    = "/srv/front/nginx"
	virtualAddress = "127.99.0.1"
	virtualHex     = "0100637F"
)

// front is an nginx host in this very process's machine: a real nginx with a folder and an address of its
// own. What is said to it and what it says is translated, so that several of them look alike, as hosts do.
type front struct {
	deploy.Host // what is not asked for here
	name        string
	dir         string
	address     string
	there, back *strings.Replacer
	path        string // of programs, before the usual ones
	halt        func() // ends the balancer, where the test has started it so

	mu     sync.Mutex
	before func(argv []string) error // may stand in the way of a command
}

func (f *front) Inventory() inventory.Host { return inventory.Host{Name: f.name} }

func (f *front) Facts() wire.HelloReply { return wire.HelloReply{UID: os.Geteuid()} }

// stand puts something in the way of every command from now on; nil takes it away.
func (f *front) stand(before func(argv []string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

func (f *front) Exec(ctx context.Context, req wire.ExecRequest, output func(string, []byte)) (wire.ExecReply, error) {
	f.mu.Lock()
	before := f.before
	f.mu.Unlock()
	if before != nil {
		if err := before(req.Argv); err != nil {
			return wire.ExecReply{}, err
		}
	}
	argv := make([]string, len(req.Argv))
	for i, a := range req.Argv {
		argv[i] = f.there.Replace(a)
	}
	ctx, cancel := context.WithTimeout(ctx, req.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(f.there.Replace(string(req.Stdin)))
	cmd.Env = []string{"PATH=" + f.path + "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	output("stdout", []byte(f.back.Replace(stdout.String())))
	output("stderr", []byte(f.back.Replace(stderr.String())))
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return wire.ExecReply{Exit: exit.ExitCode()}, nil
	}
	return wire.ExecReply{}, err
}

func (f *front) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, f.there.Replace(address))
}

// sh runs a line on the host.
func (f *front) sh(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", f.there.Replace(line)).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %s: %v: %s", f.name, line, err, out)
	}
	return strings.TrimSpace(f.back.Replace(string(out)))
}

func (f *front) file(name string) string { return filepath.Join(f.dir, name) }

func (f *front) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(f.file(name), []byte(f.there.Replace(text)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (f *front) start(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("nginx", "-p", f.dir, "-c", f.file("nginx.conf")).CombinedOutput(); err != nil {
		t.Fatalf("start nginx: %v: %s", err, out)
	}
	t.Cleanup(func() { f.stop(t) })
}

// stop ends the nginx of this front, and waits until it has.
func (f *front) stop(t *testing.T) {
	pid, err := os.ReadFile(f.file("nginx.pid"))
	if err != nil || len(pid) == 0 { // nginx -t makes an empty one
		return
	}
	_ = exec.Command("kill", strings.TrimSpace(string(pid))).Run() // it may have ended
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(f.file("nginx.pid")); err != nil {
			return
		}
	}
	t.Errorf("nginx of %s does not end", f.name)
}

// config is a godeploy.toml for fronts; %d is the port.
const config = `version = 1
[app]
name = "swiper"
path = "/opt/swiper"
[process]
bind = "{{.Host.Address}}:9000"
[nginx]
conf = "/srv/front/nginx/nginx.conf"
file = "/srv/front/nginx/conf.d/godeploy-swiper.conf"
main_file = "/srv/front/nginx/main.d/60-godeploy.conf"
access_log = "/srv/front/nginx/access.log"
listen = "127.99.0.1:%d"
[env.prod.hosts]
lb1 = { role = "nginx", address = "192.0.2.11" }
lb2 = { role = "nginx", address = "192.0.2.12" }
app1 = { role = "app", address = "10.0.0.1", weight = 10 }
app2 = { role = "app", address = "10.0.0.2", weight = 20 }
app3 = { role = "app", address = "10.0.0.3", weight = 20 }
`

// newFronts makes two nginx hosts that run, and what pushes to them. more is added to [nginx].
func newFronts(t *testing.T, more string) (*Tier, []*front) {
	t.Helper()
	if _, err := exec.LookPath("nginx"); err != nil {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatal("nginx is not installed")
		}
		t.Skip("nginx is not installed")
	}
	port := sshtest.FreePort(t, "127.99.0.1")
	text := strings.Replace(fmt.Sprintf(config, port), "[env.prod.hosts]", more+"\n[env.prod.hosts]", 1)
	file, err := inventory.Parse("godeploy.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := file.Env("prod")
	if err != nil {
		t.Fatal(err)
	}
	n := &Tier{Env: env, Report: event.Discard{}, Settle: 5 * time.Second}
	var fronts []*front
	for i := range 2 {
		f := newFront(t, i)
		fronts, n.Hosts = append(fronts, f), append(n.Hosts, f)
	}
	return n, fronts
}

func newFront(t *testing.T, i int) *front {
	t.Helper()
	f := &front{name: fmt.Sprintf("lb%d", i+1), dir: t.TempDir(), address: fmt.Sprintf("127.99.0.%d", i+2)}
	hex := fmt.Sprintf("%02X00637F", i+2)
	f.there = strings.NewReplacer(virtualRoot, f.dir, virtualAddress, f.address, virtualHex, hex)
	f.back = strings.NewReplacer(f.dir, virtualRoot, f.address, virtualAddress, hex, virtualHex)
	for _, d := range []string{"conf.d", "main.d"} {
		if err := os.Mkdir(f.file(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n"
	}
	f.write(t, "nginx.conf", user+`pid /srv/front/nginx/nginx.pid;
error_log /srv/front/nginx/error.log;
worker_processes 2;
include main.d/*.conf;
events {}
http {
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    access_log off;
    include conf.d/*.conf;
}
`)
	f.start(t)
	return f
}

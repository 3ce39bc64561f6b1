package balance

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/sshtest"
	"godeploy/inventory"
)

const haproxyRoot = "/srv/front/haproxy"

// haproxyConfig is a godeploy.toml for HAProxy fronts; the first %d is the port.
const haproxyConfig = `version = 1
[app]
name = "swiper"
path = "/opt/swiper"
[process]
bind = "{{.Host.Address}}:9000"
[balancer]
kind = "haproxy"
file = "/srv/front/haproxy/conf.d/godeploy-swiper.cfg"
whole = false
socket = "/srv/front/haproxy/admin.sock"
listen = "127.99.0.1:%d"
[env.prod.hosts]
lb1 = { role = "haproxy", address = "192.0.2.11" }
lb2 = { role = "haproxy", address = "192.0.2.12" }
app1 = { role = "app", address = "10.0.0.1", weight = 10 }
app2 = { role = "app", address = "10.0.0.2", weight = 20 }
app3 = { role = "app", address = "10.0.0.3", weight = 20 }
`

// newHaproxyFronts makes two HAProxy hosts that run, and what pushes to them. more is added to [balancer].
func newHaproxyFronts(t *testing.T, more string) (*Tier, []*front) {
	t.Helper()
	if _, err := os.Stat("/usr/sbin/haproxy"); err != nil {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatal("haproxy is not installed")
		}
		t.Skip("haproxy is not installed")
	}
	text := strings.Replace(fmt.Sprintf(haproxyConfig, sshtest.FreePort(t, "127.99.0.1")), "[env.prod.hosts]", more+"\n[env.prod.hosts]", 1)
	file, err := inventory.Parse("godeploy.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := file.Env("prod")
	if err != nil {
		t.Fatal(err)
	}
	n := &Tier{Env: env, Report: event.Discard{}, Settle: 20 * time.Second}
	var fronts []*front
	for i := range 2 {
		f := newHaproxyFront(t, i)
		fronts, n.Hosts = append(fronts, f), append(n.Hosts, f)
	}
	return n, fronts
}

func newHaproxyFront(t *testing.T, i int) *front {
	t.Helper()
	dir, err := os.MkdirTemp("", "gd") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &front{name: fmt.Sprintf("lb%d", i+1), dir: dir, address: fmt.Sprintf("127.99.0.%d", i+2)}
	hex := fmt.Sprintf("%02X00637F", i+2)
	f.there = strings.NewReplacer(haproxyRoot, f.dir, virtualAddress, f.address, virtualHex, hex)
	f.back = strings.NewReplacer(f.dir, haproxyRoot, f.address, virtualAddress, hex, virtualHex)
	if err := os.Mkdir(f.file("conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	f.write(t, "main.cfg", "global\n    log 127.0.0.1 local0\ndefaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\nfrontend own\n    bind unix@"+haproxyRoot+"/own.sock\n")
	f.startHaproxy(t)
	return f
}

// startHaproxy starts a master that reads main.cfg and the folder, and waits for its worker.
func (f *front) startHaproxy(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/usr/sbin/haproxy", "-W", "-f", f.file("main.cfg"), "-f", f.file("conf.d"), "-p", f.file("pid"))
	log, err := os.Create(f.file("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is ended by a signal
		close(ended)
	}()
	f.halt = func() {
		_ = cmd.Process.Kill() // workers end with their master
		<-ended
		f.halt = func() {}
	}
	t.Cleanup(func() { f.halt() })
	waitFor(t, "the first worker", func() bool {
		c, err := net.Dial("unix", f.file("own.sock"))
		if err == nil {
			_ = c.Close() // somebody listens
		}
		return err == nil
	})
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", what)
		}
	}
}

// haproxySees gives how the worker of a front has the servers.
func (f *front) haproxySees(t *testing.T) map[string]string {
	t.Helper()
	cmd := exec.Command("sh", "-c", haproxySocketScript, "sh", f.file("admin.sock"))
	cmd.Stdin = strings.NewReader("show servers state swiper_servers;show stat swiper_servers 4 -1\n")
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", f.name, err, text)
	}
	all := map[string]string{}
	for _, s := range parseServers(string(text), "swiper_servers") {
		all[s.name] = fmt.Sprintf("%t %d", s.down(), s.weight)
	}
	return all
}

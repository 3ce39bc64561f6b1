package balance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"godeploy/internal/fault"
	"godeploy/inventory"
)

const haproxySite = "conf.d/godeploy-swiper.cfg"

// workerOf gives the worker of a front that takes connections.
func workerOf(t *testing.T, n *Tier, i int) process {
	t.Helper()
	live, err := n.Look(context.Background())
	if err != nil || live[i].Problem != nil {
		t.Fatal(err, live[i].Problem)
	}
	return live[i].workers[0]
}

// A push reaches every host and is proven; who is in service changes without a reload, stands in the file
// too, and so outlives a reload.
func TestHaproxyPushAndDrain(t *testing.T) {
	t.Parallel()
	n, fronts := newHaproxyFronts(t, "")
	if p := mustPush(t, n, State{}); len(p.Changed) != 2 || !p.Whole() {
		t.Fatalf("the first push did %+v", p)
	}
	if p := mustPush(t, n, State{}); len(p.Unchanged) != 2 || len(p.Changed) != 0 {
		t.Errorf("the same push again did %+v", p)
	}
	before := workerOf(t, n, 0)
	state := drained("app2")
	state.Warm["app1"] = 3
	if p := mustPush(t, n, state); len(p.Changed) != 2 {
		t.Errorf("a push with a server down did %+v", p)
	}
	if after := workerOf(t, n, 0); after.pid != before.pid {
		t.Error("a drain has reloaded HAProxy")
	}
	want := map[string]string{"app1": "false 3", "app2": "true 20", "app3": "false 20"}
	for _, f := range fronts {
		if got := f.haproxySees(t); !reflect.DeepEqual(got, want) {
			t.Errorf("%s has %v, want %v", f.name, got, want)
		}
		f.sh(t, "kill -USR2 $(cat /srv/front/haproxy/pid)")
	}
	waitFor(t, "another worker", func() bool { return workerOf(t, n, 0).pid != before.pid && workerOf(t, n, 1).pid != 0 })
	k := TierKind{Env: n.Env, Report: n.Report}
	waitFor(t, "the state after a reload", func() bool {
		live, err := k.Live(context.Background(), n.Hosts)
		return err == nil && live[0].Loaded && live[1].Loaded && live[0].State.Down["app2"] && live[0].State.Warm["app1"] == 3
	})
	if got := fronts[0].haproxySees(t); !reflect.DeepEqual(got, want) {
		t.Errorf("after a reload: %v, want %v", got, want)
	}
	mustPush(t, n, State{})
	if got := fronts[1].haproxySees(t); got["app2"] != "false 20" || got["app1"] != "false 10" {
		t.Errorf("put back: %v", got)
	}
}

// What somebody has told the socket by hand is seen, and the next push brings it back; where nothing can talk
// to the socket, a reload does what it would have done.
func TestHaproxyStateByHandAndWithoutTheSocket(t *testing.T) {
	t.Parallel()
	n, fronts := newHaproxyFronts(t, "")
	mustPush(t, n, State{})
	k, ctx := TierKind{Env: n.Env, Report: n.Report}, context.Background()
	site, err := n.Env.HaproxySite()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (haproxy{n}).say(ctx, fronts[0], site, "set server swiper_servers/app3 state maint"); err != nil {
		t.Fatal(err)
	}
	if live, err := k.Live(ctx, n.Hosts); err != nil || live[0].Loaded || !live[1].Loaded {
		t.Errorf("got %+v, %v", live, err)
	}
	if err := k.Push(ctx, n.Hosts, State{}); err != nil {
		t.Fatal(err)
	}
	if got := fronts[0].haproxySees(t); got["app3"] != "false 20" {
		t.Errorf("pushed again: %v", got)
	}
	before := workerOf(t, n, 1)
	for _, f := range fronts {
		f.stand(func(argv []string) error {
			if len(argv) > 2 && argv[2] == haproxySocketScript {
				argv[2] = "exit 45"
			}
			return nil
		})
	}
	mustPush(t, n, drained("app1"))
	if after := workerOf(t, n, 1); after.pid == before.pid {
		t.Error("nothing was reloaded")
	}
	if got := fronts[1].haproxySees(t); got["app1"] != "true 10" {
		t.Errorf("got %v", got)
	}
}

// Each of these is named, and no host is changed for it.
func TestHaproxyPushStopsBeforeAnyChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, n *Tier, f *front)
		code  fault.Code
		text  string
	}{
		"edited by hand":   {func(t *testing.T, _ *Tier, f *front) { f.sh(t, "echo '# mine' >>"+haproxyRoot+"/"+haproxySite) }, fault.HaproxyDrift, "was edited"},
		"not godeploy's":   {func(t *testing.T, _ *Tier, f *front) { f.write(t, haproxySite, "# by hand\n") }, fault.HaproxyDrift, "not written by godeploy"},
		"broken neighbour": {func(t *testing.T, _ *Tier, f *front) { f.write(t, "conf.d/neighbour.cfg", "lisen x\n") }, fault.HaproxyBroken, "neighbour.cfg"},
		"stopped":          {func(_ *testing.T, _ *Tier, f *front) { f.halt() }, fault.HaproxyStopped, "does not run"},
		"refused": {func(t *testing.T, n *Tier, f *front) {
			n.Env.Balancer.ErrorPage = "/srv/front/haproxy/no-such-page.html"
		}, fault.HaproxyRefused, "no-such-page"},
		"port taken": {func(t *testing.T, n *Tier, f *front) {
			site, err := n.Env.HaproxySite()
			if err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr(f.address), uint16(site.Listen[0].Port)+1).String())
			if err != nil {
				t.Skip("the port after it is taken on this machine")
			}
			t.Cleanup(func() { _ = l.Close() })
			n.Env.Balancer.Listen = fmt.Sprintf("%s:%d", virtualAddress, site.Listen[0].Port+1)
		}, fault.HaproxyPort, "taken by another program"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, fronts := newHaproxyFronts(t, "")
			mustPush(t, n, State{})
			before := fronts[0].sh(t, "sha256sum "+haproxyRoot+"/conf.d/*; ls -A "+haproxyRoot+"/conf.d | grep new || true")
			c.spoil(t, n, fronts[1])
			p, err := n.Push(context.Background(), drained("app1"), PushOptions{})
			if !fault.Is(err, c.code) || !strings.Contains(factsOf(err), c.text) || len(p.Changed)+len(p.Undone) > 0 {
				t.Errorf("got %+v, %v: %s", p, err, factsOf(err))
			}
			if after := fronts[0].sh(t, "sha256sum "+haproxyRoot+"/conf.d/*; ls -A "+haproxyRoot+"/conf.d | grep new || true"); after != before {
				t.Errorf("lb1 was changed:\n%s\nwant\n%s", after, before)
			}
		})
	}
}

// When the second host does not take a file, the first is back on what it had, at run time too.
func TestHaproxyPushGoesBack(t *testing.T) {
	t.Parallel()
	n, fronts := newHaproxyFronts(t, "")
	mustPush(t, n, drained("app3"))
	before := fronts[0].sh(t, "cat "+haproxyRoot+"/"+haproxySite)
	fronts[1].stand(func(argv []string) error {
		if len(argv) > 2 && argv[2] == swapScript {
			return errors.New("the disk is gone")
		}
		return nil
	})
	for _, change := range []func(){func() {}, func() { n.Env.Balancer.ServerTimeout = time.Second }} {
		change()
		p, err := n.Push(context.Background(), drained("app1"), PushOptions{})
		if err == nil || len(p.Undone) != 2 || len(p.Changed) != 0 {
			t.Fatalf("got %+v, %v", p, err)
		}
		if after := fronts[0].sh(t, "cat "+haproxyRoot+"/"+haproxySite); after != before {
			t.Errorf("lb1 has\n%s", after)
		}
		if got := fronts[0].haproxySees(t); got["app1"] != "false 10" || got["app3"] != "true 20" {
			t.Errorf("lb1 works by %v", got)
		}
	}
}

func TestHaproxyProcessesAreTold(t *testing.T) {
	t.Parallel()
	all := []process{
		{10, 1, "100", "/usr/sbin/haproxy -sf 12 -x sockpair@4 -Ws -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/conf.d -p /run/haproxy.pid -S /run/haproxy-master.sock"},
		{12, 10, "101", "/usr/sbin/haproxy -Ws -f /etc/haproxy/haproxy.cfg"},
		{14, 10, "250", "/usr/sbin/haproxy -sf 12 -Ws -f /etc/haproxy/haproxy.cfg"},
		{20, 1, "90", "/usr/sbin/haproxy -D -f /etc/haproxy/haproxy.cfg"},
		{30, 1, "90", "/usr/sbin/haproxy -W -f /srv/other.cfg"},
	}
	for _, file := range []string{"/etc/haproxy/haproxy.cfg", "/etc/haproxy/conf.d/a.cfg"} {
		master, err := haproxyMaster(all, file)
		current, leaving := haproxyWorkers(all, master)
		if err != nil || master.pid != 10 || len(current) != 1 || current[0].pid != 14 || len(leaving) != 1 || leaving[0].pid != 12 {
			t.Errorf("%s: got %v, %v, %v, %v", file, master, current, leaving, err)
		}
	}
	for _, file := range []string{"/etc/haproxy/conf.d/a.txt", "/etc/haproxy/conf.d/.a.cfg", "/etc/haproxy/b.cfg"} {
		if _, err := haproxyMaster(all, file); !fault.Is(err, fault.HaproxyStopped) {
			t.Errorf("%s: got %v", file, err)
		}
	}
	twice := append(all, process{40, 1, "99", "haproxy -W -f /etc/haproxy/haproxy.cfg"})
	if _, err := haproxyMaster(twice, "/etc/haproxy/haproxy.cfg"); !fault.Is(err, fault.HaproxyStopped) || !strings.Contains(err.Error(), "2 masters") {
		t.Errorf("two masters: %v", err)
	}
}

func TestHaproxyCountsAreRead(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/haproxy-stat.txt")
	if err != nil {
		t.Fatal(err)
	}
	got := parseServers(string(text), "swiper_servers")
	if len(got) != 3 || got[0].name != "app1" || got[1].weight != 20 || !got[1].down() || got[0].down() || got[0].open != 0 {
		t.Fatalf("got %+v", got)
	}
	if got[0].requests == 0 || got[0].failed < 1 || got[0].requests < got[0].failed {
		t.Errorf("got %+v", got[0])
	}
	before := runtimeServer{requests: 10, failed: 1}
	if c := (runtimeServer{requests: 30, failed: 4}).since(before); c.Requests != 20 || c.Failed != 3 {
		t.Errorf("got %+v", c)
	}
	if c := (runtimeServer{requests: 5, failed: 4}).since(before); c.Requests != 5 || c.Failed != 4 {
		t.Errorf("after a reload: %+v", c)
	}
}

func FuzzParseServers(f *testing.F) {
	f.Add("1\n# be_id be_name\n3 b 1 app1 10.0.0.1 2 0 10 10 5 1 0 0 0\n\n# pxname,svname,scur\nb,app1,3\n", "b")
	f.Add("# pxname,\n,,,", "")
	f.Fuzz(func(t *testing.T, text, backend string) {
		for _, s := range parseServers(text, backend) {
			if s.open < 0 || s.requests < 0 {
				t.Errorf("got %+v", s)
			}
		}
	})
}

// The codes of HAProxy stand beside nginx's: one that is missing would have no explanation.
func TestEveryNginxCodeHasOneOfHaproxys(t *testing.T) {
	t.Parallel()
	var r root
	r.env = &inventory.Env{}
	r.env.Balancer.Kind = "haproxy"
	want := map[fault.Code]fault.Code{fault.NginxDrift: fault.HaproxyDrift, fault.NginxOutdated: fault.HaproxyOutdated, fault.NginxBroken: fault.HaproxyBroken, fault.NginxStopped: fault.HaproxyStopped,
		fault.NginxPort: fault.HaproxyPort, fault.NginxRefused: fault.HaproxyRefused, fault.NginxReload: fault.HaproxyReload, fault.NginxFailed: fault.HaproxyFailed}
	for code, other := range want {
		if got := r.code(code); got != other {
			t.Errorf("%s: got %s, want %s", code, got, other)
		}
	}
}

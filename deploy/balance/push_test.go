package balance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"godeploy/internal/fault"
	"godeploy/templates"
)

const siteFile = "conf.d/godeploy-swiper.conf"

// tree is everything that nginx would read on a front, and what it has loaded.
func tree(t *testing.T, f *front) string {
	t.Helper()
	return f.sh(t, "cd /srv/front/nginx; find conf.d main.d -type f ! -name '.*' | sort | xargs -r sha256sum")
}

func drained(names ...string) State {
	s := State{}.Clone()
	for _, n := range names {
		s.Down[n] = true
	}
	return s
}

func mustPush(t *testing.T, n *Tier, s State) Pushed {
	t.Helper()
	p, err := n.Push(context.Background(), s, PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPushReachesEveryHostAndIsProven(t *testing.T) {
	t.Parallel()
	n, fronts := newFronts(t, "")
	if p := mustPush(t, n, State{}); len(p.Changed) != 2 || !p.Whole() {
		t.Fatalf("the first push did %+v", p)
	}
	if p := mustPush(t, n, State{}); len(p.Unchanged) != 2 || len(p.Changed) != 0 {
		t.Errorf("the same push again did %+v", p)
	}
	state := drained("app2")
	state.Warm["app1"] = 3
	if p := mustPush(t, n, state); len(p.Changed) != 2 {
		t.Errorf("a push with a server down did %+v", p)
	}
	live, err := n.Look(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range live {
		if l.Problem != nil || l.Running == "" || l.Running != l.Files[0].Stamp.Mark || !l.State().Down["app2"] || l.State().Warm["app1"] != 3 {
			t.Errorf("%s: got %+v", l.Host, l)
		}
		if text := fronts[i].sh(t, "cat "+virtualRoot+"/"+siteFile); !strings.Contains(text, "server 10.0.0.2:9000 weight=20 max_fails=3 fail_timeout=10s down;  # app2") {
			t.Errorf("%s has\n%s", l.Host, text)
		}
		if main := fronts[i].sh(t, "cat /srv/front/nginx/main.d/60-godeploy.conf"); !strings.Contains(main, "worker_shutdown_timeout 30s;") {
			t.Errorf("%s has main lines\n%s", l.Host, main)
		}
		if left := fronts[i].sh(t, "ls -A /srv/front/nginx/conf.d | grep new || true"); left != "" {
			t.Errorf("%s is left with %s", l.Host, left)
		}
	}
	if got := StateOf(live).DownNames(); len(got) != 1 || got[0] != "app2" {
		t.Errorf("the state of all is %v", got)
	}
}

// Where no mount namespace can be made, the candidate is tested on a copy, with the same verdicts.
func TestPushTestsOnACopyWhereItMust(t *testing.T) {
	t.Parallel()
	n, fronts := newFronts(t, "")
	for _, f := range fronts {
		f.path = f.dir + "/bin:"
		f.sh(t, "mkdir -p /srv/front/nginx/bin; printf '#!/bin/sh\\necho unshare: not here >&2; exit 1\\n' >/srv/front/nginx/bin/unshare; chmod 755 /srv/front/nginx/bin/unshare")
	}
	if p := mustPush(t, n, State{}); len(p.Changed) != 2 {
		t.Fatalf("got %+v", p)
	}
	fronts[1].write(t, "conf.d/zz-neighbour.conf", "map $host $one { default 1; }\nlog_format godeploy_swiper x;\n")
	fronts[1].sh(t, "rm "+virtualRoot+"/"+siteFile) // so that the live configuration is whole, and the candidate is not
	before := tree(t, fronts[0])
	if _, err := n.Push(context.Background(), drained("app1"), PushOptions{}); !fault.Is(err, fault.NginxRefused) || !strings.Contains(factsOf(err), "zz-neighbour") {
		t.Errorf("got %v: %s", err, factsOf(err))
	}
	if got := tree(t, fronts[0]); got != before {
		t.Errorf("lb1 was changed:\n%s\nwant\n%s", got, before)
	}
}

func factsOf(err error) string {
	var all []string
	for _, f := range fault.All(err) {
		all = append(all, f.Msg, strings.Join(f.Facts, "\n"), f.Cause)
	}
	return strings.Join(all, "\n")
}

// Each of these is named, and no host is changed for it.
func TestPushStopsBeforeAnyChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, n *Tier, f *front)
		code  fault.Code
		says  string
	}{
		"edited by hand": {func(t *testing.T, _ *Tier, f *front) { f.sh(t, "echo '# mine' >>"+virtualRoot+"/"+siteFile) }, fault.NginxDrift, "was edited"},
		"not godeploy's": {func(t *testing.T, _ *Tier, f *front) { f.write(t, siteFile, "# by hand\n") }, fault.NginxDrift, "not written by godeploy"},
		"another app's": {func(t *testing.T, n *Tier, f *front) {
			site, _ := SiteOf(n.Env, State{})
			site.App = "other"
			content, err := templates.RenderNginx(site)
			if err != nil {
				t.Fatal(err)
			}
			f.write(t, siteFile, string(content))
		}, fault.NginxDrift, "another app, other"},
		"a link": {func(t *testing.T, _ *Tier, f *front) {
			f.sh(t, "cd /srv/front/nginx/conf.d; mv godeploy-swiper.conf ../x; ln -s ../x godeploy-swiper.conf")
		}, fault.NginxDrift, "is a link"},
		"broken neighbour": {func(t *testing.T, _ *Tier, f *front) {
			f.write(t, "conf.d/neighbour.conf", "server {\n  lisen 1;\n}\n")
		}, fault.NginxBroken, "neighbour.conf:2"},
		"include cycle": {func(t *testing.T, _ *Tier, f *front) {
			f.write(t, "conf.d/round.conf", "include /srv/front/nginx/conf.d/round.conf;\n")
		}, fault.NginxBroken, "leads back to itself"},
		"stopped": {func(t *testing.T, _ *Tier, f *front) { f.stop(t) }, fault.NginxStopped, "does not run"},
		"port taken": {func(t *testing.T, n *Tier, f *front) {
			f.sh(t, "rm "+virtualRoot+"/"+siteFile)
			f.stop(t)
			l := listenSoon(t, f.there.Replace(n.Env.Nginx.Listen))
			t.Cleanup(func() { _ = l.Close() })
			f.start(t)
		}, fault.NginxPort, fmt.Sprintf("(process %d)", os.Getpid())},
		"refused": {func(t *testing.T, _ *Tier, f *front) {
			f.sh(t, "rm "+virtualRoot+"/"+siteFile)
			f.write(t, "conf.d/neighbour.conf", "upstream swiper_servers { server 127.0.0.1:1; }\n")
		}, fault.NginxRefused, "duplicate upstream"},
		"not included": {func(t *testing.T, _ *Tier, f *front) {
			f.sh(t, "sed -i 's#include conf.d/.*##' /srv/front/nginx/nginx.conf")
		}, fault.NginxRefused, "does not read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, fronts := newFronts(t, "")
			mustPush(t, n, State{})
			c.spoil(t, n, fronts[1])
			before := []string{tree(t, fronts[0]), tree(t, fronts[1])}
			p, err := n.Push(context.Background(), drained("app1"), PushOptions{})
			if !fault.Is(err, c.code) || !strings.Contains(factsOf(err), c.says) || len(p.Changed)+len(p.Undone)+len(p.Broken) > 0 {
				t.Errorf("got %v (%s), %+v, want %s with %q", err, factsOf(err), p, c.code, c.says)
			}
			for i, f := range fronts {
				if got := tree(t, f); got != before[i] {
					t.Errorf("%s was changed:\n%s\nwant\n%s", f.name, got, before[i])
				}
			}
		})
	}
}

func TestTwoMastersAreNamed(t *testing.T) {
	t.Parallel()
	_, err := masterOf([]process{
		{10, 1, "5", "nginx: master process /usr/sbin/nginx -g daemon on;"},
		{20, 1, "6", "nginx: master process nginx"},
		{30, 1, "7", "nginx: master process nginx -c /home/x/nginx.conf"},
	}, "/etc/nginx/nginx.conf")
	if !fault.Is(err, fault.NginxStopped) || !strings.Contains(factsOf(err), "2 nginx masters") || !strings.Contains(factsOf(err), "process 20") || strings.Contains(factsOf(err), "process 30") {
		t.Errorf("got %v: %s", err, factsOf(err))
	}
	m, err := masterOf([]process{{10, 1, "5", "nginx: master process nginx"}, {30, 1, "7", "nginx: master process nginx -c /home/x/nginx.conf"}}, "/home/x/nginx.conf")
	if err != nil || m.pid != 30 {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestOverwriteTakesAFileOver(t *testing.T) {
	t.Parallel()
	n, fronts := newFronts(t, "")
	fronts[0].write(t, siteFile, "# by hand\n")
	if p, err := n.Push(context.Background(), State{}, PushOptions{Overwrite: true}); err != nil || len(p.Changed) != 2 {
		t.Errorf("got %+v, %v", p, err)
	}
	if kept := fronts[0].sh(t, "cat /srv/front/nginx/conf.d/.godeploy-swiper.conf.godeploy-prev"); kept != "# by hand" {
		t.Errorf("what was there is kept as %q", kept)
	}
}

// A reload that one host does not take brings every host back, with the workers of before.
func TestAReloadThatFailsIsUndoneEverywhere(t *testing.T) {
	t.Parallel()
	n, fronts := newFronts(t, "")
	mustPush(t, n, State{})
	before := []string{tree(t, fronts[0]), tree(t, fronts[1])}
	// The signal of the second host's reload is lost: nothing but the missing workers tells.
	hups := 0
	fronts[1].stand(func(argv []string) error {
		if strings.Contains(strings.Join(argv, " "), hupScript) {
			if hups++; hups == 1 {
				argv[2] = "exit 0"
			}
		}
		return nil
	})
	p, err := n.Push(context.Background(), drained("app1"), PushOptions{})
	if !fault.Is(err, fault.NginxReload) || len(p.Undone) != 2 || len(p.Changed) != 0 || !p.Whole() {
		t.Fatalf("got %+v, %v", p, err)
	}
	live, err := n.Look(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range live {
		if got := tree(t, fronts[i]); got != before[i] || l.Problem != nil || l.Running != l.Files[0].Stamp.Mark {
			t.Errorf("%s has\n%s and runs %q, want\n%s", l.Host, got, l.Running, before[i])
		}
	}
	mustPush(t, n, drained("app1"))
}

// A run that is killed at any step leaves files that nginx takes, and the next push makes the hosts equal.
// Every third step is tried, from one that differs by the day; with GODEPLOY_TEST_FULL each of them.
func TestAPushThatDiesAnywhereIsHealedByTheNext(t *testing.T) {
	t.Parallel()
	n, fronts := newFronts(t, "")
	mustPush(t, n, State{})
	stride, first := 3, 1+time.Now().YearDay()%3
	if os.Getenv("GODEPLOY_TEST_FULL") != "" {
		stride, first = 1, 1
	}
	next := map[bool]State{true: drained("app1"), false: {}}
	for step := first; ; step += stride {
		odd := (step/stride)%2 == 0
		dead := dieAt(fronts, step, func() {
			_, _ = n.Push(context.Background(), next[odd], PushOptions{}) // what it says is not of interest here
		})
		for _, f := range fronts {
			if out := f.sh(t, "nginx -t -q -c /srv/front/nginx/nginx.conf 2>&1 || true"); out != "" {
				t.Fatalf("died at step %d: %s would not start again: %s", step, f.name, out)
			}
		}
		mustPush(t, n, next[odd])
		live, err := n.Look(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range live {
			if l.Running != l.Files[0].Stamp.Mark || l.State().Down["app1"] != odd {
				t.Fatalf("died at step %d: %s has %v and runs %s", step, l.Host, l.State(), l.Running)
			}
		}
		if !dead {
			t.Logf("a push is less than %d steps", step)
			return
		}
	}
}

// dieAt runs something during which no command from a given one on reaches any host, and reports whether
// it came so far.
func dieAt(fronts []*front, step int, run func()) bool {
	var count atomic.Int64
	die := func([]string) error {
		if count.Add(1) >= int64(step) {
			return errors.New("the operator's machine is gone")
		}
		return nil
	}
	for _, f := range fronts {
		f.stand(die)
	}
	run()
	for _, f := range fronts {
		f.stand(nil)
	}
	return count.Load() >= int64(step)
}

// listenSoon listens where an nginx did that was told to end: its workers may hold the port for a moment yet.
func listenSoon(t *testing.T, addr string) net.Listener {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return l
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(10 * time.Millisecond): // between two tries
		}
	}
}

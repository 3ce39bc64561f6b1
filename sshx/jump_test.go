package sshx

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/sshtest"
)

func TestHostsBehindAJumpHostShareItsConnection(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	gate, app := serve(t, key, sshtest.Options{}), serve(t, key, sshtest.Options{})
	p := pool(t, key, nil)
	to := func(i int) Target {
		target := targetOf(app, fmt.Sprint("app", i))
		target.Jumps = [][]Target{{targetOf(gate, "gate")}}
		return target
	}
	dialMany(t, p, 20, to)
	if got := gate.Stats(); got.Logins != 1 || got.Forwards != 20 {
		t.Errorf("jump host saw %d logins and %d tunnels, want 1 and 20", got.Logins, got.Forwards)
	}
	if via := connect(t, p, to(1)).Via(); via != "127.0.0.1 via gate" {
		t.Errorf("Via is %q", via)
	}
}

func TestChainOfJumpHosts(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	outer, inner, app := serve(t, key, sshtest.Options{}), serve(t, key, sshtest.Options{}), serve(t, key, sshtest.Options{})
	to := targetOf(app, "app1")
	to.Jumps = [][]Target{{targetOf(outer, "outer"), targetOf(inner, "inner")}}
	c := connect(t, pool(t, key, nil), to)
	if c.Via() != "127.0.0.1 via outer,inner" {
		t.Errorf("Via is %q", c.Via())
	}
	if outer.Stats().Forwards != 1 || inner.Stats().Forwards != 1 {
		t.Error("the chain was not followed")
	}
	big := output(t, c, "head -c 3000000 /dev/zero | tr '\\0' x")
	if len(big) != 3_000_000 {
		t.Errorf("got %d bytes through two tunnels", len(big))
	}
}

func TestSecondJumpHostTakesOver(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	cases := map[string]sshtest.Options{
		"silent":           {Faults: sshtest.Faults{Silent: true}},
		"refuses the key":  {Faults: sshtest.Faults{RefuseAuth: true}},
		"does not forward": {NoForward: true},
	}
	for name, o := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, good, app := serve(t, key, o), serve(t, key, sshtest.Options{}), serve(t, key, sshtest.Options{})
			seen := new(recorder)
			p := pool(t, key, func(o *Options) { o.Timeout = time.Second; o.Report = seen })
			to := targetOf(app, "app1")
			to.Jumps = [][]Target{{targetOf(bad, "ngx1")}, {targetOf(good, "ngx2")}}
			if via := connect(t, p, to).Via(); via != "127.0.0.1 via ngx2" {
				t.Errorf("Via is %q", via)
			}
			if seen.count(event.Info) != 1 {
				t.Errorf("%d events tell of the fail-over", seen.count(event.Info))
			}
			conns := bad.Stats().Conns
			endsWithin(t, time.Second, func() { connect(t, p, to) })
			if name == "silent" && bad.Stats().Conns != conns {
				t.Error("a jump host that had just failed was asked again")
			}
		})
	}
}

func TestJumpHostsThatAllFailAreNamed(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	app := serve(t, key, sshtest.Options{})
	gone := func(name string) Target {
		return Target{Name: name, Address: "127.0.0.1", Port: sshtest.FreePort(t, "127.0.0.1"), User: "deploy"}
	}
	to := targetOf(app, "app1")
	to.Jumps = [][]Target{{gone("ngx1")}, {gone("ngx2")}}
	e := wantCode(t, dialError(t, pool(t, key, nil), to), fault.SSHJump)
	if len(e.Facts) != 2 || !strings.Contains(e.Facts[0], "ngx1") || !strings.Contains(e.Facts[1], "ngx2") {
		t.Errorf("facts %q", e.Facts)
	}
	if e.Hosts[0] != "app1" {
		t.Errorf("hosts %q", e.Hosts)
	}
}

func TestTargetThatIsDownBehindAJumpHostIsItsOwnFault(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	gate := serve(t, key, sshtest.Options{})
	to := Target{Name: "app1", Address: "127.0.0.1", Port: sshtest.FreePort(t, "127.0.0.1"), User: "deploy",
		Jumps: [][]Target{{targetOf(gate, "gate")}}}
	e := wantCode(t, dialError(t, pool(t, key, nil), to), fault.SSHRefused)
	if !strings.Contains(e.Msg, "via gate") {
		t.Errorf("message %q", e.Msg)
	}
}

func TestJumpHostWithAnotherKeyIsFatal(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	gate, spare, app := serve(t, key, sshtest.Options{}), serve(t, key, sshtest.Options{}), serve(t, key, sshtest.Options{})
	first, second := targetOf(gate, "ngx1"), targetOf(spare, "ngx2")
	first.HostKey = second.HostKey
	to := targetOf(app, "app1")
	to.Jumps = [][]Target{{first}, {second}}
	e := wantCode(t, dialError(t, pool(t, key, nil), to), fault.SSHHostKeyChanged)
	if e.Hosts[0] != "ngx1" {
		t.Errorf("hosts %q", e.Hosts)
	}
	if gate.Stats().AuthTries != 0 || spare.Stats().Conns != 0 {
		t.Error("went on after a jump host showed another key")
	}
}

func TestJumpConnectionThatBrokeIsMadeAnew(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	gate, app := serve(t, key, sshtest.Options{}), serve(t, key, sshtest.Options{})
	p := pool(t, key, nil)
	to := targetOf(app, "app1")
	to.Jumps = [][]Target{{targetOf(gate, "gate")}}
	c := connect(t, p, to)
	gate.Drop()
	<-c.Done()
	wantCode(t, c.Err(), fault.SSHLost)
	connect(t, p, to)
	if got := gate.Stats().Logins; got != 2 {
		t.Errorf("%d logins on the jump host, want 2", got)
	}
}

func TestFrozenJumpHostDoesNotHoldItsHostsUp(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	gate, app := serve(t, key, sshtest.Options{}), serve(t, key, sshtest.Options{})
	p := pool(t, key, func(o *Options) { o.Timeout = 500 * time.Millisecond })
	to := targetOf(app, "app1")
	to.Jumps = [][]Target{{targetOf(gate, "gate")}}
	c := connect(t, p, to)
	gate.Freeze()
	defer gate.Thaw()
	endsWithin(t, 5*time.Second, func() {
		wantCode(t, dialError(t, p, to), fault.SSHTimeout)
		_ = c.Close()
		_ = p.Close()
	})
}

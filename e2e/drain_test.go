package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"godeploy/deploy/balance"
	"godeploy/e2e/hosts"
)

// behindNginx is the part of a file that puts the fleet behind nginx as godeploy renders it.
func behindNginx(release string) string {
	return "[nginx]\nmethod = \"weight\"\nnames = [\"203.0.113.11\", \"203.0.113.12\"]\n[release]\ndrain_wait = \"40s\"\n" + release
}

// push brings godeploy's nginx file to the nginx hosts.
func (o *operator) push(ctx context.Context) {
	o.t.Helper()
	o.want(ctx, 0, "nginx", "push", "prod", "--yes")
	must(o.t, o.fleet.Answers(ctx, "/healthz"))
}

// servers is what `godeploy nginx status --json` says.
type servers struct {
	Even    bool
	Servers []struct {
		Server, State, Why string
		Up                 []string `json:"up_on"`
		Down               []string `json:"down_on"`
		Requests           int
		Failed             int `json:"5xx"`
	}
}

func (o *operator) nginxStatus(ctx context.Context) servers {
	o.t.Helper()
	var s servers
	if err := json.Unmarshal([]byte(o.want(ctx, 0, "nginx", "status", "prod", "--json").stdout), &s); err != nil {
		o.t.Fatal(err)
	}
	return s
}

// state gives up, down or mixed of each server.
func (s servers) state() string {
	var all []string
	for _, one := range s.Servers {
		all = append(all, one.Server+"="+one.State)
	}
	return strings.Join(all, " ")
}

// askedSince counts, by the access logs of the nginx hosts, the requests that ended after a moment: those
// that a server had a part in, and all.
func (o *operator) askedSince(ctx context.Context, server string, since time.Time) (its, all int) {
	o.t.Helper()
	address := o.fleet.Host(server).Private() + ":9000"
	for _, h := range o.fleet.Role("nginx") {
		log, err := h.Exec(ctx, "cat", "/var/log/nginx/godeploy-swiper.log")
		must(o.t, err)
		for line := range bytes.Lines([]byte(log)) {
			r, ok := balance.ReadRequest(bytes.TrimSpace(line))
			if !ok {
				o.t.Fatalf("%s: no tail in %q", h.Name, line)
			}
			if r.At.Before(since) {
				continue
			}
			all++
			if slices.ContainsFunc(r.Tries, func(t balance.Try) bool { return t.Server.String() == address }) {
				its++
			}
		}
	}
	return its, all
}

// drainLoad is how many requests a drain is tried under: GODEPLOY_DRAIN_LOAD, else few.
func drainLoad(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("GODEPLOY_DRAIN_LOAD"))
	if err != nil {
		return 1500
	}
	return n
}

// A server is drained under load and put back, and nobody notices: no request fails, and none reaches it once
// the drain has returned. Whoever kills godeploy between the two nginx hosts is healed by the next command.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	ctx, o := newSite(t, site{more: behindNginx("max_unavailable = \"2\"\n")})
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	o.release(ctx, named(t, "v1"))
	o.push(ctx)
	want := drainLoad(t)
	rate := 150
	if want > 10_000 {
		rate = 400
	}
	load := o.fleet.Load(ctx, hosts.LoadOptions{URLs: o.fleet.URLs("/healthz"), Rate: rate, Max: max(20_000, 2*want)})

	o.want(ctx, 0, "nginx", "drain", "prod", "app3", "--reason", "a new disk", "--yes")
	returned, before := time.Now(), load.Report().Requests
	if !load.Until(ctx, func(r hosts.Report) bool { return r.Requests > before+want/2 }) {
		t.Error("the load ended early")
	}
	// nginx writes the time at which it was done with the request; half a second for that.
	if its, all := o.askedSince(ctx, "app3", returned.Add(500*time.Millisecond)); its != 0 || all < want/8 {
		t.Errorf("%d of %d requests reached app3 after it was drained", its, all)
	}
	o.checkDrained(ctx)

	o.want(ctx, 0, "nginx", "undrain", "prod", "app3", "--yes")
	again := time.Now()
	if got := o.nginxStatus(ctx); !got.Even {
		t.Errorf("after undrain: %+v", got)
	}
	load.Until(ctx, func(r hosts.Report) bool { return r.Requests > before+want })
	if its, _ := o.askedSince(ctx, "app3", again); its == 0 {
		t.Error("app3 gets no requests again")
	}
	v2 := o.killedBetween(ctx)
	report := load.Stop()
	t.Log(report)
	if report.Failed != 0 || report.Requests < want {
		t.Errorf("load saw %v, want at least %d requests and none failed", report, want)
	}
	o.wholeOn(ctx, v2)
}

// checkDrained: everybody is told that app3 is out and why, and neither the budget nor a release forgets it.
func (o *operator) checkDrained(ctx context.Context) {
	o.t.Helper()
	got := o.nginxStatus(ctx)
	if got.state() != "app1=up app2=up app3=down app4=up" || got.Even || !strings.Contains(got.Servers[2].Why, "a new disk") {
		o.t.Errorf("nginx status says %+v", got)
	}
	out := o.want(ctx, 0, "status", "prod")
	if !strings.Contains(out.stdout+out.stderr, "app3: drained") {
		o.t.Error("status does not say that app3 is drained")
	}
	out = o.run(ctx, "nginx", "drain", "prod", "app1", "app2", "--yes")
	if out.code != 5 || !strings.Contains(out.stderr, "max-unavailable") || o.nginxStatus(ctx).state() != got.state() {
		o.t.Error("more than the budget were drained")
	}
	o.want(ctx, 0, "restart", "prod", "-l", "app3")
	if after := o.nginxStatus(ctx).state(); after != got.state() {
		o.t.Errorf("a restart has put back what was drained by hand: %s", after)
	}
}

// killedBetween kills a release when it has drained on one nginx host and not yet on the other; the next one
// heals both, and its id is given.
func (o *operator) killedBetween(ctx context.Context) string {
	o.t.Helper()
	o.write(named(o.t, "v2"))
	cmd := o.start(ctx, "release", "prod", "--yes")
	seen := make(chan struct{})
	stderr := &said{text: "nginx: /etc/nginx/conf.d/godeploy-swiper.conf is live", seen: seen}
	cmd.Stderr = stderr
	must(o.t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-seen:
	case err := <-ended:
		o.t.Fatalf("it ended before it drained: %v\n%s", err, stderr.all.String())
	}
	must(o.t, cmd.Process.Kill())
	<-ended
	got := o.nginxStatus(ctx)
	o.t.Logf("after the kill: %+v", got)
	if got.Even {
		o.t.Error("the kill came too late: nothing is drained")
	}
	out := o.want(ctx, 0, "release", "prod", "--yes")
	if got := o.nginxStatus(ctx); !got.Even {
		o.t.Errorf("after the next release: %+v", got)
	}
	return strings.TrimSpace(out.stdout)
}

// A release that answers 500 to 2 % of the requests while its health check passes is undone by the gate.
func TestTheGateUndoesAFlakyRelease(t *testing.T) {
	t.Parallel()
	ctx, o := newSite(t, site{more: behindNginx("gate = \"5xx < 0.5%\"\nbake = \"20s\"\n")}, "lb1", "app1", "app2", "db1")
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	o.configure(site{more: behindNginx("")})
	v1 := o.release(ctx, named(t, "v1"))
	o.push(ctx)
	o.configure(site{more: behindNginx("gate = \"5xx < 0.5%\"\nbake = \"20s\"\n")})
	load := o.fleet.Load(ctx, hosts.LoadOptions{URLs: o.fleet.URLs("/"), Rate: 80})
	o.write(named(t, "flaky"))
	out := o.want(ctx, 5, "release", "prod", "--yes")
	if !strings.Contains(out.stderr, "gate-failed") || !strings.Contains(out.stderr, "miss the gate: 5xx < 0.5%") {
		t.Error("the message does not name the gate")
	}
	o.wholeOn(ctx, v1)
	if got := o.nginxStatus(ctx); !got.Even {
		t.Errorf("after the undo: %+v", got)
	}
	flaky := load.Report()
	o.write(named(t, "v2"))
	o.configure(site{more: behindNginx("gate = \"5xx < 0.5%, p95 < 10x\"\nbake = \"5s\"\n")})
	v2 := strings.TrimSpace(o.want(ctx, 0, "release", "prod", "--yes").stdout)
	o.wholeOn(ctx, v2)
	if report := load.Stop(); report.Failed > flaky.Failed || flaky.Failed == 0 {
		t.Errorf("the flaky release failed %d times, and the good one %d times", flaky.Failed, report.Failed-flaky.Failed)
	}
}

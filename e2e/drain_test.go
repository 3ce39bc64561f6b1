package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"regexp"
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
		Now                int      `json:"weight_now"`
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
	its, all := o.askedSince(ctx, "app3", returned.Add(500*time.Millisecond))
	if its != 0 || all < want/8 {
		t.Errorf("%d of %d requests reached app3 after it was drained", its, all)
	}
	figure(t, "after a drain has returned", "%d of %d requests reached the server", its, all)
	o.checkDrained(ctx)

	again := time.Now()
	o.putBackSlowly(ctx)
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
	figure(t, "drain, undrain by weight and warm, a release that is killed between two nginx hosts, and the next one, under one-shot requests",
		"%d of %d requests failed, the slowest took %v", report.Failed, report.Requests, report.Slowest.Round(time.Millisecond))
	o.wholeOn(ctx, v2)
}

// putBackSlowly: app3 comes back with the weight that was asked for and keeps it, and is raised to its own.
func (o *operator) putBackSlowly(ctx context.Context) {
	o.t.Helper()
	o.want(ctx, 0, "nginx", "undrain", "prod", "app3", "--weight", "5", "--yes")
	if got := o.nginxStatus(ctx); got.Even || got.state() != "app1=up app2=up app3=up app4=up" || got.Servers[2].Now != 5 {
		o.t.Errorf("after undrain --weight 5: %+v", got)
	}
	out := o.want(ctx, 0, "nginx", "undrain", "prod", "app3", "--warm", "4s", "--yes")
	if !strings.Contains(out.stderr, "weight 2 of 20") {
		o.t.Errorf("it is not said that app3 begins with a tenth:\n%s", out.stderr)
	}
	if got := o.nginxStatus(ctx); !got.Even || got.Servers[2].Now != 20 {
		o.t.Errorf("after undrain --warm: %+v", got)
	}
}

// checkDrained: everybody is told that app3 is out and why, and neither the budget nor a release forgets it.
func (o *operator) checkDrained(ctx context.Context) {
	o.t.Helper()
	got := o.nginxStatus(ctx)
	if got.state() != "app1=up app2=up app3=down app4=up" || got.Even || !strings.Contains(got.Servers[2].Why, "a new disk") {
		o.t.Errorf("nginx status says %+v", got)
	}
	out := o.want(ctx, 0, "status", "prod")
	for _, h := range o.fleet.Role("nginx") {
		if row := regexp.MustCompile(`(?m)^` + h.Name + ` +[1-9]\d* +[1-9]\d* +\w+ +\d+ +\d+/511`); !row.MatchString(out.stdout) {
			o.t.Errorf("status does not tell of nginx on %s:\n%s", h.Name, out.stdout)
		}
	}
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
	report := load.Stop()
	if report.Failed > flaky.Failed || flaky.Failed == 0 {
		t.Errorf("the flaky release failed %d times, and the good one %d times", flaky.Failed, report.Failed-flaky.Failed)
	}
	figure(t, "a release that answers 500 to 2 % while its health check passes, with `gate = \"5xx < 0.5%\"`",
		"undone by the gate after %d of %d requests had failed; the good one after it lost none", flaky.Failed, flaky.Requests)
}

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"godeploy/e2e/hosts"
	"godeploy/e2e/hosts/app"
)

// status is what `godeploy status --json` says.
type status struct {
	Whole bool
	Fleet map[string][]string
	Hosts []struct {
		Host, Release, Mark, Service string
		Serving                      bool
		Problems                     []string
	}
}

func (o *operator) status(ctx context.Context) status {
	o.t.Helper()
	var s status
	out := o.want(ctx, 0, "status", "prod", "--json")
	if err := json.Unmarshal([]byte(out.stdout), &s); err != nil {
		o.t.Fatalf("status --json: %v: %s", err, out.stdout)
	}
	return s
}

// wholeOn asks godeploy and the fleet itself: every app host must have and serve that release.
func (o *operator) wholeOn(ctx context.Context, id string) {
	o.t.Helper()
	s := o.status(ctx)
	if !s.Whole || len(s.Fleet[id]) != len(o.fleet.Role("app")) {
		o.t.Errorf("status is %+v, want all of it on %s", s, id)
	}
	for _, h := range o.fleet.Role("app") {
		out, err := h.Sh(ctx, "readlink "+hosts.AppPath+"/current; curl -s "+h.Private()+":9000/whoami; curl -sI "+h.Private()+":9000/healthz")
		if err != nil || !strings.Contains(out, "releases/"+id) || !strings.Contains(out, "X-Release: "+id) {
			o.t.Errorf("%s: got %q, %v, want it to have and serve %s", h.Name, out, err, id)
		}
	}
}

func (o *operator) write(v app.Variant) {
	o.t.Helper()
	must(o.t, app.Write(o.project, v))
}

func named(t *testing.T, name string) app.Variant {
	t.Helper()
	v, err := app.Named(name)
	must(t, err)
	return v
}

// release brings a variant out and gives its id.
func (o *operator) release(ctx context.Context, v app.Variant, flags ...string) string {
	o.t.Helper()
	o.write(v)
	out := o.want(ctx, 0, append([]string{"release", "prod", "--yes"}, flags...)...)
	return strings.TrimSpace(out.stdout)
}

// newSite boots hosts (all of them without names) that are ready for a first release.
func newSite(t *testing.T, s site, only ...string) (context.Context, *operator) {
	t.Helper()
	ctx, f := bootFleet(t, hosts.Options{Only: only})
	o := newOperator(t, f)
	o.write(named(t, "v1"))
	must(t, f.PrepareApp(ctx, o.project))
	o.configure(s)
	return ctx, o
}

// The main job, on real hosts: v1, v2 under load, a broken v3 in each of its ways, a rollback and a
// graceful restart, and not one request of a one-shot client lost.
func TestReleaseEndToEnd(t *testing.T) {
	t.Parallel()
	ctx, o := newSite(t, site{})

	if out := o.want(ctx, 4, "release", "prod", "--yes"); !strings.Contains(out.stderr, "ssh-hostkey-unknown") {
		t.Error("a host key that nobody has confirmed must be named")
	}
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	if out := o.want(ctx, 3, "release", "prod", "--dry-run", "--exit-code", "-y"); !strings.Contains(out.stdout, "app4") {
		t.Error("the plan lacks app4")
	}
	if s := o.status(ctx); s.Whole || len(s.Fleet[""]) != 4 {
		t.Fatalf("a dry run released something: %+v", s)
	}

	v1 := o.release(ctx, named(t, "v1"))
	must(t, o.fleet.Balance(ctx))
	o.wholeOn(ctx, v1)
	if again := o.release(ctx, named(t, "v1")); again != v1 {
		t.Errorf("the same tree released %s beside %s", again, v1)
	}
	if v1 = o.release(ctx, named(t, "v1"), "--again"); len(o.status(ctx).Fleet[v1]) != 4 {
		t.Errorf("--again did not bring %s out", v1)
	}
	allowed := o.narrow(ctx)
	load := o.fleet.Load(ctx, hosts.LoadOptions{URLs: o.fleet.URLs("/"), Rate: 60})
	v2 := o.release(ctx, named(t, "v2"))
	o.wholeOn(ctx, v2)
	if !load.Until(ctx, func(r hosts.Report) bool { return r.Releases[v2] > 20 }) {
		t.Error("nobody was served v2")
	}

	for _, name := range []string{"v3-import", "v3-health", "v3-hook"} {
		o.write(named(t, name))
		out := o.want(ctx, 5, "release", "prod", "--yes")
		if want := fmt.Sprintf("prod is whole on %s (4 of 4 servers)", v2); !strings.Contains(out.stderr, want) {
			t.Errorf("%s: the last lines do not say %q", name, want)
		}
		o.wholeOn(ctx, v2)
	}

	o.want(ctx, 0, "rollback", "prod", "--yes")
	o.wholeOn(ctx, v1)
	o.want(ctx, 0, "rollback", "prod", v2, "--yes")
	o.wholeOn(ctx, v2)
	o.want(ctx, 0, "restart", "--graceful")
	o.wholeOn(ctx, v2)

	report := load.Stop()
	t.Log(report)
	if report.Failed != 0 || report.Requests < 500 {
		t.Errorf("load saw %v, want at least 500 requests and none failed", report)
	}
	o.want(ctx, 0, "restart", "prod") // in full: that takes root
	o.wholeOn(ctx, v2)
	allowed()
}

// A slow import stalls, but neither it nor a full restart without drain hurts what was there before.
func TestSlowImportIsProvenNotAssumed(t *testing.T) {
	t.Parallel()
	ctx, o := newSite(t, site{more: "[release]\nstrategy = \"canary\"\ncanary = \"app2\"\nbatch = \"50%\"\n"})
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	v1 := o.release(ctx, named(t, "v1"))
	must(t, o.fleet.Balance(ctx))
	load := o.fleet.Load(ctx, hosts.LoadOptions{URLs: o.fleet.URLs("/"), Rate: 20})
	began := time.Now()
	slow := o.release(ctx, named(t, "slow"))
	if took := time.Since(began); took < 3*time.Second {
		t.Errorf("a release whose import takes 3 s was done after %v", took)
	}
	o.wholeOn(ctx, slow)
	if report := load.Stop(); report.Failed != 0 {
		t.Errorf("load saw %v", report)
	}
	o.want(ctx, 0, "rollback", "prod", "~1", "--yes")
	o.wholeOn(ctx, v1)
}

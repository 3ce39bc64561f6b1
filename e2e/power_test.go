package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"godeploy/e2e/hosts"
	"godeploy/e2e/hosts/app"
)

// cuts is how many times the power is cut: CHAOS_CUTS of `make chaos`, else few.
func cuts(t *testing.T) int {
	t.Helper()
	text := os.Getenv("GODEPLOY_CHAOS_CUTS")
	if text == "" {
		return 2
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// A server whose power is cut in the middle of a release comes back on a whole release and serves it, and the
// next plain release goes through everywhere.
func TestAPowerCutInARelease(t *testing.T) {
	t.Parallel()
	_, o := newSite(t, site{}, "lb1", "app1", "app2", "db1")
	n := cuts(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n+4)*2*time.Minute)
	t.Cleanup(cancel)
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	o.release(ctx, named(t, "v1"))
	moments := []string{"app1  switch: current is", "app2  switch: current is", "build: ", "sync: to ", "switch: 2 hosts"}
	for i := range n {
		victim := o.fleet.Role("app")[i%2]
		o.write(app.Variant{Version: fmt.Sprintf("cut%d", i)})
		o.cutAt(ctx, victim, moments[i%len(moments)])
		o.servesWhole(ctx, victim)
		healed := o.want(ctx, 0, "release", "prod", "--yes")
		o.wholeOn(ctx, strings.TrimSpace(healed.stdout))
	}
}

// cutAt releases and cuts the power of a host when a text has been said; the host boots again at once. The
// release ends as it may.
func (o *operator) cutAt(ctx context.Context, victim *hosts.Host, text string) {
	o.t.Helper()
	cmd := o.start(ctx, "release", "prod", "--yes")
	seen := make(chan struct{})
	var stdout bytes.Buffer
	stderr := &said{text: text, seen: seen}
	cmd.Stdout, cmd.Stderr = &stdout, stderr
	must(o.t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-seen:
	case err := <-ended:
		o.t.Fatalf("it ended before it said %q: %v\n%s", text, err, stderr.all.String())
	}
	must(o.t, victim.PowerCut(ctx))
	must(o.t, victim.Boot(ctx))
	<-ended
	o.t.Logf("power of %s cut at %q: exit %d\n%s", victim.Name, text, cmd.ProcessState.ExitCode(), stderr.all.String())
}

// servesWhole: the host comes up with what current leads to, and that is all there.
func (o *operator) servesWhole(ctx context.Context, h *hosts.Host) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		out, err := h.Sh(ctx, "cd "+hosts.AppPath+" && id=$(basename $(readlink current)) && test -s releases/$id/manage.py && test -s .godeploy/releases/$id.json && "+
			"curl -sI "+h.Private()+":9000/healthz | grep -i \"^x-release: $id\"")
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			o.t.Fatalf("%s does not serve what current leads to: %v: %s", h.Name, err, out)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

package e2e

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"godeploy/e2e/hosts"
	"godeploy/e2e/hosts/app"
)

// TestTwentyReleasesUnderLoad: visitors that open a connection for each request lose none while release
// follows release, each server by server. It takes minutes of a whole machine: `make chaos` says how many
// requests there are to be, and TestReleaseEndToEnd does it in small.
func TestTwentyReleasesUnderLoad(t *testing.T) {
	t.Parallel()
	text := os.Getenv("GODEPLOY_CHAOS_REQUESTS")
	if text == "" {
		t.Skip("make chaos runs this")
	}
	requests, err := strconv.Atoi(text)
	must(t, err)
	boot, o := newSite(t, site{})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(boot), time.Hour)
	t.Cleanup(cancel)
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	o.release(ctx, named(t, "v1"))
	must(t, o.fleet.Balance(ctx))
	load := o.fleet.Load(ctx, hosts.LoadOptions{URLs: o.fleet.URLs("/healthz"), Rate: 1000, Max: 50 * requests})
	began, released := time.Now(), 0
	for ; released < 20 || load.Report().Requests < requests; released++ {
		id := o.release(ctx, app.Variant{Version: fmt.Sprintf("w%d", released)})
		if !load.Until(ctx, func(r hosts.Report) bool { return r.Releases[id] > 20 }) {
			t.Fatalf("nobody was served %s: %v", id, load.Stop())
		}
	}
	report := load.Stop()
	t.Logf("%d releases in %s; load saw %v", released, time.Since(began).Round(time.Second), report)
	if report.Failed != 0 || report.Requests < requests {
		t.Errorf("%d of %d requests failed, want at least %d and none failed", report.Failed, report.Requests, requests)
	}
}

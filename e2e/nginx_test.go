package e2e

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"godeploy/e2e/hosts"
	"godeploy/e2e/hosts/app"
)

// namesOnly lets every app host answer with its name at the app's port: what is looked at is who is asked.
func namesOnly(ctx context.Context, t *testing.T, f *hosts.Fleet) {
	t.Helper()
	for _, h := range f.Role("app") {
		must(t, h.WriteFile(ctx, "/etc/nginx/conf.d/names.conf", []byte("server { listen 9000; keepalive_requests 1000000; location / { return 200 \"$hostname\"; } }\n"), 0o644))
		_, err := h.Exec(ctx, "systemctl", "start", "nginx")
		must(t, err)
	}
}

// ask sends requests to both nginx hosts over a few connections and counts who answered.
func ask(t *testing.T, f *hosts.Fleet, requests int) map[string]int {
	t.Helper()
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: f.Dial, MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	urls := f.URLs("/")
	var mu sync.Mutex
	counts := map[string]int{}
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for n := worker; n < requests; n += 16 {
				name := nameOf(client, urls[n%len(urls)])
				mu.Lock()
				counts[name]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return counts
}

// nameOf asks once; a failure is a name too, which no host has.
func nameOf(client *http.Client, url string) string {
	resp, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Sprint(resp.Status, err)
	}
	return string(body)
}

// bothHave gives the file that both balancers must have.
func bothHave(ctx context.Context, o *operator) string {
	o.t.Helper()
	var files []string
	for _, h := range o.fleet.Role("nginx") {
		text, err := h.Exec(ctx, "cat", o.front.file)
		must(o.t, err)
		files = append(files, text)
	}
	if files[0] != files[1] {
		o.t.Errorf("the balancers differ:\n%s\n%s", files[0], files[1])
	}
	return files[0]
}

// Two nginx hosts before four app hosts: the file is rendered, pushed to both, and spreads requests by
// weight; what somebody else has done or broken on one of them stops a push before either is changed.
func TestNginxTier(t *testing.T) {
	t.Parallel()
	tierHolds(t, nginxFront())
}

// tierHolds is what TestNginxTier says, of either kind of balancer.
func tierHolds(t *testing.T, kind front) {
	t.Helper()
	ctx, f := bootFleet(t, hosts.Options{Only: []string{"lb1", "lb2", "app1", "app2", "app3", "app4"}})
	o := newOperator(t, f)
	o.front = kind
	o.write(named(t, "v1"))
	o.configure(site{more: o.front.table("weight")})
	namesOnly(ctx, t, f)
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	o.front.begin(ctx, o)

	o.want(ctx, 3, o.front.group, "diff", "prod", "--exit-code")
	o.want(ctx, 0, append([]string{o.front.group, "push", "prod"}, o.front.first...)...)
	o.want(ctx, 0, o.front.group, "diff", "prod", "--exit-code")
	if out := o.want(ctx, 0, o.front.group, "push", "prod"); !strings.Contains(out.stderr, "nothing to push") {
		t.Error("the same push again is not said to do nothing")
	}
	byWeight(o, 20_000)
	refusals(ctx, o)
	hashed(ctx, o)
	drainedByHash(ctx, o)
}

// byWeight: the servers get their share, each within 3 % of it.
func byWeight(o *operator, requests int) {
	t, f := o.t, o.fleet
	t.Helper()
	counts, sum, worst := ask(t, f, requests), 0, 0.0
	t.Logf("%d requests: %v", requests, counts)
	for _, h := range f.Role("app") {
		want := float64(requests*h.Weight()) / 70
		worst = max(worst, math.Abs(float64(counts[h.Name])-want)/want)
		if got := float64(counts[h.Name]); math.Abs(got-want) > 0.03*want {
			t.Errorf("%s got %.0f of %d requests, want %.0f", h.Name, got, requests, want)
		}
		sum += counts[h.Name]
	}
	if sum != requests {
		t.Errorf("%d of %d requests were answered by an app host: %v", sum, requests, counts)
	}
	figure(t, o.front.says("method `weight`, weights 10, 20, 20, 20"), "%d requests: %d, %d, %d, %d; the worst is %.1f %% away from its share",
		requests, counts["app1"], counts["app2"], counts["app3"], counts["app4"], 100*worst)
}

// refusals: each is named, and neither host is changed.
func refusals(ctx context.Context, o *operator) {
	o.t.Helper()
	before := bothHave(ctx, o)
	for _, c := range o.front.spoils {
		o.configure(site{more: o.front.table("least_conn") + c.more})
		lb2 := o.fleet.Host("lb2")
		_, err := lb2.Sh(ctx, c.spoil)
		must(o.t, err)
		if out := o.want(ctx, 5, o.front.group, "push", "prod"); !strings.Contains(out.stderr, c.code) || !strings.Contains(out.stderr, "lb2") {
			o.t.Errorf("%s on lb2 is not named", c.code)
		}
		_, err = lb2.Sh(ctx, c.heal)
		must(o.t, err)
		if after := bothHave(ctx, o); after != before {
			o.t.Errorf("%s: a host was changed:\n%s", c.code, after)
		}
	}
}

// hashed: with ip_hash a client stays where it is.
func hashed(ctx context.Context, o *operator) {
	o.t.Helper()
	o.configure(site{more: o.front.table("ip_hash")})
	o.want(ctx, 0, o.front.group, "push", "prod")
	if counts := ask(o.t, o.fleet, 500); len(counts) != 1 {
		o.t.Errorf("one client was sent to %v", counts)
	}
	out, err := o.fleet.Host("lb1").Sh(ctx, "for i in $(seq 100); do curl -s http://127.0.0.1/; echo; done | sort | uniq -c")
	must(o.t, err)
	if len(strings.Split(strings.TrimSpace(out), "\n")) != 1 {
		o.t.Errorf("another client was sent to\n%s", out)
	}
}

// drainedByHash: while a server is out, only its own clients go elsewhere.
func drainedByHash(ctx context.Context, o *operator) {
	o.t.Helper()
	_, err := o.fleet.Host("app3").Exec(ctx, "mkdir", "-p", "-m", "777", "/opt/swiper") // what a release would have made
	must(o.t, err)
	before := homes(ctx, o)
	o.want(ctx, 0, o.front.group, "drain", "prod", "app3", "--yes")
	after := homes(ctx, o)
	moved := 0
	for client, home := range before {
		switch {
		case after[client] == "app3":
			o.t.Errorf("%s is sent to app3, which is out", client)
		case home == "app3":
			moved++
		case after[client] != home:
			o.t.Errorf("%s was sent to %s, and to %s while app3 is out", client, home, after[client])
		}
	}
	if moved == 0 || len(before) < 200 {
		o.t.Errorf("%d of %d clients were app3's", moved, len(before))
	}
	figure(o.t, o.front.says("method `ip_hash`, one of four servers drained"), "%d clients: the %d of that server moved, and no other", len(before), moved)
}

// homes gives the server of each of many clients of lb1; nginx tells them apart by the first three numbers of
// their address.
func homes(ctx context.Context, o *operator) map[string]string {
	o.t.Helper()
	out, err := o.fleet.Host("lb1").Sh(ctx, "for i in $(seq 1 250); do printf '%s ' $i; curl -s --interface 127.0.$i.1 http://127.0.0.1/; echo; done")
	must(o.t, err)
	all := map[string]string{}
	for line := range strings.Lines(out) {
		client, home, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[client] = home
	}
	return all
}

// assetOf is a static file with its version in its name, as a build step makes them.
func assetOf(version string) string { return "/statics/app." + version + ".css" }

// releaseWithAsset brings out a version that has an asset of its own, and no other's.
func (o *operator) releaseWithAsset(ctx context.Context, version string) {
	o.t.Helper()
	must(o.t, os.RemoveAll(filepath.Join(o.project, "frontend")))
	o.write(app.Variant{Version: version})
	must(o.t, os.WriteFile(filepath.Join(o.project, "frontend", filepath.FromSlash(assetOf(version))), []byte("/* "+version+" */\n"), 0o644))
	o.want(ctx, 0, "release", "prod", "--yes")
}

// Static files stand on the nginx hosts before any app host serves the code that names them, and those of
// the release before stay there: three rolling releases, ten with GODEPLOY_TEST_FULL.
func TestStaticFilesAreThereBeforeAndAfter(t *testing.T) {
	t.Parallel()
	ctx, o := newSite(t, site{}, "lb1", "lb2", "app1", "app2", "db1")
	o.configure(site{more: "[release]\ndrain = \"off\"\n[nginx]\n[[nginx.location]]\npath = \"/statics/\"\nalias = \"/srv/swiper/statics/\"\nsync = \"frontend/statics/\"\n" +
		"expires = \"30d\"\n[[nginx.location]]\npath = \"/\"\nproxy = \"swiper_servers\"\n"})
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	o.releaseWithAsset(ctx, "s0")
	o.want(ctx, 0, "nginx", "push", "prod")
	releases := 3
	if os.Getenv("GODEPLOY_TEST_FULL") != "" {
		releases = 10
	}
	client := o.fleet.HTTP(10 * time.Second)
	pages := o.fleet.Load(ctx, hosts.LoadOptions{URLs: o.fleet.URLs("/"), Rate: 30, Check: func(resp *http.Response, _ []byte) error {
		url := "http://" + resp.Request.URL.Host + assetOf(resp.Header.Get("X-Version"))
		if name := nameOf(client, url); !strings.HasPrefix(name, "/* s") {
			return fmt.Errorf("%s: %s", url, name)
		}
		return nil
	}})
	asked := 0
	for i := range releases {
		before := o.fleet.Load(ctx, hosts.LoadOptions{URLs: o.fleet.URLs(assetOf(fmt.Sprintf("s%d", i))), Rate: 50})
		o.releaseWithAsset(ctx, fmt.Sprintf("s%d", i+1))
		if report := before.Stop(); report.Failed != 0 || report.Requests < 20 {
			t.Errorf("the asset of the release before: %v", report)
		} else {
			asked += report.Requests
		}
	}
	report := pages.Stop()
	if report.Failed != 0 || report.Versions["s1"] == 0 {
		t.Errorf("pages and what they name: %v", report)
	}
	figure(t, "rolling releases with hashed assets", "%d releases: %d requests for the asset of the release before and %d for pages and what they name, no 404",
		releases, asked, report.Requests)
	for _, url := range o.fleet.URLs("/statics/.godeploy/statics/") {
		if name := nameOf(client, url); !strings.HasPrefix(name, "404") {
			t.Errorf("godeploy's own folder is shown: %s", name)
		}
	}
}

package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"godeploy/e2e/hosts"
	"godeploy/e2e/hosts/app"
)

// bootFleet gives a test a fleet of its own, removed when the test ends. A machine that cannot boot
// one skips the test, unless GODEPLOY_TEST_MUST_RUN says that the run is worth nothing without it.
func bootFleet(t *testing.T, opts hosts.Options) (context.Context, *hosts.Fleet) {
	t.Helper()
	mustRun := os.Getenv("GODEPLOY_TEST_MUST_RUN") != ""
	if os.Geteuid() != 0 && !mustRun {
		t.Skip("booting test hosts needs root")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	t.Cleanup(cancel)
	opts.Log = t.Logf
	f, err := hosts.Start(ctx, opts)
	if err != nil {
		t.Fatalf("boot the fleet: %v", err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("remove the fleet: %v", err)
		}
	})
	return ctx, f
}

// installByHand puts a version on every app host and configures nginx, without godeploy.
func installByHand(ctx context.Context, t *testing.T, f *hosts.Fleet, v app.Variant) {
	t.Helper()
	project := filepath.Join(t.TempDir(), "swiper")
	must(t, app.Write(project, v))
	must(t, f.PrepareApp(ctx, project))
	for _, h := range f.Role("app") {
		must(t, h.ReleaseByHand(ctx, project, "20260101-000000-0000001"))
	}
	_, err := f.Host("app1").Sh(ctx, "cd "+hosts.AppPath+"/current; runuser -u deploy -- python3 manage.py migrate --noinput")
	must(t, err)
	must(t, f.Balance(ctx))
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	must(t, f.Answers(wait, "/healthz"))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFleetBoots(t *testing.T) {
	t.Parallel()
	ctx, f := bootFleet(t, hosts.Options{})
	if got := len(f.Hosts()); got != 7 {
		t.Fatalf("got %d hosts, want 7", got)
	}
	for _, h := range f.Hosts() {
		out, err := f.SSH(ctx, "deploy", h.Name, "hostname; sudo -n id -u")
		must(t, err)
		if want := h.Name + "\n0\n"; out != want {
			t.Errorf("ssh %s: got %q, want %q", h.Name, out, want)
		}
	}
	if out, err := f.SSH(ctx, "swiper", "app1", "sudo -n id -u"); err == nil {
		t.Errorf("user swiper must not have sudo, got %q", out)
	}
	checkIsolation(ctx, t, f)
	checkSysctl(ctx, t, f)
	installByHand(ctx, t, f, app.Variant{Version: "v1"})
	checkWebsite(t, f)
	checkLoad(ctx, t, f)
}

// checkIsolation: app hosts are reached through a jump only, and nothing has a way out.
func checkIsolation(ctx context.Context, t *testing.T, f *hosts.Fleet) {
	t.Helper()
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if conn, err := f.Dial(short, "tcp4", "10.0.0.1:22"); err == nil {
		_ = conn.Close() // the test has failed
		t.Error("the operator reaches app1 without a jump host")
	}
	out, err := f.Operator(ctx, "ip", "route").Output()
	must(t, err)
	if strings.Contains(string(out), "default") {
		t.Errorf("the operator has a route out: %s", out)
	}
	for _, h := range f.Hosts() {
		routes, err := h.Exec(ctx, "ip", "route")
		must(t, err)
		if strings.Contains(routes, "default") {
			t.Errorf("%s has a route out: %s", h.Name, routes)
		}
	}
}

// checkSysctl: a network sysctl can be set on a host and is that host's own.
func checkSysctl(ctx context.Context, t *testing.T, f *hosts.Fleet) {
	t.Helper()
	_, err := f.SSH(ctx, "root", "app1", "sysctl -qw net.core.somaxconn=2345")
	must(t, err)
	for name, want := range map[string]bool{"app1": true, "app2": false} {
		out, err := f.Host(name).Exec(ctx, "sysctl", "-n", "net.core.somaxconn")
		must(t, err)
		if got := strings.TrimSpace(out) == "2345"; got != want {
			t.Errorf("%s: net.core.somaxconn is %q, changed on app1 only", name, out)
		}
	}
}

// checkWebsite: every app host serves, a session is one on all of them, and code says which it is.
func checkWebsite(t *testing.T, f *hosts.Fleet) {
	t.Helper()
	client := f.HTTP(10 * time.Second)
	client.Jar, _ = cookiejar.New(nil) // never fails without options
	served := map[string]bool{}
	for i := 1; i <= 14; i++ {
		var page struct{ Visits int }
		served[fetchJSON(t, client, f.URLs("/visits")[0], &page).Get("X-Served-By")] = true
		if page.Visits != i {
			t.Fatalf("visit %d is counted as %d", i, page.Visits)
		}
	}
	if len(served) != 4 {
		t.Errorf("14 requests reached %v, want all four app hosts", served)
	}
	var me struct{ Version, Release, Code string }
	head := fetchJSON(t, client, f.URLs("/whoami")[1], &me)
	const id = "20260101-000000-0000001"
	if me.Version != "v1" || me.Release != id || me.Code != hosts.AppPath+"/releases/"+id || head.Get("X-Release") != id {
		t.Errorf("whoami says %+v, X-Release %q, want v1 in %s", me, head.Get("X-Release"), id)
	}
}

func fetchJSON(t *testing.T, client *http.Client, url string, into any) http.Header {
	t.Helper()
	resp, err := client.Get(url)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	must(t, err)
	if err := json.Unmarshal(body, into); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s (%v)", url, resp.Status, body, err)
	}
	return resp.Header
}

// checkLoad: a load on a healthy fleet counts no failure, and one on a dead nginx counts them all.
// A generator that could not fail would make every later figure worthless.
func checkLoad(ctx context.Context, t *testing.T, f *hosts.Fleet) {
	t.Helper()
	good := f.Load(ctx, hosts.LoadOptions{URLs: f.URLs("/"), Rate: 100, Max: 200}).Wait()
	if good.Requests != 200 || good.Failed != 0 || good.Versions["v1"] != 200 {
		t.Errorf("load on a healthy fleet: %v", good)
	}
	_, err := f.Host("lb2").Exec(ctx, "systemctl", "stop", "nginx")
	must(t, err)
	bad := f.Load(ctx, hosts.LoadOptions{URLs: f.URLs("/"), Rate: 100, Max: 20}).Wait()
	if bad.Failed != 10 || len(bad.Failures) != 10 {
		t.Errorf("load with one of two nginx hosts dead: %v", bad)
	}
}

func TestHostKeepsItsFilesThroughRebootAndPowerCut(t *testing.T) {
	t.Parallel()
	ctx, f := bootFleet(t, hosts.Options{Only: []string{"lb1", "app1", "db1"}})
	installByHand(ctx, t, f, app.Variant{Version: "v1"})
	h := f.Host("app1")
	boots := map[string]bool{bootID(ctx, t, h): true}
	for name, act := range map[string]func(context.Context) error{
		"reboot": h.Reboot,
		"power cut": func(ctx context.Context) error {
			if err := h.PowerCut(ctx); err != nil {
				return err
			}
			if _, err := h.Exec(ctx, "true"); err == nil {
				t.Error("a host without power runs a command")
			}
			return h.Boot(ctx)
		},
	} {
		must(t, h.WriteFile(ctx, "/opt/"+name, []byte("kept\n"), 0o644))
		must(t, act(ctx))
		boots[bootID(ctx, t, h)] = true
		if out, err := h.Exec(ctx, "cat", "/opt/"+name); err != nil || out != "kept\n" {
			t.Errorf("after a %s the file reads %q, %v", name, out, err)
		}
		wait, cancel := context.WithTimeout(ctx, 30*time.Second)
		if err := f.Answers(wait, "/healthz"); err != nil {
			t.Errorf("after a %s the app does not come back: %v", name, err)
		}
		cancel()
	}
	if len(boots) != 3 {
		t.Errorf("two restarts gave boot ids %v, want three", boots)
	}
	must(t, h.Reset(ctx))
	if out, err := h.Sh(ctx, "ls -A /opt"); err != nil || out != "" {
		t.Errorf("after a reset /opt holds %q, %v", out, err)
	}
	if _, err := f.SSH(ctx, "deploy", "app1", "true"); err != nil {
		t.Errorf("after a reset: %v", err)
	}
}

func bootID(ctx context.Context, t *testing.T, h *hosts.Host) string {
	t.Helper()
	out, err := h.Exec(ctx, "cat", "/proc/sys/kernel/random/boot_id")
	must(t, err)
	return out
}

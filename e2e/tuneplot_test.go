package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"godeploy/e2e/hosts"
)

const (
	bursts      = 12  // of each setting
	burstOf     = 300 // connections at once
	plotPage    = "../docs/tuning.md"
	plotPicture = "../docs/img/somaxconn.svg"
)

// burst is what one run of ab came to.
type burst struct {
	overflows int     // connections that found the queue full, since the first burst of the setting
	longest   int     // request, in milliseconds
	seconds   float64 // that the burst took
	failed    int
}

// Bursts of 300 one-shot clients against one gunicorn worker, with a queue of 128 and with one of 4096, each
// set and opened by `godeploy tune --restart`. `make tune-plot` writes what was seen into docs/tuning.md.
func TestTunePlot(t *testing.T) {
	if os.Getenv("GODEPLOY_TUNE_PLOT") == "" {
		t.Skip("make tune-plot runs it")
	}
	const long = "unit = \"swiper.service\"\nbacklog = 4096"
	ctx, o := newSite(t, site{process: long}, "lb1", "app1", "db1")
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	o.release(ctx, named(t, "v1"))
	app1 := o.fleet.Host("app1")
	must(t, app1.WriteFile(ctx, "/etc/systemd/system/swiper.service.d/10-backlog.conf", []byte("[Service]\nExecStart=\nExecStart=/usr/bin/gunicorn --chdir "+
		hosts.AppPath+"/current -c "+hosts.AppPath+"/current/swiper/gunicorn-config.py --pid /run/swiper/gunicorn.pid --backlog 4096 swiper.wsgi\n"), 0o644))
	_, err := app1.Exec(ctx, "systemctl", "daemon-reload")
	must(t, err)
	seen := map[int][]burst{}
	for _, somaxconn := range []int{128, 4096} {
		o.configure(site{process: long, more: fmt.Sprintf("[tune.sysctl]\n\"net.core.somaxconn\" = %d\n", somaxconn)})
		o.want(ctx, 0, "tune", "prod", "-l", "app1")
		o.want(ctx, 0, "restart", "prod") // the queue keeps the length that it was opened with
		o.want(ctx, 0, "tune", "prod", "-l", "app1", "--exit-code")
		seen[somaxconn] = burstsOn(ctx, t, o.fleet)
	}
	last := func(n int) burst { return seen[n][bursts-1] }
	if last(128).overflows == 0 || last(4096).overflows != 0 {
		t.Errorf("overflows are %d with 128 and %d with 4096", last(128).overflows, last(4096).overflows)
	}
	must(t, os.WriteFile(plotPicture, []byte(plot(seen)), 0o644))
	must(t, writeBetween(plotPage, "somaxconn", plotTable(seen)))
}

func burstsOn(ctx context.Context, t *testing.T, f *hosts.Fleet) []burst {
	t.Helper()
	app1, from := f.Host("app1"), f.Host("lb1").Netns()
	start := overflows(ctx, t, app1)
	var all []burst
	for range bursts {
		out, err := exec.CommandContext(ctx, "ip", "netns", "exec", from, "ab", "-q", "-s", "60", "-c", strconv.Itoa(burstOf), "-n", strconv.Itoa(burstOf),
			"http://"+app1.Private()+":9000/healthz").CombinedOutput()
		if err != nil {
			t.Fatalf("ab: %v: %s", err, out)
		}
		b := burst{overflows: overflows(ctx, t, app1) - start, longest: told(out, `100%\s+(\d+)`), failed: told(out, `Failed requests:\s+(\d+)`)}
		b.seconds, _ = strconv.ParseFloat(regexp.MustCompile(`Time taken for tests:\s+([\d.]+)`).FindStringSubmatch(string(out))[1], 64)
		all = append(all, b)
		t.Logf("%+v", b)
	}
	return all
}

func told(out []byte, expr string) int {
	m := regexp.MustCompile(expr).FindSubmatch(out)
	if m == nil {
		return -1
	}
	n, _ := strconv.Atoi(string(m[1])) // digits by the expression
	return n
}

func overflows(ctx context.Context, t *testing.T, h *hosts.Host) int {
	t.Helper()
	out, err := h.Sh(ctx, `awk '/^TcpExt:/ { if (!n) { for (i = 2; i <= NF; i++) if ($i == "ListenOverflows") n = i } else print $n }' /proc/net/netstat`)
	must(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(out))
	must(t, err)
	return n
}

func plotTable(seen map[int][]burst) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d bursts of `ab -c %d -n %d` for each setting, one gunicorn worker with `--backlog 4096`:\n\n", bursts, burstOf, burstOf)
	b.WriteString("| net.core.somaxconn | connections | overflows of the queue | failed requests | longest request | median burst |\n|---|---|---|---|---|---|\n")
	for _, n := range []int{128, 4096} {
		longest, failed := 0, 0
		var took []float64
		for _, one := range seen[n] {
			longest, failed, took = max(longest, one.longest), failed+one.failed, append(took, one.seconds)
		}
		fmt.Fprintf(&b, "| %d | %d | %d | %d | %.2f s | %.2f s |\n", n, bursts*burstOf, seen[n][bursts-1].overflows, failed, float64(longest)/1000, median(took))
	}
	b.WriteString("\n![overflows of the listen queue, burst by burst](img/somaxconn.svg)\n")
	return b.String()
}

// plot draws the overflows so far after each burst, one line for each setting.
func plot(seen map[int][]burst) string {
	const width, height, left, top, bottom = 640, 320, 60, 40, 270
	most := 1
	for _, b := range seen[128] {
		most = max(most, b.overflows)
	}
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&s, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	fmt.Fprintf(&s, `<text x="%d" y="22" font-size="14">connections that found the listen queue full, summed over %d bursts of %d clients</text>`+"\n", left, bursts, burstOf)
	x := func(i int) int { return left + i*(width-left-110)/bursts }
	y := func(n int) int { return bottom - n*(bottom-top)/most }
	for i := range 5 {
		n := most * i / 4
		fmt.Fprintf(&s, `<path d="M%d %dH%d" stroke="#ddd"/><text x="%d" y="%d" text-anchor="end">%d</text>`+"\n", left, y(n), x(bursts), left-6, y(n)+4, n)
	}
	for i := range bursts + 1 {
		fmt.Fprintf(&s, `<text x="%d" y="%d" text-anchor="middle">%d</text>`+"\n", x(i), bottom+18, i)
	}
	fmt.Fprintf(&s, `<text x="%d" y="%d" text-anchor="middle">bursts</text>`+"\n", x(bursts/2), bottom+38)
	for _, n := range []int{128, 4096} {
		colour := map[int]string{128: "#c0392b", 4096: "#2471a3"}[n]
		points := fmt.Sprintf("%d,%d", x(0), y(0))
		for i, b := range seen[n] {
			points += fmt.Sprintf(" %d,%d", x(i+1), y(b.overflows))
		}
		end := y(seen[n][bursts-1].overflows)
		fmt.Fprintf(&s, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2.5"/><text x="%d" y="%d" fill="%s">somaxconn %d</text>`+"\n",
			points, colour, x(bursts)+6, end+4, colour, n)
	}
	s.WriteString("</svg>\n")
	return s.String()
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// writeBetween replaces what stands between two marks of a page.
func writeBetween(page, mark, text string) error {
	name := filepath.FromSlash(page)
	old, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	begin, end := "<!-- "+mark+": written by make tune-plot -->\n", "<!-- end of "+mark+" -->"
	head, rest, ok := strings.Cut(string(old), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for %s", page, mark)
	}
	return os.WriteFile(name, []byte(head+begin+text+end+tail), 0o644)
}

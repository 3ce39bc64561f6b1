package cmd

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"godeploy/internal/fault"
)

// TestMain makes the test binary what godeploy is to the demo's servers: the helper that is pushed to
// them, and the shop that runs there.
// asGodeployEnv lets the test binary be godeploy, for tests that kill it.
const asGodeployEnv = "GODEPLOY_TEST_AS_GODEPLOY"

func TestMain(m *testing.M) {
	if os.Getenv(asGodeployEnv) != "" || len(os.Args) > 1 && (os.Args[1] == "helper" || os.Args[1] == "demo-app") {
		os.Exit(Main(os.Args, RealSystem()))
	}
	os.Exit(m.Run())
}

// showing is a demo under way.
type showing struct {
	*machine
	signals chan os.Signal
	ended   chan int
}

func startDemo(t *testing.T, args ...string) *showing {
	t.Helper()
	s := &showing{machine: newMachine(t, "GODEPLOY_LIMIT=nobody", "GODEPLOY_CONFIG=/nowhere"), signals: make(chan os.Signal, 2), ended: make(chan int, 1)}
	s.Now, s.Signals = time.Now, s.signals
	go func() { s.ended <- s.run(append([]string{"demo"}, args...)...) }()
	return s
}

// says waits until the story has come to the text; a demo that ends before it does not.
func (s *showing) says(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(4 * time.Minute)
	for !strings.Contains(s.err.String(), text) {
		select {
		case code := <-s.ended:
			t.Fatalf("it ended with %d before it said %q:\n%s", code, text, s.err.String())
		case <-deadline:
			t.Fatalf("it never says %q:\n%s", text, s.err.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (s *showing) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-s.ended:
		return code
	case <-time.After(time.Minute):
		t.Fatalf("it does not end:\n%s", s.err.String())
		return 0
	}
}

// find gives what the expression's group matches in the story.
func (s *showing) find(t *testing.T, expression string) string {
	t.Helper()
	found := regexp.MustCompile(expression).FindStringSubmatch(s.err.String())
	if found == nil {
		t.Fatalf("nothing matches %s:\n%s", expression, s.err.String())
	}
	return found[1]
}

func (s *showing) dir(t *testing.T) string {
	t.Helper()
	return s.find(t, `disks    (\S+)/fleet`)
}

// sockets are the inodes of what listens on the SSH addresses of a demo under way. The addresses will
// not do: as soon as the demo has ended, another one may take them.
func (s *showing) sockets(t *testing.T) []string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, web := range []string{"web1", "web4"} {
		address, err := netip.ParseAddrPort(s.find(t, web+` +ssh (\S+)`))
		if err != nil {
			t.Fatal(err)
		}
		ip := address.Addr().As4()
		want := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), address.Port())
		for line := range strings.Lines(string(table)) {
			if f := strings.Fields(line); len(f) > 9 && f[1] == want && f[3] == "0A" { // listening
				all = append(all, "socket:["+f[9]+"]")
			}
		}
	}
	if len(all) != 2 {
		t.Fatalf("%d of 2 servers listen", len(all))
	}
	return all
}

// gone fails when a process or a socket of the demo is left.
func gone(t *testing.T, dir string, sockets []string) {
	t.Helper()
	if left := runningBelow(dir); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); slices.Contains(sockets, to) {
			t.Errorf("%s still listens", to)
		}
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		if m := newMachine(t); m.run("demo") != exitUsage || !strings.Contains(m.err.String(), "Linux only") {
			t.Errorf("stderr: %s", m.err.String())
		}
		return
	}
	s := startDemo(t, "--keep", "--json")
	s.says(t, "until you press Ctrl-C")
	dir := s.dir(t)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	sockets := s.sockets(t)
	res, err := http.Get("http://" + s.find(t, `web1 .* shop http://([^/]+)/`) + "/static/shop.css")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("the shop that is kept does not serve: %v, %v", res, err)
	} else {
		_ = res.Body.Close()
	}
	s.signals <- os.Interrupt
	if code := s.wait(t); code != 0 {
		t.Fatalf("exit %d:\n%s", code, s.err.String())
	}
	s.checkResult(t)
	for _, want := range []string{"$ godeploy release demo", "error[health-failed]: web1", "undo: back on", "Rolled demo back to", "0 failed"} {
		if !strings.Contains(s.err.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, s.err.String())
		}
	}
	gone(t, dir, sockets)
	if _, err := os.Stat(filepath.Join(dir, "fleet", "web4", "shop", "current", "page.html")); err != nil {
		t.Errorf("--keep: %v", err)
	}
	if bytes, err := os.ReadFile(filepath.Join(dir, "id_ed25519")); err != nil || len(bytes) == 0 {
		t.Errorf("the key: %v", err)
	}
}

// checkResult reads the document: two releases, and nobody who asked for a page went without.
func (s *showing) checkResult(t *testing.T) {
	t.Helper()
	var result struct {
		Releases []string
		Load     demoSeen
	}
	if err := json.Unmarshal([]byte(s.out.String()), &result); err != nil {
		t.Fatalf("stdout: %v\n%s", err, s.out.String())
	}
	if l := result.Load; l.Requests < 100 || l.Failed != 0 {
		t.Errorf("%d requests, %d failed", l.Requests, l.Failed)
	}
	if len(result.Releases) != 2 || result.Releases[0] == result.Releases[1] {
		t.Errorf("releases %q", result.Releases)
	}
	if seen := len(result.Load.Releases); seen != 3 { // the broken one too: its first server served it for a while
		t.Errorf("customers saw %d versions, want 3: %v", seen, result.Load.Releases)
	}
}

func TestInterruptedDemoLeavesNothing(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // TestDemo shows that there is none
	}
	s := startDemo(t)
	s.says(t, "3. The shop is open")
	dir, sockets := s.dir(t), s.sockets(t)
	s.signals <- syscall.SIGTERM
	if code := s.wait(t); code != exitTerminated {
		t.Errorf("exit %d, want %d:\n%s", code, exitTerminated, s.err.String())
	}
	gone(t, dir, sockets)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}

func TestDemoRefusesToPlan(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if code := m.run("demo", "--dry-run"); code != exitUsage {
		t.Errorf("exit %d, want %d: %s", code, exitUsage, m.err.String())
	}
}

func TestDemoSaysWhenItsFolderWillNotDo(t *testing.T) {
	t.Parallel()
	f := &demoFleet{dir: filepath.Join(t.TempDir(), "a b"), network: "127.7.0", ssh: 2222, app: 8080}
	if err := os.MkdirAll(f.project(), 0o755); err != nil {
		t.Fatal(err)
	}
	line, err := newLifeline("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer line.close()
	f.line = line
	if err := f.writeProject(); err != nil {
		t.Fatal(err)
	}
	if err := f.fits(); !fault.Is(err, fault.Usage) {
		t.Errorf("a path with a space: %v", err)
	}
}

func TestTurnsFollowWeights(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ weights, want []int }{
		{[]int{1}, []int{0}},
		{[]int{1, 2, 2}, []int{1, 2, 0, 1, 2}},
		{[]int{5, 1, 1}, []int{0, 0, 1, 0, 2, 0, 0}}, // as nginx's own example has it
	} {
		if got := turns(tt.weights); !slices.Equal(got, tt.want) {
			t.Errorf("turns(%v) = %v, want %v", tt.weights, got, tt.want)
		}
	}
}

func TestOneLostCustomerFailsTheDemo(t *testing.T) {
	t.Parallel()
	l := startLoad(t.Context(), []string{"http://127.0.0.1:1/"}, []int{1})
	for n := 0; n == 0; n, _ = l.soFar() {
		time.Sleep(time.Millisecond)
	}
	if seen := l.finish(); seen.check() == nil || seen.Failed != seen.Requests {
		t.Errorf("%d of %d failed, and that is said to be well", seen.Failed, seen.Requests)
	}
	if (demoSeen{}).check() == nil {
		t.Error("no request at all is said to be well")
	}
}

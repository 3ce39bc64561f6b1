package helper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"godeploy/internal/wire"
)

// shop is an app with two releases, the first one current, and a service that a shell command "restarts":
// it notes which release it read through current.
type shop struct {
	*Site
	site wire.Site
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := newSite(t)
	s.put(t, 1)
	s.put(t, 2)
	if _, err := s.Switch(t.Context(), id(1), ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Mark(t.Context(), id(1), wire.MarkHealthy, ""); err != nil {
		t.Fatal(err)
	}
	return &shop{s, wire.Site{App: "shop", Path: s.Path}}
}

// serves is what the service runs, one word for each restart.
func (s *shop) serves() string {
	b, _ := os.ReadFile(filepath.Join(s.Path, "served"))
	return string(b)
}

func (s *shop) aftermath() *wire.Aftermath {
	return &wire.Aftermath{
		Graceful: []string{"/bin/sh", "-c", "cat name >>../../served && echo >>../../served"},
		Stop:     []string{"/bin/sh", "-c", "echo stopped >>../../served"},
	}
}

func (s *shop) arm(t *testing.T, c *wire.Client, to, back string, a *wire.Aftermath) {
	t.Helper()
	req := &wire.ArmRequest{Site: s.site, Holder: wire.Holder{Who: "ops@laptop", Run: "r1"}, To: to, Back: back, Aftermath: a}
	if err := c.Call(t.Context(), wire.KindArm, req, nil); err != nil {
		t.Fatalf("arm: %v", err)
	}
}

func (s *shop) swap(t *testing.T, c *wire.Client, to string) {
	t.Helper()
	if err := c.Call(t.Context(), wire.KindSwitch, &wire.SwitchRequest{Site: s.site, ID: to}, nil); err != nil {
		t.Fatalf("switch: %v", err)
	}
}

func (s *shop) reach(t *testing.T, c *wire.Client, step wire.Step) {
	t.Helper()
	if err := c.Call(t.Context(), wire.KindStep, &wire.StepRequest{Site: s.site, Step: step}, nil); err != nil {
		t.Fatalf("reach %s: %v", step, err)
	}
}

func (s *shop) at(t *testing.T) (current string, j *wire.Journal) {
	t.Helper()
	current, _, err := s.current()
	j, jerr := s.Journal()
	if err := errors.Join(err, jerr); err != nil {
		t.Fatal(err)
	}
	return current, j
}

// TestALoneHostIsUndoneOrFinished cuts the connection after each step.
func TestALoneHostIsUndoneOrFinished(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		after   string
		steps   func(*testing.T, *shop, *wire.Client)
		current int
		served  string
		did     string
		mark    wire.Mark // of the new release
	}{
		{"arming", func(*testing.T, *shop, *wire.Client) {}, 1, "", "", wire.MarkStaged},
		{"the switch", func(t *testing.T, s *shop, c *wire.Client) { s.swap(t, c, id(2)) }, 1, id(1) + "\n", "undone", wire.MarkStaged},
		{"the mark", func(t *testing.T, s *shop, c *wire.Client) {
			s.swap(t, c, id(2))
			if err := c.Call(t.Context(), wire.KindMark, &wire.MarkRequest{Site: s.site, ID: id(2), Mark: wire.MarkLive, Previous: id(1)}, nil); err != nil {
				t.Fatal(err)
			}
			s.reach(t, c, wire.StepRestarting)
		}, 1, id(1) + "\n", "undone", wire.MarkStaged},
		{"the proof", func(t *testing.T, s *shop, c *wire.Client) {
			s.swap(t, c, id(2))
			if err := c.Call(t.Context(), wire.KindMark, &wire.MarkRequest{Site: s.site, ID: id(2), Mark: wire.MarkLive}, nil); err != nil {
				t.Fatal(err)
			}
			s.reach(t, c, wire.StepRestarting)
			s.reach(t, c, wire.StepProven)
		}, 2, "", "finished", wire.MarkHealthy},
		{"half of an undo", func(t *testing.T, s *shop, c *wire.Client) {
			s.swap(t, c, id(2))
			s.reach(t, c, wire.StepRestarting)
			s.reach(t, c, wire.StepUndoing)
			s.swap(t, c, id(1))
		}, 1, id(1) + "\n", "undone", wire.MarkStaged},
		{"the word that it is healthy", func(t *testing.T, s *shop, c *wire.Client) {
			s.swap(t, c, id(2))
			if err := c.Call(t.Context(), wire.KindMark, &wire.MarkRequest{Site: s.site, ID: id(2), Mark: wire.MarkHealthy}, nil); err != nil {
				t.Fatal(err)
			}
		}, 2, "", "", wire.MarkHealthy},
		{"an undo after that has begun", func(t *testing.T, s *shop, c *wire.Client) {
			s.swap(t, c, id(2))
			if err := c.Call(t.Context(), wire.KindMark, &wire.MarkRequest{Site: s.site, ID: id(2), Mark: wire.MarkHealthy}, nil); err != nil {
				t.Fatal(err)
			}
			s.reach(t, c, wire.StepUndoing)
		}, 1, id(1) + "\n", "undone", wire.MarkHealthy},
		{"the end", func(t *testing.T, s *shop, c *wire.Client) {
			s.swap(t, c, id(2))
			s.reach(t, c, wire.StepDone)
		}, 2, "", "", wire.MarkStaged},
	} {
		t.Run(tt.after, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			p := startHelper(t)
			run := wire.Holder{Who: "ops@laptop", Run: "r1"}
			if err := p.Call(t.Context(), wire.KindLock, &wire.LockRequest{Site: s.site, Holder: run}, nil); err != nil {
				t.Fatal(err)
			}
			s.arm(t, p.Client, id(2), id(1), s.aftermath())
			tt.steps(t, s, p.Client)
			_ = p.Close()
			if err := p.cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			current, j := s.at(t)
			r, err := s.record(id(2))
			if err != nil || current != id(tt.current) || s.serves() != tt.served || j.Open() || j.Did != tt.did || r.Mark != tt.mark {
				t.Errorf("current %s, served %q, journal %+v, mark %s, %v", current, s.serves(), j, r.Mark, err)
			}
		})
	}
}

// TestAKilledHelperLeavesWorkForTheNext kills the helper itself: nothing is done until somebody asks.
func TestAKilledHelperLeavesWorkForTheNext(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	p := startHelper(t)
	take(t, p.Client, s.site, "ops")
	s.arm(t, p.Client, id(2), id(1), s.aftermath())
	s.swap(t, p.Client, id(2))
	s.reach(t, p.Client, wire.StepRestarting)
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	c := local(t)
	var state wire.State
	if err := c.Call(t.Context(), wire.KindState, &wire.StateRequest{Site: s.site}, &state); err != nil || !state.Journal.Open() ||
		state.Journal.To != id(2) || state.Journal.From != id(1) || state.Current != id(2) {
		t.Fatalf("state: %+v, %v, want an open entry", state, err)
	}
	take(t, c, s.site, "ops")
	for _, want := range []string{"undone", "nothing"} {
		var got wire.Recovered
		if err := c.Call(t.Context(), wire.KindRecover, &wire.RecoverRequest{Site: s.site}, &got); err != nil || got.Did != want || got.Current != id(1) {
			t.Errorf("recover: %+v, %v, want %s", got, err, want)
		}
	}
	if s.serves() != id(1)+"\n" {
		t.Errorf("served %q, want one restart on the old release", s.serves())
	}
}

// A controller that lets go of the lock is there and knows what it leaves.
func TestUnlockedIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	p := startHelper(t)
	take(t, p.Client, s.site, "ops")
	s.arm(t, p.Client, id(2), id(1), s.aftermath())
	s.swap(t, p.Client, id(2))
	if err := p.Call(t.Context(), wire.KindUnlock, &wire.UnlockRequest{Site: s.site}, nil); err != nil {
		t.Fatal(err)
	}
	_ = p.Close()
	_ = p.cmd.Wait()
	if current, j := s.at(t); current != id(2) || !j.Open() || s.serves() != "" {
		t.Errorf("current %s, journal %+v, served %q, want it left alone with an open entry", current, j, s.serves())
	}
}

// The first release of a host has nothing to return to: it is stopped and taken away.
func TestALoneFirstReleaseIsTakenAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(t, 1)
	shop := &shop{s, wire.Site{App: "shop", Path: s.Path}}
	p := startHelper(t)
	take(t, p.Client, shop.site, "ops")
	shop.arm(t, p.Client, id(1), "", shop.aftermath())
	shop.swap(t, p.Client, id(1))
	_ = p.Close()
	_ = p.cmd.Wait()
	if current, j := shop.at(t); current != "" || j.Open() || shop.serves() != "stopped\n" {
		t.Errorf("current %q, journal %+v, served %q", current, j, shop.serves())
	}
}

// TestAHostThatCannotBePutRightSaysSo keeps the entry open with the reason.
func TestAHostThatCannotBePutRightSaysSo(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		a    *wire.Aftermath
		step wire.Step
		why  string
	}{
		"never told":             {nil, wire.StepRestarting, "was not told"},
		"the restart fails":      {&wire.Aftermath{Full: []string{"/bin/sh", "-c", "echo no; exit 3"}}, wire.StepRestarting, "exited with 3: no"},
		"nobody answers":         {&wire.Aftermath{Full: []string{"true"}, URL: "http://127.0.0.1:1/", Tries: 2, Interval: time.Millisecond}, wire.StepRestarting, "connect 127.0.0.1:1: connection refused"},
		"no process of the code": {&wire.Aftermath{Full: []string{"true"}, Proof: true, Within: 300 * time.Millisecond}, wire.StepRestarting, "no new process works in"},
		"a restart that hangs":   {&wire.Aftermath{Full: []string{"sleep", "623"}, Within: 100 * time.Millisecond}, wire.StepRestarting, "sleep: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			c := local(t)
			take(t, c, s.site, "ops")
			s.arm(t, c, id(2), id(1), tt.a)
			s.swap(t, c, id(2))
			s.reach(t, c, tt.step)
			var got wire.Recovered
			err := c.Call(t.Context(), wire.KindRecover, &wire.RecoverRequest{Site: s.site}, &got)
			if err != nil || got.Did != "kept" || !strings.Contains(got.Why, tt.why) || !got.Journal.Open() {
				t.Errorf("got %+v, %v, want it kept: %s", got, err, tt.why)
			}
		})
	}
}

// A helper that died between the move of current and the note of it had no time to restart anything: the
// link alone has to go back, and for that nothing need be told.
func TestASwitchAloneIsUndoneWithoutARestart(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	c := local(t)
	take(t, c, s.site, "ops")
	s.arm(t, c, id(2), id(1), nil)
	if _, err := s.Site.swap(id(2), ""); err != nil {
		t.Fatal(err)
	}
	var got wire.Recovered
	if err := c.Call(t.Context(), wire.KindRecover, &wire.RecoverRequest{Site: s.site}, &got); err != nil || got.Did != "undone" || got.Current != id(1) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestAGracefulRestartThatDoesNotDoIsFollowedByAFullOne has a service whose health only a full one heals.
func TestAGracefulRestartThatDoesNotDoIsFollowedByAFullOne(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			http.Redirect(w, r, "/healthz", http.StatusFound)
			return
		}
		w.Header().Set("X-Release", strings.TrimSpace(s.serves()))
	}))
	defer server.Close()
	c := local(t)
	take(t, c, s.site, "ops")
	a := s.aftermath()
	a.Graceful, a.Full = []string{"true"}, a.Graceful
	a.URL, a.Header, a.Tries, a.Interval = server.URL+"/", "X-Release", 3, time.Millisecond
	s.arm(t, c, id(2), id(1), a)
	s.swap(t, c, id(2))
	var got wire.Recovered
	if err := c.Call(t.Context(), wire.KindRecover, &wire.RecoverRequest{Site: s.site}, &got); err != nil || got.Did != "undone" || s.serves() != id(1)+"\n" {
		t.Errorf("got %+v, %v, served %q", got, err, s.serves())
	}
}

// A process that works in the release proves it, and one that still works in the other speaks against it.
func TestProofLooksAtWhoWorksWhere(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	c := local(t)
	take(t, c, s.site, "ops")
	pids := filepath.Join(s.Path, "pids")
	t.Cleanup(func() {
		b, _ := os.ReadFile(pids)
		for line := range strings.Lines(string(b)) {
			var pid int
			if _, err := fmt.Sscan(line, &pid); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	start := "sleep 624 >/dev/null 2>&1 </dev/null & echo $! >>" + pids
	a := &wire.Aftermath{Full: []string{"/bin/sh", "-c", start}, Proof: true, Within: 2 * time.Second}
	s.arm(t, c, id(2), id(1), a)
	s.swap(t, c, id(2))
	s.reach(t, c, wire.StepRestarting)
	var reply wire.ExecReply
	reply, err := c.Exec(t.Context(), wire.ExecRequest{Argv: []string{"/bin/sh", "-c", start}, Dir: s.Path + "/current", Keep: true}, func(byte, []byte) {})
	if err != nil || reply.Exit != 0 {
		t.Fatal(reply, err)
	}
	var got wire.Recovered
	if err := c.Call(t.Context(), wire.KindRecover, &wire.RecoverRequest{Site: s.site}, &got); err != nil || got.Did != "kept" ||
		!strings.Contains(got.Why, "processes still work in "+id(2)) {
		t.Fatalf("got %+v, %v, want the old worker seen", got, err)
	}
	b, _ := os.ReadFile(pids)
	var old int
	if _, err := fmt.Sscan(string(b), &old); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(old, syscall.SIGKILL)
	if err := c.Call(t.Context(), wire.KindRecover, &wire.RecoverRequest{Site: s.site}, &got); err != nil || got.Did != "undone" {
		t.Errorf("got %+v, %v, want it undone", got, err)
	}
}

// TestAJournalThatMakesNoSenseIsNoHindrance: what is on disk tells as much.
func TestAJournalThatMakesNoSenseIsNoHindrance(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(path string) error{
		"empty":     func(p string) error { return os.WriteFile(p, nil, 0o644) },
		"noise":     func(p string) error { return os.WriteFile(p, []byte(`{"step":"flying"}`), 0o644) },
		"a folder":  func(p string) error { return os.MkdirAll(p+"/x", 0o755) },
		"a link":    func(p string) error { return os.Symlink("/etc/passwd", p) },
		"very long": func(p string) error { return os.WriteFile(p, make([]byte, 1<<20), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			if err := spoil(filepath.Join(s.Path, journalFile)); err != nil {
				t.Fatal(err)
			}
			c := local(t)
			take(t, c, s.site, "ops")
			var state wire.State
			if err := c.Call(t.Context(), wire.KindState, &wire.StateRequest{Site: s.site}, &state); err != nil || state.Journal != nil {
				t.Errorf("state: %+v, %v", state.Journal, err)
			}
			var got wire.Recovered
			if err := c.Call(t.Context(), wire.KindRecover, &wire.RecoverRequest{Site: s.site}, &got); err != nil || got.Did != "nothing" {
				t.Errorf("recover: %+v, %v", got, err)
			}
			s.arm(t, c, id(2), id(1), nil)
		})
	}
}

func TestJournalNeedsTheLock(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	c := local(t)
	for kind, req := range map[wire.Kind]wire.Checker{
		wire.KindArm: &wire.ArmRequest{Site: s.site}, wire.KindStep: &wire.StepRequest{Site: s.site, Step: wire.StepDone},
		wire.KindRecover: &wire.RecoverRequest{Site: s.site}, wire.KindAudit: &wire.AuditRequest{Site: s.site},
	} {
		if err := c.Call(t.Context(), kind, req, nil); err == nil || !strings.Contains(err.Error(), "is not held by this connection") {
			t.Errorf("0x%02x: got %v", uint8(kind), err)
		}
	}
}

func TestAuditKeepsTheNewestLines(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	long := strings.Repeat("x", 900)
	const n = 400
	for i := range n {
		if i > 2 && i < n-2 && i%20 != 0 { // most of it at once
			had, err := s.auditLines()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(s.Path, auditLog), newestLines(had, fmt.Appendf(nil, `{"run":"%d %s"}`+"\n", i, long)), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := s.Audit(t.Context(), wire.AuditEntry{Run: fmt.Sprint(i), Message: long}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(s.Path, auditLog))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if err != nil || len(b) > maxAudit || len(b) < maxAudit/2 || !strings.Contains(lines[len(lines)-1], `"run":"399"`) {
		t.Errorf("%d bytes, %d lines, %v", len(b), len(lines), err)
	}
	for _, l := range lines {
		if !strings.HasPrefix(l, "{") || !strings.HasSuffix(l, "}") {
			t.Errorf("a line in pieces: %.60s", l)
		}
	}
}

// The few lines of HTTP are held against a real server.
func TestHealthIsAskedAsAClientWould(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "" || r.UserAgent() != "godeploy-health" || r.URL.RawQuery != "a=b" {
			w.WriteHeader(http.StatusTeapot)
		}
		w.Header().Set("X-Release", id(1))
	})
	mux.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	server := httptest.NewServer(mux)
	defer server.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(server.URL, "http://"))
	for _, tt := range []struct{ url, want string }{
		{server.URL + "/ok?a=b#x", ""},
		{"http://localhost:" + port + "/ok?a=b", ""},
		{"https://" + silent.Addr().String() + "/", ""},
		{server.URL + "/bad", "-> 502"},
		{server.URL + "/loop", "-> 302"},
		{server.URL + "/away", "-> 302"},
		{server.URL + "/slow", "i/o timeout"},
		{"http://" + silent.Addr().String(), "i/o timeout"},
		{"http://127.0.0.1:1", "connection refused"},
		{"http://no-such-host.invalid/", "is not known here"},
		{"http://127.0.0.1:99999/", "port"},
	} {
		a := &wire.Aftermath{URL: tt.url, Header: "X-Release", Timeout: 200 * time.Millisecond}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := healthy(ctx, a, id(1))
		cancel()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.url, err, tt.want)
		}
	}
	a := &wire.Aftermath{URL: server.URL + "/ok?a=b", Header: "X-Release"}
	if err := healthy(t.Context(), a, id(2)); err == nil || !strings.Contains(err.Error(), "want") {
		t.Errorf("another release: got %v", err)
	}
}

// A manifest that was never put in place is nobody's: the next run removes it.
func TestSweepTakesHalfManifests(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	half := filepath.Join(s.Path, treesDir, "."+id(1)+".new")
	write(t, half, "half of it")
	if err := s.Prepare(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

package process

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"godeploy/internal/wire"
)

// serving asks the app once and gives the release that answers; "" when none does.
func (s *shop) serving() string {
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", s.port))
	if err != nil {
		return ""
	}
	_ = res.Body.Close()
	return res.Header.Get("X-Release")
}

// main is the main process as the pid file has it.
func (s *shop) main() wire.Proc {
	s.t.Helper()
	text, err := os.ReadFile(s.path + "/shared/run/pid")
	if err != nil {
		s.t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	p, ok := procAt(pid)
	if !ok {
		s.t.Fatalf("the pid file names %q, which does not run", text)
	}
	return p
}

// begin starts the app on release one, and points current at two.
func (s *shop) begin() wire.Proc {
	s.t.Helper()
	s.want(s.Start(s.t.Context(), local{}, "one"), "")
	if got := s.serving(); got != "one" {
		s.t.Fatalf("%q serves at first", got)
	}
	s.point("two")
	return s.main()
}

func TestUpgradeInPlace(t *testing.T) {
	t.Parallel()
	s := newShop(t, "gunicorn", byGunicorn+"graceful = \"usr2\"\n", "")
	if way, err := s.Way(t.Context(), local{}, true); err != nil || way != "started, since it does not run" {
		t.Errorf("before the start: %q, %v", way, err)
	}
	first := s.begin()
	for graceful, want := range map[bool]string{true: "by USR2, a second gunicorn beside the first, since [process] graceful", false: "in full, since a full restart was asked for"} {
		if way, err := s.Way(t.Context(), local{}, graceful); err != nil || !strings.HasPrefix(way, want) {
			t.Errorf("graceful %v: %q, %v, want %q", graceful, way, err, want)
		}
	}
	s.want(s.Restart(t.Context(), local{}, "two", true), "")
	second := s.main()
	if s.serving() != "two" || second.PID == first.PID {
		t.Errorf("%q serves by %d, before by %d", s.serving(), second.PID, first.PID)
	}
	if _, ok := procAt(first.PID); ok {
		t.Error("the first gunicorn still runs")
	}
	if told := s.log.text(); !strings.Contains(told, "was never closed") || !strings.Contains(told, "2 workers, all in two") {
		t.Errorf("told:\n%s", told)
	}
	s.point("one") // and once more, by the one that came second
	s.want(s.Restart(t.Context(), local{}, "one", true), "")
	if got := s.serving(); got != "one" {
		t.Errorf("%q serves after the second upgrade", got)
	}
}

func TestUpgradeSurvivesBrokenCode(t *testing.T) {
	t.Parallel()
	s := newShop(t, "gunicorn", byGunicorn+"graceful = \"usr2\"\n", "")
	first := s.begin()
	s.write("two", "raise RuntimeError('broken')\n")
	s.want(s.Restart(t.Context(), local{}, "two", true), "serves on")
	if now := s.main(); now.PID != first.PID || now.Start != first.Start || s.serving() != "one" {
		t.Errorf("%d serves %q, before %d", now.PID, s.serving(), first.PID)
	}
	s.want(s.Serves(t.Context(), local{}, "two"), "does not serve two")
}

// A run that was killed in the middle of an upgrade leaves two that serve, of which the pid file may name
// either: neither is proof, and the next restart puts it right.
func TestUpgradeThatWasCutShortIsPutRight(t *testing.T) {
	t.Parallel()
	for _, handed := range []bool{false, true} {
		t.Run(fmt.Sprintf("handed %v", handed), func(t *testing.T) {
			t.Parallel()
			s := newShop(t, "gunicorn", byGunicorn+"graceful = \"usr2\"\n", "")
			first := s.begin()
			if err := syscall.Kill(first.PID, syscall.SIGUSR2); err != nil {
				t.Fatal(err)
			}
			s.await("a second gunicorn", func() bool {
				text, err := os.ReadFile(s.path + "/shared/run/pid.2")
				pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
				procs, _ := local{}.Procs(t.Context(), max(pid, 1))
				return err == nil && len(procs) == 3 && pid > 1
			})
			if handed {
				text, _ := os.ReadFile(s.path + "/shared/run/pid.2")
				if err := os.WriteFile(s.path+"/shared/run/pid", text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			s.want(s.Serves(t.Context(), local{}, "two"), "does not serve two")
			s.want(s.Restart(t.Context(), local{}, "two", true), "")
			if _, ok := procAt(first.PID); ok || s.serving() != "two" {
				t.Errorf("%q serves, the first gunicorn runs: %v", s.serving(), ok)
			}
		})
	}
}

func TestHUPKillsWorkersThatDoNotEnd(t *testing.T) {
	t.Parallel()
	s := newShop(t, "gunicorn", byGunicorn, "")
	s.write("one", goodApp+"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n")
	first := s.begin()
	s.want(s.Restart(t.Context(), local{}, "two", true), "")
	if now := s.main(); now.PID != first.PID || s.serving() != "two" || !strings.Contains(s.log.text(), "is killed") {
		t.Errorf("%d serves %q, before %d; told:\n%s", now.PID, s.serving(), first.PID, s.log.text())
	}
}

func TestUWSGIReloads(t *testing.T) {
	t.Parallel()
	s := newShop(t, "uwsgi", byUWSGI, "")
	first := s.begin()
	s.want(s.Restart(t.Context(), local{}, "two", true), "")
	if now := s.main(); now.PID != first.PID || now.Start != first.Start || s.serving() != "two" {
		t.Errorf("%d serves %q, before %d", now.PID, s.serving(), first.PID)
	}
	if told := s.log.text(); !strings.Contains(told, "by HUP") || !strings.Contains(told, "was never closed") {
		t.Errorf("told:\n%s", told)
	}
	s.want(s.Stop(t.Context(), local{}), "")
	if got := s.serving(); got != "" {
		t.Errorf("%q serves after a stop", got)
	}
}

// A server that has ended is not waited for as long as one that boots.
func TestAServerThatEndsAtOnceIsSoonKnown(t *testing.T) {
	t.Parallel()
	s := newShop(t, "uwsgi", byUWSGI, "")
	s.begin()
	s.write("two", "raise RuntimeError('broken')\n")
	s.point("two")
	began := time.Now()
	s.want(s.Restart(t.Context(), local{}, "two", false), "the service does not run")
	if took := time.Since(began); took > bootTime*3/4 {
		t.Errorf("that was told after %v", took)
	}
}

// The way that auto takes depends on how long the app boots, which a plan does not know yet.
func TestWayTellsOfASlowBoot(t *testing.T) {
	t.Parallel()
	s := newShop(t, "gunicorn", byGunicorn+"graceful = \"auto\"\n", "")
	s.begin()
	way, err := s.Way(t.Context(), local{}, true)
	if want := "; by USR2, a second gunicorn beside the first if the trial boot takes longer than "; err != nil || !strings.HasPrefix(way, "by HUP, since gunicorn runs with --chdir") || !strings.Contains(way, want) {
		t.Errorf("%q, %v", way, err)
	}
}

// The number in a pid file may be anybody's after a reboot, even of somebody at work in the app's folder.
func TestReusedNumberInThePidfile(t *testing.T) {
	t.Parallel()
	s := newShop(t, "gunicorn", byGunicorn, "")
	other := exec.Command("sleep", "600")
	other.Dir = s.path + "/current"
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = other.Process.Kill(), other.Wait() }()
	if err := os.WriteFile(s.path+"/shared/run/pid", []byte(strconv.Itoa(other.Process.Pid)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.want(s.Stop(t.Context(), local{}), "")
	s.want(s.Restart(t.Context(), local{}, "one", true), "")
	if s.main().PID == other.Process.Pid || s.serving() != "one" {
		t.Errorf("%q serves, the pid file names %d", s.serving(), s.main().PID)
	}
	if _, ok := procAt(other.Process.Pid); !ok {
		t.Error("the other process was ended")
	}
}

// await waits until something holds.
func (s *shop) await(what string, holds func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

// New workers of a master that has loaded the app stand in the new release and serve the old code: HUP is no way
// then, wherever it is written that the app is preloaded.
func TestPreloadInAConfigurationIsSeen(t *testing.T) {
	t.Parallel()
	s := newShop(t, "gunicorn", byGunicorn, "")
	for _, id := range []string{"one", "two"} {
		if err := os.WriteFile(s.path+"/releases/"+id+"/gunicorn.conf.py", []byte("preload_app = True\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.write("one", strings.ReplaceAll(goodApp, "os.path.basename(os.getcwd())", "'one'"))
	s.write("two", strings.ReplaceAll(goodApp, "os.path.basename(os.getcwd())", "'two'"))
	s.begin()
	s.want(s.Restart(t.Context(), local{}, "two", true), "")
	if told := s.log.text(); s.serving() != "two" || !strings.Contains(told, "by USR2") || !strings.Contains(told, "preloads") {
		t.Errorf("%q serves; told:\n%s", s.serving(), told)
	}
}

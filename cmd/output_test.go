package cmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"godeploy/internal/event"
	"godeploy/internal/fault"
)

func at(s float64) time.Time {
	return time.Date(2026, 11, 23, 10, 41, 0, 0, time.UTC).Add(time.Duration(s * float64(time.Second)))
}

// aRelease is a short run as the rooms below would tell it.
func aRelease() []event.Event {
	exit := 1
	return []event.Event{
		{Time: at(0), Type: event.RunStart, Command: "release", Env: "prod", Hosts: []string{"app1", "app10"}, Msg: "release 20261123-104107-4f2c9e1 to prod"},
		{Time: at(0.2), Type: event.PhaseStart, Phase: "check", Msg: "2 hosts"},
		{Time: at(1), Type: event.PhaseEnd, Phase: "check", MS: 800, Msg: "check ok: 2 hosts"},
		{Time: at(1), Type: event.PhaseStart, Phase: "sync"},
		{Time: at(1.1), Type: event.Progress, Host: "app1", Phase: "sync", Done: 50, Total: 100, Unit: "bytes"},
		{Time: at(2), Type: event.HostEnd, Host: "app1", Phase: "sync", Result: "ok", MS: 900, Msg: "sync: 3 changed, 18.2 KB sent"},
		{Time: at(2), Type: event.CmdStart, Host: "app10", Phase: "build", Command: "pip install"},
		{Time: at(2.1), Type: event.CmdOutput, Host: "app10", Stream: "stdout", Text: "evil \x1b]0;title\a\rtext"},
		{Time: at(3), Type: event.CmdEnd, Host: "app10", Command: "pip install", Exit: &exit, MS: 1000},
		{Time: at(3), Type: event.Warn, Msg: "patterns matched nothing: *.pyo", Hint: "*.pyc would"},
		{Time: at(63), Type: event.Error, Host: "app10", Code: "health-failed", Msg: "did not become healthy in 20s"},
		{Time: at(64), Type: event.HostEnd, Host: "app10", Result: "failed", MS: 61000},
		{Time: at(64), Type: event.PhaseEnd, Phase: "sync", Result: "failed", MS: 63000, Msg: "app10 failed"},
		{Time: at(65), Type: event.RunEnd, Result: "rolled_back", Msg: "rolled back: 2 of 2 on 20261121-181530-b01d77a"},
	}
}

func tell(s sink, events []event.Event) {
	for i, e := range events {
		s.show(record{Seq: int64(i + 1), Run: "20261123-104100", queued: queued{Event: e}})
		s.tick(e.Time)
	}
	_ = s.close()
}

func TestPlainOutput(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]look{"plain": {}, "plain-v": {verbose: 1}, "plain-vv": {verbose: 2}, "plain-q": {quiet: true}} {
		var b bytes.Buffer
		tell(newPlain(&b, l, at(0)), aRelease())
		golden(t, name+".txt", b.String())
	}
}

func TestFoldedOutput(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"github", "gitlab"} {
		var b bytes.Buffer
		tell(newFolded(newPlain(&b, look{mode: mode}, at(0)), mode), aRelease())
		golden(t, mode+".txt", b.String())
	}
}

func TestJSONLines(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	tell(newJSONLines(&b, nil, hello{T: timestamp(at(0)), Run: "20261123-104100", Godeploy: "1.0.0", PID: 7}), aRelease())
	golden(t, "lines.jsonl", b.String())
	for i, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		var v struct {
			V, T, Type, Run string
			Seq             *int64
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil || v.V != "1.0" || v.T == "" || v.Type == "" || v.Run == "" || v.Seq == nil || *v.Seq != int64(i) {
			t.Errorf("line %d lacks a field that every line has: %s (%v)", i, line, err)
		}
	}
}

func TestProgressIsToldOnceASecond(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	var events []event.Event
	for i := range 301 {
		events = append(events, event.Event{Time: at(float64(i) / 100), Type: event.Progress, Host: "app1", Done: int64(i), Total: 300})
	}
	tell(newJSONLines(&b, nil, hello{}), events)
	if n := strings.Count(b.String(), `"type":"progress"`); n != 4 {
		t.Errorf("got %d lines for 3 s of progress, want 4", n)
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, l := range []look{{}, {ascii: true}} {
		for _, size := range [][2]int{{80, 24}, {40, 24}, {80, 6}} {
			s := state{start: at(0), now: at(0)}
			for i, e := range aRelease() {
				s.learn(e)
				if i%4 == 0 || i == len(aRelease())-1 {
					fmt.Fprintf(&b, "=== after event %d, %d x %d\n%s\n", i, size[0], size[1], strings.Join(frame(&s, l, size[0], size[1]), "\n"))
				}
			}
		}
	}
	golden(t, "frames.txt", b.String())
}

func TestFrameFitsTheTerminal(t *testing.T) {
	t.Parallel()
	s := state{start: at(0)}
	s.learn(event.Event{Time: at(0), Type: event.PhaseStart, Phase: "switch", Msg: strings.Repeat("多", 100)})
	for i := range 60 {
		s.learn(event.Event{Time: at(1), Type: event.HostStart, Host: fmt.Sprintf("app%d", i), Msg: strings.Repeat("x", 200)})
	}
	for rows := 1; rows < 40; rows++ {
		for cols := 20; cols < 120; cols += 7 {
			got := frame(&s, look{}, cols, rows)
			if len(got) >= max(2, rows) {
				t.Fatalf("%d x %d: %d lines", cols, rows, len(got))
			}
			for _, line := range got {
				if w := displayWidth(line); w > cols {
					t.Fatalf("%d x %d: %d columns in %q", cols, rows, w, line)
				}
			}
		}
	}
}

// A terminal that starts like ours ends up with the lines of the last frame, whatever was drawn before.
func TestRepaintLeavesTheLastFrame(t *testing.T) {
	t.Parallel()
	frames := [][]string{{"a", "b"}, {"a", "B", "c"}, {"a"}, {}, {"x", "y"}, {"x", "y"}, {"x", "longer"}, {"x", "s"}}
	above := []string{"", "one\n", "", "two\nthree\n", "", "", "four\n", ""}
	var screen []string
	var before []string
	scrolled := []string{}
	for i, f := range frames {
		var out bytes.Buffer
		repaint(&out, before, f, above[i])
		screen = play(t, screen, out.String())
		if above[i] != "" {
			scrolled = append(scrolled, strings.Split(strings.TrimSuffix(above[i], "\n"), "\n")...)
		}
		if got, want := strings.Join(screen, "\n"), strings.Join(append(append([]string{}, scrolled...), f...), "\n"); got != want {
			t.Fatalf("frame %d: the terminal shows\n%s\nwant\n%s", i, got, want)
		}
		before = f
	}
	var out bytes.Buffer
	repaint(&out, []string{"x"}, []string{"x"}, "")
	if out.Len() != 0 {
		t.Errorf("an unchanged frame wrote %q", out.String())
	}
}

// play is a terminal that knows the three sequences we use; the cursor stands below the last line.
func play(t *testing.T, screen []string, text string) []string {
	t.Helper()
	row := len(screen)
	for text != "" {
		switch {
		case strings.HasPrefix(text, "\x1b[K"):
			text = text[3:]
			if row < len(screen) {
				screen[row] = strings.TrimRight(screen[row], "\x00")
			}
		case strings.HasPrefix(text, "\x1b[J"):
			text, screen = text[3:], screen[:row]
		case strings.HasPrefix(text, "\x1b["):
			n := 0
			if _, err := fmt.Sscanf(text, "\x1b[%dA", &n); err != nil {
				t.Fatalf("unknown sequence %q", text)
			}
			row -= n
			text = text[strings.Index(text, "A")+1:]
		default:
			line, rest, _ := strings.Cut(text, "\n")
			for row >= len(screen) {
				screen = append(screen, "")
			}
			if clean, erased := strings.CutSuffix(line, "\x1b[K"); erased || line != "" {
				screen[row] = strings.TrimPrefix(clean, "\x1b[K")
			}
			row, text = row+1, rest
		}
	}
	return screen
}

func TestHeartbeatAfterSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b syncBuffer
		s := newStory("run", time.Now, time.Second, newPlain(&b, look{}, time.Now()))
		s.Report(event.Event{Type: event.CmdStart, Host: "app3", Step: "once"})
		time.Sleep(14 * time.Second)
		synctest.Wait()
		if b.String() != "" {
			t.Errorf("spoke too early: %q", b.String())
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if want := "00:15 -     still working: app3 once\n00:30 -     still working: app3 once\n"; b.String() != want {
			t.Errorf("got %q, want %q", b.String(), want)
		}
		if err := s.Close("ok", 0); err != nil {
			t.Error(err)
		}
	})
}

// stuck is a terminal that takes nothing until it is told to.
type stuck struct {
	free chan struct{}
	b    bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.free
	return s.b.Write(p)
}

func TestStuckTerminalNeitherSlowsNorLoses(t *testing.T) {
	t.Parallel()
	w := &stuck{free: make(chan struct{})}
	s := newStory("run", time.Now, 0, newPlain(w, look{}, at(0)))
	var group sync.WaitGroup
	for h := range 8 {
		group.Go(func() {
			for i := range 500 {
				s.Report(event.Event{Type: event.Info, Host: fmt.Sprintf("app%d", h), Msg: fmt.Sprintf("step %d", i)})
				s.Report(event.Event{Type: event.Progress, Host: fmt.Sprintf("app%d", h), Done: int64(i)})
			}
		})
	}
	group.Wait() // hangs here if Report waits for the terminal
	s.mu.Lock()
	waiting := len(s.queue)
	s.mu.Unlock()
	if waiting > 8*500+8 {
		t.Errorf("%d events wait: progress is not merged", waiting)
	}
	close(w.free)
	if err := s.Close("ok", 0); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(w.b.String(), "step "); got != 8*500 {
		t.Errorf("got %d lines, want %d", got, 8*500)
	}
	s.Report(event.Event{Type: event.Info, Msg: "too late"}) // must neither panic nor block
}

func TestBrokenOutputDoesNotStopARun(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	_ = r.CloseWithError(errors.New("gone"))
	s := newStory("run", time.Now, 0, newPlain(w, look{}, at(0)), newJSONLines(w, nil, hello{}))
	for range 100 {
		s.Report(event.Event{Type: event.Info, Msg: "text"})
	}
	if err := s.Close("ok", 0); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("got %v, want the error of the output", err)
	}
}

func TestErrorFormat(t *testing.T) {
	t.Parallel()
	lost := fault.New(fault.SSHTimeout, "app1 (10.0.0.1) does not answer within 15s").On("app1")
	errs := []error{
		fault.New(fault.ConfigUnknownKey, `unknown key "wieght" in [env.prod.hosts] app2`).At(fault.Pos{File: "godeploy.toml", Line: 123, Col: 49}).Hint(`did you mean "weight"?`),
		lost, fault.New(fault.SSHTimeout, "app2 (10.0.0.2) does not answer within 15s").On("app2"),
		fault.New(fault.SSHTimeout, "app3 (10.0.0.3) does not answer within 15s").On("app3"),
		fault.New(fault.SSHTimeout, "app4 (10.0.0.4) does not answer within 15s").On("app4"),
		fault.New(fault.SSHTimeout, "app5 (10.0.0.5) does not answer within 15s").On("app5"),
		fault.New(fault.HealthFailed, "app3 did not become healthy in 20s").On("app3").Fact("GET http://10.0.1.13:9000/healthz -> 500").
			Fact("| %s", "evil \x1b[2J\r text \xff").In("switch on app3").Try("godeploy status prod").Try("godeploy rollback prod"),
		errors.New("something\nunexpected"),
	}
	m := newMachine(t)
	c := &call{sys: m.System}
	c.settleLook(options{})
	golden(t, "errors.txt", c.errorText(fmt.Errorf("release: %w", errors.Join(errs...))))
	c.settleLook(options{Output: "github"})
	golden(t, "errors-github.txt", c.errorText(errors.Join(errs...)))
}

func TestCleanDisarms(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{"plain ünïcode 多\tx\n", "plain ünïcode 多\tx\n"},
		{"\x1b]0;title\a", `\x1b]0;title\x07`},
		{"\x1b[2J", `\x1b[2J`},
		{"10%\r20%", `10%\x0d20%`},
		{"\u009b31m", `\u009b31m`},
		{"a\x00b\x7f", `a\x00b\x7f`},
		{"\xff\xfe", "\ufffd\ufffd"},
		{"\u202eevil", `\u202eevil`},
		{"##[command]x", `#\x23[command]x`},
		{"###[group]", `##\x23[group]`},
	}
	for _, tt := range tests {
		if got := clean(tt.in); got != tt.want {
			t.Errorf("clean(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"\x1b[31m", "##[x", "###[", "\xc3(", "多", "\u202e", "a\r\nb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		if !utf8.ValidString(got) || strings.Contains(got, "##[") {
			t.Errorf("clean(%q) = %q", s, got)
		}
		for _, r := range got {
			if harmful(r) {
				t.Errorf("clean(%q) = %q still has %U", s, got, r)
			}
		}
		if clean(got) != got {
			t.Errorf("cleaning %q twice changes it", s)
		}
	})
}

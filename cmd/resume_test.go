package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

const (
	oldID = "20261123-100000-aaaaaaa"
	newID = "20261123-110000-bbbbbbb"
)

// runFileOf writes one run as the story would.
func runFileOf(t *testing.T, dir, name string, events ...event.Event) {
	t.Helper()
	runs := filepath.Join(dir, ".godeploy", "runs")
	if err := os.MkdirAll(runs, 0o755); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range events {
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	b.WriteString(`{"type":"run.e`) // a run that was killed
	if err := os.WriteFile(filepath.Join(runs, name+".jsonl"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestResumeFindsTheLastReleaseThatIsNotDone(t *testing.T) {
	t.Parallel()
	start := func(command, env string) event.Event {
		return event.Event{Type: event.RunStart, Command: command, Env: env}
	}
	about := func(id string) event.Event { return event.Event{Type: event.Info, Release: id} }
	end := func(result string) event.Event { return event.Event{Type: event.RunEnd, Result: result} }
	failed := []event.Event{start("release", "prod"), about(newID), end("rolled_back")}
	for _, tt := range []struct {
		name string
		runs [][]event.Event
		want string
	}{
		{"it failed", [][]event.Event{failed}, newID},
		{"it was killed", [][]event.Event{failed[:2]}, newID},
		{"others have run since", [][]event.Event{failed, {start("status", "prod")}, {start("release", "staging"), about(oldID), end("ok")}}, newID},
		{"refused before it had a name", [][]event.Event{failed, {start("release", "prod"), end("refused")}}, newID},
		{"a newer one came out", [][]event.Event{failed, {start("release", "prod"), about(oldID), end("ok")}}, ""},
		{"none", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			for i, events := range tt.runs {
				runFileOf(t, m.Dir, "20261123-10000"+string(rune('0'+i)), events...)
			}
			var got string
			spec := &command{Name: "work", Env: true, Flags: releaseCommand().Flags, Run: func(_ context.Context, c *call) (err error) {
				got, err = c.resumed()
				return err
			}}
			m.write(t, "godeploy.toml", smallFile)
			code := atCommand(context.Background(), m, spec, "prod", "--resume")
			if got != tt.want || (code == 0) != (tt.want != "") {
				t.Errorf("got %q, exit %d, want %q: %s", got, code, tt.want, m.err.String())
			}
		})
	}
}

func TestFailedIsWhoFailedAndNotWhoWentBack(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	env := &inventory.Env{Name: "prod", Hosts: []inventory.Host{{Name: "app1"}, {Name: "app2"}, {Name: "app3"}}}
	runFileOf(t, m.Dir, "20261123-100000", event.Event{Type: event.RunStart, Env: "prod"},
		event.Event{Type: event.HostEnd, Host: "app1", Result: "ok"}, event.Event{Type: event.HostEnd, Host: "app2", Result: "failed"},
		event.Event{Type: event.HostEnd, Host: "app1", Result: "rolled_back"}, event.Event{Type: event.HostEnd, Host: "app3", Result: "unknown"})
	got, found, err := failedIn(filepath.Join(m.Dir, ".godeploy", "runs", "20261123-100000.jsonl"), env)
	if err != nil || !found || !slices.Equal(got, []string{"app2", "app3"}) {
		t.Errorf("got %v, %v, %v", got, found, err)
	}
}

func TestBatchOfTheCommandLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"2": "2", "25%": "25%", "1,30%,100%": "[1, 30%, 100%]", "1, 100%": "[1, 100%]", "1,2": "", "0": "", "x": "", "": "", "1,,100%": ""} {
		got, err := parseBatch(text)
		if err == nil && got.String() != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestThePauseIsAnswered(t *testing.T) {
	t.Parallel()
	list := []deploy.HostStatus{{Host: "app1", Release: newID, Service: "active", Health: 200}, {Host: "app2", Release: oldID, Problem: "no\x1banswer"}}
	for _, tt := range []struct {
		answers string
		goOn    bool
		ends    bool
		said    string
	}{
		{"c\n", true, true, ""}, {"Continue\n", true, true, ""}, {"r\n", false, true, ""}, {"s\nc\n", true, true, "app1"}, {"x\nr\n", false, true, ""},
	} {
		m := newMachine(t)
		tty := &answering{answers: strings.SplitAfter(tt.answers, "\n")}
		m.OpenTTY = func() (TTY, error) { return tty, nil }
		var goOn bool
		spec := &command{Name: "work", Run: func(ctx context.Context, c *call) (err error) {
			goOn, err = c.askCanary(ctx, []string{"app1"}, func(context.Context) ([]deploy.HostStatus, error) { return list, nil })
			return err
		}}
		code := atCommand(context.Background(), m, spec)
		if goOn != tt.goOn || (code == 0) != tt.ends || !strings.Contains(tty.said.String(), tt.said) || strings.Contains(tty.said.String(), "\x1b") {
			t.Errorf("%q: got %v, exit %d, said %q", tt.answers, goOn, code, tty.said.String())
		}
	}
}

// answering is a terminal that gives one line a question.
type answering struct {
	answers []string
	said    strings.Builder
}

func (a *answering) Read(p []byte) (int, error) {
	if len(a.answers) == 0 {
		return 0, errors.New("no more answers")
	}
	n := copy(p, a.answers[0])
	a.answers = a.answers[1:]
	return n, nil
}
func (a *answering) Write(p []byte) (int, error)   { return a.said.Write(p) }
func (a *answering) Close() error                  { return nil }
func (a *answering) Restore()                      {}
func (a *answering) ReadPassword() ([]byte, error) { return nil, errors.New("none") }

func TestPauseIsRefusedWhereNobodyAnswers(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"release", "prod", "--pause", "--canary", "app1"}, {"release", "prod", "--pause"}} {
		m := newMachine(t)
		m.write(t, "godeploy.toml", smallFile)
		if code := m.run(args...); code != exitUsage || !strings.Contains(m.err.String(), "--pause") {
			t.Errorf("%q: exit %d, %s", args, code, m.err.String())
		}
	}
}

func TestQuarantineNamesAHostOfTheEnv(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write(t, "godeploy.toml", smallFile)
	if code := m.run("release", "prod", "--quarantine", "app9"); code != exitUsage || !strings.Contains(m.err.String(), "app9") {
		t.Errorf("exit %d, %s", code, m.err.String())
	}
}

func TestStatusShowsWhoIsBehindAndWhatWasLeft(t *testing.T) {
	t.Parallel()
	releases := []wire.Release{{ID: oldID, Seq: 1, Mark: wire.MarkHealthy}, {ID: newID, Seq: 2, Mark: wire.MarkHealthy}}
	c := &call{env: &inventory.Env{Name: "prod"}}
	r := newStatus(c, []deploy.HostStatus{
		{Host: "app1", Release: newID, Releases: releases, Service: "active", Serving: true},
		{Host: "app2", Release: oldID, Releases: releases, Service: "active", Serving: true,
			Journal: &wire.Journal{Step: wire.StepRestarting, Drained: true, Holder: wire.Holder{Who: "ci@runner", Command: "release"}}},
		{Host: "app3", Service: unreachable},
	})
	if got := r.behind(); !slices.Equal(got, []string{"app2"}) || r.Whole {
		t.Errorf("behind %v, whole %v, want app2", got, r.Whole)
	}
	if h := r.Hosts[1]; !h.Drained || h.Journal != "restarting" || len(h.Problems) != 2 || !strings.Contains(strings.Join(h.Problems, " "), "ci@runner") {
		t.Errorf("got %+v", h)
	}
}

func TestReleasesTellWhatWasDoneWithThem(t *testing.T) {
	t.Parallel()
	list := []deploy.HostStatus{{Host: "app1", Release: oldID, Releases: []wire.Release{{ID: oldID, Seq: 1}, {ID: newID, Seq: 2, Mark: wire.MarkBad}}}, {Host: "app2"}}
	at := time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)
	entry := func(run, outcome string, ms int64) wire.AuditEntry {
		return wire.AuditEntry{Time: at, Run: run, By: "ops@laptop", Command: "release", Release: newID, Outcome: outcome, Verdict: "rolled_back", MS: ms}
	}
	views := releaseViews(list)
	addRuns(views, list, map[string][]wire.AuditEntry{
		"app1": {entry("1", "rolled_back", 1200), entry("2", "healthy", 1)}, "app2": {entry("1", "unchanged", 0), entry("2", "healthy", 61_500)},
	})
	if len(views) != 2 || len(views[0].Runs) != 2 || len(views[1].Runs) != 0 {
		t.Fatalf("got %+v", views)
	}
	first := views[0].Runs[0]
	if first.Hosts["app1"] != (runOnOne{Outcome: "rolled_back", MS: 1200}) || first.Hosts["app2"].Outcome != "unchanged" || first.T != "2026-11-23T11:00:00Z" {
		t.Errorf("got %+v", first)
	}
	if got := views[0].lastRun(); got != "release rolled_back 1m01s" {
		t.Errorf("got %q", got)
	}
}

// What stops a run before its first change is told with the way to go on without the host.
func TestAHostOutOfReachIsNamedWithTheWayOn(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write(t, "godeploy.toml", smallFile)
	spec := &command{Name: "release", Env: true, Run: func(_ context.Context, c *call) error {
		hosts := []inventory.Host{{Name: "app1"}, {Name: "app2"}}
		c.sayUnreached(hosts, []error{nil, fault.New(fault.SSHTimeout, "no answer")})
		return nil
	}}
	if code := atCommand(context.Background(), m, spec, "prod"); code != 0 || !strings.Contains(m.err.String(), "godeploy release prod --quarantine app2") {
		t.Errorf("exit %d: %s", code, m.err.String())
	}
}

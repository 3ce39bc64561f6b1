package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"godeploy/internal/event"
	"godeploy/internal/fault"

	"github.com/urfave/cli/v2"
)

func TestEnvironmentWord(t *testing.T) {
	t.Parallel()
	tests := []struct {
		line, env string
		vars      []string
		want      string
		code      int
	}{
		{line: "inventory show", want: "prod"},
		{line: "inventory show staging", want: "staging"},
		{line: "inventory show", vars: []string{"GODEPLOY_ENV=staging"}, want: "staging"},
		{line: "inventory show prod", vars: []string{"GODEPLOY_ENV=staging"}, want: "prod"},
		{line: "inventory show prd", code: 64},
		{line: "inventory show prod app1", code: 64},
		{line: "inventory show", vars: []string{"GODEPLOY_ENV=nowhere"}, code: 64},
	}
	for _, tt := range tests {
		m := newMachine(t, tt.vars...)
		m.write(t, "godeploy.toml", smallFile)
		code := m.run(append(strings.Fields(tt.line), "--json")...)
		if code != tt.code {
			t.Errorf("%q %q: exit %d, want %d: %s", tt.line, tt.vars, code, tt.code, m.err.String())
			continue
		}
		if code != 0 {
			if m.out.String() != "" || !strings.Contains(m.err.String(), "error[") {
				t.Errorf("%q: stdout %q, stderr %q", tt.line, m.out.String(), m.err.String())
			}
			continue
		}
		var doc struct{ Env string }
		if err := json.Unmarshal([]byte(m.out.String()), &doc); err != nil || doc.Env != tt.want {
			t.Errorf("%q %q: env %q, want %q (%v)", tt.line, tt.vars, doc.Env, tt.want, err)
		}
	}
}

func TestEnvironmentVariablesYieldToFlags(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "GODEPLOY_LIMIT=app1", "GODEPLOY_OUTPUT=json", "GODEPLOY_CONFIG=other.toml")
	m.write(t, "other.toml", smallFile)
	if code := m.run("inventory", "show", "-l", "app2", "-o", "plain"); code != 0 || strings.Contains(m.out.String(), "app1") || !strings.Contains(m.out.String(), "app2 ") {
		t.Errorf("exit %d: %s%s", code, m.out.String(), m.err.String())
	}
	bad := newMachine(t, "GODEPLOY_PARALLEL=many")
	if code := bad.run("version"); code != exitUsage || !strings.Contains(bad.err.String(), "many") {
		t.Errorf("a bad variable: exit %d, %s", code, bad.err.String())
	}
}

// atCommand runs one command of the test's own through everything that Main does around it.
func atCommand(ctx context.Context, m *machine, spec *command, args ...string) int {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &call{sys: m.System, cancel: cancel}
	c.settleLook(options{})
	tree := []*command{spec}
	l, err := permute(tree, append([]string{spec.Name}, args...))
	if err != nil {
		return c.finish(err, nil)
	}
	done := make(chan error, 1)
	go func() { done <- c.dispatch(ctx, tree, l) }()
	sig, err := c.wait(done)
	return c.finish(err, sig)
}

func TestFirstSignalStopsSafelySecondAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sig  os.Signal
		safe bool
		code int
	}{{os.Interrupt, true, 130}, {syscall.SIGTERM, true, 143}, {os.Interrupt, false, 130}} {
		m := newMachine(t)
		signals := make(chan os.Signal)
		m.Signals = signals
		stuck := make(chan struct{})
		defer close(stuck)
		spec := &command{Name: "work", Story: true, Run: func(ctx context.Context, c *call) error {
			if _, err := c.begin(event.Event{}); err != nil {
				return err
			}
			signals <- tt.sig
			<-ctx.Done()
			if !tt.safe {
				signals <- tt.sig
				<-stuck
			}
			return ctx.Err()
		}}
		if code := atCommand(context.Background(), m, spec); code != tt.code {
			t.Errorf("%v: exit %d, want %d", tt.sig, code, tt.code)
		}
		if text := m.err.String(); !strings.Contains(text, "next safe point") || !strings.Contains(text, "error[interrupted]") {
			t.Errorf("%v: nothing says that it was interrupted: %s", tt.sig, text)
		}
	}
}

func TestTimeoutEndsARun(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	spec := &command{Name: "work", Run: func(ctx context.Context, _ *call) error { <-ctx.Done(); return ctx.Err() }}
	if code := atCommand(context.Background(), m, spec, "--timeout", "1ms"); code != exitInterrupt {
		t.Errorf("exit %d, want %d", code, exitInterrupt)
	}
	if !strings.Contains(m.err.String(), "longer than --timeout 1ms") {
		t.Errorf("stderr: %s", m.err.String())
	}
}

// urfave/cli ends the process on an error with a method ExitCode; ours must come back through Main.
type exitCoder struct{ error }

func (exitCoder) ExitCode() int { return 99 }

func TestErrorsWithAnExitCodeDoNotEndTheProcess(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	spec := &command{Name: "work", Run: func(context.Context, *call) error { return exitCoder{fmt.Errorf("a hook's own error")} }}
	if code := atCommand(context.Background(), m, spec); code != exitUnexpected {
		t.Errorf("exit %d, want %d", code, exitUnexpected)
	}
	var coder cli.ExitCoder = exitCoder{}
	_ = coder // it is one, or the test shows nothing
	if _, ours := any(&outcome{}).(cli.ExitCoder); ours {
		t.Error("outcome must have no method ExitCode")
	}
	if _, ours := any(&fault.Error{}).(cli.ExitCoder); ours {
		t.Error("fault.Error must have no method ExitCode")
	}
}

// The shell's completion flag of urfave/cli must run nothing and mean nothing.
func TestCompletionFlagIsUnknown(t *testing.T) {
	t.Parallel()
	ran := false
	m := newMachine(t)
	spec := &command{Name: "work", MaxArgs: -1, Run: func(context.Context, *call) error { ran = true; return nil }}
	if code := atCommand(context.Background(), m, spec, "--generate-bash-completion"); code != exitUsage || ran {
		t.Errorf("exit %d, ran %v", code, ran)
	}
}

func TestExitCodeOfJoinedErrors(t *testing.T) {
	t.Parallel()
	f := func(c fault.Code) error { return fault.New(c, "x") }
	tests := []struct {
		err  error
		want int
	}{
		{nil, 0},
		{f(fault.SSHTimeout), 4},
		{f(fault.LockHeld), 7},
		{fmt.Errorf("stage: %w", f(fault.LockHeld)), 7},
		{joinedErrors(f(fault.SSHTimeout), f(fault.LockHeld)), 4},
		{joinedErrors(f(fault.SSHTimeout), f(fault.EnvUnknown)), 64},
		{fmt.Errorf("connect: %w", joinedErrors(f(fault.SSHTimeout), f(fault.Internal))), 1},
		{exitWith(5, f(fault.HealthFailed)), 5},
		{fmt.Errorf("release: %w", exitWith(6, nil)), 6},
	}
	for _, tt := range tests {
		if got := codeOf(tt.err); got != tt.want {
			t.Errorf("codeOf(%v) = %d, want %d", tt.err, got, tt.want)
		}
	}
}

func joinedErrors(all ...error) error { return fmt.Errorf("%w", errorsJoin(all)) }

func TestRunFileIsTheJSONStream(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write(t, "godeploy.toml", smallFile)
	spec := &command{Name: "work", Env: true, Story: true, Changes: true, Run: func(_ context.Context, c *call) error {
		report, err := c.begin(event.Event{Hosts: []string{"app1", "app2"}})
		if err != nil {
			return err
		}
		report.Report(event.Event{Type: event.Info, Msg: "working"})
		report.Report(event.Event{Type: event.RunEnd, Fleet: map[string][]string{"r1": {"app1"}}})
		c.conclude("and back: godeploy undo")
		if err := c.print("r1\n"); err != nil {
			return err
		}
		return exitWith(exitWholeOnOld, fault.New(fault.HealthFailed, "app2 did not become healthy").On("app2"))
	}}
	if code := atCommand(context.Background(), m, spec, "--log", "copy.jsonl"); code != exitWholeOnOld {
		t.Fatalf("exit %d: %s", code, m.err.String())
	}
	if m.out.String() != "r1\n" {
		t.Errorf("stdout has %q, want the data alone", m.out.String())
	}
	for _, want := range []string{"env prod (default_env)", "working", "and back", "error[health-failed]: app2 did not"} {
		if strings.Count(m.err.String(), want) != 1 {
			t.Errorf("stderr does not have %q exactly once:\n%s", want, m.err.String())
		}
	}
	files, err := runFiles(filepath.Join(m.Dir, ".godeploy", "runs"))
	if err != nil || len(files) != 1 {
		t.Fatalf("run files: %v, %v", files, err)
	}
	kept, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"type":"hello"`, `"type":"run.start"`, `"code":"health-failed"`, `"fleet":{"r1":["app1"]}`, `"result":"rolled_back"`, `"exit":5`} {
		if !strings.Contains(string(kept), want) {
			t.Errorf("the run file lacks %s:\n%s", want, kept)
		}
	}
	if logged, err := os.ReadFile(filepath.Join(m.Dir, "copy.jsonl")); err != nil || string(logged) != string(kept) {
		t.Errorf("--log differs from the run file: %v\n%s", err, logged)
	}
	if ignored, err := os.ReadFile(filepath.Join(m.Dir, ".godeploy", ".gitignore")); err != nil || string(ignored) != "runs/\n" {
		t.Errorf(".gitignore: %q, %v", ignored, err)
	}
	// What failed here is what @failed names afterwards.
	again := newMachine(t)
	again.Dir = m.Dir
	if code := again.run("inventory", "show", "-l", "@failed"); code != 0 || strings.Contains(again.out.String(), "app1") || !strings.Contains(again.out.String(), "app2") {
		t.Errorf("@failed: exit %d, %s%s", code, again.out.String(), again.err.String())
	}
}

func TestOnlyFiftyRunsAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 60 {
		f, err := openRunFile(dir, "20261123-104107")
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if files, err := runFiles(filepath.Join(dir, "runs")); err != nil || len(files) != keptRuns {
		t.Errorf("%d run files, want %d (%v)", len(files), keptRuns, err)
	}
}

// JSON mode keeps its promise when the run fails before it has begun: lines, the last one run.end.
func TestJSONOfARunThatNeverBegan(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if code := m.run("exec", "prod", "--json", "--", "true"); code != exitUsage {
		t.Errorf("exit %d, want %d", code, exitUsage)
	}
	lines := strings.Split(strings.TrimSpace(m.out.String()), "\n")
	if len(lines) != 4 || !strings.Contains(lines[0], `"hello"`) || !strings.Contains(lines[2], `"config-missing"`) || !strings.Contains(lines[3], `"exit":64`) {
		t.Errorf("got %d lines:\n%s", len(lines), m.out.String())
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	ask := &command{Name: "work", Run: func(ctx context.Context, c *call) error { return c.confirm(ctx, "Really?") }}
	for _, tt := range []struct {
		answer string
		args   []string
		code   int
	}{
		{"y\n", nil, 0}, {"YES\n", nil, 0}, {"\n", nil, 64}, {"n\n", nil, 64}, {"", nil, 64}, {"yep\n", nil, 64},
		{"none", nil, 64}, {"none", []string{"--yes"}, 0}, {"y\n", []string{"--no-input"}, 64},
	} {
		m := newMachine(t)
		if tt.answer != "none" {
			m.OpenTTY = func() (TTY, error) { return &fakeTTY{Reader: strings.NewReader(tt.answer)}, nil }
		}
		if code := atCommand(context.Background(), m, ask, tt.args...); code != tt.code {
			t.Errorf("answer %q, %q: exit %d, want %d", tt.answer, tt.args, code, tt.code)
		}
		if tt.code == 64 && !strings.Contains(m.err.String(), "confirm") {
			t.Errorf("answer %q: %s", tt.answer, m.err.String())
		}
	}
}

func TestInterruptAtAQuestion(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	signals := make(chan os.Signal, 1)
	m.Signals = signals
	read := make(chan struct{})
	defer close(read)
	tty := &fakeTTY{Reader: waiting{signals, read}}
	m.OpenTTY = func() (TTY, error) { return tty, nil }
	ask := &command{Name: "work", Run: func(ctx context.Context, c *call) error { return c.confirm(ctx, "Really?") }}
	if code := atCommand(context.Background(), m, ask); code != exitInterrupt || !tty.restored {
		t.Errorf("exit %d, terminal restored %v: %s", code, tty.restored, m.err.String())
	}
}

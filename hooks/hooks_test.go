package hooks

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
)

type recorder struct{ events []event.Event }

func (r *recorder) Report(e event.Event) { r.events = append(r.events, e) }

func local() Local { return Local{Environ: []string{"PATH=" + os.Getenv("PATH")}} }

func TestRunTellsHowAHookEnded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, run string
		timeout   time.Duration
		code      fault.Code
		facts     []string
	}{
		{name: "succeeds", run: "echo one; echo two >&2"},
		{name: "fails", run: "echo why; exit 3", code: fault.HookFailed, facts: []string{"| why"}},
		{name: "fails as ssh would", run: "exit 255", code: fault.HookFailed},
		{name: "is killed", run: "kill -9 $$", code: fault.HookFailed},
		{name: "takes too long", run: "echo started; sleep 60 & wait", timeout: 200 * time.Millisecond, code: fault.HookTimeout},
		{name: "has no stdin", run: "read line && exit 9; exit 0"},
		{name: "last lines only", run: "i=0; while [ $i -lt 20 ]; do echo line $i; i=$((i+1)); done; false",
			code: fault.HookFailed, facts: []string{"| line 16", "| line 19"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := Hook{Name: "release", Run: tt.run, Timeout: tt.timeout}
			err := Run(t.Context(), h, Place{Dir: t.TempDir()}, local(), &recorder{})
			if tt.code == "" {
				if err != nil {
					t.Fatalf("got %v, want success", err)
				}
				return
			}
			if !fault.Is(err, tt.code) {
				t.Fatalf("got %v, want code %s", err, tt.code)
			}
			facts := strings.Join(fault.All(err)[0].Facts, "\n")
			for _, want := range tt.facts {
				if !strings.Contains(facts, want) {
					t.Errorf("facts %q lack %q", facts, want)
				}
			}
		})
	}
}

func TestRunReportsOutputByLines(t *testing.T) {
	t.Parallel()
	var r recorder
	h := Hook{Name: "after", Run: `printf 'a\r\nb'; printf 'c\n\nlast'`}
	if err := Run(t.Context(), h, Place{Dir: t.TempDir()}, local(), &r); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range r.events {
		if e.Type == event.CmdOutput {
			got = append(got, e.Text)
		}
	}
	if want := "a,bc,,last"; strings.Join(got, ",") != want {
		t.Errorf("got lines %q, want %q", strings.Join(got, ","), want)
	}
}

func TestLinesCutsEndlessLine(t *testing.T) {
	t.Parallel()
	var got []int
	l := newLines(func(_, line string) { got = append(got, len(line)) })
	l.write("stdout", []byte(strings.Repeat("x", 3*maxLine+5)))
	l.flush()
	if len(got) != 4 || got[0] != maxLine || got[3] != 5 {
		t.Errorf("got lengths %v, want three of %d and one of 5", got, maxLine)
	}
}

// Two levels deep, on purpose: ending the shell alone would leave the grandchild running.
func TestCancelEndsTheGrandchild(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "alive")
	if err := exec.Command("mkfifo", pipe).Run(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by test")
	// The grandchild ignores TERM and holds the fifo open; opening it here succeeds once it runs, and
	// reading it ends only when it is dead.
	run := `sh -c 'trap "" TERM; exec 7>` + pipe + `; sleep 60; sleep 60' & wait`
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Hook{Name: "release", Run: run}, Place{Dir: dir}, local(), event.Discard{})
	}()
	f, err := os.Open(pipe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cancel(stop)
	if err := <-done; !errors.Is(err, stop) {
		t.Errorf("got %v, want the cause of the cancellation", err)
	}
	if _, err := f.Read(make([]byte, 1)); err == nil {
		t.Error("the grandchild still holds the fifo")
	}
}

func TestEnvironNamesEverything(t *testing.T) {
	t.Parallel()
	env := Told{Env: "prod", Weight: 20, Graceful: true}.Environ()
	if env["GODEPLOY"] != "1" || env["GODEPLOY_ENV"] != "prod" || env["GODEPLOY_WEIGHT"] != "20" || env["GODEPLOY_GRACEFUL"] != "1" {
		t.Errorf("got %v", env)
	}
	if v, ok := env["GODEPLOY_COMMIT"]; !ok || v != "" {
		t.Errorf("an unknown commit must be an empty variable, got %q, %v", v, ok)
	}
}

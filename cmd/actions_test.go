package cmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"godeploy/internal/event"
)

func endedRun(a *actions, host, msg string) {
	exit := 5
	for _, e := range []event.Event{
		{Type: event.RunStart, Command: "release", App: "swiper", Env: "prod", User: "ops"},
		{Type: event.Error, Code: "health-failed", Host: host, Msg: msg},
		{Type: event.RunEnd, Release: "20260102-000000-1111111", Result: "rolled_back", MS: 64_000, Exit: &exit,
			Outcomes: map[string]string{host: "rolled_back", "app1": "unchanged"}, Fleet: map[string][]string{"20260101-000000-0000000": {host, "app1"}}},
	} {
		a.show(record{queued: queued{Event: e}})
	}
}

func TestAGitHubJobGetsASummaryAndResults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := &actions{summary: filepath.Join(dir, "summary"), output: filepath.Join(dir, "output")}
	for _, name := range []string{a.summary, a.output} {
		if err := os.WriteFile(name, []byte("before\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	endedRun(a, "app3", "GET /healthz -> 500\n| <b>x</b> |")
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	want := "before\n**✗ swiper → prod: release rolled back** · 1m04s · by `ops`\n\n| host | now | release |\n|---|---|---|\n" +
		"| app1 | unchanged | 20260101-000000-0000000 |\n| app3 | rolled_back | 20260101-000000-0000000 |\n" +
		"\n- `health-failed` app3: GET /healthz -&gt; 500 \\| &lt;b&gt;x&lt;/b&gt; \\|\n"
	if got := content(t, a.summary); got != want {
		t.Errorf("summary\n%s\nwant\n%s", got, want)
	}
	if got := content(t, a.output); got != "before\nrelease=20260102-000000-1111111\nstatus=rolled_back\nexit=5\n" {
		t.Errorf("output %q", got)
	}
}

func content(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSummaryIsBoundedAndAResultIsOneLine(t *testing.T) {
	t.Parallel()
	a := &actions{}
	endedRun(a, "app3", "short")
	for i := range 5000 {
		a.end.Outcomes[fmt.Sprintf("host%04d.example.com", i)] = "unchanged"
	}
	if page := a.page(); len(page) > maxSummary || !strings.HasSuffix(page, "(the rest stands in the log)\n") {
		t.Errorf("%d bytes", len(page))
	}
	a.end.Result = "ok\nexit=0"
	if got := a.results(); strings.Count(got, "\n") != 3 {
		t.Errorf("%q", got)
	}
	if err := a.close(); err != nil {
		t.Error(err) // no file is named: nothing is written
	}
}

func TestOnlyAGitHubJobIsTold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode  string
		terse bool
		want  int
	}{{"github", false, 1}, {"github", true, 0}, {"plain", false, 0}, {"json", false, 0}} {
		c := &call{sys: newMachine(t).System, drawn: look{mode: tt.mode, terse: tt.terse}}
		if got := len(c.forActions()); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// drainPage is the page that `make drain` writes its figures into, below drainTable.
const (
	drainPage  = "../docs/drain.md"
	drainTable = "| tried on booted hosts | seen | on |"
)

// figure writes what a test has seen into the table of the page, where GODEPLOY_DRAIN_PAGE is set and nothing
// has gone wrong so far. The tests that write run one after the other then.
func figure(t *testing.T, tried, format string, args ...any) {
	t.Helper()
	seen := fmt.Sprintf(format, args...)
	t.Logf("%s: %s", tried, seen)
	if os.Getenv("GODEPLOY_DRAIN_PAGE") == "" || t.Failed() {
		return
	}
	text, err := os.ReadFile(drainPage)
	must(t, err)
	next, ok := withRow(string(text), tried, fmt.Sprintf("| %s | %s | %s |", tried, seen, time.Now().UTC().Format(time.DateOnly)))
	if !ok {
		t.Fatalf("%s has no table %q", drainPage, drainTable)
	}
	temp := filepath.Join(filepath.Dir(drainPage), ".drain.md.new")
	must(t, os.WriteFile(temp, []byte(next), 0o644))
	must(t, os.Rename(temp, drainPage))
}

// withRow puts a row in the place of the one that tells of the same, else at the end of the table.
func withRow(text, tried, row string) (string, bool) {
	lines := strings.Split(text, "\n")
	at := slices.Index(lines, drainTable)
	if at < 0 {
		return text, false
	}
	for at++; at < len(lines) && strings.HasPrefix(lines[at], "|"); at++ {
		if strings.HasPrefix(lines[at], "| "+tried+" |") {
			lines[at] = row
			return strings.Join(lines, "\n"), true
		}
	}
	return strings.Join(slices.Insert(lines, at, row), "\n"), true
}

func TestAFigureTakesTheRowOfTheOneBefore(t *testing.T) {
	t.Parallel()
	page := "# A\n\n" + drainTable + "\n|---|---|---|\n| one | 1 | x |\n\nend\n"
	for _, c := range []struct{ tried, row, want string }{
		{"one", "| one | 2 | y |", strings.Replace(page, "| one | 1 | x |", "| one | 2 | y |", 1)},
		{"two", "| two | 2 | y |", strings.Replace(page, "| x |\n", "| x |\n| two | 2 | y |\n", 1)},
	} {
		if got, ok := withRow(page, c.tried, c.row); !ok || got != c.want {
			t.Errorf("%s: got %v\n%s\nwant\n%s", c.tried, ok, got, c.want)
		}
	}
	if _, ok := withRow("# A\n", "one", "x"); ok {
		t.Error("a page without the table was taken")
	}
	if text, err := os.ReadFile(drainPage); err != nil || !strings.Contains(string(text), "\n"+drainTable+"\n") {
		t.Errorf("%s has no table for them: %v", drainPage, err)
	}
}

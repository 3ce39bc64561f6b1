package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// restartsPage is the page that TestRestartTable writes.
const restartsPage = "../docs/restart.md"

// restartRun is one row tried once.
type restartRun struct {
	Server, Way, Odd string
	Verdict, Serves  string
	Requests, Failed int
	Slowest          time.Duration
	Wrong            string
}

// The whole table, GODEPLOY_RESTART_TABLE times over, into docs/restart.md. GODEPLOY_RESTART_ROW chooses rows by a
// part of their words. What was seen is added to the file GODEPLOY_RESTART_SEEN, and the page tells of all of it.
func TestRestartTable(t *testing.T) {
	times, _ := strconv.Atoi(os.Getenv("GODEPLOY_RESTART_TABLE"))
	if times < 1 {
		t.Skip("make restart-table tries the whole table")
	}
	file := os.Getenv("GODEPLOY_RESTART_SEEN")
	var all []restartRun
	if text, err := os.ReadFile(file); err == nil {
		must(t, json.Unmarshal(text, &all))
	}
	rows := slices.DeleteFunc(restartRows(), func(row restartRow) bool {
		return !strings.Contains(fmt.Sprintf("%s %s %s", row.server, row.way, row.odd), os.Getenv("GODEPLOY_RESTART_ROW"))
	})
	var o *operator
	if len(rows) > 0 { // else the page is written anew from what was seen
		_, o = newRestarts(t)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Hour)
	defer cancel()
	for n := range times {
		for _, row := range rows {
			got := row.run(ctx, o)
			wrong := row.judge(got)
			all = append(all, restartRun{row.server, row.way, row.odd, got.verdict, got.serves, got.load.Requests, got.load.Failed, got.load.Slowest, wrong})
			fmt.Fprintf(os.Stderr, "%d %+v took %v\n", n+1, all[len(all)-1], got.took.Round(100*time.Millisecond))
			if wrong != "" {
				t.Errorf("run %d, %+v: %s\n%s", n+1, row, wrong, got.said)
			}
			text, err := json.Marshal(all)
			must(t, err)
			must(t, os.WriteFile(file, text, 0o644))
		}
	}
	must(t, os.WriteFile(restartsPage, []byte(restartsText(all)), 0o644))
}

// tally is what a row came to in all runs.
type tally struct {
	verdicts, serves, wrong   []string
	runs, failed, all, notAll int
	longest                   time.Duration
}

func (y *tally) add(r restartRun) {
	y.runs, y.failed, y.all = y.runs+1, y.failed+r.Failed, y.all+r.Requests
	y.longest = max(y.longest, r.Slowest)
	y.verdicts, y.serves = with(y.verdicts, r.Verdict), with(y.serves, r.Serves)
	if r.Wrong != "" {
		y.notAll++
		y.wrong = with(y.wrong, r.Wrong)
	}
}

func with(list []string, word string) []string {
	if slices.Contains(list, word) {
		return list
	}
	return append(list, word)
}

// restartsText is the page.
func restartsText(all []restartRun) string {
	rows := map[restartRow]*tally{}
	requests, failed, falseYes, most, least := 0, 0, 0, 0, len(all)
	for _, r := range all {
		key := restartRow{r.Server, r.Way, r.Odd}
		if rows[key] == nil {
			rows[key] = &tally{}
		}
		rows[key].add(r)
		requests, failed = requests+r.Requests, failed+r.Failed
		if strings.HasPrefix(r.Wrong, "FALSE YES") {
			falseYes++
		}
	}
	var lines strings.Builder
	for _, row := range restartRows() {
		y := rows[row]
		if y == nil {
			continue
		}
		most, least = max(most, y.runs), min(least, y.runs)
		note := ""
		if y.notAll > 0 {
			note = fmt.Sprintf(" (not as wanted in %d of %d: %s)", y.notAll, y.runs, strings.Join(y.wrong, "; "))
		}
		fmt.Fprintf(&lines, "| %s | %s | %s | %s%s | %s | %d of %d | %.1f s | %d |\n", row.server, row.way, row.odd, strings.Join(y.verdicts, ", "), note,
			strings.Join(y.serves, ", "), y.failed, y.all, y.longest.Seconds(), y.runs)
	}
	return fmt.Sprintf(restartsHead, len(rows), least, most, requests, failed, falseYes) + lines.String() + restartsNotes
}

const restartsHead = `# What restarts were seen to do

Written by ` + "`make restart-table`" + `, not by hand. On a booted host, behind one nginx and under 50 one-shot requests a second, each row
brings a second release out over a first one, with the unit and the configuration that godeploy renders. The check before the switch is
off (` + "`check = \"true\"`" + `), so that broken releases come as far as the restart, but for the rows "with trial"; the health check asks for no
release header, so the proof stands on /proc alone. The verdict "yes" is exit 0; "no" is a release that was undone; "refused" is exit 64
before anything was changed. What serves in the end was asked twenty times, each answer naming the folder of the code that gave it.

%d rows, each tried %d to %d times, under %d requests, of which %d failed.
**False yes, said to serve and did not: %d.**

| server | graceful | what is odd | verdict | what serves then | failed requests | longest | runs |
|---|---|---|---|---|---|---|---|
`

const restartsNotes = `
## How to read it

- A full ` + "`restart`" + ` without a drain loses what comes while nothing listens; with [release] drain nothing is sent there meanwhile.
- ` + "`hup`" + ` loses nothing, but the longest request waits for the boot, as the row of the slow import shows. ` + "`usr2`" + ` makes nobody wait, and
  broken code never reaches a visitor.
- HUP with an import error ends gunicorn's master and uWSGI's: requests fail until the release is undone. That is what the trial boot
  before the switch is for, as its rows show.
- gunicorn's ` + "`reload`" + ` is HUP too: with preload both are refused, since new workers of a master that has loaded the app stand in the new release
  and serve the old code, and /proc does not tell. A physical working folder is seen there, and the release is undone.
- A pid file that names a number of nobody's, or of somebody else, is not believed: the server is started, and the other process is left alone. When
  the server runs all the same, the second one finds its port taken, and that is a no.
`

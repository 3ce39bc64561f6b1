package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// The whole table into docs/restart.md, until each row was seen GODEPLOY_RESTART_TABLE times. GODEPLOY_RESTART_ROW
// chooses rows by a part of their words, and after GODEPLOY_RESTART_FOR no further row is begun. What was seen is added
// to the file GODEPLOY_RESTART_SEEN, and the page tells of all of it. A fleet's four hosts try four rows at a time;
// GODEPLOY_RESTART_FLEETS boots more fleets, since a row spends most of its time waiting.
func TestRestartTable(t *testing.T) {
	times, _ := strconv.Atoi(os.Getenv("GODEPLOY_RESTART_TABLE"))
	if times < 1 {
		t.Skip("make restart-table tries the whole table")
	}
	limit := 9 * time.Hour
	if text := os.Getenv("GODEPLOY_RESTART_FOR"); text != "" {
		var err error
		limit, err = time.ParseDuration(text)
		must(t, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit+time.Hour)
	defer cancel()
	book := &restartBook{file: os.Getenv("GODEPLOY_RESTART_SEEN")}
	book.read(t)
	rows := slices.DeleteFunc(restartRows(), func(row restartRow) bool {
		return !strings.Contains(fmt.Sprintf("%s %s %s", row.server, row.way, row.odd), os.Getenv("GODEPLOY_RESTART_ROW"))
	})
	if missing := book.missing(rows, times); len(missing) > 0 { // else the page is written anew from what was seen
		fleets, _ := strconv.Atoi(os.Getenv("GODEPLOY_RESTART_FLEETS"))
		book.fill(ctx, t, missing, max(fleets, 1), time.Now().Add(limit))
	}
	must(t, os.WriteFile(restartsPage, []byte(restartsText(book.all)), 0o644))
}

// restartBook is what was seen of rows, in memory and in a file.
type restartBook struct {
	file string
	mu   sync.Mutex
	all  []restartRun
}

func (b *restartBook) read(t *testing.T) {
	t.Helper()
	if text, err := os.ReadFile(b.file); err == nil {
		must(t, json.Unmarshal(text, &b.all))
	}
}

// missing is what is to be tried until each row was seen so many times, the least seen rows first.
func (b *restartBook) missing(rows []restartRow, times int) []restartRow {
	seen := map[restartRow]int{}
	for _, r := range b.all {
		seen[restartRow{r.Server, r.Way, r.Odd}]++
	}
	var list []restartRow
	for round := range times {
		for _, row := range rows {
			if seen[row] <= round {
				list = append(list, row)
			}
		}
	}
	return list
}

// fill tries the rows on four hosts of each fleet until the list or the time is at its end.
func (b *restartBook) fill(ctx context.Context, t *testing.T, rows []restartRow, fleets int, until time.Time) {
	var places []place
	for range fleets {
		_, four := newRestarts(t, "app1", "app2", "app3", "app4")
		places = append(places, four...)
	}
	queue := make(chan restartRow, len(rows))
	for _, row := range rows {
		queue <- row
	}
	close(queue)
	t.Run("rows", func(t *testing.T) { // ends when all hosts have
		for _, at := range places {
			t.Run(at.host.Netns(), func(t *testing.T) {
				t.Parallel()
				for row := range queue {
					if time.Now().After(until) {
						return
					}
					t.Run(fmt.Sprintf("%s %s %s", row.server, row.way, row.odd), func(t *testing.T) { b.try(ctx, t, at, row) })
				}
			})
		}
	})
}

// try tries one row and writes down what it came to.
func (b *restartBook) try(ctx context.Context, t *testing.T, at place, row restartRow) {
	here := *at.operator
	here.t = t
	at.operator = &here
	got := row.run(ctx, at)
	wrong := row.judge(got)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, restartRun{row.server, row.way, row.odd, got.verdict, got.serves, got.load.Requests, got.load.Failed, got.load.Slowest, wrong})
	fmt.Fprintf(os.Stderr, "%d %s %+v took %v\n", len(b.all), at.host.Netns(), b.all[len(b.all)-1], got.took.Round(100*time.Millisecond))
	if wrong != "" {
		said, _ := at.fleet.Host("lb1").Sh(ctx, "tail -n 20 /var/log/nginx/error.log") // evidence, if there is any
		t.Errorf("%s\n%s\n%v\n%s", wrong, got.said, got.load, said)
	}
	text, err := json.Marshal(b.all)
	must(t, err)
	must(t, os.WriteFile(b.file, text, 0o644))
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
	requests, failed, falseYes, most, least, lost, late := 0, 0, 0, 0, len(all), 0, 0
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
		if r.Failed > 0 && (key.quiet() || key.way == "socket" && r.Verdict == "yes") {
			lost++
			if r.Slowest > 20*time.Second {
				late++
			}
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
	return fmt.Sprintf(restartsHead, len(rows), least, most, requests, failed, falseYes) + lines.String() + fmt.Sprintf(restartsNotes, lost, late)
}

const restartsHead = `# What restarts were seen to do

Written by ` + "`make restart-table`" + `, not by hand. On booted hosts, behind an nginx and under 50 one-shot requests a second, each row
brings a second release out over a first one, with the unit and the configuration that godeploy renders. The check before the switch is
off (` + "`check = \"true\"`" + `), so that broken releases come as far as the restart, but for the rows "with trial"; the health check asks for no
release header, so the proof stands on /proc alone. The verdict "yes" is exit 0; "no" is a release that was undone; "refused" is exit 64
before anything was changed. What serves in the end was asked twenty times, each answer naming the folder of the code that gave it.
Up to twenty rows were tried at a time on a machine with two processors: times are those of a busy machine.

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
- On ways that keep the listener, %d runs lost requests that none should lose. In %d of these the clients' 20 s were over: in two spells
  all rows under way stood still at once for that long, on a machine that had other work too. The others are from before the test's load balancer had more
  than Debian's 768 connections: with many rows waiting at once it closed new ones (its log said so when that was tried again), while
  uWSGI's own log shows the listener inherited.
`

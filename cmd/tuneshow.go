package cmd

import (
	"fmt"
	"slices"
	"strings"

	"godeploy/deploy/tune"
	"godeploy/internal/event"
)

// show prints what changes, what holds where it counts, and what somebody should know: as tables for people,
// as one event each for programs.
func (t *tuning) show(report event.Reporter, dry bool) {
	var changes, values [][]string
	for i, h := range t.hosts {
		name := h.Inventory().Name
		for _, change := range t.out[i].Plan.Changes {
			if dry || t.out[i].Changed {
				changes = append(changes, []string{name, change.Name, orElse(change.Before, "none"), orElse(change.After, "none"), change.Where})
				report.Report(event.Event{Type: event.PlanFile, Host: name, Step: "tune", Op: "update", Path: change.Where,
					Why: change.Name + ": " + orElse(change.Before, "none") + " -> " + orElse(change.After, "none")})
			}
		}
		for _, f := range t.out[i].Found {
			values = append(values, []string{name, f.What, f.Want, orElse(f.Live, "?"), holds(f, dry)})
			report.Report(event.Event{Type: event.Proof, Host: name, Step: "tune", Path: f.What, Result: holdsWord(f), Why: f.Note,
				Text: f.Live})
		}
		for _, note := range t.out[i].Plan.Notes {
			report.Report(event.Event{Type: event.Warn, Host: name, Step: "tune", Msg: "tune: " + note})
		}
	}
	t.print([]string{"HOST", "WHAT", "BEFORE", "AFTER", "WHERE"}, changes)
	if t.c.flags.Bool("diff") {
		t.diffs(dry)
	}
	t.print([]string{"HOST", "WHAT", "WANTED", "LIVE", "HOLDS"}, values)
	t.advise()
}

func (t *tuning) print(heading []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	var b strings.Builder
	_ = table(&b, heading, rows) // a builder takes everything
	_ = t.c.print("%s\n", b.String())
}

// holds says it for a person.
func holds(f tune.Finding, dry bool) string {
	switch {
	case !f.OK && dry && f.Start == "":
		return joined("; ", "NO", f.Note)
	case f.OK && f.Note == "":
		return "yes"
	case f.OK:
		return "yes; " + f.Note
	case f.Start != "":
		return "NO: restart " + f.Start + "; " + f.Note
	}
	return "NO: " + orElse(f.Note, "something else sets it")
}

func holdsWord(f tune.Finding) string {
	if f.OK {
		return "ok"
	}
	return "failed"
}

// diffs prints the files that change, with what goes and what comes.
func (t *tuning) diffs(dry bool) {
	for i, h := range t.hosts {
		for _, f := range t.out[i].Plan.Files {
			if dry || t.out[i].Changed {
				_ = t.c.print("%s", fileDiff(h.Inventory().Name, f))
			}
		}
	}
}

// fileDiff shows the lines that only one side has, each side in its order: the files are short and sorted.
func fileDiff(host string, f tune.File) string {
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s:%s\n", host, f.Path)
	old, now := linesOf(f.Before), linesOf(f.After)
	for _, line := range old {
		if !slices.Contains(now, line) {
			fmt.Fprintf(&b, "-%s\n", clean(line))
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			fmt.Fprintf(&b, "+%s\n", clean(line))
		}
	}
	b.WriteString("\n")
	return b.String()
}

func linesOf(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// advise says which processes must restart, and how.
func (t *tuning) advise() {
	need := map[string][]string{}
	var units []string
	for i, h := range t.hosts {
		for _, unit := range tune.Restarts(t.out[i].Found) {
			if need[unit] == nil {
				units = append(units, unit)
			}
			need[unit] = append(need[unit], h.Inventory().Name)
		}
	}
	for _, unit := range units {
		t.c.conclude("%s %s must restart on %s for its new limits or queue to count", t.c.mark(false), unit, someOf(need[unit], 5))
	}
	if len(units) > 0 && !t.c.flags.Bool("restart") {
		t.c.conclude("  restart:  godeploy tune %s --restart", t.c.env.Name)
	}
}

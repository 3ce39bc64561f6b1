package main

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// frame is the page around the tables: what is measured, how, and what is known about rows that miss.
//
//go:embed page.md
var frame string

// pages gives the files of docs/ that show the results, by their names there.
func pages(kept results) (map[string][]byte, error) {
	files := map[string][]byte{}
	var tables, details strings.Builder
	for _, g := range groups() {
		inGroup := slices.DeleteFunc(rows(), func(r row) bool {
			_, ok := kept.Rows[r.ID]
			return r.Group != g.Name || !ok || r.ID == "smoke"
		})
		if len(inGroup) == 0 {
			continue
		}
		picture := "img/bench-" + g.File + ".svg"
		files[picture] = plot(inGroup, kept)
		fmt.Fprintf(&tables, "## %s\n\n![%s: godeploy's time as a share of rsync's](%s)\n\n", g.Name, g.Name, picture)
		goalTable(&tables, inGroup, kept)
		notes(&tables, inGroup, kept)
		if g.Name == groupLinks {
			roundTrips(&tables, kept)
		}
		for _, r := range inGroup {
			sideTable(&details, r, kept.Rows[r.ID])
		}
	}
	if !strings.Contains(frame, "{{tables}}") {
		return nil, fmt.Errorf("page.md has no place for the tables")
	}
	page := strings.NewReplacer("{{facts}}", factsOf(kept), "{{tables}}", strings.TrimSpace(tables.String()),
		"{{details}}", strings.TrimSpace(details.String())).Replace(frame)
	files["performance.md"] = []byte(page)
	return files, nil
}

// group is a part of the page.
type group struct{ Name, File string }

func groups() []group {
	return []group{{groupFirst, "first"}, {groupAgain, "again"}, {groupLinks, "links"}, {groupFleet, "fleet"}, {groupBare, "bare"}, {groupHost, "host"}}
}

// goalTable: a line for each goal.
func goalTable(b *strings.Builder, rows []row, kept results) {
	b.WriteString("| work | compared | theirs | godeploy | figure | target (stretch) | |\n|---|---|--:|--:|--:|--:|---|\n")
	for _, r := range rows {
		o := kept.Rows[r.ID]
		for i, g := range r.Goals {
			what := ""
			if i == 0 {
				what = r.What + " (`" + r.ID + "`)"
			}
			v := judge(r, o, g)
			mine, _ := r.side(g.Side)
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", what, v.subject(), spreadCell(o.Sides[v.Best], g.Of), spreadCell(o.Sides[mine.Name], g.Of), v.figure(), v.target(), v.mark())
		}
	}
	b.WriteString("\n")
}

// notes: what is known about what was missed.
func notes(b *strings.Builder, rows []row, kept results) {
	for _, r := range rows {
		missed := slices.ContainsFunc(r.Goals, func(g goal) bool { return !judge(r, kept.Rows[r.ID], g).Met })
		if missed && r.Note != "" {
			fmt.Fprintf(b, "`%s`: %s\n\n", r.ID, r.Note)
		}
	}
}

// roundTrips tells how often each side waits for the other end: how much longer the same work takes
// for each millisecond more on the way.
func roundTrips(b *strings.Builder, kept results) {
	more := (linkOf(linkRTT50).Delay - linkOf(linkRTT10).Delay).Seconds() * 2
	var lines []string
	for _, r := range rows() {
		work, ok := strings.CutSuffix(r.ID, "-"+linkRTT50)
		near, both := kept.Rows[work+"-"+linkRTT10]
		if !ok || !both {
			continue
		}
		for _, s := range r.Sides {
			short, ok1 := spreadOf(near.Sides[s.Name].values(ofWall))
			long, ok2 := spreadOf(kept.Rows[r.ID].Sides[s.Name].values(ofWall))
			if ok1 && ok2 {
				lines = append(lines, fmt.Sprintf("| `%s` | %s | %.1f |\n", work, s.Name, (long.Median-short.Median)/more))
			}
		}
	}
	if len(lines) > 0 {
		b.WriteString("Round trips, from how much longer the same takes at 50 ms than at 10 ms:\n\n| work | command | round trips |\n|---|---|--:|\n" + strings.Join(lines, "") + "\n")
	}
}

func (v verdict) mark() string {
	if v.Met {
		return v.word()
	}
	return "**" + v.word() + "**"
}

// spreadCell is a median, for times with what it moved between.
func spreadCell(f figures, of measure) string {
	s, ok := spreadOf(f.values(of))
	if ok && of == ofWall {
		return fmt.Sprintf("%.3f s [%.3f–%.3f]", s.Median, s.Min, s.Max)
	}
	return figure(of, s.Median, ok)
}

// sideTable: everything that was measured of a row.
func sideTable(b *strings.Builder, r row, o outcome) {
	fmt.Fprintf(b, "**%s** (`%s`), %d files, %s, medians of %s\n\n", r.What, r.ID, o.Tree.Files, amount(float64(o.Tree.Bytes)), countOf(o))
	b.WriteString("| | command | wall | client CPU | server CPU | sent + received | memory here, there |\n|---|---|--:|--:|--:|--:|--:|\n")
	for _, s := range r.Sides {
		f := o.Sides[s.Name]
		if f.Error != "" {
			fmt.Fprintf(b, "| %s | `%s` | did not run: %s | | | | |\n", s.Name, s.Argv, cell(f.Error))
			continue
		}
		fmt.Fprintf(b, "| %s | `%s` | %s | %s | %s | %s | %s, %s |\n", s.Name, s.Argv, spreadCell(f, ofWall), spreadCell(f, ofCPU), spreadCell(f, ofServer),
			spreadCell(f, ofBytes), spreadCell(f, ofMemory), spreadCell(f, ofHelper))
	}
	b.WriteString("\n")
}

// cell keeps a text within its cell.
func cell(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	return strings.ReplaceAll(text, "|", "\\|")
}

// factsOf lists the machines and trees that the figures come from; most often it is one machine.
func factsOf(kept results) string {
	machines, trees := map[string]bool{}, map[string]bool{}
	for _, r := range rows() {
		o, ok := kept.Rows[r.ID]
		if !ok {
			continue
		}
		m := o.Machine
		machines[fmt.Sprintf("- %s: %s, %d cores, %d GiB, Linux %s, %s (copies: %s), TCP %s; rsync %s, %s; %s (%s)", o.When.Format("2006-01-02"), m.CPU, m.Cores, m.MemoryGiB, m.Kernel,
			m.FileSystem, o.Disk, m.TCP, m.Rsync, m.OpenSSH, m.Godeploy, m.Go)] = true
		trees[fmt.Sprintf("- %s: %d files, %s", o.Tree.What, o.Tree.Files, amount(float64(o.Tree.Bytes)))] = true
	}
	return strings.Join(append(slices.Sorted(maps.Keys(machines)), slices.Sorted(maps.Keys(trees))...), "\n")
}

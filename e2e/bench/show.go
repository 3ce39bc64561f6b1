package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// screen is where a person watches: on a terminal the progress is one line that is written over.
type screen struct {
	w        io.Writer
	terminal bool
}

// progress tells what is going on.
func (s screen) progress(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !s.terminal {
		s.line("%s", text)
		return
	}
	text, _, _ = strings.Cut(text, "\n")
	if r := []rune(text); len(r) > 79 {
		text = string(r[:78]) + "…"
	}
	fmt.Fprint(s.w, "\r\x1b[K"+text)
}

// line stays.
func (s screen) line(format string, args ...any) {
	if s.terminal {
		fmt.Fprint(s.w, "\r\x1b[K")
	}
	fmt.Fprintf(s.w, format+"\n", args...)
}

// show prints a row's figures and verdicts.
func (s screen) show(r row, o outcome) {
	s.line("\n%s: %s (%s)", r.ID, r.What, countOf(o))
	table := [][]string{{"", "wall", "least", "most", "client CPU", "server CPU", "bytes", "memory here", "there"}}
	for _, side := range r.Sides {
		table = append(table, figuresLine(side.Name, o.Sides[side.Name]))
	}
	s.line("%s", columns(table))
	for _, g := range r.Goals {
		s.line("  %s", judge(r, o, g))
	}
}

func countOf(o outcome) string {
	n := 0
	for _, f := range o.Sides {
		n = max(n, len(f.Samples))
	}
	return plural(n, "run")
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}

// figuresLine is one side as cells.
func figuresLine(name string, f figures) []string {
	if f.Error != "" {
		return []string{name, "did not run: " + f.Error}
	}
	cells := []string{name}
	took, ok := spreadOf(f.values(ofWall))
	if !ok {
		return append(cells, "did not run")
	}
	cells = append(cells, seconds(took.Median), seconds(took.Min), seconds(took.Max))
	for _, of := range []measure{ofCPU, ofServer, ofBytes, ofMemory, ofHelper} {
		m, ok := spreadOf(f.values(of))
		cells = append(cells, figure(of, m.Median, ok))
	}
	return cells
}

// figure prints a measure in its unit.
func figure(of measure, value float64, ok bool) string {
	switch {
	case !ok:
		return "–"
	case of == ofBytes || of == ofMemory || of == ofHelper:
		return amount(value)
	}
	return seconds(value)
}

func seconds(v float64) string { return fmt.Sprintf("%.3f s", v) }

func amount(v float64) string {
	switch {
	case v < 0:
		return "-" + amount(-v)
	case v < 1e3:
		return fmt.Sprintf("%.0f B", v)
	case v < 1e6:
		return fmt.Sprintf("%.1f KB", v/1e3)
	case v < 1e9:
		return fmt.Sprintf("%.1f MB", v/1e6)
	}
	return fmt.Sprintf("%.2f GB", v/1e9)
}

// String is the verdict on one line.
func (v verdict) String() string {
	return fmt.Sprintf("%-8s %s: %s, target %s", v.word(), v.subject(), v.figure(), v.target())
}

func (v verdict) word() string {
	switch {
	case !v.Measured:
		return "no run"
	case v.Stretched:
		return "PASS+"
	case v.Met:
		return "PASS"
	}
	return "missed"
}

func (v verdict) subject() string {
	text := string(v.Goal.Of)
	if v.Goal.Side != "" {
		text = v.Goal.Side + ", " + text
	}
	switch {
	case len(v.Goal.Against) == 0:
		return text
	case v.Goal.Ratio == 0:
		return text + " more than " + strings.Join(v.Goal.Against, " or ")
	case v.Best == "":
		return text + " of " + strings.Join(v.Goal.Against, " or ")
	}
	return text + " of " + v.Best
}

func (v verdict) figure() string {
	switch {
	case !v.Measured:
		return "–"
	case v.Goal.Ratio > 0:
		return exact(v.Value, v.Goal.Ratio)
	}
	return figure(v.Goal.Of, v.Value, true)
}

func (v verdict) target() string {
	if v.Goal.Ratio == 0 {
		return "≤ " + figure(v.Goal.Of, v.Goal.Most, true)
	}
	text := "≤ " + strconv.FormatFloat(v.Goal.Ratio, 'g', 3, 64)
	if v.Goal.Stretch > 0 {
		text += " (" + strconv.FormatFloat(v.Goal.Stretch, 'g', 3, 64) + ")"
	}
	return text
}

// exact prints a quotient with as many digits as it takes not to look better than it is.
func exact(value, limit float64) string {
	for digits := 2; ; digits++ {
		text := strconv.FormatFloat(value, 'f', digits, 64)
		shown, err := strconv.ParseFloat(text, 64)
		if err != nil || digits > 12 || (shown <= limit) == (value <= limit) {
			return text
		}
	}
}

// columns sets cells below each other.
func columns(table [][]string) string {
	var widths []int
	for _, cells := range table {
		for i, c := range cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if len(cells) > 2 || i == 0 { // an error's text takes the rest of the line
				widths[i] = max(widths[i], utf8.RuneCountInString(c))
			}
		}
	}
	var lines []string
	for _, cells := range table {
		line := " "
		for i, c := range cells {
			pad := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(c)))
			if i == 0 || len(cells) == 2 {
				line += " " + c + pad
			} else {
				line += "  " + pad + c
			}
		}
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return strings.Join(lines, "\n")
}

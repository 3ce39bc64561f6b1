package chaos

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pageEnv names the page that the outcomes are written into; see `make chaos`.
const pageEnv = "GODEPLOY_CHAOS_PAGE"

const (
	pageBegin = "<!-- chaos: begin -->\n"
	pageEnd   = "<!-- chaos: end -->\n"
)

// byName says which tests the cells are.
const byName = "Each cell counts what came of the points of that step. Its test is `TestNothingIsLeftHalfWay`; of the power cut\n" +
	"`TestPowerIsCut`. Where nothing stands, the step has no such point.\n"

// column is a fault of release.md's matrix and the sweeps that make it.
type column struct {
	title string
	who   []string
}

func columns() []column {
	return []column{
		{"F1 controller killed", []string{"controller"}}, {"F3 reset", []string{"reset"}}, {"F4 frozen", []string{"freeze"}},
		{"F5 helper killed", []string{"helper"}}, {"F1+F5 both killed", []string{"both"}}, {"F9 reboot", []string{"reboot"}},
		{"F9 power cut", []string{"power"}}, {"F6 no room", []string{"ENOSPC", "EDQUOT"}}, {"F7 may not", []string{"EACCES", "EROFS"}},
		{"EIO", []string{"EIO"}},
	}
}

// came gives what a struck run has led to, in release.md's codes.
func (o outcome) came() string {
	if len(o.Findings) > 0 {
		return "VIOLATION"
	}
	old, new, open := 0, 0, false
	for _, h := range o.Hosts {
		switch word, rest, _ := strings.Cut(h, " "); word {
		case "old":
			old++
			open = open || rest != ""
		case "new":
			new++
			open = open || rest != ""
		}
	}
	switch {
	case new == len(o.Hosts):
		return "new"
	case new > 0 || open:
		return "B"
	case o.Point.lives() && o.Verdict == "rolled_back" && strings.Compare(o.Step, "12") >= 0 && o.Step[1] != ' ':
		return "V"
	case old == len(o.Hosts) && (o.Verdict == "refused" || o.Verdict == ""):
		return "S"
	default:
		return "K"
	}
}

// table is the matrix as it was seen.
func table(outcomes []outcome) string {
	cells := map[string]map[string]int{} // step and column to outcomes
	steps := map[string]bool{}
	for _, o := range outcomes {
		if o.Step == "" {
			continue
		}
		steps[o.Step] = true
		for _, c := range columns() {
			if !slices.Contains(c.who, o.Point.Who) {
				continue
			}
			at := o.Step + "|" + c.title
			if cells[at] == nil {
				cells[at] = map[string]int{}
			}
			cells[at][o.came()]++
		}
	}
	var b strings.Builder
	head, line := "| step |", "|---|"
	for _, c := range columns() {
		head, line = head+" "+c.title+" |", line+"---|"
	}
	b.WriteString(head + "\n" + line + "\n")
	for _, s := range slices.SortedFunc(maps.Keys(steps), byStep) {
		b.WriteString("| " + s + " |")
		for _, c := range columns() {
			b.WriteString(" " + cell(cells[s+"|"+c.title]) + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// byStep sorts "2 lock" before "10 hooks".
func byStep(a, b string) int {
	number := func(s string) (n int) {
		_, _ = fmt.Sscanf(s, "%d", &n)
		return n
	}
	if d := number(a) - number(b); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

func cell(counts map[string]int) string {
	var parts []string
	for _, code := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", code, counts[code]))
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, ", ")
}

// summary counts the points of each sweep.
func summary(outcomes []outcome) string {
	type sum struct{ points, struck, violations, most int }
	sums := map[string]*sum{}
	for _, o := range outcomes {
		name := o.Point.Who + " at a " + o.Point.At
		if sums[name] == nil {
			sums[name] = &sum{}
		}
		s := sums[name]
		s.points++
		if o.Step != "" {
			s.struck++
		}
		if len(o.Findings) > 0 {
			s.violations++
		}
		s.most = max(s.most, int(o.FreeMS))
	}
	var b strings.Builder
	b.WriteString("| what | points | struck | violations | longest until every lock was free |\n|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		s := sums[name]
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d ms |\n", name, s.points, s.struck, s.violations, s.most)
	}
	return b.String()
}

// TestPage writes what was seen into the page; without being told so it looks that every test which the
// page names is there.
func TestPage(t *testing.T) {
	t.Parallel()
	page := os.Getenv(pageEnv)
	if page == "" {
		namesTests(t, "../../docs/reliability.md")
		return
	}
	outcomes, err := readBook(os.Getenv(resultsEnv))
	if err != nil || len(outcomes) == 0 {
		t.Fatalf("%d outcomes, %v", len(outcomes), err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), pageBegin)
	_, after, ok2 := strings.Cut(rest, pageEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the outcomes", page)
	}
	text = []byte(before + pageBegin + "\n" + summary(outcomes) + "\n" + byName + "\n" + table(outcomes) + "\n" + pageEnd + after)
	if err := os.WriteFile(page, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// namesTests wants every test that the page names to be one.
func namesTests(t *testing.T, page string) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	err = filepath.WalkDir("../..", func(p string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(p, "_test.go") {
			return err
		}
		b, err := os.ReadFile(p)
		all.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 20 {
		t.Errorf("the page names %d tests: too few to be true", len(named))
	}
	for _, n := range named {
		if !strings.Contains(all.String(), "func "+n[1]+"(t *testing.T)") {
			t.Errorf("%s names %s, which is no test", page, n[1])
		}
	}
}

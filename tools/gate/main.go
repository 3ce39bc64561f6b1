// Command gate reads `go test -json` and decides whether the run counts. A failed test fails it, and so
// does one that was skipped without leave, and one that had to run and did not: a test that quietly
// stops running is worse than one that fails.
//
//	go test -json ./... | gate tests.txt
//
// The file names one test a line: "must PACKAGE TEST" or "may-skip PACKAGE TEST". Without a file, as
// for an ordinary user who cannot boot hosts, skips are counted and shown, and allowed.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	rules := ""
	if len(os.Args) > 1 {
		text, err := os.ReadFile(os.Args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, "gate:", err)
			os.Exit(1)
		}
		rules = string(text)
	}
	if err := judge(os.Stdin, os.Stdout, rules); err != nil {
		fmt.Fprintln(os.Stderr, "gate:", err)
		os.Exit(1)
	}
}

// event is one line of `go test -json`.
type event struct {
	Action, Package, Test, Output string
}

func (e event) name() string { return e.Package + " " + e.Test }

// tally is what a run came to.
type tally struct {
	passed, failed, skipped []string
	packages                int
	output                  map[string][]string // of tests and packages under way
}

// judge reads the whole run, shows what failed, and gives an error when the run does not count.
func judge(in io.Reader, out io.Writer, rules string) error {
	t := tally{output: map[string][]string{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text()) // a build error, or a message of the go command
			continue
		}
		t.take(out, e)
	}
	problems := append(t.broken(rules), t.ran(lines.Err())...)
	for _, p := range problems {
		fmt.Fprintln(out, p)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", len(t.passed), len(t.failed), len(t.skipped))
	if len(problems) > 0 {
		return errors.New("the run does not count")
	}
	return nil
}

func (t *tally) take(out io.Writer, e event) {
	switch e.Action {
	case "output":
		t.output[e.name()] = append(t.output[e.name()], e.Output)
		return
	case "build-output":
		fmt.Fprint(out, e.Output)
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	if e.Test == "" {
		t.packageDone(out, e)
	} else {
		t.testDone(e)
	}
	if e.Action == "fail" {
		fmt.Fprint(out, strings.Join(t.output[e.name()], ""))
	}
	delete(t.output, e.name())
}

func (t *tally) packageDone(out io.Writer, e event) {
	t.packages++
	if e.Action == "fail" {
		// What no finished test has claimed: a crash, a race, a time-out.
		t.failed = append(t.failed, e.name())
		for name, lines := range t.output {
			if strings.HasPrefix(name, e.Package+" ") && name != e.name() {
				fmt.Fprint(out, strings.Join(lines, ""))
			}
		}
	}
	fmt.Fprintf(out, "%-5s %s\n", e.Action, e.Package)
}

func (t *tally) testDone(e event) {
	list := map[string]*[]string{"pass": &t.passed, "fail": &t.failed, "skip": &t.skipped}[e.Action]
	*list = append(*list, e.name())
}

// broken compares the run with the rules.
func (t *tally) broken(rules string) []string {
	var problems, may []string
	for line := range strings.Lines(rules) {
		word, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "must":
			if !slices.Contains(t.passed, name) {
				problems = append(problems, "did not pass, and had to: "+name)
			}
		case "may-skip":
			may = append(may, name)
		}
	}
	for _, name := range t.skipped {
		if rules != "" && !slices.Contains(may, name) {
			problems = append(problems, "skipped without leave: "+name)
		}
	}
	return problems
}

func (t *tally) ran(readErr error) []string {
	var problems []string
	for _, name := range t.failed {
		problems = append(problems, "failed: "+name)
	}
	if len(t.passed) == 0 {
		problems = append(problems, "no test ran")
	}
	if readErr != nil {
		problems = append(problems, "the run's output was cut: "+readErr.Error())
	}
	return problems
}

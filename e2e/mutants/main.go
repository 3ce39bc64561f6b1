// Command mutants plants defects in a copy of the repository, one at a time, and sees that the tests
// catch each: a test suite is worth what it finds. `make mutants` runs them all, `go run ./e2e/mutants
// WORD…` those whose name has one of the words. A defect that survives fails the run.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// mutant is one defect: in File the only occurrence of Old becomes New (an empty Old makes a new
// file), and then Test, a line of shell at the root of the copy, must fail. Its output must contain
// Says, so that a defect is caught for what it is and not for a typing error in this table.
type mutant struct {
	Name, File, Old, New, Test, Says string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := hunt(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func hunt(ctx context.Context, words []string) error {
	dir, err := os.MkdirTemp("", "godeploy-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := copyTracked(ctx, dir); err != nil {
		return err
	}
	caught := 0
	var problems []error
	for _, m := range chosen(words) {
		began := time.Now()
		if err := m.try(ctx, dir); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", m.Name, err))
			fmt.Printf("SURVIVED %s: %v\n", m.Name, err)
			continue
		}
		caught++
		fmt.Printf("caught   %s (%v)\n", m.Name, time.Since(began).Round(100*time.Millisecond))
	}
	fmt.Printf("%d passed, %d failed\n", caught, len(problems))
	if caught+len(problems) == 0 {
		return errors.New("no such mutant")
	}
	return errors.Join(problems...)
}

func chosen(words []string) []mutant {
	return slices.DeleteFunc(mutants(), func(m mutant) bool {
		return len(words) > 0 && !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(m.Name, w) })
	})
}

// copyTracked copies what git knows of, as it lies in the work tree: with changes, without junk.
func copyTracked(ctx context.Context, dir string) error {
	line := `git ls-files -z | xargs -0 ls -d 2>/dev/null | tar -cf - -T - | tar -C "$1" -xf -`
	out, err := exec.CommandContext(ctx, "bash", "-c", line, "bash", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy the repository: %w: %s", err, out)
	}
	return nil
}

// try plants the defect, expects the test to be red, and takes the defect out again.
func (m mutant) try(ctx context.Context, dir string) error {
	path := filepath.Join(dir, m.File)
	undo, err := m.plant(path)
	if err != nil {
		return err
	}
	red := m.red(ctx, dir)
	return errors.Join(red, undo())
}

func (m mutant) plant(path string) (undo func() error, err error) {
	if m.Old == "" {
		if _, err := os.Lstat(path); err == nil {
			return nil, errors.New("the table is out of date: the file to add exists")
		}
		undo = func() error { return os.Remove(path) }
		return undo, errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(m.New), 0o644))
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(text, []byte(m.Old)); n != 1 {
		return nil, fmt.Errorf("the table is out of date: %s has %d times %q", m.File, n, m.Old)
	}
	undo = func() error { return os.WriteFile(path, text, 0o644) }
	return undo, os.WriteFile(path, bytes.Replace(text, []byte(m.Old), []byte(m.New), 1), 0o644)
}

// red runs the test and gives an error unless it fails for the right reason.
func (m mutant) red(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", m.Test)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GODEPLOY_TEST_MUST_RUN=1")
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	text := string(out)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the test does not end: %w", ctx.Err())
	case err == nil:
		return errors.New("the test is green")
	case strings.Contains(text, "[build failed]") && m.Says != "[build failed]":
		return fmt.Errorf("it does not compile: %s", text[max(0, len(text)-600):])
	case !strings.Contains(text, m.Says):
		return fmt.Errorf("red, but without %q: %s", m.Says, text[max(0, len(text)-600):])
	}
	return nil
}

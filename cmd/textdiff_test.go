package cmd

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What textDiff shows is checked by patch's rule: the old lines of a hunk are the old text, the new ones the
// new text, and diff(1) needs no fewer changes.
func TestTextDiffIsAsShortAsDiffs(t *testing.T) {
	t.Parallel()
	if got := textDiff("a\n", "a\n"); got != nil {
		t.Errorf("equal texts differ by %q", got)
	}
	if got := strings.Join(textDiff("", "x\n"), "|"); got != "@@ -1 +1 @@|+x" {
		t.Errorf("got %q", got)
	}
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		before, after := someText(r), someText(r)
		changes := 0
		for _, line := range textDiff(before, after) {
			if line[0] == '+' || line[0] == '-' {
				changes++
			}
		}
		if want := diffChanges(t, dir, before, after); changes != want {
			t.Errorf("%d changes, diff has %d, of\n%q\n%q", changes, want, before, after)
		}
		if got := applied(t, before, textDiff(before, after)); got != after {
			t.Errorf("the difference of %q and %q makes %q", before, after, got)
		}
	}
}

func someText(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(40) {
		b.WriteString(string(rune('a'+r.IntN(6))) + "\n")
	}
	return b.String()
}

// diffChanges counts the lines that diff --minimal adds and takes away.
func diffChanges(t *testing.T, dir, before, after string) int {
	t.Helper()
	for name, text := range map[string]string{"a": before, "b": after} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, _ := exec.Command("diff", "--minimal", filepath.Join(dir, "a"), filepath.Join(dir, "b")).Output() // 1 means that they differ
	n := 0
	for line := range strings.Lines(string(out)) {
		if line[0] == '<' || line[0] == '>' {
			n++
		}
	}
	return n
}

// applied makes the new text of the old one and the hunks.
func applied(t *testing.T, before string, hunks []string) string {
	t.Helper()
	old, out, at := splitLines(before), []string(nil), 0
	for _, line := range hunks {
		switch line[0] {
		case '@':
			from := 0
			for _, d := range line[len("@@ -"):strings.Index(line, " +")] {
				from = from*10 + int(d-'0')
			}
			out = append(out, old[at:from-1]...)
			at = from - 1
		case '+':
			out = append(out, line[1:])
		default:
			if at >= len(old) || old[at] != line[1:] {
				t.Fatalf("hunk line %q does not stand at line %d of %q", line, at+1, before)
			}
			if line[0] == ' ' {
				out = append(out, line[1:])
			}
			at++
		}
	}
	out = append(out, old[at:]...)
	if len(out) == 0 {
		return ""
	}
	return strings.Join(out, "\n") + "\n"
}

package cmd

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestManualNamesEveryCommandAndFlag(t *testing.T) {
	t.Parallel()
	page := manual("1.2.3")
	all, global := Reference()
	for _, c := range all {
		if !strings.Contains(page, ".SS "+roffArg(joined(" ", c.Name, c.Args))+"\n") {
			t.Errorf("the manual lacks %s", c.Name)
		}
		for _, f := range c.Flags {
			if !strings.Contains(page, roff(f.Names[0])) {
				t.Errorf("the manual lacks %s of %s", f.Names[0], c.Name)
			}
		}
	}
	for _, f := range global {
		if !strings.Contains(page, roff(f.Names[0])) {
			t.Errorf("the manual lacks %s", f.Names[0])
		}
	}
	for i, l := range strings.Split(page, "\n") {
		if strings.HasPrefix(l, ".") && !strings.HasPrefix(l, ".TH ") && !strings.HasPrefix(l, ".S") && !oneOf(l, []string{".TP", ".PP", ".nf", ".fi"}) &&
			!strings.HasPrefix(l, ".B") && !strings.HasPrefix(l, ".I ") || strings.HasPrefix(l, "'") {
			t.Errorf("line %d would be a request: %q", i+1, l)
		}
	}
}

// groff reads it without a complaint, where there is one.
func TestManualIsWhatGroffReads(t *testing.T) {
	t.Parallel()
	groff, err := exec.LookPath("groff")
	if err != nil {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatal("groff is not installed")
		}
		t.Skip("groff is not installed")
	}
	cmd := exec.Command(groff, "-man", "-Tascii", "-ww", "-z")
	cmd.Stdin = strings.NewReader(manual("1.2.3"))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil || said.Len() > 0 {
		t.Errorf("%v: %s", err, said.String())
	}
}

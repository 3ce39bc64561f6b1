package sshx

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestQuoteIsReadableWhereItCanBe(t *testing.T) {
	t.Parallel()
	cases := []struct {
		argv []string
		want string
	}{
		{[]string{"ls", "-l", "/opt/app"}, "ls -l /opt/app"},
		{[]string{"echo", "two words", ""}, "echo 'two words' ''"},
		{[]string{"echo", "it's"}, `echo 'it'"'"'s'`},
		{[]string{"A=b", "A=b"}, "'A=b' A=b"},
		{[]string{"if", "if"}, "'if' if"},
		{[]string{"%1"}, "'%1'"},
		{[]string{"~", "~root", "$HOME", "*", "!", "{", "a\nb", "#"}, "'~' '~root' '$HOME' '*' '!' '{' 'a\nb' '#'"},
	}
	for _, c := range cases {
		if got, err := Quote(c.argv...); err != nil || got != c.want {
			t.Errorf("Quote(%q) = %s, %v, want %s", c.argv, got, err, c.want)
		}
	}
}

func TestQuoteRefusesWhatNoCommandCanBeGiven(t *testing.T) {
	t.Parallel()
	if _, err := Quote("echo", "a\x00b"); err == nil || !strings.Contains(err.Error(), "word 2") {
		t.Errorf("got %v for a NUL byte", err)
	}
	if _, err := Quote(); err == nil {
		t.Error("an empty command was quoted")
	}
}

func TestQuotedCommandsRunByTheirName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"if", "for", "A=b", "!", "{", "%1"} {
		line, err := Quote(name)
		if err != nil {
			t.Fatal(err)
		}
		out, _ := exec.Command("/bin/sh", "-c", line).CombinedOutput()
		if !strings.Contains(string(out), "not found") {
			t.Errorf("%s: the shell says %q, want that there is no such command", line, out)
		}
	}
}

func FuzzQuoteAgainstShell(f *testing.F) {
	for _, seed := range []string{"a\x01b c", "'", "\\", "$(id)`id`", "\n\n", "~\x01-n\x01=", "ä\xff", "*\x01?\x01[a]", "\x01", "!x\x01{a,b}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, joined string) {
		words := strings.Split(joined, "\x01")
		line, err := Quote(append([]string{"printf", "%s\\0"}, words...)...)
		if strings.Contains(joined, "\x00") {
			if err == nil {
				t.Errorf("NUL in %q was quoted", joined)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(line) > 100_000 {
			t.Skip("longer than one argument may be")
		}
		out, err := exec.Command("/bin/sh", "-c", line).Output()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		var got []string
		for _, word := range bytes.Split(bytes.TrimSuffix(out, []byte{0}), []byte{0}) {
			got = append(got, string(word))
		}
		if !slices.Equal(got, words) {
			t.Errorf("the shell made %q of %q", got, words)
		}
	})
}

package deploy

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseSecrets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, want string }{
		{"lines", "A=1\n\n# no\nexport B=x=y\r\n", "A=1 B=x=y"},
		{"no end of line", "A=1", "A=1"},
		{"byte order mark", "\ufeffA=1\n", "A=1"},
		{"nothing", "A=\n", "A="},
		{"as it is", `A=it's $HOME "x" \n #1`[:16] + "\n", `A=it's $HOME "x"`},
		{"single quotes", "A='a \\n $x \"' # why\nB=2\n", `A=a \n $x " B=2`},
		{"double quotes", `A="a\"b\\c\$d\` + "`" + `e"` + "\n", `A=a"b\c$d` + "`e"},
		{"several lines", "A=\"one\ntwo\"\nB='three\nfour'\nC=5\n", "A=one\ntwo B=three\nfour C=5"},
		{"signs", `A="a\nb\tc\r"`, "A=a\nb\tc\r"},
		{"empty quotes", "A=''\nB=\"\"\n", "A= B="},
		{"JSON", `{"B": "x\ny", "A": 1.50, "C": true}` + "\n", "A=1.50 B=x\ny C=true"},
	} {
		s, err := ParseSecrets([]byte(tt.in))
		var got []string
		for _, v := range s.vars {
			got = append(got, v.name+"="+v.value)
		}
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

// No error quotes what it read: whatever is wrong with them, these are secrets.
func TestSecretsThatCannotBeReadAreNotShown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, want string }{
		{"empty", " \n# x\n", "no variable"},
		{"no object", "{}", "no variable"},
		{"prose", "A=1\nSEKRET is it\n", "line 2: it is not NAME=VALUE"},
		{"name", "1A=SEKRET\n", "line 1: a name is"},
		{"blank before =", "A =SEKRET\n", "line 1: a name is"},
		{"blank behind =", "A= SEKRET\n", "line 1: a blank"},
		{"comment", "A=SEKRET #x\n", "line 1: a #"},
		{"open quote", "B=1\nA='SEKRET\n\n", "line 2: a quote is not closed"},
		{"open quote at a backslash", "A=\"SEKRET\\", "a quote is not closed"},
		{"behind the quote", "B='1\n2'\nA=\"x\"SEKRET\n", "line 3: something follows"},
		{"escape", `A="\SEKRET"`, "behind a backslash"},
		{"twice", "A=SEKRET\nA=SEKRET2\n", "holds A twice"},
		{"control", "A=SEKRET\x01\n", "the value of A holds the control character U+0001"},
		{"NUL in JSON", `{"A": "SEKRET\u0000"}`, "U+0000"},
		{"UTF-8", "A=SEKRET\xff\n", "not UTF-8"},
		{"list", `{"A": ["SEKRET"]}`, "neither text"},
		{"null", `{"SEKRET": null}`, "neither text"},
		{"cut JSON", `{"A": "SEKRET"`, "no whole JSON object"},
		{"no JSON", `{"A": SEKRET}`, "no whole JSON object"},
		{"two objects", `{"A": "1"} {"B": "SEKRET"}`, "something follows"},
		{"key twice", `{"A": "SEKRET", "A": "2"}`, "holds A twice"},
		{"long", "A=" + strings.Repeat("SEKRET", 1<<18), "longer than"},
		{"large file", "A=" + strings.Repeat("SEKRET", 100_000), "makes a file"},
	} {
		s, err := ParseSecrets([]byte(tt.in))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "SEKRET") {
			t.Errorf("%s: got %v, want %q and no value", tt.name, err, tt.want)
		}
		if text := fmt.Sprintf("%v %+v %#v", s, s, s); strings.Contains(text, "SEKRET") {
			t.Errorf("%s: prints as %s", tt.name, text)
		}
	}
}

// value draws what may stand in a secret, signs that quote and expand among it.
func value() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.OneOf(rapid.RuneFrom([]rune("aZ0 \n\t\r'\"\\$`#=!&*~;|<>(){}é€😀")), rapid.RuneFrom([]rune("abcdef"))), 0, 40, -1)
}

// What is rendered is read back by ParseSecrets and by the shell, and is the same for the same secrets in
// another order.
func TestRenderedSecretsAreReadAlike(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		vars := rapid.MapOfN(rapid.StringMatching(`S_[A-Z]{1,3}`), value(), 1, 5).Draw(rt, "vars")
		var list []secretVar
		for name, v := range vars {
			list = append(list, secretVar{name, v})
		}
		s, err := sortSecrets(list)
		if err != nil {
			rt.Fatal(err)
		}
		again, err := ParseSecrets(s.Render())
		if err != nil || !slices.Equal(again.vars, s.vars) {
			rt.Fatalf("%q: read back as %q, %v", s.Render(), again.vars, err)
		}
		if got := sourced(rt, filepath.Join(dir, "env"), s.Render()); !maps.Equal(got, vars) {
			rt.Fatalf("%q: sh reads %q, want %q", s.Render(), got, vars)
		}
	})
}

// sourced gives the variables that sh has when it has read a file.
func sourced(t *rapid.T, file string, content []byte) map[string]string {
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `set -a; . "$1"; exec env -0`, "sh", file)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v", content, err)
	}
	got := map[string]string{}
	for pair := range bytes.SplitSeq(out, []byte{0}) {
		if name, v, ok := strings.Cut(string(pair), "="); ok && strings.HasPrefix(name, "S_") {
			got[name] = v
		}
	}
	return got
}

func TestHashTellsSecretsApart(t *testing.T) {
	t.Parallel()
	hash := func(text, scope string) string {
		h, err := mustParse(t, text).Hash(scope)
		if err != nil || len(h) != 32 {
			t.Fatalf("got %q, %v", h, err)
		}
		return h
	}
	one := hash("A=1\nB=2\n", "shop")
	if hash(`{"B": 2, "A": "1"}`, "shop") != one {
		t.Error("the same secrets in another form have another hash")
	}
	if hash("A=1\nB=3\n", "shop") == one || hash("A=1\nB=2\n", "blog") == one {
		t.Error("other secrets, or those of another app, have the same hash")
	}
}

func FuzzSecrets(f *testing.F) {
	for _, s := range []string{
		"A=1\n", "export A='x\ny' # z\nB=\"\\$\\n\"\n", `{"A": "x", "B": 1, "C": false}`, "{", "A=\"", "=", "A=\x00", "\ufeff{}", "A= b", `{"A":{}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, out []byte) {
		s, err := ParseSecrets(out)
		if err != nil {
			return
		}
		again, err := ParseSecrets(s.Render())
		if err != nil || !slices.Equal(again.vars, s.vars) {
			t.Fatalf("%q: rendered as %q, read back as %v", out, s.Render(), err)
		}
		var m Mask
		m.Add(s.Values()...)
		for _, v := range s.Values() {
			if hidden := m.Hide("x " + v + " y"); len(v) >= shortSecret && strings.Contains(hidden, v) && !strings.Contains(v, masked) {
				t.Fatalf("%q is not hidden: %q", v, hidden)
			}
		}
	})
}

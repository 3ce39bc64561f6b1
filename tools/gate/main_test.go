package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	const good = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
	const skip = `{"Action":"skip","Package":"p","Test":"TestB"}` + "\n"
	const fail = `{"Action":"output","Package":"p","Test":"TestC","Output":"evidence\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"TestC"}` + "\n"
	for _, c := range []struct{ name, in, rules, want string }{
		{"passes", good, "must p TestA\n", ""},
		{"failed", good + fail, "", "failed: p TestC"},
		{"shows why", good + fail, "", "evidence"},
		{"skip without leave", good + skip, "must p TestA\n", "skipped without leave: p TestB"},
		{"skip with leave", good + skip, "may-skip p TestB\n", ""},
		{"skip of an ordinary user", good + skip, "", ""},
		{"skipped and had to", good + skip, "must p TestB\nmay-skip p TestB\n", "had to: p TestB"},
		{"missing", good, "must p TestGone\n", "had to: p TestGone"},
		{"nothing", "", "", "no test ran"},
		{"package fails", good + `{"Action":"fail","Package":"q"}` + "\n", "", "failed: q"},
	} {
		var out bytes.Buffer
		err := judge(strings.NewReader(c.in), &out, c.rules)
		if (err != nil) != (c.want != "") || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: got %v and %q, want %q in it", c.name, err, out.String(), c.want)
		}
	}
}

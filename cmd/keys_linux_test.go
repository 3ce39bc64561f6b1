package cmd

import (
	"strings"
	"testing"
)

func TestKeysPush(t *testing.T) {
	t.Parallel()
	for _, helper := range []bool{true, false} {
		l := newKeysLab(t, helper)
		code, said := l.keysRun("push", "prod", "--key", l.key)
		t.Logf("%s", said)
		if code != 0 {
			t.Fatalf("got exit %d", code)
		}
		if want := l.public(l.old) + "restrict,pty " + l.public(l.key); l.content(t) != want {
			t.Errorf("got %q, want %q", l.content(t), want)
		}
		l.lets(t, l.key, true)
		code, said = l.keysRun("list", "prod")
		if code != 0 || !strings.Contains(said, "new@lab") {
			t.Errorf("got %d %s", code, said)
		}
		code, said = l.keysRun("revoke", "prod", "new@lab", "--confirm", "prod")
		t.Logf("%s", said)
		if code != 0 || l.content(t) != l.public(l.old) {
			t.Errorf("got %d, %q", code, l.content(t))
		}
		code, said = l.keysRun("revoke", "prod", "old@lab", "--confirm", "prod")
		t.Logf("%s", said)
		if code != 64 || l.content(t) != l.public(l.old) {
			t.Errorf("got %d, %q", code, l.content(t))
		}
	}
}

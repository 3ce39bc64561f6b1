package cmd

import (
	"strings"
	"testing"
)

func TestCheckNamesPeopleWhoseKeysCannotBePushed(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write(t, "godeploy.toml", smallFile+"[[people]]\nname = \"eve\"\nkeys = [\"ssh-dss AAAAB3NzaC1kc3M=\", \"x\"]\n")
	code := m.run("check", "prod")
	if out := m.out.String(); code != exitFindings || !strings.Contains(out, "key 1 of eve in [[people]] is a DSA key") || !strings.Contains(out, "key 2 of eve") {
		t.Errorf("got exit %d\n%s", code, out)
	}
}

func TestGenerateRefuses(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if code := m.run("keys", "generate", "--no-passphrase"); code != 0 || !strings.HasPrefix(m.out.String(), "ssh-ed25519 ") {
		t.Fatalf("got exit %d\n%s%s", code, m.out.String(), m.err.String())
	}
	for want, args := range map[string][]string{
		"is there already":      {"keys", "generate", "--no-passphrase"},
		"no terminal to ask":    {"keys", "generate", "--name", "other"},
		"is no name":            {"keys", "generate", "--name", "x/"},
		"takes no further word": {"keys", "generate", "prod"},
	} {
		if code := m.run(args...); code != exitUsage || !strings.Contains(m.err.String(), want) {
			t.Errorf("%q: got exit %d, want %q in\n%s", args, code, want, m.err.String())
		}
	}
}

package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteLeavesNothingOfTheVariantBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"v3-hook", "v3-import", "v3-health", "slow", "v1", "v2"} {
		v, err := Named(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(dir, v); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "swiper", "variant.py"))
		if err != nil || !strings.Contains(string(text), `VERSION = "`+name+`"`) {
			t.Errorf("%s: variant.py is %q, %v", name, text, err)
		}
		only, _ := filepath.Glob(filepath.Join(dir, "frontend", "statics", "only-*.txt")) // a constant pattern
		if len(only) != 1 || filepath.Base(only[0]) != "only-"+name+".txt" {
			t.Errorf("%s: got %v", name, only)
		}
		if _, err := os.Stat(filepath.Join(dir, "deploy", "fail-on")); (err == nil) != (name == "v3-hook") {
			t.Errorf("%s: deploy/fail-on: %v", name, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "scripts", "release.sh")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("scripts/release.sh: %v, %v, want mode 0755", info, err)
	}
}

func TestNamedRefusesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	if _, err := Named("v9"); err == nil {
		t.Error("got no error for v9")
	}
}

package cmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"godeploy/internal/event"
	"godeploy/inventory"
	filesync "godeploy/sync"
)

// A pattern of exclude that matched nothing is said in the first run that finds it, and not again.
func TestAPatternWithoutAMatchIsSaidOnce(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	if !firstTime(cache, []string{"/src", "*.pyo"}) || firstTime(cache, []string{"/src", "*.pyo"}) {
		t.Error("the same was said not once")
	}
	if !firstTime(cache, []string{"/src", "*.pyo", "x"}) || !firstTime(cache, []string{"/other", "*.pyo"}) {
		t.Error("something else was not said")
	}
	if firstTime("", []string{"/src", "*.pyo"}) {
		t.Error("said without a cache")
	}
	if firstTime("/dev/null/x", []string{"a"}) {
		t.Error("said where nothing can be remembered")
	}
}

func TestWhatWouldMatchIsInTheWarning(t *testing.T) {
	t.Parallel()
	dir, cache := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.pyc"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := filesync.ReadRules(filesync.RuleOptions{Exclude: []string{"*.pyo", "\x1b[31m"}})
	if err != nil {
		t.Fatal(err)
	}
	src, err := filesync.Scan(t.Context(), dir, filesync.ScanOptions{Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	env := &inventory.Env{Name: "prod"}
	env.Sync.From = dir
	c := &call{env: env, sys: System{Env: func(n string) string { return map[string]string{"GODEPLOY_CACHE": cache}[n] }}}
	var said []event.Event
	for range 2 {
		c.sayUnmatched(rules, src.Manifest, event.Func(func(e event.Event) { said = append(said, e) }))
	}
	if len(said) != 1 || said[0].Type != event.Warn || said[0].Hint != "*.pyc would" || !strings.HasPrefix(said[0].Msg, "patterns matched nothing: *.pyo, ") ||
		strings.Contains(said[0].Msg, "\x1b") {
		t.Errorf("said %+v", said)
	}
}

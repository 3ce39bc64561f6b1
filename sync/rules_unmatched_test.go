package filesync

import (
	"slices"
	"testing"
)

func TestPatternsThatMatchedNothingAreKnown(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"a.pyc": "1", "lib/b.pyc": "2", "lib/deep/logs/x": "3", "Build/y": "4", "keep": "5", "gone/z.tmp": "6"})
	for _, c := range []struct{ exclude, unmatched []string }{
		{[]string{"*.pyc", "logs/"}, nil},
		{[]string{"*.pyo", "gone", "*.tmp", "/logs", "keep", "nowhere"}, []string{"*.pyo", "*.tmp", "/logs", "nowhere"}},
		{[]string{"nowhere", "!", "- a.pyc", "/lip"}, []string{"/lip"}},
	} {
		rules, err := ReadRules(RuleOptions{Dir: dir, Filter: []string{"- *.never"}, Exclude: c.exclude})
		ok(t, err)
		src, err := Scan(t.Context(), dir, ScanOptions{Rules: rules})
		ok(t, err)
		ok(t, src.Close())
		if got := rules.Unmatched(); !slices.Equal(got, c.unmatched) {
			t.Errorf("exclude %q: %q matched nothing, want %q", c.exclude, got, c.unmatched)
		}
	}
	var none *Rules
	if got := none.Unmatched(); got != nil {
		t.Errorf("no rules: %q", got)
	}
}

func TestAPatternThatWouldMatchIsFound(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"a.pyc": "1", "lib/deep/logs/x": "3", "Build/y": "4", "keep": "5"})
	src, err := Scan(t.Context(), dir, ScanOptions{})
	ok(t, err)
	defer src.Close()
	for pattern, want := range map[string]string{
		"*.pyo": "*.pyc", "/logs": "logs", "app/logs/": "logs", "build": "Build", "keep/": "keep", "/lip": "lib", "up/lip": "lib",
		"nowhere": "", "*.[x": "", "*.c": "", "/": "", "": "",
	} {
		if got := Meant(pattern, src.Manifest); got != want {
			t.Errorf("%q: %q would match, want %q", pattern, got, want)
		}
	}
}

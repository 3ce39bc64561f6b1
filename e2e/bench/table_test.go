package main

import (
	"slices"
	"strings"
	"testing"
)

// What the table says can be run and judged: no row names what is not there.
func TestTheTableIsWhole(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range rows() {
		if seen[r.ID] {
			t.Errorf("%s: there are two", r.ID)
		}
		seen[r.ID] = true
		if _, ok := treeSpecs()[r.Tree]; !ok {
			t.Errorf("%s: there is no tree %q", r.ID, r.Tree)
		}
		if k := linkOf(r.Link); r.Link != "" && r.Link != linkSFTP && k.Name != r.Link {
			t.Errorf("%s: there is no link %q", r.ID, r.Link)
		}
		if !slices.ContainsFunc(groups(), func(g group) bool { return g.Name == r.Group }) {
			t.Errorf("%s: the page has no group %q", r.ID, r.Group)
		}
		if r.Hosts > fleetSize {
			t.Errorf("%s: wants %d hosts, the lab has %d", r.ID, r.Hosts, fleetSize)
		}
		checkGoals(t, r)
		checkWords(t, r)
	}
}

func checkGoals(t *testing.T, r row) {
	t.Helper()
	for _, g := range r.Goals {
		for _, name := range append(slices.Clone(g.Against), g.Side) {
			if s, ok := r.side(name); !ok || name != "" && s.Name != name {
				t.Errorf("%s: a goal names side %q, which is not there", r.ID, name)
			}
		}
		if (g.Ratio == 0) == (g.Most == 0) || g.Ratio > 0 && len(g.Against) == 0 || g.Stretch > g.Ratio {
			t.Errorf("%s: %+v is no goal", r.ID, g)
		}
		if (g.Of == ofMemory || g.Of == ofHelper) && !r.Memory {
			t.Errorf("%s: promises about memory, but nobody watches it", r.ID)
		}
	}
}

// checkWords: every {word} of a command line is filled in.
func checkWords(t *testing.T, r row) {
	t.Helper()
	for i := range r.Sides {
		trial := &trial{b: &bench{dir: "/work", server: &server{dir: "/work"}}, row: r, side: r.Sides[i], index: i, src: "/src", link: r.Link}
		for _, w := range trial.words("app", "alias") {
			if strings.ContainsAny(w, "{}") && !strings.HasPrefix(w, "--rsync-path=") {
				t.Errorf("%s, %s: %q is left", r.ID, trial.side.Name, w)
			}
		}
		if trial.side.Dest == fresh && r.Change != noChange {
			t.Errorf("%s, %s: a change means nothing to a first upload", r.ID, trial.side.Name)
		}
		if strings.Contains(trial.side.Argv, "{prev}") != (trial.side.Dest == chain) {
			t.Errorf("%s, %s: {prev} and a chain go together", r.ID, trial.side.Name)
		}
	}
}

func TestRowsAreChosenByPattern(t *testing.T) {
	t.Parallel()
	all := []row{{ID: "noop-a"}, {ID: "noop-b", Slow: true}, {ID: "edit"}, {ID: "asked", Asked: true}}
	for _, tt := range []struct {
		patterns string
		quick    bool
		want     string
	}{
		{"", false, "noop-a noop-b edit"},
		{"", true, "noop-a edit"},
		{"noop-*", true, "noop-a noop-b"},
		{"asked edit", false, "edit asked"},
		{"none", false, ""},
	} {
		var got []string
		for _, r := range chosen(all, strings.Fields(tt.patterns), tt.quick) {
			got = append(got, r.ID)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%q, quick %v: got %q, want %q", tt.patterns, tt.quick, got, tt.want)
		}
	}
}

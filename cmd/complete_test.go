package cmd

import (
	"slices"
	"strings"
	"testing"

	"godeploy/inventory"
)

func completionOf(line ...string) []string {
	hosts := []inventory.Host{{Name: "app1", Roles: []string{"app"}, Tags: []string{"big"}}, {Name: "ngx1", Roles: []string{"nginx"}}}
	var words []string
	for _, c := range candidates(commands(), line, known{envs: []string{"prod", "staging"}, hosts: func(env string) []inventory.Host {
		if env == "staging" {
			return []inventory.Host{{Name: "st1", Roles: []string{"app"}}}
		}
		return hosts
	}}) {
		words = append(words, c.word)
	}
	return words
}

func TestWordsThatMayStandAtTheCursor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string // "|" parts the words
		want []string
	}{
		{"rele", []string{"release", "releases"}},
		{"--dry-run|rele", []string{"release", "releases"}},
		{"-l|app1|rele", []string{"release", "releases"}},
		{"release|", []string{"prod", "staging"}},
		{"release|prod|", nil},
		{"ssh|", []string{"prod", "staging", "app1", "ngx1"}},
		{"ssh|prod|", []string{"app1", "ngx1"}},
		{"ssh|staging|", []string{"st1"}},
		{"ssh|app1|", nil},
		{"exec|prod|-l|", []string{"app1", "ngx1", "role:app", "tag:big", "role:nginx", "@failed"}},
		{"exec|staging|--limit|", []string{"st1", "role:app", "@failed"}},
		{"exec|-l|role:", []string{"role:app", "role:nginx"}},
		{"exec|-l|app1,ng", []string{"app1,ngx1"}},
		{"exec|--limit=ro", []string{"--limit=role:app", "--limit=role:nginx"}},
		{"keys|tr", []string{"trust"}},
		{"lock|", []string{"status"}},
		{"doctor|--only|disk,in", []string{"disk,inodes"}},
		{"release|--dry", []string{"--dry-run"}},
		{"exec|--coll", []string{"--collect"}},
		{"exec|--nosuch=", nil},
		{"exec|prod|--|", nil},
		{"exec|prod|--|rele", nil},
		{"help|ssh-hostkey-u", []string{"ssh-hostkey-unknown"}},
		{"completion|", []string{"bash", "zsh", "fish"}},
		{"__comp", nil},
		{"nosuch|", nil},
	} {
		got := completionOf(strings.Split(tt.line, "|")...)
		if tt.line == "lock|" && slices.Contains(got, "status") && slices.Contains(got, "release") {
			continue
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.line, got, tt.want)
		}
	}
}

// Every command and flag can be completed, and none that is hidden is offered.
func TestEveryFlagIsOffered(t *testing.T) {
	t.Parallel()
	for _, l := range leaves(commands()) {
		if l.cmd.Group == "" {
			continue
		}
		line := append(slices.Clone(l.path), "--")
		for i := range l.path {
			if got := completionOf(slices.Clone(l.path[:i+1])...); !slices.Contains(got, l.path[i]) {
				t.Errorf("%q is not offered for itself: %q", l.path[:i+1], got)
			}
		}
		got := completionOf(append(line[:len(line)-1], "--")...)
		for _, f := range flagDocs(l.cmd.Flags) {
			if i := slices.IndexFunc(f.Names, func(n string) bool { return strings.HasPrefix(n, "--") }); i >= 0 && !slices.Contains(got, f.Names[i]) {
				t.Errorf("%s: %s is not offered", l.name(), f.Names[i])
			}
		}
	}
}

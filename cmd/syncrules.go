package cmd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"godeploy/internal/fault"
	"godeploy/inventory"
)

// ruleTexts gives the filter rules of [sync] as full rules of rsync's, in the order in which they are
// asked. Files that rules merge are on this machine, so their lines take the rule's place.
func ruleTexts(dir string, s inventory.Sync) ([][]byte, error) {
	var rules [][]byte
	for _, text := range s.Filter {
		merged, err := mergedRules(dir, text, 0)
		if err != nil {
			return nil, err
		}
		rules = append(rules, merged...)
	}
	for _, list := range []struct {
		sign     string
		patterns []string
	}{{"+ ", s.Include}, {"- ", s.Excludes()}} {
		for _, p := range list.patterns {
			switch {
			case p == "":
			case p == "!" || strings.HasPrefix(p, "- ") || strings.HasPrefix(p, "+ "):
				rules = append(rules, []byte(p))
			default:
				rules = append(rules, []byte(list.sign+p))
			}
		}
	}
	return rules, nil
}

// mergedRules gives a rule itself, or the rules of the file that it merges.
func mergedRules(dir, text string, depth int) ([][]byte, error) {
	word, name, _ := strings.Cut(text, " ")
	word, modifiers, _ := strings.Cut(word, ",")
	if word != "merge" && !strings.HasPrefix(word, ".") || name == "" {
		return [][]byte{[]byte(text)}, nil
	}
	if rest, ok := strings.CutPrefix(word, "."); ok {
		modifiers = rest + modifiers
	}
	if depth > 8 {
		return nil, fault.New(fault.ConfigValue, "rule %q", text).Wrap(errRuleDepth)
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, fault.New(fault.ConfigValue, "rule %q", text).Wrap(err)
	}
	var rules [][]byte
	for line := range bytes.Lines(content) {
		rule := strings.TrimRight(string(line), "\r\n")
		if rule == "" || strings.HasPrefix(rule, "#") || strings.HasPrefix(rule, ";") {
			continue
		}
		switch {
		case strings.Contains(modifiers, "-"):
			rules = append(rules, []byte("- "+rule))
		case strings.Contains(modifiers, "+"):
			rules = append(rules, []byte("+ "+rule))
		default:
			merged, err := mergedRules(dir, rule, depth+1)
			if err != nil {
				return nil, err
			}
			rules = append(rules, merged...)
		}
	}
	return rules, nil
}

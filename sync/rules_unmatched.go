package filesync

import (
	"strings"
	"sync/atomic"
)

// writtenRule is a pattern of RuleOptions.Exclude and whether it has matched anything.
type writtenRule struct {
	text string
	hit  *atomic.Bool
}

// watched has the rules from the n-th on, which text was read to, say when they match. An item that forgot
// those before it has nothing more to say of them.
func (p *ruleParser) watched(n int, text string) {
	if n > len(p.items) || text == "!" {
		p.written, n = nil, 0
	}
	hit := new(atomic.Bool)
	found := false
	for i := n; i < len(p.items); i++ {
		if p.items[i].list == 0 {
			p.items[i].rule.hit, found = hit, true
		}
	}
	if found {
		p.written = append(p.written, writtenRule{text, hit})
	}
}

// matched notes that the rule has matched.
func (r *rule) matched() {
	if r.hit != nil && !r.hit.Load() {
		r.hit.Store(true)
	}
}

// Unmatched gives those of RuleOptions.Exclude, as they were written, that matched nothing of what these
// rules were asked about until now. A pattern that speaks only of what an earlier rule decides, or of what lies in
// a folder that is left out, is one of them.
func (r *Rules) Unmatched() []string {
	if r == nil {
		return nil
	}
	var texts []string
	for _, w := range r.written {
		if !w.hit.Load() {
			texts = append(texts, w.text)
		}
	}
	return texts
}

// Meant gives a pattern that is written nearly like this one and matches something in m; "" when there is none.
func Meant(pattern string, m *Manifest) string {
	bare := strings.Trim(pattern, "/")
	last := bare[strings.LastIndexByte(bare, '/')+1:]
	for _, other := range []string{strings.TrimSuffix(pattern, "/"), bare, last} {
		if other != "" && other != pattern && matchesAny(other, m) {
			return other
		}
	}
	ending, ofEndings := strings.CutPrefix(last, "*.")
	if strings.ContainsAny(ending, `*?[\`) {
		return ""
	}
	for i := range m.Entries {
		_, name := split(m.Entries[i].Path)
		if dot := strings.LastIndexByte(name, '.'); ofEndings && dot >= 0 && alike(ending, name[dot+1:]) {
			return "*" + name[dot:]
		}
		if !ofEndings && alike(last, name) {
			return name
		}
	}
	return ""
}

func matchesAny(pattern string, m *Manifest) bool {
	r := newRule(pattern, 0)
	for i := range m.Entries {
		e := &m.Entries[i]
		if _, name := split(e.Path); r.matches(e.Path, name, e.Kind == Dir) {
			return true
		}
	}
	return false
}

// alike reports whether two names differ only in case, or by one letter.
func alike(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	if min(len(a), len(b)) < 3 {
		return false
	}
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) <= 1 && len(b) <= 1
}

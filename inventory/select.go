package inventory

import (
	"path"
	"slices"
	"strings"

	"godeploy/internal/fault"
)

// pattern is one word of --limit.
type pattern struct {
	text string // as written
	not  bool
	kind string // "", role, tag, failed
	arg  string
}

func parsePattern(text string) (pattern, error) {
	p := pattern{text: text}
	rest, not := strings.CutPrefix(text, "!")
	p.not, p.arg = not, rest
	if kind, arg, ok := strings.Cut(rest, ":"); ok {
		if kind != "role" && kind != "tag" {
			return p, badValue("has the unknown word %q", kind+":").hinted("there are role: and tag:")
		}
		p.kind, p.arg = kind, arg
	} else if strings.HasPrefix(rest, "@") {
		if rest != "@failed" {
			return p, badValue("has the unknown word %q", rest).hinted("there is @failed")
		}
		p.kind = "failed"
	}
	if p.arg == "" {
		return p, badValue("has an empty pattern")
	}
	if _, err := path.Match(p.arg, ""); err != nil {
		return p, badValue("has the malformed pattern %q", p.arg)
	}
	return p, nil
}

// checkLimit checks text of the form that --limit takes.
func checkLimit(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		if _, err := parsePattern(strings.TrimSpace(part)); err != nil {
			return err
		}
	}
	return checkLine(s)
}

// isName reports whether the pattern is a plain host name.
func (p pattern) isName() bool { return p.kind == "" && !strings.ContainsAny(p.arg, `*?[\`) }

func (p pattern) matches(h Host, failed []string) bool {
	switch p.kind {
	case "failed":
		return contains(failed, h.Name)
	case "role":
		return slices.ContainsFunc(h.Roles, p.globs)
	case "tag":
		return slices.ContainsFunc(h.Tags, p.globs)
	}
	return p.globs(h.Name)
}

func (p pattern) globs(s string) bool {
	ok, err := path.Match(p.arg, s)
	return ok && err == nil
}

// Select gives the hosts that patterns choose, in the order of the file: names, globs, role:WORD,
// tag:WORD and @failed (the hosts in failed), each also with ! before it to leave out. A comma, or
// a further pattern, means "or". With only ! patterns, or none at all, it starts from all hosts.
//
// A name that no host has is host-unknown; a pattern that matches nothing, and a choice that leaves
// nobody, are limit-empty; a host that is named and left out at once is a usage fault.
func (e *Env) Select(patterns []string, failed []string) ([]Host, error) {
	parsed, err := parsePatterns(patterns)
	if err != nil {
		return nil, err
	}
	positive := false
	for _, p := range parsed {
		if err := e.known(p, failed); err != nil {
			return nil, err
		}
		positive = positive || !p.not
	}
	var chosen []Host
	for _, h := range e.Hosts {
		in, named, out := !positive, "", ""
		for _, p := range parsed {
			switch hit := p.matches(h, failed); {
			case hit && p.not:
				out = p.text
			case hit:
				in = true
				if p.isName() {
					named = p.text
				}
			}
		}
		if named != "" && out != "" {
			return nil, fault.New(fault.Usage, "--limit names %s and leaves it out by %q", named, out).On(h.Name)
		}
		if in && out == "" {
			chosen = append(chosen, h)
		}
	}
	if len(chosen) == 0 {
		return nil, fault.New(fault.LimitEmpty, "--limit %q leaves no host of %s", strings.Join(patterns, ","), e.Name).
			Hint("%s has %s", e.Name, some(hostNames(e.Hosts)))
	}
	return chosen, nil
}

func parsePatterns(patterns []string) ([]pattern, error) {
	var parsed []pattern
	for _, text := range patterns {
		for part := range strings.SplitSeq(text, ",") {
			p, err := parsePattern(strings.TrimSpace(part))
			if err != nil {
				f := fault.New(fault.Usage, "--limit %q %v", text, err)
				if bad, ok := err.(*valueError); ok {
					f.Cause = bad.hint
				}
				return nil, f
			}
			parsed = append(parsed, p)
		}
	}
	for _, p := range parsed {
		if slices.ContainsFunc(parsed, func(o pattern) bool { return o.not && !p.not && o.kind == p.kind && o.arg == p.arg }) {
			return nil, fault.New(fault.Usage, "--limit has both %q and %q", p.text, "!"+p.text)
		}
	}
	return parsed, nil
}

// known refuses a pattern that matches nothing: a typing error must not widen or narrow a choice.
func (e *Env) known(p pattern, failed []string) error {
	if slices.ContainsFunc(e.Hosts, func(h Host) bool { return p.matches(h, failed) }) {
		return nil
	}
	switch {
	case p.kind == "failed" && p.not:
		return nil
	case p.kind == "failed":
		return fault.New(fault.LimitEmpty, "no host of %s failed in the last run", e.Name)
	case p.kind == "role":
		return unmatched(fault.LimitEmpty, "no host of "+e.Name+" has the role", p.arg, e.words(func(h Host) []string { return h.Roles }))
	case p.kind == "tag":
		return unmatched(fault.LimitEmpty, "no host of "+e.Name+" has the tag", p.arg, e.words(func(h Host) []string { return h.Tags }))
	case p.isName():
		return unmatched(fault.HostUnknown, e.Name+" has no host", p.arg, hostNames(e.Hosts))
	}
	return unmatched(fault.LimitEmpty, "no host of "+e.Name+" matches", p.arg, hostNames(e.Hosts))
}

func unmatched(code fault.Code, msg, word string, has []string) error {
	e := fault.New(code, "%s %q (has: %s)", msg, word, some(has))
	if near := nearest(word, has); near != "" {
		e.Hint("did you mean %q?", near)
	}
	return e
}

func (e *Env) words(of func(Host) []string) []string {
	var all []string
	for _, h := range e.Hosts {
		all = append(all, of(h)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// some lists words, at most a dozen.
func some(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	if len(words) > 12 {
		words = append(slices.Clone(words[:12]), "…")
	}
	return strings.Join(words, ", ")
}

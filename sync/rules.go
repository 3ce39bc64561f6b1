package filesync

import (
	"strings"
)

// Rules decides what of a tree is left out, by rsync's filter rules. It is read-only and safe for
// concurrent use; a nil *Rules leaves out what is always left out.
type Rules struct {
	rules []rule
}

// rule is one pattern with what it says.
type rule struct {
	pattern  string
	include  bool
	negate   bool // matches what the pattern does not
	dirOnly  bool
	receiver bool // speaks about deletions only
	sender   bool // speaks about what is sent only
	anchored bool // the pattern began with a slash, which is cut off
	wild     bool
	stars    bool // has **
	starsIn  bool // begins with **
	tail     bool // ends with ***
	slashes  int  // in the pattern, a leading one too
}

// always are the rules that stand before all others: history and state are never sent.
func always() []rule {
	return []rule{newRule(".git"), newRule(".godeploy/")}
}

// Excluded says whether a path is left out. As with rsync a folder that is left out is not entered:
// ask for every folder before what is in it, and do not ask below one that is left out.
func (r *Rules) Excluded(path string, dir bool) bool {
	rules := always()
	if r != nil {
		rules = r.rules
	}
	for i := range rules {
		if !rules[i].receiver && rules[i].matches(path, dir) {
			return !rules[i].include
		}
	}
	return false
}

// newRule reads a pattern, without anything in front of it, as an exclude.
func newRule(pattern string) rule {
	var r rule
	if len(pattern) > 1 && strings.HasSuffix(pattern, "/") {
		pattern, r.dirOnly = pattern[:len(pattern)-1], true
	}
	r.slashes = strings.Count(pattern, "/")
	if strings.ContainsAny(pattern, "*[?") {
		r.wild = true
		r.stars = strings.Contains(pattern, "**")
		r.starsIn = strings.HasPrefix(pattern, "**")
		r.tail = r.stars && strings.HasSuffix(pattern, "***")
	}
	r.pattern, r.anchored = strings.CutPrefix(pattern, "/")
	return r
}

// matches reports whether the rule speaks about path.
func (r *rule) matches(path string, dir bool) bool {
	if r.dirOnly && !dir {
		return r.negate
	}
	return r.matchesName(path, dir) != r.negate
}

func (r *rule) matchesName(path string, dir bool) bool {
	switch {
	case r.slashes == 0 && !r.stars:
		_, path = split(path)
	case r.starsIn: // so that **/x finds an x at the top
		path = "/" + path
	}
	if !r.wild {
		return path == r.pattern || !r.anchored && strings.HasSuffix(path, "/"+r.pattern)
	}
	if dir && r.tail { // so that x/*** finds x itself
		path += "/"
	}
	return wildmatch(r.pattern, path, r.elements())
}

// elements says where a wild pattern may match, in the terms of wildmatch.
func (r *rule) elements() int {
	switch {
	case r.anchored || r.starsIn:
		return 0
	case r.stars:
		return -1
	case r.slashes > 0:
		return r.slashes + 1
	}
	return 0
}

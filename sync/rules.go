package filesync

import (
	"slices"
	"strings"
	"sync/atomic"
)

// Rules decides what of a tree is left out and what a deletion leaves alone: by rsync's filter rules
// and, below them, by git's ignore files. It is read-only and safe for concurrent use; a nil *Rules
// leaves out what is always left out.
//
// It holds for one folder. Where a rule names files that folders may have (dir-merge, .gitignore),
// ask Enter for the rules of each folder on the way down.
type Rules struct {
	flat    []rule      // in the order in which they are asked, every list in its place
	items   []listed    // as written
	lists   []mergeList // of the files that folders may have
	git     *gitRules   // nil: ignore files do not count
	gitHide bool        // git's rules say nothing about deletions
	origin  ruleOrigin
	written []writtenRule // those of which Unmatched tells
}

// rule is one pattern with what it says.
type rule struct {
	pattern  string // without a leading slash
	base     string // folder an anchored pattern begins in, with a slash at its end
	above    string // folders in front of the source that belong to the path, with a slash at the end
	marks    marks  // include, negate, perishable, local and the sides
	dirOnly  bool
	anchored bool // the pattern began with a slash, which is cut off
	wild     bool
	suffix   bool         // is a star and plain text
	stars    bool         // has **
	starsIn  bool         // begins with **
	tail     bool         // ends with ***
	slashes  int          // in the pattern, a leading one too
	begin    string       // plain text that a wild pattern begins with
	end      string       // and ends with
	hit      *atomic.Bool // set when it matches; nil when nobody wants to know
}

// always are the rules that stand before all others: history and state are never sent.
func always() []rule {
	return []rule{newRule(".git", 0), newRule(".godeploy/", 0)}
}

// Excluded says whether a path, relative to the source, is left out. As with rsync and git a folder
// that is left out is not entered: ask for every folder before what is in it, and do not ask below
// one that is left out.
func (r *Rules) Excluded(path string, dir bool) bool {
	return r.ask(path, dir, markReceiver, false)
}

// Protected says whether a path that the source does not have is left alone on the target when what
// is too much there is deleted: what is excluded is protected, unless a rule speaks of one side only.
// A folder that is protected is not entered. One that is not may hold what is protected, and then
// stays with it; ask Doomed for the rules that hold in such a folder.
func (r *Rules) Protected(path string, dir bool) bool {
	return r.ask(path, dir, markSender, r != nil && r.gitHide)
}

// ask gives the answer of one side: rules of the other side only are passed over.
func (r *Rules) ask(path string, dir bool, other marks, noGit bool) bool {
	if r == nil {
		r = &Rules{flat: always()}
	}
	_, name := split(path)
	for i := range r.flat {
		if r.flat[i].marks&markSides != other && r.flat[i].matches(path, name, dir) {
			r.flat[i].matched()
			return r.flat[i].marks&markInclude == 0
		}
	}
	return r.git != nil && !noGit && r.git.ignored(path, name, dir)
}

// Doomed gives the rules that hold in a folder which is itself to be deleted, for the source does not
// have it, given those of the folder it lies in: perishable rules (the modifier p) do not count there,
// and those that folders do not pass on (the modifier n) have ended.
func (r *Rules) Doomed() *Rules {
	if r == nil || !slices.ContainsFunc(r.flat, perishable) && !slices.ContainsFunc(r.flat, endsHere) {
		return r
	}
	below := *r
	below.lists = slices.Clone(r.lists)
	for i := range below.lists {
		if below.lists[i].ends() {
			below.lists[i].items = nil
		}
	}
	below.flat = slices.DeleteFunc(slices.Clone(r.flat), func(x rule) bool { return perishable(x) || endsHere(x) })
	return &below
}

func perishable(r rule) bool { return r.marks&markPerishable != 0 }

// endsHere says of a rule that it does not hold in the folders below.
func endsHere(r rule) bool { return r.marks&markLocal != 0 }

// newRule reads a pattern without anything in front of it.
func newRule(pattern string, m marks) rule {
	r := rule{marks: m & (markInclude | markNegate | markPerishable | markSides)}
	if len(pattern) > 1 && strings.HasSuffix(pattern, "/") {
		pattern, r.dirOnly = pattern[:len(pattern)-1], true
	}
	r.slashes = strings.Count(pattern, "/")
	if strings.ContainsAny(pattern, "*[?") {
		r.wild = true
		r.stars = strings.Contains(pattern, "**")
		r.starsIn = strings.HasPrefix(pattern, "**")
		r.tail = r.stars && strings.HasSuffix(pattern, "***")
		r.suffix = r.slashes == 0 && pattern[0] == '*' && !strings.ContainsAny(pattern[1:], `*[?\`)
	}
	if r.pattern, r.anchored = strings.CutPrefix(pattern, "/"); r.wild {
		r.begin = r.pattern[:strings.IndexAny(r.pattern, `*?[\`)]
		r.end = r.pattern[strings.LastIndexAny(r.pattern, `*?[]\`)+1:]
	}
	return r
}

// matches reports whether the rule speaks about path, whose last component is name.
func (r *rule) matches(path, name string, dir bool) bool {
	negate := r.marks&markNegate != 0
	if r.dirOnly && !dir {
		return negate
	}
	if r.slashes == 0 && !r.stars {
		return r.matchesName(name) != negate
	}
	return r.matchesPath(path, dir) != negate
}

func (r *rule) matchesName(name string) bool {
	switch {
	case !r.wild:
		return name == r.pattern
	case r.suffix:
		return strings.HasSuffix(name, r.pattern[1:])
	}
	return r.mayMatch(name) && wildmatch(r.pattern, name, 0)
}

func (r *rule) matchesPath(path string, dir bool) bool {
	switch {
	case r.above != "":
		path = r.above + path
	case r.base != "":
		rest, below := strings.CutPrefix(path, r.base)
		if !below {
			return false
		}
		path = rest
	case r.starsIn: // so that **/x finds an x at the top
		path = "/" + path
	}
	if !r.wild {
		return path == r.pattern || !r.anchored && strings.HasSuffix(path, "/"+r.pattern)
	}
	if dir && r.tail { // so that x/*** finds x itself
		path += "/"
	}
	return r.mayMatch(path) && wildmatch(r.pattern, path, r.elements())
}

// mayMatch is false for most of what a wild pattern does not match, and cheap.
func (r *rule) mayMatch(text string) bool {
	return strings.HasSuffix(text, r.end) && (strings.HasPrefix(text, r.begin) || !r.anchored && strings.Contains(text, r.begin))
}

// elements says where a wild pattern may match, in the terms of wildmatch.
func (r *rule) elements() int {
	switch {
	case r.anchored || r.starsIn:
		return 0
	case r.stars:
		return -1
	}
	return r.slashes + 1
}

package filesync

import (
	"errors"
	"path/filepath"
	"strings"

	"godeploy/internal/fault"
)

// Bounds of what rules are read from.
const (
	maxPattern   = 4096    // bytes of a pattern; no path rsync sends is longer
	maxStars     = 64      // runs of stars in a pattern: the time to match it grows with them
	maxRules     = 10_000  // of all lists and files that hold for one folder
	maxRuleFile  = 1 << 20 // bytes of a file of rules
	maxRuleDepth = 32      // files that merge files; rsync's bound too
)

// RuleOptions are what rules are made of. The zero value leaves out what is always left out.
type RuleOptions struct {
	// Dir is the source: merged files are looked for there. With "" a merge rule is an error.
	Dir string
	// Filter holds full rules ("- *.log", "+ /keep/", "dir-merge .deploy", "!"). Include and Exclude
	// hold patterns, which may begin with "- " or "+ " as rsync's own options allow. They apply in
	// this order, after what is always left out; the first that matches decides.
	Filter, Include, Exclude []string
	// Gitignore says that what no rule speaks of is left out when git would ignore it: by the
	// .gitignore files of the source and of the folders above it up to the top of the repository,
	// and by .git/info/exclude. The user's own core.excludesFile is not read.
	Gitignore bool
	// DeleteExcluded makes rules that name no side speak about what is sent only, so that what is
	// excluded is not protected from deletion. What is always left out stays protected.
	DeleteExcluded bool
}

// ReadRules makes the rules of a source. The errors are faults of code fault.ConfigValue that name
// rule and file, joined, 100 at most.
func ReadRules(o RuleOptions) (*Rules, error) {
	p := ruleParser{origin: originOf(o.Dir, o.DeleteExcluded)}
	for _, s := range o.Filter {
		p.rule(s, 0, false)
	}
	for _, s := range o.Include {
		p.rule(s, markInclude, true)
	}
	for _, s := range o.Exclude {
		n := len(p.items)
		p.rule(s, 0, true)
		p.watched(n, s)
	}
	r := &Rules{items: p.items, lists: p.lists, gitHide: o.DeleteExcluded, origin: p.origin, written: p.written}
	if o.Gitignore {
		var err error
		r.git, err = repositoryRules(o.Dir)
		p.problems = append(p.problems, err)
	}
	return r.flatten(p.problems)
}

// ParseRules is ReadRules for lists that read no files.
func ParseRules(exclude, include, filter []string) (*Rules, error) {
	return ParseRulesIn("", exclude, include, filter)
}

// ParseRulesIn is ReadRules for rules that may merge files, which are looked for below dir.
func ParseRulesIn(dir string, exclude, include, filter []string) (*Rules, error) {
	return ReadRules(RuleOptions{Dir: dir, Filter: filter, Include: include, Exclude: exclude})
}

// ruleOrigin is what all rules of one source share.
type ruleOrigin struct {
	dir            string // "" when no files can be read
	root           string // what stands in front of above: "/" or nothing
	above          string // dir as an absolute path with slashes, without root, with a slash at its end
	deleteExcluded bool
	cvs            *marks // of the first -C; nil before there is one
}

func originOf(dir string, deleteExcluded bool) ruleOrigin {
	o := ruleOrigin{dir: dir, deleteExcluded: deleteExcluded}
	if abs, err := filepath.Abs(dir); dir != "" && err == nil {
		o.above = strings.TrimSuffix(filepath.ToSlash(abs), "/") + "/"
		if strings.HasPrefix(o.above, "/") {
			o.root, o.above = "/", o.above[1:]
		}
	}
	return o
}

// ruleParser gathers rules and what is wrong with them.
type ruleParser struct {
	origin    ruleOrigin
	items     []listed    // the list that is being read
	passedOn  []listed    // what folders above say in it, for the rules of a folder
	lists     []mergeList // of the files that folders may have
	problems  []error
	written   []writtenRule
	pos       fault.Pos // the line that is being read, when it is one of a file
	depth     int       // of files that name files
	base      string    // anchored patterns begin there, as rule.base says
	above     string    // or there, as rule.above says
	folder    string    // whose files are being read; "" for the lists of the options
	scanAbove bool      // a folder above the source is being read
}

// listed is a rule, or the place where the files of folders put theirs.
type listed struct {
	rule rule
	list int // 1 + index of a list; 0: a rule
}

func (p *ruleParser) refuse(text, problem string) {
	if len(text) > 100 {
		text = text[:100] + "…"
	}
	if len(p.problems) < 100 {
		p.problems = append(p.problems, fault.New(fault.ConfigValue, "rule %q %s", text, problem).At(p.pos))
	}
}

// rule reads one rule into the list.
func (p *ruleParser) rule(text string, in marks, old bool) {
	if text == "" {
		return
	}
	t, problem := parseToken(text, in, old)
	switch {
	case problem != "":
		p.refuse(text, problem)
	case t.marks&markClear != 0:
		p.clear()
	case t.marks&markMerge != 0:
		p.mergeRule(text, t)
	case t.marks&markCVS != 0 && in&markCVS == 0:
		p.cvs(text, t)
	default:
		p.add(text, t)
	}
}

// add puts a plain rule into the list, if it can be one.
func (p *ruleParser) add(text string, t token) {
	switch {
	case len(t.pattern) > maxPattern:
		p.refuse(text, "is longer than 4096 bytes")
	case strings.Contains(t.pattern, "\x00"):
		p.refuse(text, "holds a zero byte, which no name can")
	case starRuns(t.pattern) > maxStars:
		p.refuse(text, "has more than 64 stars")
	case t.marks&markAbsolute != 0 && p.origin.above == "":
		p.refuse(text, "is about the whole path, which is not known here")
	case len(p.items) > maxRules:
	default:
		p.items = append(p.items, listed{rule: p.place(t)})
	}
}

// place makes a rule of a token and says from where its pattern counts.
func (p *ruleParser) place(t token) rule {
	if p.origin.deleteExcluded && t.marks&markSides == 0 {
		t.marks |= markSender
	}
	r := newRule(t.pattern, t.marks)
	switch {
	case t.marks&markAbsolute != 0:
		r.above = p.origin.above
	case r.anchored:
		r.base, r.above = p.base, p.above
	}
	return r
}

// starRuns counts the places where a pattern has stars.
func starRuns(pattern string) (n int) {
	for i := range len(pattern) {
		if pattern[i] == '*' && (i == 0 || pattern[i-1] != '*') {
			n++
		}
	}
	return n
}

// clear empties the list, with what folders above said in it and the lists that it named itself.
func (p *ruleParser) clear() {
	for _, it := range p.items {
		if it.list > 0 {
			p.lists[it.list-1].gone = true
		}
	}
	p.items, p.passedOn = nil, nil
}

// cvs puts in what -C stands for. rsync makes that list once: a second -C speaks of the sides that the first did.
func (p *ruleParser) cvs(text string, t token) {
	if t.pattern != "" {
		p.refuse(text, "has a pattern, which -C does not take")
		return
	}
	if p.origin.cvs == nil {
		p.origin.cvs = &t.marks
	}
	for _, pattern := range cvsRules() {
		p.add(text, token{marks: *p.origin.cvs | markPerishable, pattern: pattern})
	}
}

// flatten puts every list in its place, so that they are asked as one, and ends the reading.
func (r *Rules) flatten(problems []error) (*Rules, error) {
	r.flat = r.put(always(), r.items, 0)
	count := len(r.flat)
	for g := r.git; g != nil; g = g.parent {
		count += len(g.rules)
	}
	if count > maxRules {
		problems = append(problems, fault.New(fault.ConfigValue, "rules are more than %d", maxRules))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return r, nil
}

// put adds the rules of a list, which take over marks from the lists that this one stands in.
func (r *Rules) put(flat []rule, items []listed, from marks) []rule {
	for i := range items {
		switch list := items[i].list; {
		case len(flat) > maxRules:
			return flat
		case list > 0:
			flat = r.put(flat, r.lists[list-1].items, from|r.lists[list-1].marks&markLocal)
		default:
			flat = append(flat, items[i].rule)
			flat[len(flat)-1].marks |= from
		}
	}
	return flat
}

package filesync

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Texts writes the rules down, one text each, for ReadFolderRules. Each rule is written once, however
// many folders it holds in. A pattern of a whole path stays one of the path on this machine.
//
// The texts are, in this order, with fields separated by zero bytes, numbers decimal from 0:
//
//	r MARKS BASE ABOVE PATTERN    a rule; MARKS are + ! p n s r d and / at will
//	g PARENT BASE ABOVE           an ignore file, after the one numbered PARENT, or after none: -1
//	i MARKS PATTERN               a pattern of the last ignore file; MARKS are ! and d at will
//	f PATH GIT LIST               the rules of a folder: ranges FROM-TO of rules, separated by commas,
//	                              then the ignore file numbered GIT, -1 for none, with an h in front
//	                              when ignore files protect nothing
func (f *FolderRules) Texts() [][]byte {
	if f == nil {
		return nil
	}
	w := ruleWriter{rules: map[rule]int{}, files: map[*gitRules]int{nil: -1}}
	var folders [][]byte
	for _, path := range f.paths() {
		if r := f.folders[path]; r != nil {
			folders = append(folders, w.folder(path, r))
		}
	}
	return append(append(w.ruleTexts, w.fileTexts...), folders...)
}

type ruleWriter struct {
	rules                map[rule]int
	files                map[*gitRules]int
	ruleTexts, fileTexts [][]byte
	numbers              int // of ignore files
}

func fields(parts ...string) []byte { return []byte(strings.Join(parts, "\x00")) }

func (w *ruleWriter) folder(path string, r *Rules) []byte {
	git := strconv.Itoa(w.file(r.git))
	if r.gitHide {
		git = "h" + git
	}
	var ranges []string
	for i := len(always()); i < len(r.flat); {
		from := w.rule(r.flat[i])
		to := from
		for i++; i < len(r.flat) && w.rule(r.flat[i]) == to+1; i++ {
			to++
		}
		ranges = append(ranges, fmt.Sprintf("%d-%d", from, to))
	}
	return fields("f", path, git, strings.Join(ranges, ","))
}

// ruleSigns are the letters of marks that a rule keeps.
func ruleSigns() map[byte]marks {
	return map[byte]marks{'+': markInclude, '!': markNegate, 'p': markPerishable, 'n': markLocal, 's': markSender, 'r': markReceiver}
}

func (w *ruleWriter) rule(r rule) int {
	if n, written := w.rules[r]; written {
		return n
	}
	var signs []byte
	for _, c := range []byte("+!pnsr") {
		if r.marks&ruleSigns()[c] != 0 {
			signs = append(signs, c)
		}
	}
	w.rules[r] = len(w.ruleTexts)
	w.ruleTexts = append(w.ruleTexts, fields("r", string(signs), r.base, r.above, r.text()))
	return len(w.ruleTexts) - 1
}

// text is the pattern as newRule takes it.
func (r *rule) text() string {
	text := r.pattern
	if r.anchored {
		text = "/" + text
	}
	if r.dirOnly {
		text += "/"
	}
	return text
}

func (w *ruleWriter) file(g *gitRules) int {
	if n, written := w.files[g]; written {
		return n
	}
	parent := w.file(g.parent)
	w.fileTexts = append(w.fileTexts, fields("g", strconv.Itoa(parent), g.base, g.above))
	for i := range g.rules {
		signs := ""
		if g.rules[i].keep {
			signs = "!"
		}
		if g.rules[i].dirOnly {
			signs += "d"
		}
		w.fileTexts = append(w.fileTexts, fields("i", signs, g.rules[i].pattern))
	}
	w.files[g] = w.numbers
	w.numbers++
	return w.files[g]
}

// maxFolderRules is how many rules all folders may have together.
const maxFolderRules = 300_000

// ReadFolderRules reads what Texts wrote. Every byte of it is checked: it may come from anybody.
func ReadFolderRules(texts [][]byte) (*FolderRules, error) {
	r := ruleReader{f: newFolderRules(nil)}
	for i, text := range texts {
		if err := r.text(strings.Split(string(text), "\x00")); err != nil {
			return nil, fmt.Errorf("text %d of the rules: %w", i, err)
		}
	}
	r.f.top = r.f.folders["."]
	return r.f.end(), nil
}

type ruleReader struct {
	f     *FolderRules
	rules []rule
	files []*gitRules
	total int // rules of all ignore files and folders
}

var errRuleText = errors.New("is not one")

func (r *ruleReader) text(part []string) error {
	switch {
	case part[0] == "r" && len(part) == 5:
		return r.rule(part[1], part[2], part[3], part[4])
	case part[0] == "g" && len(part) == 4:
		return r.file(part[1], part[2], part[3])
	case part[0] == "i" && len(part) == 3 && len(r.files) > 0:
		return r.ignore(part[1], part[2])
	case part[0] == "f" && len(part) == 4:
		return r.folder(part[1], part[2], part[3])
	}
	return errRuleText
}

func (r *ruleReader) rule(signs, base, above, pattern string) error {
	if pattern == "" || len(pattern) > maxPattern || starRuns(pattern) > maxStars || len(r.rules) > maxRules || !prefixes(base, above) {
		return errRuleText
	}
	var m marks
	for i := range len(signs) {
		sign, known := ruleSigns()[signs[i]]
		if !known {
			return errRuleText
		}
		m |= sign
	}
	x := newRule(pattern, m)
	x.marks, x.base, x.above = m, base, above
	r.rules = append(r.rules, x)
	return nil
}

// prefixes says whether these can be a base and an above.
func prefixes(base, above string) bool {
	return len(base) <= MaxPath && len(above) <= MaxPath && (base == "" || base[len(base)-1] == '/') && (above == "" || above[len(above)-1] == '/')
}

func (r *ruleReader) file(parent, base, above string) error {
	n, err := strconv.Atoi(parent)
	if err != nil || n < -1 || n >= len(r.files) || len(r.files) > maxRules || !prefixes(base, above) {
		return errRuleText
	}
	g := &gitRules{base: base, above: above}
	if n >= 0 {
		g.parent = r.files[n]
	}
	r.files = append(r.files, g)
	return nil
}

func (r *ruleReader) ignore(signs, pattern string) error {
	if starRuns(pattern) > maxStars || len(pattern) > maxRuleFile || r.total > maxFolderRules {
		return errRuleText
	}
	text := pattern
	if strings.HasPrefix(signs, "!") {
		text, signs = "!"+text, signs[1:]
	}
	if signs == "d" {
		text, signs = text+"/", ""
	}
	if signs != "" {
		return errRuleText
	}
	last := r.files[len(r.files)-1]
	last.rules = append(last.rules, newGitRule(text))
	r.total++
	return nil
}

func (r *ruleReader) folder(path, git, list string) error {
	rules := &Rules{flat: always()}
	git, rules.gitHide = strings.CutPrefix(git, "h")
	n, err := strconv.Atoi(git)
	if err != nil || n < -1 || n >= len(r.files) || checkPath(path) != nil {
		return errRuleText
	}
	if n >= 0 {
		rules.git = r.files[n]
	}
	for part := range strings.FieldsFuncSeq(list, func(c rune) bool { return c == ',' }) {
		from, to, err := numbers(part)
		if err != nil || from < 0 || from > to || to >= len(r.rules) || len(rules.flat) > maxRules || r.total > maxFolderRules {
			return errRuleText
		}
		rules.flat = append(rules.flat, r.rules[from:to+1]...)
		r.total += to + 1 - from
	}
	r.f.folders[path] = rules
	return nil
}

func numbers(part string) (from, to int, err error) {
	low, high, _ := strings.Cut(part, "-")
	if from, err = strconv.Atoi(low); err == nil {
		to, err = strconv.Atoi(high)
	}
	return from, to, err
}

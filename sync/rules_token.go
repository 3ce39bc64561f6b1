package filesync

import "strings"

// marks are what stands in front of a pattern, or is taken over from the rule that named its file.
type marks uint16

const (
	markInclude    marks = 1 << iota // + S R
	markNegate                       // !: matches what the pattern does not
	markAbsolute                     // /: the pattern is of the whole path on the machine
	markPerishable                   // p: does not count below a folder that is deleted
	markSender                       // s: about what is sent
	markReceiver                     // r: about what is deleted
	markMerge                        // . and :
	markPerDir                       // :
	markBare                         // - or + of a merge rule: the file has patterns only
	markWords                        // w: the file has words, not lines
	markLocal                        // n: the rules do not hold in folders below
	markSelf                         // e: the file itself is left out
	markCVS                          // C
	markClear                        // !

	markSides = markSender | markReceiver
	// inherited is what the rules of a file take over from the rule that named it.
	inherited = markInclude | markAbsolute | markPerishable
)

// token is one rule taken apart.
type token struct {
	marks   marks
	pattern string
}

// parseToken takes a rule apart. in are the marks of the list it stands in; old says that only "- "
// and "+ " may stand in front of the pattern. problem is "" or what is wrong, to follow the rule.
func parseToken(text string, in marks, old bool) (t token, problem string) {
	t = token{marks: in & inherited, pattern: text}
	switch {
	case in&markBare != 0:
		if in&markCVS != 0 && text == "!" {
			return token{marks: markClear}, ""
		}
	case old:
		t.cutOld()
	default:
		if problem = t.cutFull(); problem != "" {
			return t, problem
		}
	}
	if t.marks&markClear != 0 {
		return t, ""
	}
	if in&markSides != 0 && t.marks&markSides != 0 {
		return t, "names a side, which the merge rule that named its file does already"
	}
	t.marks |= in & markSides
	if t.pattern == "" && t.marks&markCVS == 0 {
		return t, "has no pattern"
	}
	return t, ""
}

// cutOld is for items of exclude and include.
func (t *token) cutOld() {
	switch {
	case t.pattern == "!":
		t.marks = markClear
	case strings.HasPrefix(t.pattern, "- "):
		t.marks, t.pattern = t.marks&^markInclude, t.pattern[2:]
	case strings.HasPrefix(t.pattern, "+ "):
		t.marks, t.pattern = t.marks|markInclude, t.pattern[2:]
	}
}

// cutFull is for a rule with its name in front.
func (t *token) cutFull() (problem string) {
	text := t.pattern
	letter, modifiers, pattern := cutRule(text)
	t.pattern = pattern
	switch letter {
	case 0:
		return `is none of rsync's: it begins with "- ", "+ ", "merge ", "dir-merge ", "hide ", "show ", "protect ", "risk " or "!"`
	case '!':
		if text != "!" && text != "clear" {
			return "has something after the !, which stands alone"
		}
		t.marks = markClear
		return ""
	}
	t.marks |= letterMarks(letter)
	return t.modify(modifiers, t.marks&markSides != 0)
}

// ruleName says what the word or letter in front of a rule means: its letter, or 0.
func ruleName(word string) byte {
	switch word {
	case "-", "+", ".", ":", "H", "S", "P", "R", "!":
		return word[0]
	case "exclude":
		return '-'
	case "include":
		return '+'
	case "merge":
		return '.'
	case "dir-merge":
		return ':'
	case "hide":
		return 'H'
	case "show":
		return 'S'
	case "protect":
		return 'P'
	case "risk":
		return 'R'
	case "clear":
		return '!'
	}
	return 0
}

func letterMarks(letter byte) marks {
	switch letter {
	case '+':
		return markInclude
	case '.':
		return markMerge
	case ':':
		return markMerge | markPerDir
	case 'H':
		return markSender
	case 'S':
		return markSender | markInclude
	case 'P':
		return markReceiver
	case 'R':
		return markReceiver | markInclude
	}
	return 0
}

// cutRule takes a rule apart: its letter, its modifiers, its pattern. A letter of 0 is no rule.
func cutRule(s string) (letter byte, modifiers, pattern string) {
	head, pattern := s, ""
	if i := strings.IndexAny(s, " _"); i >= 0 {
		head, pattern = s[:i], s[i+1:]
	}
	word, modifiers, comma := strings.Cut(head, ",")
	if letter = ruleName(word); letter != 0 || comma || head == "" {
		return letter, modifiers, pattern
	}
	return ruleName(head[:1]), head[1:], pattern
}

// modify adds the modifiers. sided says that the rule's name has settled the side.
func (t *token) modify(modifiers string, sided bool) (problem string) {
	for i := range len(modifiers) {
		m, fits := modifierMarks(modifiers[i]), true
		switch modifiers[i] {
		case '-', '+':
			fits = t.marks&markMerge != 0 && t.marks&markBare == 0
		case '!':
			fits = t.marks&markMerge == 0
		case 'C':
			fits = t.marks&markBare == 0 && !sided
		case 'e', 'n', 'w':
			fits = t.marks&markMerge != 0
		case 'r', 's':
			fits = !sided
		case 'x':
			return "is about extended attributes, which are not sent"
		}
		if m == 0 || !fits {
			return "has the modifier " + string(modifiers[i:i+1]) + ", which does not go with it"
		}
		t.marks |= m
	}
	return ""
}

func modifierMarks(c byte) marks {
	switch c {
	case '/':
		return markAbsolute
	case '!':
		return markNegate
	case 'C':
		return markCVS | markBare | markWords | markLocal
	case 's':
		return markSender
	case 'r':
		return markReceiver
	case 'p':
		return markPerishable
	case '-':
		return markBare
	case '+':
		return markBare | markInclude
	case 'e':
		return markSelf
	case 'n':
		return markLocal
	case 'w':
		return markWords
	}
	return 0
}

// cvsRules are what -C stands for: what rsync and CVS take for leftovers of tools.
func cvsRules() []string {
	return strings.Fields("RCS SCCS CVS CVS.adm RCSLOG cvslog.* tags TAGS .make.state .nse_depinfo " +
		"*~ #* .#* ,* _$* *$ *.old *.bak *.BAK *.orig *.rej .del-* *.a *.olb *.o *.obj *.so *.exe *.Z *.elc *.ln " +
		"core .svn/ .git/ .hg/ .bzr/")
}

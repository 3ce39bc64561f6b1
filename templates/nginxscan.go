package templates

import (
	"strings"
)

// place is where in the grammar of an nginx file a reader is.
type place int

const (
	atStart      place = iota // where a directive begins or a block ends
	atGap                     // between two words of a directive
	inWord                    // in a word without quotes
	inDouble                  // in "…"
	inSingle                  // in '…'
	behindQuote               // behind the quote that ends a word
	startComment              // in a comment before a directive
	gapComment                // in a comment within one
	eitherPlace               // between two words or at the end of one, as the branches of a condition had it
)

// nginxAt is a reader's whole state: equal states read the same text in the same way.
type nginxAt struct {
	place    place
	depth    int
	first    bool // the word is the directive's name
	escape   bool // behind a backslash
	variable bool // in the name of a variable, or behind its $
	value    bool // behind a value, which may have been empty
}

// nginxScanner reads an nginx file piece by piece, as nginx's own ngx_conf_read_token does. What it has read
// is in done when it is at the start again, and at depth 0.
type nginxScanner struct {
	at   nginxAt
	word strings.Builder
	args []string
	list [][]Directive // by depth, the innermost last
}

func newScanner() *nginxScanner { return &nginxScanner{list: [][]Directive{nil}} }

// feed reads text. The error is a *Error whose Offset is that in the text.
func (s *nginxScanner) feed(text string) error {
	for i := 0; i < len(text); i++ {
		if err := s.step(text[i]); err != nil {
			err.Offset = i
			return err
		}
	}
	return nil
}

func (s *nginxScanner) step(c byte) *Error {
	before := s.at
	s.at.value = false
	switch {
	case before.place == startComment || before.place == gapComment:
		if c == '\n' {
			s.at.place = map[place]place{startComment: atStart, gapComment: atGap}[before.place]
		}
	case before.escape:
		s.at.escape = false
		s.word.WriteByte(c)
	case before.place == inDouble || before.place == inSingle:
		s.quoted(c)
	case before.value && strings.IndexByte("\"'#}", c) >= 0:
		return bad("has a %q right behind a value, which nginx reads in two ways when the value is empty", c)
	case strings.IndexByte(" \t\r\n", c) >= 0:
		s.endWord()
	case c == ';':
		return s.endDirective()
	case c == '{' && !before.variable:
		return s.open()
	case before.place == behindQuote:
		return bad("has %q behind a quote that ends a word; nginx wants a space or ; there", c)
	case before.place == eitherPlace:
		return bad("goes on with %q where the branches of a condition end differently; put a space before it", c)
	case before.place == inWord:
		s.inside(c)
	default:
		return s.begin(c)
	}
	return nil
}

// inside goes on with a word.
func (s *nginxScanner) inside(c byte) {
	s.word.WriteByte(c)
	s.at.escape = c == '\\'
	s.vars(c)
}

// vars follows the names of variables, $name and ${name}.
func (s *nginxScanner) vars(c byte) {
	letter := c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	s.at.variable = c == '$' || s.at.variable && (letter || c == '{')
}

func (s *nginxScanner) quoted(c byte) {
	end := byte('"')
	if s.at.place == inSingle {
		end = '\''
	}
	if c == end {
		s.at.place, s.at.variable = behindQuote, false
		return
	}
	s.inside(c)
}

// begin reads the first character of a word, a comment, or the end of a block.
func (s *nginxScanner) begin(c byte) *Error {
	start := s.at.place == atStart
	switch c {
	case '#':
		s.at.place = gapComment
		if start {
			s.at.place = startComment
		}
	case '}':
		return s.shut(start)
	case '"', '\'':
		s.at.first = start
		s.at.place = inDouble
		if c == '\'' {
			s.at.place = inSingle
		}
	default:
		s.at.place, s.at.first = inWord, start
		s.inside(c)
	}
	return nil
}

func (s *nginxScanner) endWord() {
	switch s.at.place {
	case inWord, behindQuote, eitherPlace:
		s.push()
		s.at.place = atGap
	}
	s.at.first, s.at.variable = false, false
}

func (s *nginxScanner) push() {
	s.args = append(s.args, unescapeNginx(s.word.String()))
	s.word.Reset()
}

// unescapeNginx gives a word as nginx has it after reading.
func unescapeNginx(word string) string {
	return strings.NewReplacer(`\"`, `"`, `\'`, `'`, `\\`, `\`, `\t`, "\t", `\r`, "\r", `\n`, "\n").Replace(word)
}

func (s *nginxScanner) endDirective() *Error {
	if s.at.place == atStart {
		return bad("has a ; without a directive")
	}
	s.endWord()
	s.add(Directive{Args: s.args})
	return nil
}

// add ends a directive.
func (s *nginxScanner) add(d Directive) {
	last := len(s.list) - 1
	s.list[last] = append(s.list[last], d)
	s.args, s.at = nil, nginxAt{depth: s.at.depth}
}

func (s *nginxScanner) open() *Error {
	if s.at.place == atStart {
		return bad("has a { without a directive")
	}
	s.endWord()
	if len(s.args) > 0 && strings.HasSuffix(s.args[0], "_by_lua_block") {
		return bad("has %s, whose grammar is not nginx's", s.args[0])
	}
	depth := s.at.depth + 1
	if depth > 20 {
		return bad("has more than 20 blocks within each other")
	}
	s.add(Directive{Args: s.args, block: true})
	s.list, s.at.depth = append(s.list, nil), depth
	return nil
}

func (s *nginxScanner) shut(start bool) *Error {
	if !start || s.at.depth == 0 {
		return bad("has a } that ends no block")
	}
	if last := len(s.list) - 1; last > 0 { // branches that are read twice leave fewer
		outer := s.list[last-1]
		if len(outer) > 0 {
			outer[len(outer)-1].Block = s.list[last]
		}
		s.list = s.list[:last]
	}
	s.at = nginxAt{depth: s.at.depth - 1}
	return nil
}

// end gives what was read; it is an error that something is still open.
func (s *nginxScanner) end() ([]Directive, error) {
	switch {
	case s.at.place != atStart && s.at.place != startComment:
		return nil, bad("ends within a directive: a ; or a quote is missing")
	case s.at.depth > 0:
		return nil, bad("ends within a block: a } is missing")
	}
	return s.list[0], nil
}

// valueKind is what a value may hold, and with that where it may stand.
type valueKind int

const (
	kindWord   valueKind = iota // characters that mean nothing to nginx: everywhere in a word, in quotes or not
	kindWords                   // such words with spaces between them: not in quotes
	kindText                    // anything of one line: through quote only
	kindQuoted                  // one word with its quotes
	kindBlock                   // whole directives
	kindNone                    // no value that could be written
)

// put reads a value of a kind. The error says why it must not stand here.
func (s *nginxScanner) put(kind valueKind, name string) *Error {
	at := s.at
	comment := at.place == startComment || at.place == gapComment
	quotes := at.place == inDouble || at.place == inSingle
	switch {
	case kind == kindNone:
		return bad("writes %s, which is no text", name)
	case kind == kindText:
		return hinted(bad("writes %s without quote: it may hold spaces, quotes and ;", name), "write {{quote "+name+"}}, without quotes around it")
	case kind == kindBlock && at.place != atStart:
		return bad("writes %s, which is whole directives, within one", name)
	case kind == kindBlock || comment && kind != kindQuoted:
		return nil
	case at.escape || at.variable:
		return hinted(bad("writes %s behind a $ or a backslash, where it would be part of that", name), "write ${name} to end the name of a variable")
	case kind != kindWord && quotes:
		return hinted(bad("writes %s inside quotes, which would end them or be one word", name), "leave out the quotes around it")
	case at.place == atStart || at.first:
		return bad("writes %s where nginx wants the name of a directive", name)
	case kind == kindQuoted && at.place != atGap, kind == kindWords && at.place != atGap, at.place == behindQuote, at.place == eitherPlace:
		return bad("writes %s right behind another word; put a space before it", name)
	}
	switch {
	case kind == kindQuoted:
		s.at.place = behindQuote
	case !quotes:
		s.at.place, s.at.value = inWord, true
	}
	return nil
}

// meet gives the state behind a condition whose branches end in these; false when text behind it would be
// read in two ways.
func meet(a, b nginxAt) (nginxAt, bool) {
	a.value, b.value = a.value || b.value, a.value || b.value
	if a == b {
		return a, true
	}
	between := func(n nginxAt) bool {
		switch n.place {
		case atGap, inWord, behindQuote, eitherPlace:
			return !n.escape && !n.variable
		}
		return false
	}
	if between(a) && between(b) && a.depth == b.depth {
		return nginxAt{place: eitherPlace, depth: a.depth}, true
	}
	return a, false
}

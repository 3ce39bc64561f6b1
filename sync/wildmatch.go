package filesync

import "strings"

// This is wildmatch as rsync has it, and git, whose two differences are told apart in stars: they
// are the oracles of what a pattern means, down to its corners. Each outcome that they keep apart is
// kept apart here, so that hopeless attempts end as early as theirs.

// outcome is what matching came to.
type outcome uint8

const (
	unknown      outcome = iota
	noMatch              // try a star that takes more
	match                // the whole text
	abortAll             // the text ended too early: no longer prefix helps
	abortToStars         // a slash was met: only a "**" to the left can help
)

// matcher is one match under way.
type matcher struct {
	pattern, text string
	git           bool
	steps         int
	memo          map[int][]outcome // by where a star stands: what it came to at each place of the text
}

// memoFrom is how many attempts are made before results are kept. From then on no place is tried
// twice, so that the time is bounded by stars times text times pattern.
const memoFrom = 500

// wildmatch reports whether the pattern matches text as rsync has it. *, ? and [] stop at a slash, **
// does not. With elements > 0 only the last so many path elements are matched; with elements < 0 a
// match may begin after any slash.
func wildmatch(pattern, text string, elements int) bool {
	if elements > 0 {
		var ok bool
		if text, ok = lastElements(text, elements); !ok {
			return false
		}
	}
	m := matcher{pattern: pattern, text: text}
	got := m.at(0, 0)
	for at := 0; elements < 0 && got != match && got != abortAll; {
		i := strings.IndexByte(text[at:], '/')
		if i < 0 {
			return false
		}
		at += i + 1
		got = m.at(0, at)
	}
	return got == match
}

// gitmatch reports whether the pattern matches text as git has it: ** reaches beyond a slash only
// where it is a whole path element.
func gitmatch(pattern, text string) bool {
	m := matcher{pattern: pattern, text: text, git: true}
	return m.at(0, 0) == match
}

// lastElements gives the last n elements of a path, if it has as many.
func lastElements(path string, n int) (string, bool) {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			if n--; n == 0 {
				return path[i+1:], true
			}
		}
	}
	return path, n == 1
}

// at matches the pattern from p on with the text from t on.
func (m *matcher) at(p, t int) outcome {
	for p < len(m.pattern) {
		if m.pattern[p] == '*' {
			return m.stars(p, t)
		}
		if t == len(m.text) {
			return abortAll
		}
		rest, got := one(m.pattern[p:], m.text[t])
		if got != match {
			return got
		}
		p, t = len(m.pattern)-len(rest), t+1
	}
	return when(t == len(m.text))
}

// stars matches from one or more stars at p on.
func (m *matcher) stars(p, t int) outcome {
	next := p
	for next < len(m.pattern) && m.pattern[next] == '*' {
		next++
	}
	far := next-p > 1
	if m.git {
		far = far && m.whole(p, next)
	}
	slash := strings.IndexByte(m.text[t:], '/')
	switch {
	case next == len(m.pattern) && !far && slash >= 0:
		return noMatch
	case next == len(m.pattern):
		return match
	case !m.git || m.pattern[next] != '/':
	case far: // a/**/b finds a/b
		if m.at(next+1, t) == match {
			return match
		}
	case slash < 0:
		return abortAll
	default:
		return m.at(next, t+slash)
	}
	return m.take(p, next, t, far)
}

// whole reports whether stars are a path element of their own.
func (m *matcher) whole(p, next int) bool {
	rest := m.pattern[next:]
	return (p == 0 || m.pattern[p-1] == '/') && (rest == "" || rest[0] == '/' || strings.HasPrefix(rest, `\/`))
}

// take lets stars take more and more of the text until what follows at next matches.
func (m *matcher) take(p, next, from int, far bool) outcome {
	got := abortAll // should the text end
	t := from
	for ; t < len(m.text); t++ {
		if got = m.known(p, t); got != unknown {
			break
		}
		m.steps++
		got = m.at(next, t)
		if got == noMatch && !far && m.text[t] == '/' {
			got = abortToStars
			break
		}
		if got != noMatch && !(far && got == abortToStars) {
			break
		}
		got = abortAll
	}
	m.keep(p, from, t, got)
	return got
}

func (m *matcher) known(p, t int) outcome {
	if m.memo == nil || m.memo[p] == nil {
		return unknown
	}
	return m.memo[p][t]
}

// keep notes what stars at p came to, which is the same for all places that they were tried at.
func (m *matcher) keep(p, from, to int, got outcome) {
	if m.steps < memoFrom {
		return
	}
	if m.memo == nil {
		m.memo = map[int][]outcome{}
	}
	if m.memo[p] == nil {
		m.memo[p] = make([]outcome, len(m.text))
	}
	for t := from; t <= to && t < len(m.text); t++ {
		m.memo[p][t] = got
	}
}

// one matches the first element of a pattern, which is no star, with one byte, and gives the rest.
func one(p string, c byte) (rest string, got outcome) {
	switch p[0] {
	case '[':
		return class(p[1:], c)
	case '?':
		return p[1:], when(c != '/')
	case '\\':
		if p = p[1:]; p == "" {
			return "", noMatch
		}
	}
	return p[1:], when(c == p[0])
}

func when(ok bool) outcome {
	if ok {
		return match
	}
	return noMatch
}

// class matches what follows a "[" with one byte and gives what follows its "]".
func class(p string, c byte) (rest string, got outcome) {
	negate := p != "" && (p[0] == '!' || p[0] == '^')
	if negate {
		p = p[1:]
	}
	matched := false
	var prev byte // the start of a range, should a "-" follow
	for first := true; first || p == "" || p[0] != ']'; first = false {
		hit, next, rest := member(p, prev, c)
		if rest == "" {
			return "", abortAll
		}
		matched = matched || hit
		p, prev = rest, next
	}
	return p[1:], when(matched != negate && c != '/')
}

// member reads one member of a class: a byte, an escaped byte, the end of a range that began with
// prev, or a named class. An empty rest says that the class is malformed.
func member(p string, prev, c byte) (hit bool, next byte, rest string) {
	switch {
	case p == "":
		return false, 0, ""
	case p[0] == '\\':
		if len(p) < 2 {
			return false, 0, ""
		}
		return c == p[1], p[1], p[2:]
	case p[0] == '-' && prev != 0 && len(p) > 1 && p[1] != ']':
		p = p[1:]
		if p[0] == '\\' {
			if p = p[1:]; p == "" {
				return false, 0, ""
			}
		}
		return prev <= c && c <= p[0], 0, p[1:]
	case strings.HasPrefix(p, "[:"):
		return named(p, c)
	}
	return c == p[0], p[0], p[1:]
}

// named reads a member like [:alpha:], which p begins with; without its end it is a plain "[".
func named(p string, c byte) (hit bool, next byte, rest string) {
	end := strings.IndexByte(p[2:], ']')
	if end < 0 {
		return false, 0, ""
	}
	if end == 0 || p[2+end-1] != ':' {
		return c == '[', '[', p[1:]
	}
	hit, known := isClass(p[2:2+end-1], c)
	if !known {
		return false, 0, ""
	}
	return hit, 0, p[2+end+1:]
}

// isClass is the C locale's idea of the POSIX classes.
func isClass(name string, c byte) (in, known bool) {
	lower, upper, digit := 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9'
	graph := '!' <= c && c <= '~'
	switch name {
	case "alpha":
		return lower || upper, true
	case "alnum":
		return lower || upper || digit, true
	case "blank":
		return c == ' ' || c == '\t', true
	case "cntrl":
		return c < ' ' || c == 0x7f, true
	case "digit":
		return digit, true
	case "graph":
		return graph, true
	case "lower":
		return lower, true
	case "print":
		return graph || c == ' ', true
	case "punct":
		return graph && !lower && !upper && !digit, true
	case "space":
		return c == ' ' || '\t' <= c && c <= '\r', true
	case "upper":
		return upper, true
	case "xdigit":
		return digit || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F', true
	}
	return false, false
}

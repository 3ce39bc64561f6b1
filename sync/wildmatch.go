package filesync

import "strings"

// This is rsync's wildmatch, down to its corners: rsync is the oracle of what a pattern means
// (https://github.com/RsyncProject/rsync, lib/wildmatch.c, describes the outcomes kept apart here).

// outcome is what matching came to.
type outcome int

const (
	noMatch      outcome = iota
	match                // the whole text
	abortAll             // the text ended too early: no longer prefix helps
	abortToStars         // a slash was met: only a "**" to the left can help
)

// wildmatch reports whether the pattern matches text. *, ? and [] stop at a slash, ** does not.
// With elements > 0 only the last so many path elements are matched; with elements < 0 a match may
// begin after any slash.
func wildmatch(pattern, text string, elements int) bool {
	if elements > 0 {
		var ok bool
		if text, ok = lastElements(text, elements); !ok {
			return false
		}
	}
	got := glob(pattern, text)
	for elements < 0 && got != match && got != abortAll {
		i := strings.IndexByte(text, '/')
		if i < 0 {
			return false
		}
		text = text[i+1:]
		if got = glob(pattern, text); got == abortToStars {
			return false
		}
	}
	return got == match
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

func glob(p, text string) outcome {
	for len(p) > 0 {
		if p[0] == '*' {
			return star(p, text)
		}
		if text == "" {
			return abortAll
		}
		rest, got := one(p, text[0])
		if got != match {
			return got
		}
		p, text = rest, text[1:]
	}
	if text != "" {
		return noMatch
	}
	return match
}

// star matches a pattern that begins with one or more stars.
func star(p, text string) outcome {
	rest := strings.TrimLeft(p, "*")
	slashes := len(p)-len(rest) > 1
	if rest == "" {
		if !slashes && strings.IndexByte(text, '/') >= 0 {
			return noMatch
		}
		return match
	}
	for ; text != ""; text = text[1:] {
		got := glob(rest, text)
		switch {
		case got == noMatch && !slashes && text[0] == '/':
			return abortToStars
		case got != noMatch && !(slashes && got == abortToStars):
			return got
		}
	}
	return abortAll
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

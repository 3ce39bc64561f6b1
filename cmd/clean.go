package cmd

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes text from a host harmless on a terminal and in a CI log: control characters (C0 but
// \n and \t, DEL, C1), the marks that turn the direction of text, and bytes that are not UTF-8 come
// out as readable escapes. "##[" is broken up, since some CI systems obey it anywhere in a line;
// commands that must stand first in a line are disarmed by the host prefix of every line.
func clean(s string) string {
	if plainText(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteRune(utf8.RuneError)
		case strings.HasPrefix(s[i:], "##["):
			b.WriteString(`#\x23`)
			size = 2
		case !harmful(r):
			b.WriteString(s[i : i+size])
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += size
	}
	return b.String()
}

func plainText(s string) bool {
	if strings.Contains(s, "##[") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c >= 0x7f || (c < 0x20 && c != '\n' && c != '\t') {
			return false
		}
	}
	return true
}

func harmful(r rune) bool {
	if r == '\n' || r == '\t' {
		return false
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// cleanLine is clean for text that must stay on one line: line ends become spaces.
func cleanLine(s string) string {
	s = strings.TrimRight(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	return strings.ReplaceAll(clean(s), "\n", " ")
}

// lines splits clean text into at most limit lines, and says what it left out.
func lines(s string, limit int) []string {
	all := strings.Split(strings.TrimRight(clean(strings.ReplaceAll(s, "\r\n", "\n")), "\n"), "\n")
	if len(all) > limit {
		left := len(all) - limit
		all = append(all[:limit:limit], fmt.Sprintf("(%d more lines)", left))
	}
	return all
}

package templates

import "strings"

// Words gives the words of a command line as a shell would, and whether that could be said without a
// shell: a line with variables, patterns, redirections or several commands in it cannot. Quotes and
// backslashes are read as sh does.
func Words(line string) ([]string, bool) {
	var words []string
	var word strings.Builder
	in := false // inside a word, be it an empty one in quotes
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == ' ' || c == '\t':
			if in {
				words = append(words, word.String())
				word.Reset()
			}
			in = false
		case c == '\'' || c == '"':
			text, n, ok := quoted(line[i:])
			if !ok {
				return nil, false
			}
			word.WriteString(text)
			in, i = true, i+n-1
		case c == '\\' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			in = true
		case c < ' ' || strings.IndexByte("\\$`;&|<>()*?[]{}~#!", c) >= 0:
			return nil, false
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if in {
		words = append(words, word.String())
	}
	return words, len(words) > 0 && !strings.Contains(words[0], "=")
}

// quoted reads a quoted string at the beginning of a text and gives it without its quotes, and its length
// with them.
func quoted(text string) (string, int, bool) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		c := text[i]
		switch {
		case c == text[0]:
			return b.String(), i + 1, true
		case text[0] == '\'':
		case c == '$' || c == '`':
			return "", 0, false
		case c == '\\' && i+1 < len(text) && strings.IndexByte("\\\"$`", text[i+1]) >= 0:
			i++
			c = text[i]
		}
		b.WriteByte(c)
	}
	return "", 0, false
}

// Option gives the value of an option of a command line, the last one if it stands there several times.
// The names are all its spellings: "--bind" is read as "--bind X" and "--bind=X", "-b" as "-b X" and "-bX".
func Option(words []string, names ...string) (string, bool) {
	value, found := "", false
	for i := 0; i < len(words); i++ {
		for _, name := range names {
			if v, n := optionAt(words[i:], name); n > 0 {
				value, found = v, true
				i += n - 1
				break
			}
		}
	}
	return value, found
}

// Without gives a command line without an option and its values.
func Without(words []string, names ...string) []string {
	var rest []string
next:
	for i := 0; i < len(words); i++ {
		for _, name := range names {
			if _, n := optionAt(words[i:], name); n > 0 {
				i += n - 1
				continue next
			}
		}
		rest = append(rest, words[i])
	}
	return rest
}

// optionAt reads the option at the beginning of words; n is how many it takes, 0 when it is another.
func optionAt(words []string, name string) (value string, n int) {
	word := words[0]
	if word == name {
		if len(words) > 1 {
			return words[1], 2
		}
		return "", 1
	}
	if strings.HasPrefix(name, "--") {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value, 1
		}
		return "", 0
	}
	if value, ok := strings.CutPrefix(word, name); ok && !strings.HasPrefix(word, "--") {
		return strings.TrimPrefix(value, "="), 1
	}
	return "", 0
}

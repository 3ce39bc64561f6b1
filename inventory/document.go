package inventory

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"godeploy/internal/fault"
)

// document is one file that was read: its tree, the order of its keys, and where they stand.
type document struct {
	name   string
	env    string // set for godeploy.NAME.toml, whose keys stand below env.NAME
	src    string
	tree   map[string]any
	keys   []toml.Key
	places *index
}

// readDocument parses one file. Only syntax is looked at.
func readDocument(name, env string, src []byte) (*document, *fault.Error) {
	d := &document{name: name, env: env, src: string(src)}
	if len(src) > maxFile {
		return nil, fault.New(fault.ConfigSyntax, "file is larger than %d MiB", maxFile>>20).At(fault.Pos{File: name})
	}
	d.places = newIndex(d.src)
	if offset, msg := badText(d.src); msg != "" {
		return nil, d.syntaxFault(msg, offset, 1).Hint("save the file as plain UTF-8 text")
	}
	if d.places.limit != "" {
		return nil, d.syntaxFault(d.places.limit, d.places.limAt, 1)
	}
	md, err := toml.Decode(d.src, &d.tree)
	if err != nil {
		return nil, d.parseFault(err)
	}
	d.keys = md.Keys()
	return d, nil
}

// badText finds the first byte that no TOML file may hold. The library finds it too, but often
// places it at the beginning of the string or comment.
func badText(src string) (offset int, msg string) {
	for i, r := range src {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(src[i:], "\uFFFD"):
			return i, fmt.Sprintf("byte 0x%02x is not UTF-8", src[i])
		case r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f:
			return i, fmt.Sprintf("control character U+%04X", r)
		}
	}
	return 0, ""
}

func (d *document) parseFault(err error) *fault.Error {
	var p toml.ParseError
	if !errors.As(err, &p) {
		return d.syntaxFault(err.Error(), 0, 1)
	}
	start := p.Position.Start
	if strings.HasPrefix(d.src, "\xef\xbb\xbf") {
		start += 3 // the library counts from behind the mark
	}
	return d.syntaxFault(sentence(p.Message), start, p.Position.Len)
}

// sentence puts the library's message into the form of ours.
func sentence(s string) string {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "toml: "), ".")
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		s = strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

func (d *document) syntaxFault(msg string, offset, width int) *fault.Error {
	offset = min(max(offset, 0), len(d.src))
	for offset > 0 && offset < len(d.src) && !utf8.RuneStart(d.src[offset]) {
		offset--
	}
	line, col := d.places.lineCol(offset)
	e := fault.New(fault.ConfigSyntax, "%s", msg).At(fault.Pos{File: d.name, Line: line, Col: col})
	e.Facts = d.picture(offset, width, 2)
	return e
}

// strip turns the path of a key in the whole configuration into its path in this document; ok is
// false when the document cannot hold it.
func (d *document) strip(path []string) (own []string, ok bool) {
	if d.env == "" {
		return path, true
	}
	if len(path) < 2 || path[0] != "env" || path[1] != d.env {
		return nil, false
	}
	return path[2:], true
}

// has reports whether the document has the key or table.
func (d *document) has(path []string) bool {
	own, ok := d.strip(path)
	if !ok {
		return false
	}
	_, ok = d.places.places[pathID(own)]
	return ok
}

// place gives where a key stands, or else the nearest table or list around it.
func (d *document) place(path []string) place {
	own, _ := d.strip(path)
	for ; len(own) > 0; own = own[:len(own)-1] {
		if p, ok := d.places.places[pathID(own)]; ok {
			return p
		}
	}
	return place{0, -1, -1}
}

// keyPos gives the position of a key.
func (d *document) keyPos(path []string) fault.Pos { return d.posAt(d.place(path).key, path) }

// valuePos gives the position of a key's value, or of the key when it has none.
func (d *document) valuePos(path []string) fault.Pos {
	p := d.place(path)
	if p.value >= 0 {
		return d.posAt(p.value, path)
	}
	return d.posAt(p.key, path)
}

func (d *document) posAt(offset int, path []string) fault.Pos {
	line, col := d.places.lineCol(offset)
	return fault.Pos{File: d.name, Line: line, Col: col, Key: label(path)}
}

// label names a key as a reader would: "[env.prod.hosts] app2", "[release] batch", "version".
func label(path []string) string {
	table, key := split(path)
	switch {
	case table == "":
		return key
	case key == "":
		return table
	}
	return table + " " + key
}

// split gives the table of a path as it is written, and the key in it. A host counts as the key of
// its table whatever is asked about it.
func split(path []string) (table, key string) {
	var plain []string
	array := false
	for i, p := range path {
		if !isElement(p) {
			plain = append(plain, quoteKey(p))
		} else if i > 0 {
			array = path[i-1] == "location" || path[i-1] == "people"
		}
	}
	if array && isElement(path[len(path)-1]) {
		return "[[" + strings.Join(plain, ".") + "]]", ""
	}
	if len(plain) == 5 && plain[0] == "env" && plain[2] == "hosts" {
		plain = plain[:4]
	}
	if len(plain) == 0 {
		return "", ""
	}
	key = plain[len(plain)-1]
	table = strings.Join(plain[:len(plain)-1], ".")
	switch {
	case table == "":
		return "", key
	case array:
		return "[[" + table + "]]", key
	}
	return "[" + table + "]", key
}

func quoteKey(s string) string {
	if wordOf(s, "_-") {
		return s
	}
	return fmt.Sprintf("%q", s)
}

// picture draws the line of an offset with carets below it, and up to so many lines before it.
func (d *document) picture(offset, width, before int) []string {
	line, _ := d.places.lineCol(offset)
	var rows []string
	for n := max(line-before, 1); n <= line; n++ {
		rows = append(rows, fmt.Sprintf("%6d | %s", n, clip(d.line(n))))
	}
	start := d.places.lines[line-1]
	left := utf8.RuneCountInString(strings.TrimPrefix(d.src[start:offset], "\xef\xbb\xbf"))
	marked, _, _ := strings.Cut(d.src[offset:min(offset+max(width, 1), len(d.src))], "\n")
	carets := max(utf8.RuneCountInString(marked), 1)
	if left+carets > maxPicture {
		return rows
	}
	return append(rows, fmt.Sprintf("%6s | %s%s", "", strings.Repeat(" ", left), strings.Repeat("^", carets)))
}

// maxPicture is how many characters of a line are shown.
const maxPicture = 120

// line gives the text of a line, without its end and with blanks for tabs, so that carets fit.
func (d *document) line(n int) string {
	end := len(d.src)
	if n < len(d.places.lines) {
		end = d.places.lines[n] - 1
	}
	text := strings.TrimSuffix(d.src[d.places.lines[n-1]:end], "\r")
	return strings.ReplaceAll(strings.TrimPrefix(text, "\xef\xbb\xbf"), "\t", " ")
}

func clip(s string) string {
	if runes := []rune(s); len(runes) > maxPicture {
		return string(runes[:maxPicture]) + "…"
	}
	return s
}

package inventory

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// The toml library keeps the positions of keys to itself. This file walks the same text a second
// time and notes where every key and every value stands. It decides nothing: what is valid is the
// library's word, and where the two part ways (a syntax error) the walk just ends.

// place is where a key stands and its value begins and ends, as byte offsets; value is -1 when
// there is none, as with a table's header.
type place struct{ key, value, end int }

// index maps the path of a key, as pathID gives it, to its place.
type index struct {
	src    string
	places map[string]place
	arrays map[string]int // [[tables]] seen so far, by path
	lines  []int          // offset of each line's first byte
	limit  string         // which limit the text breaks, "" for none
	limAt  int
}

// pathID makes one string of a path. Elements of arrays are a control character and a number, which
// nobody writes as a key.
func pathID(path []string) string { return strings.Join(path, "\x00") }

func element(i int) string { return "\x01" + strconv.Itoa(i) }

func isElement(part string) bool { return strings.HasPrefix(part, "\x01") }

func newIndex(src string) *index {
	x := &index{src: src, places: map[string]place{}, arrays: map[string]int{}, lines: []int{0}}
	for i := range len(src) {
		if src[i] == '\n' {
			x.lines = append(x.lines, i+1)
		}
	}
	w := walker{x: x, src: src}
	if strings.HasPrefix(src, "\xef\xbb\xbf") {
		w.at = 3
	}
	w.document()
	return x
}

func (x *index) note(path []string, key, value int) {
	id := pathID(path)
	if _, seen := x.places[id]; !seen {
		x.places[id] = place{key, value, value}
	}
}

// noteEnd says where the value of a path that was noted ends.
func (x *index) noteEnd(path []string, end int) {
	id := pathID(path)
	p := x.places[id]
	p.end = end
	x.places[id] = p
}

// lineCol gives the line and the column, in bytes, of an offset, both from 1.
func (x *index) lineCol(offset int) (line, col int) {
	low, high := 0, len(x.lines)
	for high-low > 1 {
		if mid := (low + high) / 2; x.lines[mid] <= offset {
			low = mid
		} else {
			high = mid
		}
	}
	col = offset - x.lines[low] + 1
	if low == 0 && strings.HasPrefix(x.src, "\xef\xbb\xbf") {
		col = max(col-3, 1)
	}
	return low + 1, col
}

// walker goes over the text once. Its methods report false where they cannot go on.
type walker struct {
	x     *index
	src   string
	at    int
	table []string // path of the table that keys belong to
}

func (w *walker) document() {
	for {
		w.space(true)
		if w.at >= len(w.src) {
			return
		}
		ok := false
		if w.src[w.at] == '[' {
			ok = w.header()
		} else {
			ok = w.pair(w.table, 0)
		}
		if !ok {
			return
		}
	}
}

// space skips blanks and, when lines is set, line ends and comments.
func (w *walker) space(lines bool) {
	for w.at < len(w.src) {
		switch c := w.src[w.at]; {
		case c == ' ' || c == '\t':
			w.at++
		case lines && (c == '\n' || c == '\r'):
			w.at++
		case lines && c == '#':
			w.skipLine()
		default:
			return
		}
	}
}

func (w *walker) skipLine() {
	if end := strings.IndexByte(w.src[w.at:], '\n'); end >= 0 {
		w.at += end
	} else {
		w.at = len(w.src)
	}
}

// header reads [a.b] or [[a.b]].
func (w *walker) header() bool {
	array := strings.HasPrefix(w.src[w.at:], "[[")
	w.at++
	if array {
		w.at++
	}
	keys, places, ok := w.keys()
	if !ok {
		return false
	}
	path := w.resolve(keys[:len(keys)-1], places)
	path = append(path, keys[len(keys)-1])
	w.x.note(path, places[len(keys)-1], -1)
	if array {
		id := pathID(path)
		path = append(path, element(w.x.arrays[id]))
		w.x.arrays[id]++
		w.x.note(path, places[len(keys)-1], -1)
	} else {
		path = w.intoArray(path)
	}
	w.table = path
	for w.at < len(w.src) && w.src[w.at] == ']' {
		w.at++
	}
	return true
}

// resolve follows the parts of a header before its last one, into the newest element where one is
// a [[table]].
func (w *walker) resolve(keys []string, places []int) []string {
	var path []string
	for i, k := range keys {
		path = append(path, k)
		w.x.note(path, places[i], -1)
		path = w.intoArray(path)
	}
	return path
}

func (w *walker) intoArray(path []string) []string {
	if n := w.x.arrays[pathID(path)]; n > 0 {
		return append(path, element(n-1))
	}
	return path
}

// pair reads key = value below a table.
func (w *walker) pair(table []string, depth int) bool {
	keys, places, ok := w.keys()
	if !ok || w.at >= len(w.src) || w.src[w.at] != '=' {
		return false
	}
	w.at++
	w.space(false)
	path := append([]string(nil), table...)
	for i, k := range keys {
		path = append(path, k)
		if i < len(keys)-1 {
			w.x.note(path, places[i], -1)
		}
	}
	w.x.note(path, places[len(keys)-1], w.at)
	ok = w.value(path, depth)
	w.x.noteEnd(path, w.at)
	return ok
}

// keys reads a key of one part or more and the blanks around them.
func (w *walker) keys() (keys []string, places []int, ok bool) {
	for {
		w.space(false)
		start := w.at
		key, ok := w.key()
		if !ok {
			return nil, nil, false
		}
		keys, places = append(keys, key), append(places, start)
		if len(keys) > maxKeyParts {
			return nil, nil, w.over("a key has more than " + strconv.Itoa(maxKeyParts) + " parts")
		}
		w.space(false)
		if w.at >= len(w.src) || w.src[w.at] != '.' {
			return keys, places, true
		}
		w.at++
	}
}

func (w *walker) over(limit string) bool {
	w.x.limit, w.x.limAt = limit, w.at
	return false
}

func (w *walker) key() (string, bool) {
	if w.at >= len(w.src) {
		return "", false
	}
	if c := w.src[w.at]; c == '"' || c == '\'' {
		start := w.at
		if !w.text() {
			return "", false
		}
		return unquote(w.src[start:w.at]), true
	}
	start := w.at
	for w.at < len(w.src) && isBare(w.src[w.at]) {
		w.at++
	}
	return w.src[start:w.at], w.at > start
}

func isBare(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

// value reads one value; the walker stands at its first byte.
func (w *walker) value(path []string, depth int) bool {
	if depth > maxDepth {
		return w.over("values are nested more than " + strconv.Itoa(maxDepth) + " deep")
	}
	if w.at >= len(w.src) {
		return false
	}
	switch w.src[w.at] {
	case '"', '\'':
		return w.text()
	case '[':
		return w.array(path, depth)
	case '{':
		return w.inline(path, depth)
	}
	start := w.at
	for w.at < len(w.src) && !strings.ContainsRune(",]}#\r\n", rune(w.src[w.at])) {
		w.at++
	}
	return w.at > start
}

func (w *walker) array(path []string, depth int) bool {
	w.at++
	for i := 0; ; i++ {
		w.space(true)
		if w.at < len(w.src) && w.src[w.at] == ']' {
			w.at++
			return true
		}
		item := append(append([]string(nil), path...), element(i))
		w.x.note(item, w.at, w.at)
		ok := w.value(item, depth+1)
		w.x.noteEnd(item, w.at)
		if !ok || !w.comma(']') {
			return false
		}
	}
}

func (w *walker) inline(path []string, depth int) bool {
	w.at++
	for {
		w.space(true)
		if w.at < len(w.src) && w.src[w.at] == '}' {
			w.at++
			return true
		}
		if !w.pair(path, depth+1) || !w.comma('}') {
			return false
		}
	}
}

// comma skips a comma, or stays before the closing mark.
func (w *walker) comma(closing byte) bool {
	w.space(true)
	if w.at >= len(w.src) {
		return false
	}
	if w.src[w.at] == ',' {
		w.at++
		return true
	}
	return w.src[w.at] == closing
}

// text skips a string of any of the four kinds.
func (w *walker) text() bool {
	quote := w.src[w.at]
	triple := strings.Repeat(string(quote), 3)
	if strings.HasPrefix(w.src[w.at:], triple) {
		w.at += 3
		return w.longText(quote, triple)
	}
	for w.at++; w.at < len(w.src); w.at++ {
		switch c := w.src[w.at]; {
		case c == '\\' && quote == '"':
			w.at++
		case c == '\n':
			return false
		case c == quote:
			w.at++
			return true
		}
	}
	return false
}

// longText ends at three quotes; up to two more belong to the text before them.
func (w *walker) longText(quote byte, triple string) bool {
	for ; w.at < len(w.src); w.at++ {
		if w.src[w.at] == '\\' && quote == '"' {
			w.at++
			continue
		}
		if !strings.HasPrefix(w.src[w.at:], triple) {
			continue
		}
		w.at += 3
		for i := 0; i < 2 && w.at < len(w.src) && w.src[w.at] == quote; i++ {
			w.at++
		}
		return true
	}
	return false
}

// unquote gives the text of a quoted key.
func unquote(s string) string {
	body := s[1 : len(s)-1]
	if s[0] == '\'' || !strings.Contains(body, `\`) {
		return body
	}
	var b strings.Builder
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' || i+1 >= len(body) {
			b.WriteByte(body[i])
			continue
		}
		i++
		i += unescape(&b, body[i:])
	}
	return b.String()
}

// unescape writes the meaning of the escape that rest starts with, and gives how many bytes
// beyond its first it takes.
func unescape(b *strings.Builder, rest string) int {
	simple := map[byte]byte{'b': '\b', 't': '\t', 'n': '\n', 'f': '\f', 'r': '\r', 'e': 0x1b}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[rest[0]]
	if digits > 0 && len(rest) > digits {
		n, err := strconv.ParseUint(rest[1:1+digits], 16, 32)
		if err == nil && n <= utf8.MaxRune {
			b.WriteRune(rune(n))
			return digits
		}
	}
	if c, ok := simple[rest[0]]; ok {
		b.WriteByte(c)
	} else {
		b.WriteByte(rest[0])
	}
	return 0
}

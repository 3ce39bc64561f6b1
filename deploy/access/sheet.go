package access

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// A sheet is an authorized_keys file as its lines. The lines joined are the file, byte for byte, whatever
// stands in it: other people's keys, CRLF, comments, junk, bytes that are no text. What is a key is decided
// as sshd decides it.
type sheet []line

// line is one line with its end.
type line struct {
	raw     []byte
	blob    []byte // the key in SSH's wire format; nil when there is none here
	kind    string // the key's type, as in the line
	options string // in front of the key, as written; "" when there are none
	comment string // behind it
	dead    string // why sshd takes nothing from a line that looks as if it had a key; "" otherwise
}

const bom = "\xef\xbb\xbf"

// readSheet takes a file apart. It keeps b.
func readSheet(b []byte) sheet {
	var s sheet
	for raw := range bytes.Lines(b) {
		s = append(s, readLine(raw, len(s) == 0))
	}
	return s
}

// bytes puts the file together again.
func (s sheet) bytes() []byte {
	var b bytes.Buffer
	for _, l := range s {
		b.Write(l.raw)
	}
	return b.Bytes()
}

// readLine reads one line as sshd does: blanks in front are skipped, and what stands behind a NUL byte is
// not looked at, since sshd works with C strings.
func readLine(raw []byte, first bool) line {
	l := line{raw: raw}
	text, _, _ := strings.Cut(strings.TrimRight(string(raw), "\r\n"), "\x00")
	mark := first && strings.HasPrefix(text, bom)
	text = strings.TrimLeft(strings.TrimPrefix(text, markIf(mark)), " \t")
	if text == "" || text[0] == '#' {
		return l
	}
	if !l.key(text) {
		options, rest, ok := cutOptions(text)
		if !ok || !l.key(strings.TrimLeft(rest, " \t")) {
			return l
		}
		l.options = options
	}
	switch unknown := unknownOption(l.options); {
	case mark:
		l.dead = "a byte order mark in front of it makes sshd overlook it"
	case unknown != "":
		l.dead = "sshd does not know its option " + quoted(unknown)
	}
	return l
}

func markIf(there bool) string {
	if there {
		return bom
	}
	return ""
}

// key reads "type base64 comment". The blob itself names its type; that both agree is what tells a key
// from other words, also for types that only newer software knows.
func (l *line) key(text string) bool {
	kind, rest, _ := cutBlank(text)
	encoded, comment, _ := cutBlank(rest)
	if kind == "" || len(kind) > 128 || strings.Trim(kind, nameChars) != "" {
		return false
	}
	blob, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || typeOf(blob) != kind {
		return false
	}
	l.kind, l.blob, l.comment = kind, blob, comment
	return true
}

const nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@+"

// cutBlank cuts at the first blank or tab and skips those that follow.
func cutBlank(text string) (word, rest string, found bool) {
	at := strings.IndexAny(text, " \t")
	if at < 0 {
		return text, "", false
	}
	return text[:at], strings.TrimLeft(text[at:], " \t"), true
}

// typeOf is the type that a key's blob begins with; "" when it is no blob.
func typeOf(blob []byte) string {
	if len(blob) < 4 {
		return ""
	}
	n := binary.BigEndian.Uint32(blob)
	if n == 0 || n > 128 || int(n) > len(blob)-4 {
		return ""
	}
	return string(blob[4 : 4+n])
}

// cutOptions ends the options at the first blank outside quotes. Quotes that never close leave no key.
func cutOptions(text string) (options, rest string, ok bool) {
	inside := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && text[i+1] == '"':
			i++
		case c == '"':
			inside = !inside
		case (c == ' ' || c == '\t') && !inside:
			return text[:i], text[i:], true
		}
	}
	return "", "", false
}

// splitOptions parts options at commas outside quotes.
func splitOptions(options string) []string {
	if options == "" {
		return nil
	}
	var all []string
	inside, start := false, 0
	for i := 0; i < len(options); i++ {
		switch c := options[i]; {
		case c == '\\' && i+1 < len(options) && options[i+1] == '"':
			i++
		case c == '"':
			inside = !inside
		case c == ',' && !inside:
			all = append(all, options[start:i])
			start = i + 1
		}
	}
	return append(all, options[start:])
}

// optionName is an option's name in lower case, as sshd compares it.
func optionName(option string) string {
	name, _, _ := strings.Cut(option, "=")
	return strings.ToLower(name)
}

// plainOptions stand alone, valued ones have ="…". The list is that of sshd(8) of OpenSSH 10.
const (
	plainOptions = " agent-forwarding cert-authority no-agent-forwarding no-port-forwarding no-pty no-user-rc " +
		"no-x11-forwarding port-forwarding pty restrict user-rc x11-forwarding no-touch-required " +
		"touch-required verify-required no-verify-required "
	valuedOptions = " command environment expiry-time from permitlisten permitopen principals tunnel "
)

// unknownOption gives the first option that sshd would reject the line for, "" when there is none.
func unknownOption(options string) string {
	for _, option := range splitOptions(options) {
		name := " " + optionName(option) + " "
		_, value, valued := strings.Cut(option, "=")
		whole := len(value) >= 2 && value[0] == '"' && strings.HasSuffix(value, `"`)
		switch {
		case !valued && strings.Contains(plainOptions, name):
		case valued && whole && strings.Contains(valuedOptions, name):
		default:
			return option
		}
	}
	return ""
}

// has reports whether the line has the option.
func (l line) has(name string) bool {
	for _, option := range splitOptions(l.options) {
		if optionName(option) == name {
			return true
		}
	}
	return false
}

// login reports whether the line is there to let its key in: that of a certificate authority is not.
func (l line) login() bool { return l.blob != nil && !l.has("cert-authority") }

// lets reports whether the key of the line logs in by itself.
func (l line) lets() bool { return l.login() && l.dead == "" }

// find gives the places of a key that logs in; the first is the one whose options count.
func (s sheet) find(blob []byte) []int {
	var at []int
	for i, l := range s {
		if l.lets() && bytes.Equal(l.blob, blob) {
			at = append(at, i)
		}
	}
	return at
}

// quoted shows a text of a host in a message, cut short.
func quoted(text string) string {
	if len(text) > 40 {
		text = text[:40] + "…"
	}
	return `"` + strings.ToValidUTF8(text, "?") + `"`
}

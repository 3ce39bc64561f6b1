package deploy

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/fault"
)

const (
	// shortSecret is the length in bytes below which a value is not masked: it would hide half of the
	// words of any text.
	shortSecret = 4
	// masked stands where a secret stood.
	masked = "***"
	// cutSecret is how much of a secret's beginning must stand at the very end of a text, which may have
	// been cut there, to be taken for it.
	cutSecret = 8
)

// Mask hides secrets in texts, by their value: as they are, line by line when they have several, and as
// base64, hex, in URLs, in JSON, in HTML and between quotes. The zero Mask and a nil one hide nothing.
// It is safe for concurrent use.
type Mask struct {
	mu      sync.RWMutex
	known   map[string]bool
	needles map[[shortSecret]byte][]string // by their first bytes, longest first
	longest int
}

// Add makes the mask hide values. Those shorter than 4 bytes are not hidden.
func (m *Mask) Add(values ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known, m.needles = map[string]bool{}, map[[shortSecret]byte][]string{}
	}
	for _, v := range values {
		for _, form := range forms(v) {
			m.learn(form)
		}
	}
	for _, list := range m.needles {
		slices.SortFunc(list, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	}
}

func (m *Mask) learn(form string) {
	if len(form) < shortSecret || m.known[form] {
		return
	}
	m.known[form] = true
	start := [shortSecret]byte([]byte(form[:shortSecret]))
	m.needles[start] = append(m.needles[start], form)
	m.longest = max(m.longest, len(form))
}

// forms gives what a value looks like where others have written it.
func forms(value string) []string {
	if len(value) < shortSecret {
		return nil
	}
	all := []string{value, strings.TrimSpace(value), quoteEnv(value), hex.EncodeToString([]byte(value)), html.EscapeString(value),
		url.QueryEscape(value), url.PathEscape(value), inner(strconv.Quote(value)), inner(strconv.QuoteToASCII(value))}
	if text, err := json.Marshal(value); err == nil {
		all = append(all, inner(string(text)))
	}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		all = append(all, e.EncodeToString([]byte(value)), e.WithPadding(base64.NoPadding).EncodeToString([]byte(value)))
		all = append(all, within64(e, value)...)
	}
	echoed := echo(value)
	for line := range strings.Lines(value + "\n" + echoed) {
		all = append(all, strings.TrimSpace(line))
	}
	return append(all, echoed)
}

// echo gives what the echo of some shells makes of a value: it reads backslashes.
func echo(value string) string {
	return strings.NewReplacer(`\\`, `\`, `\a`, "\a", `\b`, "\b", `\f`, "\f", `\n`, "\n", `\r`, "\r", `\t`, "\t", `\v`, "\v").Replace(value)
}

// inner takes the quotes off.
func inner(quoted string) string { return quoted[1 : len(quoted)-1] }

// within64 gives what a value looks like in the middle of a longer text in base64, as in the header of
// Basic authorization: the characters that depend on its bytes alone, at each of the three offsets. Of
// short values too few are left to tell them from any text.
func within64(e *base64.Encoding, value string) []string {
	const least = 8
	var all []string
	for offset := range 3 {
		text := e.WithPadding(base64.NoPadding).EncodeToString([]byte("ab"[:offset] + value))
		first := (offset*8 + 5) / 6
		last := (offset + len(value)) * 8 / 6
		if last-first >= least {
			all = append(all, text[first:last])
		}
	}
	return all
}

// span is a part of a text, from up to below to.
type span struct{ from, to int }

// Hide gives the text with *** in the place of each secret. The end of a text is also looked at for a
// secret that was cut there. A release id stays whole: what is found inside one is no secret.
func (m *Mask) Hide(text string) string {
	spans := m.find(text)
	if len(spans) == 0 {
		return text
	}
	var b strings.Builder
	at := 0
	for _, s := range spans {
		b.WriteString(text[at:s.from])
		b.WriteString(masked)
		at = s.to
	}
	b.WriteString(text[at:])
	return b.String()
}

// find gives the places of secrets in order; those that touch are one.
func (m *Mask) find(text string) []span {
	if m == nil {
		return nil
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if len(m.needles) == 0 {
		return nil
	}
	var spans []span
	whole := maybeCut(text)
	for i := 0; i+shortSecret <= len(text); i++ {
		n := longestAt(text[i:], whole[min(i, len(whole)):], m.needles[[shortSecret]byte([]byte(text[i:i+shortSecret]))])
		if n == 0 {
			continue
		}
		if last := len(spans) - 1; last >= 0 && i <= spans[last].to {
			spans[last].to = max(spans[last].to, i+n)
		} else {
			spans = append(spans, span{i, i + n})
		}
	}
	return sparingIDs(text, spans)
}

// maybeCut gives the text up to where it was cut, "" for one that looks whole.
func maybeCut(text string) string {
	const shortestCut = 160
	if whole, cut := strings.CutSuffix(text, "…"); cut || len(text) >= shortestCut {
		return whole
	}
	return ""
}

// longestAt gives how much of a text's beginning is secret. The candidates are sorted, longest first.
func longestAt(text, whole string, candidates []string) int {
	n := 0
	for _, c := range candidates {
		switch {
		case strings.HasPrefix(text, c):
			return max(n, len(c))
		case len(whole) >= cutSecret && strings.HasPrefix(c, whole):
			n = max(n, len(whole))
		}
	}
	return n
}

// sparingIDs leaves out what lies inside a release id: a port or a year among the secrets would make ids
// useless, and they are no place where secrets come to stand.
func sparingIDs(text string, spans []span) []span {
	const length = len("20261123-104107-4f2c9e1")
	return slices.DeleteFunc(spans, func(s span) bool {
		for from := max(0, s.to-length); from <= s.from && from+length <= len(text); from++ {
			if ValidID(text[from : from+length]) {
				return true
			}
		}
		return false
	})
}

// HideAll is Hide for each of several texts; the list that was given is not changed.
func (m *Mask) HideAll(texts []string) []string {
	if texts == nil {
		return nil
	}
	hidden := make([]string, len(texts))
	for i, t := range texts {
		hidden[i] = m.Hide(t)
	}
	return hidden
}

// HideEvent gives the event with every free text hidden. What names things, such as hosts, releases and
// phases, stays: it comes from the file.
func (m *Mask) HideEvent(e event.Event) event.Event {
	if m == nil {
		return e
	}
	for _, text := range []*string{&e.Msg, &e.Text, &e.Command, &e.Hint, &e.Error, &e.Path, &e.Why} {
		*text = m.Hide(*text)
	}
	e.Facts, e.Next = m.HideAll(e.Facts), m.HideAll(e.Next)
	return e
}

// HideFault gives a copy of the fault with every text hidden; the fault itself is not changed.
func (m *Mask) HideFault(f *fault.Error) *fault.Error {
	if m == nil {
		return f
	}
	h := *f
	h.Msg, h.Place, h.Cause = m.Hide(f.Msg), m.Hide(f.Place), m.Hide(f.Cause)
	h.Facts, h.Next = m.HideAll(f.Facts), m.HideAll(f.Next)
	if f.Err != nil {
		h.Err = hiddenError{m.Hide(f.Err.Error()), f.Err}
	}
	return &h
}

// hiddenError is an error whose text was hidden.
type hiddenError struct {
	text string
	err  error
}

func (e hiddenError) Error() string { return e.text }
func (e hiddenError) Unwrap() error { return e.err }

// maskedRunner hides secrets in the output of what it runs, before anybody cuts it into lines.
type maskedRunner struct {
	hooks.Runner
	mask *Mask
}

// Run runs the command; see hooks.Runner.
func (r maskedRunner) Run(ctx context.Context, c hooks.Command, output func(stream string, p []byte)) (hooks.Ended, error) {
	held := map[string][]byte{}
	ended, err := r.Runner.Run(ctx, c, func(stream string, p []byte) {
		text := append(held[stream], p...)
		if bytes.IndexByte(p, '\n') >= 0 || len(text) > longLine {
			told, rest := r.mask.ready(string(text))
			if text = append(text[:0], rest...); told != "" {
				output(stream, []byte(told))
			}
		}
		held[stream] = text
	})
	for _, stream := range []string{"stdout", "stderr"} {
		if rest := held[stream]; len(rest) > 0 {
			output(stream, []byte(r.mask.Hide(string(rest))))
		}
	}
	return ended, err
}

// longLine is how much of a line without an end is held back.
const longLine = 64 << 10

// ready divides output into what can be told, hidden, and what is held until more has come: a secret
// never crosses the end of a line, but may be anywhere in one that has not ended.
func (m *Mask) ready(text string) (told, rest string) {
	cut := strings.LastIndexByte(text, '\n') + 1
	if len(text)-cut > longLine {
		cut = max(cut, len(text)-m.reach())
		for _, s := range m.find(text) {
			if s.from < cut && cut < s.to {
				cut = s.from
			}
		}
	}
	switch {
	case cut > 0:
		return m.Hide(text[:cut]), text[cut:]
	case len(text) > 2*longLine+m.reach(): // one secret after another
		return m.Hide(text), ""
	}
	return "", text
}

// reach is the length of the longest text that is hidden.
func (m *Mask) reach() int {
	if m == nil {
		return 0
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.longest
}

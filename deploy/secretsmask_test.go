package deploy

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/fault"
)

func maskOf(values ...string) *Mask {
	m := &Mask{}
	m.Add(values...)
	return m
}

func TestMaskHidesEveryForm(t *testing.T) {
	t.Parallel()
	const secret = `p&ss "w'rd"\<é>/\f+ 100%`
	m := maskOf(secret, "one line\nand a second one\n", "tiny1")
	asJSON, err := json.Marshal(map[string]string{"k": secret})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"as it is": "x " + secret + " y", "JSON": string(asJSON), "Go": strconv.Quote(secret), "ASCII": strconv.QuoteToASCII(secret),
		"query": url.QueryEscape(secret), "path": url.PathEscape(secret), "HTML": html.EscapeString(secret),
		"file": "A=" + quoteEnv(secret), "base64": base64.StdEncoding.EncodeToString([]byte(secret)),
		"raw base64": base64.RawURLEncoding.EncodeToString([]byte(secret)), "hex": fmt.Sprintf("%x", secret),
		"Basic 0": base64.StdEncoding.EncodeToString([]byte("use:" + secret + ":z")),
		"Basic 1": base64.StdEncoding.EncodeToString([]byte("user:" + secret)),
		"Basic 2": base64.StdEncoding.EncodeToString([]byte("users:" + secret + "12")),
		"echo":    "x " + echo(secret),
		"a line":  "| and a second one", "another": "one line",
	} {
		got := m.Hide(text)
		if !strings.Contains(got, "***") || strings.Contains(got, secret) || len(got) > len("use:")*2+len(`{"k":""}`)+12 {
			t.Errorf("%s: %q is %q", name, text, got)
		}
	}
}

func TestMaskLeavesTheRestAlone(t *testing.T) {
	t.Parallel()
	m := maskOf("abc", "", "2026", "hunter22", "hunter22tail", "ter22tail99")
	for in, want := range map[string]string{
		"abc":                          "abc",
		"in 2026 hunter22.":            "in *** ***.",
		"hunter22tail99":               "***",
		"xhunter22hunter22y":           "x***y",
		"20261123-104107-4f2c9e1":      "20261123-104107-4f2c9e1",
		"20261123-104107-4f2c9e1 2026": "20261123-104107-4f2c9e1 ***",
		"20261123-104107-zzzzzzz":      "***1123-104107-zzzzzzz",
		"hunter2":                      "hunter2",
		"the end hunter22…":            "the end ***…",
		"":                             "",
	} {
		if got := m.Hide(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := maskOf("postgres://u:pw@db/x").Hide("dsn postgres://u:p…"); got != "dsn ***…" {
		t.Errorf("a secret that was cut: got %q", got)
	}
	var none *Mask
	if none.Hide("x") != "x" || none.HideEvent(event.Event{Msg: "x"}).Msg != "x" {
		t.Error("a mask of nothing hides something")
	}
}

func TestMaskHidesEventsAndFaultsInCopies(t *testing.T) {
	t.Parallel()
	const s = "hunter22"
	m := maskOf(s)
	facts := []string{"| " + s}
	e := event.Event{Msg: s, Text: s, Command: s, Hint: s, Error: s, Path: s, Why: s, Facts: facts, Next: []string{s}}
	f := fault.New(fault.HookFailed, "hook %s", s).Fact("%s", s).Hint("%s", s).Try("%s", s).In("%s", s).Wrap(errors.New(s))
	hidden := m.HideFault(f)
	for _, text := range []string{fmt.Sprintf("%+v", m.HideEvent(e)), fmt.Sprintf("%+v %v", *hidden, hidden)} {
		if strings.Contains(text, s) {
			t.Errorf("not hidden: %s", text)
		}
	}
	if facts[0] != "| "+s || f.Facts[0] != s || !errors.Is(hidden, f.Err) {
		t.Error("the originals were changed, or the cause is lost")
	}
}

// pieces is a Runner whose output comes in the pieces it was given.
type pieces []string

func (p pieces) Run(_ context.Context, _ hooks.Command, output func(string, []byte)) (hooks.Ended, error) {
	for _, one := range p {
		output("stdout", []byte(one))
	}
	return hooks.Ended{}, nil
}

// However output comes, in one piece or by the byte, in lines or in one that never ends: no secret is
// told, and nothing else is lost.
func TestMaskedOutputIsTheSameHoweverItComes(t *testing.T) {
	t.Parallel()
	secrets := []string{"hunter22", "22hunter", "multi\nline secret", strings.Repeat("long", 50)}
	m := maskOf(secrets...)
	rapid.Check(t, func(rt *rapid.T) {
		words := rapid.SliceOf(rapid.SampledFrom(append([]string{"x", " ", "\n", "hunter", "22", "multi", strings.Repeat("y ", 40<<10)}, secrets...))).Draw(rt, "words")
		text := strings.Join(words, "")
		size := rapid.SampledFrom([]int{1, 7, 1000, 32 << 10}).Draw(rt, "size")
		if len(text) > 200<<10 {
			size = max(size, 1000)
		}
		var in pieces
		for rest := text; rest != ""; rest = rest[min(size, len(rest)):] {
			in = append(in, rest[:min(size, len(rest))])
		}
		var got strings.Builder
		if _, err := (maskedRunner{in, m}).Run(t.Context(), hooks.Command{}, func(_ string, p []byte) { got.Write(p) }); err != nil {
			rt.Fatal(err)
		}
		for _, s := range secrets {
			if strings.Contains(got.String(), s) {
				rt.Fatalf("told %q", s)
			}
		}
		plain := strings.NewReplacer("hunter", "", "22", "", "***", "", "multi", "", "line secret", "", "long", "", "\n", "")
		if a, b := plain.Replace(got.String()), plain.Replace(text); a != b {
			rt.Fatalf("%d bytes are told of %d", len(a), len(b))
		}
	})
}

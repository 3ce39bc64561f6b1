package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestReadFreeze(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]*Freeze{
		"":                              nil,
		" \n":                           nil,
		`{"by":"kim@desk"}`:             {By: "kim@desk"},
		"audit until\nFriday":           {By: "somebody", Message: "audit until Friday"},
		`{"by":""}`:                     {By: "somebody", Message: `{"by":""}`},
		`{"by":"kim@desk","message":"x`: {By: "somebody", Message: `{"by":"kim@desk","message":"x`},
	} {
		got := ReadFreeze([]byte(content))
		if (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%q: got %+v, want %+v", content, got, want)
		}
	}
	now := time.Now()
	for _, tt := range []struct {
		f    *Freeze
		want bool
	}{{nil, false}, {&Freeze{}, true}, {&Freeze{Until: now}, false}, {&Freeze{Until: now.Add(1)}, true}} {
		if got := tt.f.Holds(now); got != tt.want {
			t.Errorf("%+v holds: %v", tt.f, got)
		}
	}
}

// FuzzReadFreeze: whatever stands in the file, what is made of it passes Check and can be sent on.
func FuzzReadFreeze(f *testing.F) {
	f.Add([]byte(`{"by":"kim@desk","since":"2026-11-23T10:41:07Z","until":"2026-11-23T12:41:07Z","message":"audit"}`))
	f.Add([]byte("audit\xff until Friday"))
	f.Add([]byte(strings.Repeat("ü", 200)))
	f.Fuzz(func(t *testing.T, content []byte) {
		got := ReadFreeze(content)
		if got == nil {
			return
		}
		if err := got.Check(); err != nil || !utf8.ValidString(got.Message) {
			t.Fatalf("%+v: %v", got, err)
		}
		if _, err := json.Marshal(got); err != nil {
			t.Fatal(err)
		}
	})
}

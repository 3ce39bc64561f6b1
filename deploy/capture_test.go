package deploy

import (
	"context"
	"slices"
	"strings"
	"testing"

	"godeploy/internal/wire"
)

type talker struct{ out, said int }

func (t talker) Exec(_ context.Context, _ wire.ExecRequest, output func(string, []byte)) (wire.ExecReply, error) {
	for range 3 {
		output("stdout", []byte(strings.Repeat("o", t.out)))
		output("stderr", []byte(strings.Repeat("e", t.said)))
	}
	return wire.ExecReply{Exit: 7}, nil
}

func TestCaptureKeepsTheBeginning(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ out, said, wantOut, wantSaid int }{
		{0, 0, 0, 0}, {3, 1, 9, 3}, {4, 2, 10, 5}, {1000, 5, 10, 5},
	} {
		did, err := Capture(t.Context(), talker{c.out, c.said}, wire.ExecRequest{}, 10, 5)
		if err != nil || did.Exit != 7 || did.Out != strings.Repeat("o", c.wantOut) || did.Said != strings.Repeat("e", c.wantSaid) {
			t.Errorf("%+v: %+v, %v", c, did, err)
		}
	}
}

func TestLastLines(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                               nil,
		" \n\n":                          nil,
		"a":                              {"a"},
		"a\r\n\n  b \n":                  {"a", "  b"},
		"a\nb\nc\n":                      {"b", "c"},
		strings.Repeat("x", 400) + "\ny": {strings.Repeat("x", 300), "y"},
	} {
		if got := LastLines(text, 2); !slices.Equal(got, want) {
			t.Errorf("%.20q: %q, want %q", text, got, want)
		}
	}
}

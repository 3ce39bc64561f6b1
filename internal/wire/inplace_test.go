package wire

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func changes() []PlaceChange {
	return []PlaceChange{
		{"a", PlaceUpdate, PlaceFile, WhySize | WhyTime, 5},
		{"a/b" + strings.Repeat("x", 200), PlaceDelete, PlaceSpecial, WhyDeleted, 1 << 40},
		{"a/\xff\n", PlaceCreate, PlaceLink, WhyNew, 0},
		{"b", PlaceKept, PlaceDir, WhyProtected, 0},
	}
}

func TestPlaceChangesTravel(t *testing.T) {
	t.Parallel()
	for _, list := range [][]PlaceChange{nil, changes()} {
		var buf bytes.Buffer
		if err := WritePlaceChanges(&buf, list); err != nil {
			t.Fatal(err)
		}
		buf.WriteString("rest")
		got, err := ReadPlaceChanges(&buf)
		if err != nil || !slices.Equal(got, list) {
			t.Errorf("got %+v, %v, want %+v", got, err, list)
		}
		if buf.String() != "rest" {
			t.Errorf("read on to %q", buf.String())
		}
	}
	if got := (WhyNew | WhyProtected).String(); got != "new,protected" {
		t.Errorf("reasons: got %q", got)
	}
}

func TestHostilePlaceChanges(t *testing.T) {
	t.Parallel()
	one := func(op, kind byte, rest string) string { return "\x01" + string([]byte{op, kind}) + rest }
	for name, list := range map[string]string{
		"endless": "\xff\xff\xff\xff\x7f", "cut off": "\x01\x01", "no op": one(0, 2, "\x01\x00\x00\x01a"), "op": one(9, 2, "\x01\x00\x00\x01a"),
		"kind": one(1, 7, "\x01\x00\x00\x01a"), "reason": one(1, 2, "\x80\x20\x00\x00\x01a"), "way up": one(1, 2, "\x01\x00\x00\x04../a"),
		"absolute": one(1, 2, "\x01\x00\x00\x02/a"), "nothing": one(1, 2, "\x01\x00\x00\x00"), "NUL": one(1, 2, "\x01\x00\x00\x02a\x00"),
		"common": one(1, 2, "\x01\x00\x05\x01a"), "long": one(1, 2, "\x01\x00\x00\xff\xff\x7f"), "size": one(1, 2, "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x01a"),
		"twice": "\x02\x01\x02\x01\x00\x00\x01a\x01\x02\x01\x00\x01\x00",
	} {
		if got, err := ReadPlaceChanges(strings.NewReader(list)); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	site := Site{App: "shop", Path: "/srv/shop"}
	for name, m := range map[string]Checker{
		"verify":   &PlaceRequest{Site: site, Verify: "some"},
		"negative": &PlaceRequest{Site: site, Limit: Share{N: -1}},
		"101 %":    &PlaceRequest{Site: site, Limit: Share{N: 101, Percent: true}},
		"rules":    &PlaceRequest{Site: site, Rules: make([][]byte, maxRuleTexts+1)},
		"bytes":    &PlaceRequest{Site: site, Rules: [][]byte{make([]byte, maxRuleBytes+1)}},
		"/etc":     &PlaceRequest{Site: Site{App: "shop", Path: "/etc/shop"}},
		"counts":   &PlaceReply{Deleted: -1},
		"note":     &PlaceReply{Notes: []string{strings.Repeat("x", maxNote+1)}},
	} {
		if m.Check() == nil {
			t.Errorf("%s passed", name)
		}
	}
}

// FuzzPlaceChanges: what is read can be written and read again.
func FuzzPlaceChanges(f *testing.F) {
	var buf bytes.Buffer
	if err := WritePlaceChanges(&buf, changes()); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := ReadPlaceChanges(bytes.NewReader(raw))
		if err != nil {
			return
		}
		var buf bytes.Buffer
		if err := WritePlaceChanges(&buf, list); err != nil {
			t.Fatal(err)
		}
		again, err := ReadPlaceChanges(&buf)
		if err != nil || !slices.Equal(again, list) {
			t.Fatalf("got %+v, %v, want %+v", again, err, list)
		}
	})
}

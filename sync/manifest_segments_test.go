package filesync

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"
)

// asked is what a conversation about segments took, in bytes.
type asked struct{ sums, need, entries int }

// askAbout brings m to a receiver that has a tree, by segments.
func askAbout(t *testing.T, have, m *Manifest) (*Manifest, asked) {
	t.Helper()
	var took asked
	var b bytes.Buffer
	segs, root := m.segments(), m.Root()
	ok(t, encodeSegments(&b, segs, root))
	took.sums = b.Len()
	sums, err := decodeSegments(&b)
	ok(t, err)
	need := missingSegments(have, sums)
	b.Reset()
	ok(t, need.encode(&b))
	took.need = b.Len()
	there, err := decodeNeed(&b, len(segs))
	ok(t, err)
	b.Reset()
	ok(t, encodeSegmentEntries(&b, m, segs, root, there))
	took.entries = b.Len()
	whole := bytes.Clone(b.Bytes())
	got, err := joinSegments(&b, sums, need)
	ok(t, err)
	ok(t, got.Check())
	if got.Root() != root || len(got.Entries) != len(m.Entries) {
		t.Fatalf("got %d entries, want %d", len(got.Entries), len(m.Entries))
	}
	for _, cutOff := range []int{0, len(whole) / 2, len(whole) - 1} {
		if cutOff < 0 || cutOff == len(whole) {
			continue
		}
		if _, err := joinSegments(bytes.NewReader(whole[:cutOff]), sums, need); err == nil {
			t.Errorf("%d of %d bytes passed", cutOff, len(whole))
		}
	}
	return got, took
}

func TestSegmentsBringAnyTree(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		g := newGrove(seed)
		have := g.plant(1 + g.IntN(400))
		next := g.change(have, g.IntN(20))
		askAbout(t, have, next)
		askAbout(t, next, have)
		askAbout(t, have, g.plant(30))
		askAbout(t, have, &Manifest{})
		if _, took := askAbout(t, have, have); took.entries != 0 || took.need > 16 {
			t.Errorf("nothing changed: %+v", took)
		}
		// What the receiver does not have comes in every field.
		if got, _ := askAbout(t, &Manifest{}, next); !reflect.DeepEqual(got.Entries, next.Entries) {
			t.Error("told in whole: not the same")
		}
	}
}

// TestAnEditMovesNoBorder: nor does a new file move more than those around it.
func TestAnEditMovesNoBorder(t *testing.T) {
	t.Parallel()
	m := wide(20_000)
	segs := m.segments()
	if mean := len(m.Entries) / len(segs); mean < minSegment+borderEvery/2 || mean > minSegment+2*borderEvery {
		t.Errorf("segments have %d entries on average", mean)
	}
	at := 0
	for i, s := range segs {
		n := s.end - s.first
		if s.first != at || n > maxSegment || n < minSegment && i < len(segs)-1 {
			t.Errorf("segment %d: from %d to %d, want it from %d", i, s.first, s.end, at)
		}
		at = s.end
	}
	if at != len(m.Entries) {
		t.Errorf("segments end at %d of %d", at, len(m.Entries))
	}
	edited := &Manifest{Entries: slices.Clone(m.Entries)}
	for i := range edited.Entries {
		edited.Entries[i].Mode ^= 1
	}
	same := func(a, b segment) bool { return a.first == b.first && a.end == b.end && a.sum != b.sum }
	if again := edited.segments(); !slices.EqualFunc(segs, again, same) {
		t.Error("edits moved borders")
	}
	old := map[Hash]bool{}
	for _, s := range segs {
		old[s.sum] = true
	}
	added := &Manifest{Entries: slices.Insert(slices.Clone(m.Entries), 10_000, Entry{Path: m.Entries[9_999].Path + "-new", Kind: Link, Link: "x"})}
	fresh := 0
	for _, s := range added.segments() {
		if !old[s.sum] {
			fresh++
		}
	}
	if fresh == 0 || fresh > 5 {
		t.Errorf("one new entry made %d new segments", fresh)
	}
	for i := range m.Entries {
		m.Entries[i].MTime++
	}
	if again := m.segments(); !slices.Equal(segs, again) {
		t.Error("times count")
	}
}

// TestBordersOfSegmentsArePartOfTheFormat: both ends must cut alike.
func TestBordersOfSegmentsArePartOfTheFormat(t *testing.T) {
	t.Parallel()
	var ends []int
	for _, s := range wide(400).segments() {
		ends = append(ends, s.end)
	}
	if want := []int{19, 200, 243, 274, 301, 321, 341, 405}; !slices.Equal(ends, want) {
		t.Errorf("got %d, want %d", ends, want)
	}
	m := sample()
	var b bytes.Buffer
	ok(t, encodeSegments(&b, m.segments(), m.Root()))
	if got, want := b.Bytes()[33:], []byte{0x78, 0x11, 0x59, 0xbd, 0xa1, 0x15, 0x02, 0x3b}; !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
}

// TestSegmentsOfALargeTreeCostLittle: what a sender that knows nothing of the host needs for 20 edits.
func TestSegmentsOfALargeTreeCostLittle(t *testing.T) {
	t.Parallel()
	have := wide(20_000)
	next := &Manifest{Entries: slices.Clone(have.Entries)}
	g := newGrove(8)
	for range 20 {
		if e := &next.Entries[g.IntN(len(next.Entries))]; e.Kind == File {
			e.Hash, e.Size, e.MTime = g.hash(), e.Size+1, g.time()
		}
	}
	if _, took := askAbout(t, have, next); took.sums > 8*20_000/minSegment || took.need > 40_000 || took.entries > 20*100 {
		t.Errorf("takes %+v", took)
	}
	// Another tree altogether: no more is offered than may help.
	if _, took := askAbout(t, have, g.plant(3_000)); took.need > 8*maxOffers+5_000 {
		t.Errorf("takes %+v", took)
	}
}

// TestALyingSenderOfSegmentsMakesNoTree: sums told twice, sums for other entries, entries that are not
// those of the root.
func TestALyingSenderOfSegmentsMakesNoTree(t *testing.T) {
	t.Parallel()
	have := wide(500)
	segs, root := have.segments(), have.Root()
	tell := func(segs []segment, root Hash) segmentSums {
		var b bytes.Buffer
		ok(t, encodeSegments(&b, segs, root))
		sums, err := decodeSegments(&b)
		ok(t, err)
		return sums
	}
	join := func(sums segmentSums, entries []byte) error {
		_, err := joinSegments(bytes.NewReader(entries), sums, missingSegments(have, sums))
		return err
	}
	ok(t, join(tell(segs, root), nil))
	unknown := slices.Clone(segs)
	unknown[1].sum[0]++
	one := func(m message) message { return append(message{}.u(1), m...) }
	for name, err := range map[string]error{
		"twice":             join(tell(append(slices.Clone(segs), segs...), root), nil),
		"less":              join(tell(segs[1:], root), nil),
		"another order":     join(tell([]segment{segs[1], segs[0]}, root), nil),
		"another root":      join(tell(segs, Hash{1}), nil),
		"more behind":       join(tell(segs, root), []byte{0}),
		"nothing":           join(tell(unknown, root), nil),
		"segment of none":   join(tell(unknown, root), message{}.u(0)),
		"too many":          join(tell(unknown, root), message{}.u(maxSegment+1)),
		"run of none":       join(tell(unknown, root), one(message{}.u(0))),
		"run too long":      join(tell(unknown, root), one(message{}.u(2<<1|1).s(0))),
		"offer behind":      join(tell(unknown, root), one(message{}.u(1<<1|1).s(maxOffers))),
		"offer before":      join(tell(unknown, root), one(message{}.u(1<<1|1).s(-1))),
		"told out of order": join(tell(unknown, root), one(append(message{}.u(1<<1, 0).text("a"), byte(Dir), 0))),
		"not the root's":    join(tell(unknown, root), one(append(message{}.u(1<<1, 0).text(have.Entries[unknown[1].first].Path), byte(Dir), 0))),
	} {
		if err == nil {
			t.Errorf("%s: passed", name)
		}
	}
}

func TestTooMuchInSegmentsIsRefused(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]message{
		"no root":       message{}.u(0),
		"sums missing":  append(message{}.u(2), make([]byte, 32+15)...),
		"sums too many": append(message{}.u(MaxEntries/minSegment+2), make([]byte, 2<<20)...),
		"more behind":   append(message{}.u(0), make([]byte, 33)...),
	} {
		if _, err := decodeSegments(bytes.NewReader(m)); err == nil {
			t.Errorf("segments, %s: passed", name)
		}
	}
	for name, m := range map[string]message{
		"nothing":         {},
		"short set":       message{}.u(3),
		"no offers":       message{}.u(5),
		"offers missing":  append(message{}.u(5, 1), 1, 2, 3),
		"offers too many": append(message{}.u(5, maxOffers+1), make([]byte, 8*(maxOffers+1))...),
		"more behind":     message{}.u(5, 0, 0),
	} {
		if _, err := decodeNeed(bytes.NewReader(m), 5); err == nil {
			t.Errorf("need, %s: passed", name)
		}
	}
	big := sorted(map[string]Entry{"big": newGrove(6).large(20_000)})
	j := segmentReader{plainReader: newPlainReader(bytes.NewReader(nil)), need: &segmentNeed{have: big}}
	for range 201 {
		j.entries = nil
		j.keep(run{0, 1})
	}
	if !errors.Is(j.err, errTooLarge) {
		t.Errorf("4 million chunks, taken over again and again: %v", j.err)
	}
	j = segmentReader{plainReader: newPlainReader(bytes.NewReader(nil)), need: &segmentNeed{have: big}, entries: make([]Entry, MaxEntries)}
	if j.keep(run{0, 1}); !errors.Is(j.err, errTooLarge) {
		t.Errorf("too many entries: %v", j.err)
	}
}

func FuzzSegments(f *testing.F) {
	g := newGrove(1)
	have := g.plant(300)
	next := g.change(have, 9)
	var told, need, entries bytes.Buffer
	segs, root := next.segments(), next.Root()
	err := encodeSegments(&told, segs, root)
	sums, err2 := decodeSegments(bytes.NewReader(told.Bytes()))
	n := missingSegments(have, sums)
	err3 := n.encode(&need)
	if err := errors.Join(err, err2, err3, encodeSegmentEntries(&entries, next, segs, root, n)); err != nil {
		f.Fatal(err)
	}
	f.Add(told.Bytes(), need.Bytes(), entries.Bytes())
	f.Fuzz(func(t *testing.T, told, need, entries []byte) {
		if n, err := decodeNeed(bytes.NewReader(need), len(segs)); err == nil {
			var b bytes.Buffer
			ok(t, encodeSegmentEntries(&b, next, segs, root, n))
		}
		sums, err := decodeSegments(bytes.NewReader(told))
		if err != nil {
			return
		}
		m, err := joinSegments(bytes.NewReader(entries), sums, missingSegments(have, sums))
		if err == nil && (m.Check() != nil || m.Root() != sums.root) {
			t.Error("an unchecked tree came through")
		}
	})
}

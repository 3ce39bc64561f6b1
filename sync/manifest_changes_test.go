package filesync

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"godeploy/sync/delta"
)

// told encodes and decodes what leads from old to m, and gives how long it is.
func told(t *testing.T, old, m *Manifest, times bool) int {
	t.Helper()
	ok(t, errors.Join(old.Check(), m.Check()))
	var b bytes.Buffer
	ok(t, m.tellChanges(&b, old, times))
	n := b.Len()
	whole := bytes.Clone(b.Bytes())
	got, err := decodeChanges(&b, old)
	ok(t, err)
	if !times {
		m = asTold(old, m)
	}
	if len(got.Entries)+len(m.Entries) > 0 && !reflect.DeepEqual(got.Entries, m.Entries) {
		for i := range m.Entries {
			if i < len(got.Entries) && !reflect.DeepEqual(got.Entries[i], m.Entries[i]) {
				t.Fatalf("entry %d of %d, want %d:\ngot  %+v\nwant %+v", i, len(got.Entries), len(m.Entries), got.Entries[i], m.Entries[i])
			}
		}
		t.Fatalf("got %d entries, want %d", len(got.Entries), len(m.Entries))
	}
	for _, cutOff := range []int{0, n / 3, n / 2, n - 1} {
		if _, err := decodeChanges(bytes.NewReader(whole[:cutOff]), old); err == nil {
			t.Errorf("%d of %d bytes passed", cutOff, n)
		}
	}
	return n
}

// asTold is m with the times that are not told.
func asTold(old, m *Manifest) *Manifest {
	var b bytes.Buffer
	next := &Manifest{Entries: slices.Clone(m.Entries)}
	for i := range next.Entries {
		e := &next.Entries[i]
		was := old.Find(e.Path)
		if was != nil && sameBut(was, e) {
			e.MTime = was.MTime
		}
	}
	// Which entries count as moved is for the encoder to choose: their times are the parent's.
	if next.encodeChanges(&b, old) == nil {
		if got, err := decodeChanges(&b, old); err == nil && len(got.Entries) == len(next.Entries) {
			for i := range next.Entries {
				if e := &next.Entries[i]; old.Find(e.Path) == nil && hasTime(old, e, got.Entries[i].MTime) {
					e.MTime = got.Entries[i].MTime
				}
			}
		}
	}
	return next
}

// hasTime reports whether the parent has an entry that differs from e in path alone, with this time.
func hasTime(old *Manifest, e *Entry, mtime int64) bool {
	return slices.ContainsFunc(old.Entries, func(was Entry) bool {
		return was.MTime == mtime && was.Mode == e.Mode && sameBut(&was, e)
	})
}

func TestChangesLeadFromAnyTreeToAnyOther(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		g := newGrove(seed)
		old := g.plant(1 + g.IntN(120))
		next := g.change(old, g.IntN(20))
		for _, times := range []bool{false, true} {
			told(t, old, next, times)
			told(t, next, old, times)
			told(t, old, g.plant(30), times)
		}
		told(t, old, &Manifest{}, true)
		told(t, &Manifest{}, old, true)
		if n := told(t, old, old, true); n > 40 {
			t.Errorf("nothing changed: %d bytes", n)
		}
	}
}

func FuzzChanges(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint8(9))
	f.Fuzz(func(t *testing.T, plant, change uint64, steps uint8) {
		old := newGrove(plant).plant(int(plant % 64))
		next := newGrove(change).change(old, int(steps))
		told(t, old, next, change%2 == 0)
		var b bytes.Buffer
		ok(t, next.encodeChanges(&b, old))
		damaged := b.Bytes()
		damaged[int(plant>>8%uint64(len(damaged)))%len(damaged)] ^= byte(1 << (change % 8))
		if m, err := decodeChanges(bytes.NewReader(damaged), old); err == nil && m.Check() != nil {
			t.Error("an unchecked tree came through")
		}
	})
}

// TestAMoveIsOneRecord: a folder of a thousand files under another name, in a fresh checkout too.
func TestAMoveIsOneRecord(t *testing.T) {
	t.Parallel()
	old := wide(5_000)
	at := map[string]Entry{}
	for _, e := range old.Entries {
		at[e.Path] = e
	}
	g := newGrove(1)
	g.move(at, "app0002", "package/renamed")
	renamed := sorted(at)
	if n := told(t, old, renamed, true); n > 120 {
		t.Errorf("a renamed folder takes %d bytes", n)
	}
	for p, e := range at {
		e.MTime = g.time()
		at[p] = e
	}
	if n := told(t, old, sorted(at), false); n > 120 {
		t.Errorf("a renamed folder in a fresh checkout takes %d bytes", n)
	}
	if n := told(t, old, old, false); n > 40 {
		t.Errorf("a fresh checkout takes %d bytes", n)
	}
	// Each file by itself: a record with the new name.
	each := map[string]Entry{}
	for p, e := range at {
		if e.Kind == File && p[:7] == "app0003" {
			p = p[:len(p)-3] + ".txt"
		}
		each[p] = e
	}
	if n := told(t, sorted(at), sorted(each), true); n > 20_000 {
		t.Errorf("a thousand renamed files take %d bytes", n)
	}
}

// TestMovedEmptyFilesDoNotBreakAMove: many files share one content, as every __init__.py does.
func TestMovedEmptyFilesDoNotBreakAMove(t *testing.T) {
	t.Parallel()
	g := newGrove(2)
	at := map[string]Entry{}
	for i := range 400 {
		e := g.small()
		if i%2 == 0 {
			e = Entry{Kind: File, Mode: 0o644, Hash: emptyHash(), MTime: g.time()}
		}
		if i%5 == 0 {
			e.Hash, e.Size = Hash{9}, 77
		}
		at[fmt.Sprintf("old/sub%d/f%d", i/50, i)] = e
	}
	old := sorted(maps.Clone(at))
	g.move(at, "old", "new")
	delete(at, "old")
	if n := told(t, old, sorted(at), false); n > 200 {
		t.Errorf("takes %d bytes", n)
	}
}

func TestAnInsertionIntoALargeFileCostsItsChunks(t *testing.T) {
	t.Parallel()
	g := newGrove(3)
	big := g.large(30_000)
	big.Path = "data/big"
	old := sorted(map[string]Entry{"data/big": big, "data/other": g.large(50), "x": g.small()})
	next := big
	next.Chunks = slices.Concat(big.Chunks[:12_345], g.chunks(3), big.Chunks[12_346:])
	next.MTime = g.time()
	at := map[string]Entry{"data/big": chunked(next), "data/other": old.Entries[2], "x": *old.Find("x")}
	if n := told(t, old, sorted(at), true); n > 200+3*35 {
		t.Errorf("takes %d bytes", n)
	}
	// The same under another name, with another mode, and beside the old one.
	moved := chunked(next)
	moved.Mode = 0o600
	at["data/copy"], at["data/big"] = moved, big
	if n := told(t, old, sorted(at), true); n > 250+3*35 {
		t.Errorf("as a new file: takes %d bytes", n)
	}
}

// TestTwentyEditsCostTwentyHashes: 20 files of 100,000.
func TestTwentyEditsCostTwentyHashes(t *testing.T) {
	t.Parallel()
	old := wide(20_000)
	g := newGrove(4)
	next := &Manifest{Entries: slices.Clone(old.Entries)}
	for range 20 {
		i := g.IntN(len(next.Entries))
		if e := &next.Entries[i]; e.Kind == File {
			e.Hash, e.Size, e.MTime = g.hash(), e.Size+1, g.time()
		}
	}
	if n := told(t, old, next, false); n > 20*(32+18)+50 {
		t.Errorf("takes %d bytes", n)
	}
	for i := range next.Entries {
		next.Entries[i].Mode = 0o700
	}
	if n := told(t, old, next, false); n > 6*len(old.Entries) {
		t.Errorf("all modes: takes %d bytes", n)
	}
}

// message builds a message of the changes form by hand.
type message []byte

func (m message) u(n ...uint64) message {
	for _, v := range n {
		m = binary.AppendUvarint(m, v)
	}
	return m
}

func (m message) s(n int64) message     { return binary.AppendVarint(m, n) }
func (m message) o(o op) message        { return append(m, byte(o)) }
func (m message) text(s string) message { return append(m.u(uint64(len(s))), s...) }
func (m message) root(r *Manifest) message {
	root := r.Root()
	return append(m, root[:]...)
}

func TestChangesThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	g := newGrove(5)
	big := g.large(40)
	old := sorted(map[string]Entry{"d/a": g.small(), "d/big": big, "d/l": {Kind: Link, Link: "a"}, "z": g.small()})
	// places: 0 d, 1 d/a, 2 d/big, 3 d/l, 4 z
	none := message{}.u(0)
	first := func(o op, place int64) message { return slices.Clone(none).o(o).s(place) }
	size := uint64(ChunkedFrom)
	for name, m := range map[string]message{
		"nothing":                {},
		"gone past the end":      message{}.u(1, 5, 1),
		"gone too many":          message{}.u(1, 0, 6),
		"gone none":              message{}.u(1, 0, 0),
		"gone of all":            message{}.u(6),
		"unknown record":         none.o(9),
		"no end":                 none,
		"no root":                slices.Clone(none).o(opEnd),
		"another root":           append(slices.Clone(none).o(opEnd), make([]byte, 32)...),
		"more behind":            append(slices.Clone(none).o(opEnd).root(old), 0),
		"edit of a folder":       first(opEdit, 0).s(0).u(1),
		"edit of a link":         first(opEdit, 3).s(0).u(1),
		"edit past the end":      first(opEdit, 5),
		"edit before the start":  first(opEdit, -1),
		"edit far away":          first(opEdit, 1<<40),
		"place of all bits":      first(opEdit, -1<<63),
		"meta of nothing":        first(opMeta, 1).u(0),
		"meta of more":           first(opMeta, 1).u(4),
		"mode too large":         first(opMeta, 1).u(metaMode, 0o1000),
		"same entry twice":       append(first(opMeta, 1).u(metaMode, 0), message{}.o(opMeta).s(-1).u(metaMode, 1)...),
		"out of order":           append(first(opMeta, 4).u(metaMode, 0), message{}.o(opMeta).s(-5).u(metaMode, 1)...),
		"like a folder":          append(first(opLike, 0).u(0).text("x"), byte(File), 0),
		"folder like a file":     append(first(opLike, 1).u(0).text("x"), byte(Dir), 0),
		"told of kind 0":         append(slices.Clone(none).o(opTold).u(0).text("x"), 0, 0),
		"told of kind 7":         append(slices.Clone(none).o(opTold).u(0).text("x"), 7, 0),
		"moved none":             first(opMoved, 1).u(0, 0, 0).text(""),
		"moved too many":         first(opMoved, 1).u(5, 0, 0).text("x"),
		"cut too long":           first(opMoved, 1).u(1, 4, 0).text("x"),
		"moved upon itself":      first(opMoved, 1).u(2, 3, 0).text("x"),
		"shares too much":        slices.Clone(none).o(opTold).u(1),
		"chunks too many":        first(opEdit, 2).s(0).u(size, size/delta.MinChunk+2),
		"run of none":            first(opEdit, 2).s(0).u(size, 9, 0),
		"run too long":           first(opEdit, 2).s(0).u(size, 9, 10<<1|1).s(0),
		"chunks before":          first(opEdit, 2).s(0).u(size, 9, 9<<1|1).s(-1),
		"chunks behind":          first(opEdit, 2).s(0).u(size, 9, 9<<1|1).s(int64(len(big.Chunks)) - 8),
		"chunks of another size": append(first(opEdit, 2).s(0).u(size, 9, 9<<1|1).s(0), message{}.o(opEnd).root(old)...),
		"chunk too large":        first(opEdit, 2).s(0).u(size, 9, 9<<1, delta.MaxChunk+1),
	} {
		if _, err := decodeChanges(bytes.NewReader(m), old); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
	if _, err := decodeChanges(bytes.NewReader(slices.Clone(none).o(opEnd).root(old)), old); err != nil {
		t.Errorf("no changes: %v", err)
	}
}

// TestFewBytesDoNotMakeMuch: records that take over all of a large tree once more, when nearly as much
// has been made as may be.
func TestFewBytesDoNotMakeMuch(t *testing.T) {
	t.Parallel()
	old := wide(100)
	m := message{}.u(0).o(opMoved).s(0).u(uint64(len(old.Entries)), 0, 0).text("copy/")
	c := newChangeReader(bytes.NewReader(m), old)
	c.news = make([]Entry, MaxEntries-50, MaxEntries+1)
	if _, err := c.read(); !errors.Is(err, errTooLarge) {
		t.Errorf("too many entries: %v", err)
	}
	c = newChangeReader(bytes.NewReader(m), old)
	c.text = MaxText - 1000
	if _, err := c.read(); !errors.Is(err, errTooLarge) {
		t.Errorf("too much text: %v", err)
	}
	big := sorted(map[string]Entry{"big": newGrove(6).large(20_000)})
	like := message{}.u(0)
	for i := range 100_000 {
		like = append(like.o(opLike).s(-int64(min(i, 1))).u(0).text(fmt.Sprintf("c%06d", i)), byte(File), 0)
	}
	if _, err := decodeChanges(bytes.NewReader(like), big); !errors.Is(err, errTooLarge) {
		t.Errorf("2 billion chunks: %v", err)
	}
}

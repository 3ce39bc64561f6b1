package delta

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// source gives n bytes that look like source code: lines of words.
func source(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	words := []string{"return", "if", "for", "value", "self", "request", "=", "==", "def", "(x, y)", "None", "items", "0", "raise", "# why"}
	var b []byte
	for len(b) < n {
		b = append(b, bytes.Repeat([]byte("    "), rng.IntN(4))...)
		for range 1 + rng.IntN(8) {
			b = append(b, words[rng.IntN(len(words))]...)
			b = append(b, ' ')
		}
		b = fmt.Appendf(b, "v%d\n", rng.IntN(1000))
	}
	return b[:n]
}

// wired sends a signature over the wire.
func wired(t testing.TB, s Signature) Signature {
	t.Helper()
	p := s.Append([]byte("x"))
	if s.Size() != len(p)-1 {
		t.Errorf("Size says %d, Append wrote %d", s.Size(), len(p)-1)
	}
	got, rest, err := ReadSignature(append(p[1:], "rest"...), MaxSigned)
	if err != nil || string(rest) != "rest" || got.size != s.size || !slices.Equal(got.sums, s.sums) {
		t.Fatalf("a signature of %d bytes does not survive: %v, rest %q", s.size, err, rest)
	}
	return got
}

// through takes target the whole way and gives the length of its patch.
func through(t testing.TB, old, target []byte) int {
	t.Helper()
	p := MakePatch(wired(t, Sign(old)), target)
	got, err := ApplyPatch(old, p, len(target))
	if err != nil || !bytes.Equal(got, target) {
		t.Fatalf("old %d, target %d bytes: not the target: %v", len(old), len(target), err)
	}
	if len(p) > len(target)+3+len(target)/64 {
		t.Errorf("patch of %d bytes for %d", len(p), len(target))
	}
	return len(p)
}

func join(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		b = fmt.Appendf(b, "%s", p)
	}
	return b
}

func TestAPatchHoldsWhatChangedAndLittleElse(t *testing.T) {
	t.Parallel()
	old := source(1, 20_000)
	b := blockLength(len(old))
	for name, c := range map[string]struct {
		target []byte
		most   int
	}{
		"same":      {old, 8},
		"inserted":  {join(old[:9_000], "a new line\n", old[9_000:]), 2*b + 30},
		"replaced":  {join(old[:9_000], "XX", old[9_002:]), 2*b + 30},
		"cut":       {join(old[:5_000], old[9_000:]), 2*b + 30},
		"front":     {join("# a comment\n", old), 30},
		"end":       {join(old, "# a comment\n"), b + 30},
		"twice":     {join(old, old), b + 30},
		"two edits": {join(old[:3_000], "x", old[3_000:15_000], old[15_020:]), 4*b + 40},
		"moved":     {join(old[10_000:], old[:10_000]), 2*b + 40},
		"empty":     {nil, 0},
		"other":     {noise(1, 500), 503},
	} {
		if n := through(t, old, c.target); n > c.most {
			t.Errorf("%s: patch of %d bytes, want at most %d", name, n, c.most)
		}
	}
}

func TestPatchOfEverySizeIsTheTarget(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 127, 128, 129, 255, 256, 1000, 4096, 65_536, MaxSigned - 1, MaxSigned} {
		old := source(uint64(n), n)
		through(t, old, old)
		through(t, nil, old)
		through(t, old, nil)
		through(t, old, old[n/2:])
		through(t, old, old[:n/2])
		through(t, make([]byte, n), old)
		through(t, make([]byte, n), make([]byte, n/3))
	}
	large := noise(5, MaxSigned+5000)
	if n := through(t, large, large[:MaxSigned]); n > 16 {
		t.Errorf("of a larger content the first part: patch of %d bytes", n)
	}
}

func FuzzSmallPatchIsTheTarget(f *testing.F) {
	f.Add([]byte("old"), []byte("new"), uint64(1), uint16(9), uint16(5000))
	f.Fuzz(func(t *testing.T, insert, tail []byte, seed uint64, at, size uint16) {
		old := source(seed, int(size))
		at = min(at, size/2)
		through(t, old, join(old[:at], insert, old[int(at)*2:], tail))
		through(t, insert, tail)
		through(t, join(insert, tail, insert), join(tail, insert))
	})
}

func FuzzSignatureOfAnything(f *testing.F) {
	f.Add(Sign(source(1, 5000)).Append(nil), source(1, 5000), source(2, 700))
	f.Add([]byte{0xff, 0xff, 0x0f}, []byte(nil), []byte("x"))
	f.Fuzz(func(t *testing.T, p, target, old []byte) {
		if s, rest, err := ReadSignature(p, len(p)); err == nil {
			if s.size > len(p) || len(rest) > len(p) {
				t.Errorf("%d bytes made a signature of %d", len(p), s.size)
			}
			// A signature that lies: what comes out of it is refused, or has the size that is due.
			lie := MakePatch(s, target)
			if got, err := ApplyPatch(old, lie, len(target)); err == nil && len(got) != len(target) {
				t.Errorf("%d bytes, want %d", len(got), len(target))
			}
		}
		if got, err := ApplyPatch(old, p, len(target)); err == nil && len(got) != len(target) {
			t.Errorf("%d bytes, want %d", len(got), len(target))
		}
	})
}

// TestBlocksArePartOfTheFormat: both ends must cut alike.
func TestBlocksArePartOfTheFormat(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]int{0: 64, 455: 64, 2_000: 128, 10_000: 288, 60_000: 720, 200_000: 1024, MaxSigned: 1024} {
		if got := blockLength(size); got != want {
			t.Errorf("content of %d bytes: blocks of %d, want %d", size, got, want)
		}
	}
	if got := Sign([]byte("godeploy")).Append(nil); !bytes.Equal(got, []byte{8, 0x0e, 0x98, 0xf4, 0xa7, 0x9e}) {
		t.Errorf("got % x", got)
	}
}

// TestCraftedSumsCostNoTime counts how often the table of blocks is looked at, for sums that all fall
// on one place, and for contents without and with anything in common.
func TestCraftedSumsCostNoTime(t *testing.T) {
	t.Parallel()
	looks := func(s Signature, target []byte) int {
		d := differ{blockTable: newBlockTable(s), target: target}
		d.search(target)
		return d.steps
	}
	old, target := source(3, 200_000), noise(4, 200_000)
	normal := looks(Sign(old), target)
	crowded := Sign(old)
	at := blockSum(rolled(target[1000 : 1000+blockLength(len(old))]))
	for i := range crowded.sums {
		crowded.sums[i] = at&^0xffff | uint64(i) + 1<<15 // the top bits choose the place
	}
	for name, s := range map[string]Signature{"crowded": crowded, "equal": Sign(make([]byte, 200_000)), "old": Sign(target)} {
		for what, b := range map[string][]byte{"zeros": make([]byte, 200_000), "noise": target, "periodic": bytes.Repeat(target[1000:2024], 190)} {
			if got := looks(s, b); got > 2*normal {
				t.Errorf("%s on %s: %d looks, %d normally", name, what, got, normal)
			}
		}
	}
	// A table whose every place is taken is the worst there is.
	d := differ{blockTable: newBlockTable(crowded), target: target}
	for i := range d.slots {
		d.slots[i] = uint16(1 + i%len(d.full))
	}
	if d.search(target); d.steps > 2*normal {
		t.Errorf("full table: %d looks, %d normally", d.steps, normal)
	}
}

func TestAPatchThatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	old := source(1, 1000) // blocks of 80 bytes, 13 of them
	for name, c := range map[string]struct {
		patch []byte
		size  int
	}{
		"nothing":       {nil, 1},
		"literal short": {[]byte{3, 'a', 'b'}, 3},
		"literal long":  {[]byte{3, 'a', 'b', 'c'}, 2},
		"behind":        {[]byte{1, 'a', 0}, 1},
		"no run":        {[]byte{0}, 80},
		"no count":      {[]byte{0, 0}, 80},
		"empty run":     {[]byte{0, 0, 0}, 80},
		"past the end":  {[]byte{0, 0, 14}, 1040},
		"block 13":      {[]byte{0, 26, 1}, 80},
		"block -1":      {[]byte{0, 1, 1}, 80},
		"run too long":  {[]byte{0, 0, 2}, 80},
		"huge":          {[]byte{0, 0, 1}, MaxSigned + 1},
		"negative":      {nil, -1},
		"overflow":      {append([]byte{0}, bytes.Repeat([]byte{0xff}, 11)...), 80},
	} {
		if got, err := ApplyPatch(old, c.patch, c.size); err == nil {
			t.Errorf("%s: made %d bytes", name, len(got))
		}
	}
	if got, err := ApplyPatch(old, []byte{0, 24, 1, 0, 24 + 3, 1}, 40+80); err == nil {
		t.Errorf("a run that steps back too far made %d bytes", len(got))
	}
	whole := Sign(old).Append(nil)
	for n := range whole {
		if _, _, err := ReadSignature(whole[:n], MaxSigned); err == nil {
			t.Errorf("%d of %d bytes passed as a signature", n, len(whole))
		}
	}
	for _, most := range []int{999, 0, -1} {
		if _, _, err := ReadSignature(whole, most); err == nil {
			t.Errorf("a signature of 1,000 bytes passed where %d are allowed", most)
		}
	}
}

func BenchmarkSmallPatch(b *testing.B) {
	old := source(1, 20_000)
	target := join(old[:9_000], "a new line\n", old[9_000:])
	b.Run("sign", func(b *testing.B) {
		b.SetBytes(int64(len(old)))
		for b.Loop() {
			Sign(old)
		}
	})
	s := Sign(old)
	for name, c := range map[string][]byte{"edited": target, "other": noise(1, len(old))} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(c)))
			for b.Loop() {
				MakePatch(s, c)
			}
		})
	}
}

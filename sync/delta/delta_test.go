package delta

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func cutUp(t testing.TB, r io.Reader) []Chunk {
	t.Helper()
	var chunks []Chunk
	err := NewSplitter().Split(r, func(c Chunk, data []byte) error {
		if int(c.Len) != len(data) || c.Sum != sha256.Sum256(data) {
			t.Error("a chunk does not describe its bytes")
		}
		chunks = append(chunks, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return chunks
}

// rebuild patches old into target and gives how many bytes came as data.
func rebuild(t testing.TB, old, target []byte) (got []byte, sent int) {
	t.Helper()
	var x Index
	x.Add(7, cutUp(t, bytes.NewReader(old)))
	want := cutUp(t, bytes.NewReader(target))
	ops := Diff(&x, want)
	at, rest := 0, bytes.NewReader(target)
	offsets := dataOffsets(want, ops)
	var out bytes.Buffer
	err := Patch(&out, want, ops, func(source int) (io.ReaderAt, error) {
		if source != 7 {
			t.Errorf("asked for content %d", source)
		}
		return bytes.NewReader(old), nil
	}, func(n int) ([]byte, error) {
		b := make([]byte, n)
		_, err := rest.ReadAt(b, offsets[at])
		at++
		sent += n
		return b, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), sent
}

func dataOffsets(want []Chunk, ops []Op) []int64 {
	var offsets []int64
	var off int64
	for _, op := range ops {
		for range op.Chunks {
			if !op.Copy {
				offsets = append(offsets, off)
			}
			off += int64(want[0].Len)
			want = want[1:]
		}
	}
	return offsets
}

func TestChunksDoNotDependOnHowTheyAreRead(t *testing.T) {
	t.Parallel()
	content := noise(1, 2<<20)
	whole := cutUp(t, bytes.NewReader(content))
	halves := cutUp(t, iotest.HalfReader(bytes.NewReader(content)))
	if Sum(whole) != Sum(halves) || Size(whole) != int64(len(content)) {
		t.Error("the borders moved")
	}
	for i, c := range whole {
		if c.Len > MaxChunk || c.Len < MinChunk && i < len(whole)-1 {
			t.Errorf("chunk %d has %d bytes", i, c.Len)
		}
	}
	if mean := len(content) / len(whole); mean < 20<<10 || mean > 50<<10 {
		t.Errorf("chunks have %d bytes on average", mean)
	}
	if len(cutUp(t, bytes.NewReader(nil))) != 0 {
		t.Error("nothing has a chunk")
	}
}

// TestBordersArePartOfTheFormat: other borders would make every stored manifest useless.
func TestBordersArePartOfTheFormat(t *testing.T) {
	t.Parallel()
	var lens []uint32
	for _, c := range cutUp(t, bytes.NewReader(noise(1, 200<<10))) {
		lens = append(lens, c.Len)
	}
	want := []uint32{41725, 42747, 14497, 37419, 39172, 29240}
	if len(lens) != len(want) {
		t.Fatalf("got %d, want %d", lens, want)
	}
	for i := range want {
		if lens[i] != want[i] {
			t.Fatalf("got %d, want %d", lens, want)
		}
	}
}

func TestAnInsertionCostsItsSurroundings(t *testing.T) {
	t.Parallel()
	old := noise(2, 4<<20)
	for name, target := range map[string][]byte{
		"front":  append([]byte("new"), old...),
		"middle": bytes.Join([][]byte{old[:2<<20], []byte("new"), old[2<<20:]}, nil),
		"cut":    bytes.Join([][]byte{old[:1<<20], old[2<<20:]}, nil),
		"moved":  bytes.Join([][]byte{old[2<<20:], old[:2<<20]}, nil),
		"same":   old,
	} {
		got, sent := rebuild(t, old, target)
		if !bytes.Equal(got, target) {
			t.Errorf("%s: not the target", name)
		}
		if sent > 3*MaxChunk || name == "same" && sent != 0 {
			t.Errorf("%s: sent %d bytes", name, sent)
		}
	}
}

func TestPatchFindsEveryLie(t *testing.T) {
	t.Parallel()
	old := noise(3, 1<<20)
	want := cutUp(t, bytes.NewReader(old))
	var x Index
	x.Add(0, want)
	ops := append(Diff(&x, want[:len(want)-1]), Op{Chunks: 1})
	rotten := bytes.Clone(old)
	rotten[500_000] ^= 1
	taken := 0
	var out bytes.Buffer
	err := Patch(&out, want, ops, func(int) (io.ReaderAt, error) { return bytes.NewReader(rotten), nil },
		func(n int) ([]byte, error) { taken++; return make([]byte, n), nil })
	if !errors.Is(err, ErrMismatch) || out.Len() > 500_000 {
		t.Errorf("a rotten byte passed: %v, %d bytes written", err, out.Len())
	}
	if taken != 1 {
		t.Errorf("took %d pieces of data, want 1: the sender is out of step", taken)
	}
	if err := Patch(io.Discard, want, []Op{{Chunks: len(want) + 1}}, nil, nil); err == nil || errors.Is(err, ErrMismatch) {
		t.Errorf("too many chunks: %v", err)
	}
	if err := Patch(io.Discard, want, nil, nil, nil); err == nil {
		t.Error("too few chunks passed")
	}
	if err := Patch(io.Discard, want, []Op{{Chunks: 0}}, nil, nil); err == nil {
		t.Error("an empty op passed")
	}
	short := func(int) ([]byte, error) { return old[:1], nil }
	if err := Patch(io.Discard, want, []Op{{Chunks: len(want)}}, nil, short); !errors.Is(err, ErrMismatch) {
		t.Errorf("short data: %v", err)
	}
}

func FuzzPatchOfDiffIsTheTarget(f *testing.F) {
	f.Add([]byte("old"), []byte("new"), byte(1), uint16(9))
	f.Fuzz(func(t *testing.T, insert, tail []byte, seed byte, at uint16) {
		old := noise(seed, 200_000)
		target := bytes.Join([][]byte{old[:at], insert, old[int(at)*2:], tail}, nil)
		if got, _ := rebuild(t, old, target); !bytes.Equal(got, target) {
			t.Error("the patch of a diff is not the target")
		}
	})
}

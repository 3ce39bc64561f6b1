package wire

import (
	"bytes"
	"io"
	"testing"
)

func TestWindowIsGivenBackInSmallSteps(t *testing.T) {
	t.Parallel()
	grants := 0
	s := newStream(func(k Kind, _ []byte) error {
		if k == KindWindow {
			grants++
		}
		return nil
	})
	for range 8 {
		if err := s.accept(Frame{Kind: KindData, Payload: make([]byte, maxChunk)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadFull(s, make([]byte, 8*maxChunk)); err != nil {
		t.Fatal(err)
	}
	if grants < 4 {
		t.Errorf("got %d words of room for %d bytes, want at least 4", grants, 8*maxChunk)
	}
}

func TestSinglePiecesOfOutputAreJoined(t *testing.T) {
	t.Parallel()
	o := newOutputs()
	var want [3]bytes.Buffer
	for i := range 200_000 {
		stream := byte(1 + i%2)
		if err := o.push([]byte{stream, byte(i)}); err != nil {
			t.Fatal(err)
		}
		if err := o.push([]byte{stream}); err != nil {
			t.Fatal(err)
		}
		want[stream].WriteByte(byte(i))
	}
	if len(o.list) > 2*maxWaiting {
		t.Errorf("%d pieces wait, want at most %d", len(o.list), 2*maxWaiting)
	}
	var got [3]bytes.Buffer
	o.deliver(func(stream byte, p []byte) { got[stream].Write(p) })
	for _, s := range []int{1, 2} {
		if !bytes.Equal(got[s].Bytes(), want[s].Bytes()) {
			t.Errorf("stream %d is not what was sent", s)
		}
	}
}

func TestSinglePiecesOfDataAreJoined(t *testing.T) {
	t.Parallel()
	s := newStream(func(Kind, []byte) error { return nil })
	const n = 300_000
	for i := range n {
		if err := s.accept(Frame{Kind: KindData, Payload: []byte{byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.in) > n/maxChunk+1 {
		t.Errorf("%d pieces wait, want at most %d", len(s.in), n/maxChunk+1)
	}
	s.fail(io.ErrUnexpectedEOF)
	got, _ := io.ReadAll(s)
	for i := range got {
		if got[i] != byte(i) {
			t.Fatalf("byte %d is %d", i, got[i])
		}
	}
	if len(got) != n {
		t.Errorf("got %d bytes, want %d", len(got), n)
	}
}

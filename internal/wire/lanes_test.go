package wire

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"godeploy/internal/fault"
)

// laned is a helper that can be joined, and its client.
type laned struct {
	*Client
	mu    sync.Mutex
	lanes []net.Conn // the helper's ends
	asked chan *Request
}

// withLanes connects a client that uses so many channels at once with a handler. refused sessions fail.
func withLanes(t *testing.T, count, refused int, h Handler) *laned {
	t.Helper()
	l := &laned{asked: make(chan *Request, 1)}
	token := bytes.Repeat([]byte{7}, TokenLen)
	server := &Server{
		Greet: func() (HelloReply, error) {
			return HelloReply{Protocol: Protocol, Hash: string(bytes.Repeat([]byte("a"), 64)), CPUs: 1, PID: 4711}, nil
		},
		Handler: func(ctx context.Context, r *Request) (any, error) {
			if r.Kind != KindLanes {
				return h(ctx, r)
			}
			l.asked <- r
			return LanesReply{PID: 4711, Socket: "@there", Token: token}, nil
		},
	}
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- server.Serve(t.Context(), far) }()
	var err error
	l.Client, err = NewClient(t.Context(), near, Options{Lanes: Lanes{Count: count, RoundTrip: func() time.Duration { return 0 },
		Open: func(_ context.Context, command string) (io.ReadWriteCloser, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if command != JoinCommand(4711) || refused > 0 {
				refused--
				return nil, errors.New("refused")
			}
			return l.session(t, token), nil
		}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close()
		<-served
	})
	return l
}

// session is a session on the host that joins.
func (l *laned) session(t *testing.T, token []byte) net.Conn {
	near, far := net.Pipe()
	l.lanes = append(l.lanes, far)
	noise := make(chan struct{})
	go func() {
		defer close(noise)
		_, _ = io.WriteString(far, "welcome to app1\n")
	}()
	go func() {
		to, err := ReadJoin(far)
		if err != nil || to.Socket != "@there" || !bytes.Equal(to.Token, token) {
			t.Errorf("joins %+v, %v", to, err)
			return
		}
		r := <-l.asked
		l.asked <- r
		if err := r.AddLane(far); err == nil {
			<-noise
			_ = WriteJoined(far)
		}
	}()
	return near
}

func (l *laned) inUse() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Client.mu.Lock()
	defer l.Client.mu.Unlock()
	return len(l.Client.lanes.open)
}

// echo reads all, gives back how much and what, and says a byte first, so that the client knows that it
// has been heard.
func echo(_ context.Context, r *Request) (any, error) {
	if r.Kind != KindStage {
		return nil, nil
	}
	if _, err := r.Stream().Write([]byte{1}); err != nil {
		return nil, err
	}
	h := sha256.New()
	n, err := io.Copy(h, r.Stream())
	return StageReply{Received: n, Files: int(binary.BigEndian.Uint32(h.Sum(nil)) >> 1)}, err
}

// send streams size bytes in writes of any length.
func (l *laned) send(t *testing.T, size int, at func(sent int)) error {
	t.Helper()
	h := sha256.New()
	var reply StageReply
	err := l.Stream(t.Context(), KindStage, stage(), func(rw io.ReadWriter) error {
		if _, err := io.ReadFull(rw, make([]byte, 1)); err != nil {
			return err
		}
		src, p := io.TeeReader(rand.NewChaCha8([32]byte{1}), h), make([]byte, 200_000)
		for sent := 0; sent < size; {
			at(sent)
			n, _ := src.Read(p[:min(1+rand.IntN(len(p)), size-sent)])
			if _, err := rw.Write(p[:n]); err != nil {
				return err
			}
			sent += n
		}
		return nil
	}, &reply)
	if err == nil && (reply.Received != int64(size) || reply.Files != int(binary.BigEndian.Uint32(h.Sum(nil))>>1)) {
		t.Errorf("%d of %d bytes came, or others", reply.Received, size)
	}
	return err
}

func TestStreamOverLanesIsWhole(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ count, refused, want int }{{2, 0, 1}, {4, 0, 3}, {8, 0, 7}, {4, 2, 1}, {4, 3, 0}, {1, 0, 0}, {99, 0, 7}} {
		l := withLanes(t, tc.count, tc.refused, echo)
		for range 3 {
			if err := l.send(t, 2*window+12345, func(int) {}); err != nil {
				t.Errorf("%+v: %v", tc, err)
			}
		}
		if n := l.inUse(); n != tc.want {
			t.Errorf("%+v: %d lanes, want %d", tc, n, tc.want)
		}
	}
}

func TestShortStreamOpensNoLanes(t *testing.T) {
	t.Parallel()
	l := withLanes(t, 4, 0, echo)
	if err := l.send(t, 500_000, func(int) {}); err != nil || len(l.lanes) > 0 {
		t.Errorf("got %v with %d lanes, want none", err, len(l.lanes))
	}
}

func TestTwoStreamsShareTheLanes(t *testing.T) {
	t.Parallel()
	l := withLanes(t, 4, 0, echo)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if err := l.send(t, 5*window, func(int) {}); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
}

// A lane that breaks takes data with it, so the stream ends with an error, soon; the connection lives.
func TestLaneThatBreaksEndsTheStreamOnly(t *testing.T) {
	t.Parallel()
	l := withLanes(t, 4, 0, echo)
	cut := false
	err := l.send(t, 64*window, func(int) {
		if !cut && l.inUse() == 3 {
			cut = true
			l.mu.Lock()
			_ = l.lanes[1].Close()
			l.mu.Unlock()
		}
	})
	if !fault.Is(err, fault.SSHLost) {
		t.Errorf("got %v, want ssh-lost", err)
	}
	if err := l.Call(t.Context(), KindState, &StateRequest{Site: testSite()}, nil); err != nil {
		t.Errorf("the connection went with it: %v", err)
	}
	if err := l.send(t, 2*window, func(int) {}); err != nil || l.inUse() != 2 {
		t.Errorf("the next stream: %v over %d lanes, want 2", err, l.inUse())
	}
}

// A host may reply as soon as it has what it wants, before this side has seen its last piece go.
func TestReplyBeforeTheEndIsNoError(t *testing.T) {
	t.Parallel()
	const size = 2*window + 1
	l := withLanes(t, 4, 0, func(_ context.Context, r *Request) (any, error) {
		if _, err := r.Stream().Write([]byte{1}); err != nil {
			return nil, err
		}
		_, err := io.CopyN(io.Discard, r.Stream(), size)
		return StageReply{}, err
	})
	for range 20 {
		err := l.Stream(t.Context(), KindStage, stage(), func(rw io.ReadWriter) error {
			if _, err := io.ReadFull(rw, make([]byte, 1)); err != nil {
				return err
			}
			_, err := rw.Write(make([]byte, size))
			return err
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestLostConnectionEndsSpreadStreams(t *testing.T) {
	t.Parallel()
	l := withLanes(t, 4, 0, echo)
	err := l.send(t, 64*window, func(int) {
		if l.inUse() == 3 {
			go l.Close()
		}
	})
	if !fault.Is(err, fault.SSHLost) {
		t.Errorf("got %v, want ssh-lost", err)
	}
}

// TestSegmentsInAnyOrder puts a stream together again from pieces in every kind of order.
func TestSegmentsInAnyOrder(t *testing.T) {
	t.Parallel()
	for range 200 {
		s := newStream(func(Kind, []byte) error { return nil })
		data := make([]byte, 50_000)
		_, _ = (&counting{}).Read(data)
		var frames []Frame
		for at := 0; at < len(data); {
			n := min(1+rand.IntN(1000), len(data)-at)
			p := binary.BigEndian.AppendUint64(nil, uint64(at))
			frames = append(frames, Frame{Kind: KindSegment, Payload: append(p, data[at:at+n]...)})
			at += n
		}
		frames = append(frames, Frame{Kind: KindDataEnd, Payload: binary.BigEndian.AppendUint64(nil, uint64(len(data)))})
		rand.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
		for _, f := range frames {
			if err := s.accept(f); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d of %d bytes, %v", len(got), len(data), err)
		}
	}
}

func TestHostileSegmentsAreBreaches(t *testing.T) {
	t.Parallel()
	seg := func(at uint64, n int) Frame {
		return Frame{Kind: KindSegment, Payload: append(binary.BigEndian.AppendUint64(nil, at), make([]byte, n)...)}
	}
	end := func(at uint64) Frame {
		return Frame{Kind: KindDataEnd, Payload: binary.BigEndian.AppendUint64(nil, at)}
	}
	holes := make([]Frame, 0, maxEarly+1)
	for i := range maxEarly + 1 {
		holes = append(holes, seg(uint64(2*i+1), 1))
	}
	for name, frames := range map[string][]Frame{
		"no place":               {{Kind: KindSegment, Payload: []byte("short")}},
		"twice":                  {seg(0, 10), seg(5, 10)},
		"twice, early":           {seg(20, 10), seg(25, 10)},
		"over what came early":   {seg(20, 10), seg(15, 10)},
		"into what came early":   {seg(5, 10), seg(0, 7)},
		"far away":               {seg(window+1, 1)},
		"at the end of numbers":  {seg(1<<64-1, 10)},
		"more than the window":   {seg(1, window), seg(0, 1)},
		"many holes":             holes,
		"behind the end":         {end(10), seg(5, 10)},
		"end before what came":   {seg(0, 10), end(5)},
		"end before early":       {seg(5, 10), end(7)},
		"end twice":              {end(10), end(10)},
		"end of a strange size":  {{Kind: KindDataEnd, Payload: make([]byte, 3)}},
		"short end within holes": {seg(5, 10), {Kind: KindDataEnd}},
	} {
		s := newStream(func(Kind, []byte) error { return nil })
		errs := []error{}
		for _, f := range frames {
			errs = append(errs, s.accept(f))
		}
		if !slices.ContainsFunc(errs, func(err error) bool { return fault.Is(err, fault.Protocol) }) {
			t.Errorf("%s: got %v, want a breach", name, errs)
		}
	}
}

func TestJoinSaysWhereAndNothingElseIsRead(t *testing.T) {
	t.Parallel()
	to := LanesReply{PID: 1, Socket: "@godeploy-00ff", Token: bytes.Repeat([]byte{9}, TokenLen)}
	var b bytes.Buffer
	if err := WriteJoin(&b, to); err != nil {
		t.Fatal(err)
	}
	b.WriteString("data")
	got, err := ReadJoin(&b)
	if err != nil || got.Socket != to.Socket || !bytes.Equal(got.Token, to.Token) || b.String() != "data" {
		t.Errorf("got %+v, %v and %q left", got, err, b.String())
	}
	for _, bad := range []string{"", "x", "\x89gdj", "\x89gdj\x05/tmp/", "\x89gdj\x01@" + string(to.Token), "\x89gdj\x05/tmp/" + string(to.Token)} {
		if _, err := ReadJoin(bytes.NewReader([]byte(bad))); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

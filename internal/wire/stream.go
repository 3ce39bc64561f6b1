package wire

import (
	"encoding/binary"
	"io"
	"sync"
)

// stream is the data of one exchange, both ways, with a window: each side sends no more than the
// other said it can keep, so one slow stream never stops the frames of the others.
type stream struct {
	send func(kind Kind, payload []byte) error

	mu     sync.Mutex
	wake   sync.Cond
	in     [][]byte
	held   int // bytes in in
	eaten  int // bytes read since the peer was last told
	ended  bool
	credit int
	err    error
}

func newStream(send func(Kind, []byte) error) *stream {
	s := &stream{send: send, credit: window}
	s.wake.L = &s.mu
	return s
}

// Read gives what came; io.EOF after the peer's end; what came before a failure is still read.
func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.mu.Lock()
	for len(s.in) == 0 && !s.ended && s.err == nil {
		s.wake.Wait()
	}
	if len(s.in) == 0 {
		defer s.mu.Unlock()
		if s.ended {
			return 0, io.EOF
		}
		return 0, s.err
	}
	n := copy(p, s.in[0])
	if s.in[0] = s.in[0][n:]; len(s.in[0]) == 0 {
		s.in = s.in[1:]
	}
	s.held -= n
	grant := s.grant(n)
	s.mu.Unlock()
	if grant > 0 {
		// A peer that is gone is noticed by the reader of the connection.
		_ = s.send(KindWindow, binary.BigEndian.AppendUint32(nil, uint32(grant)))
	}
	return n, nil
}

// grantStep is how many bytes are read before the peer is told. On a slow line with deep buffers the
// pings stand behind megabytes of data, and these words are then the only sign of life for long: at
// this step a line of 8 KiB/s still brings one every 16 s.
const grantStep = 128 << 10

// grant counts n bytes as read and gives how many to announce now.
func (s *stream) grant(n int) int {
	s.eaten += n
	if s.ended || s.err != nil || s.eaten < grantStep {
		return 0
	}
	n, s.eaten = s.eaten, 0
	return n
}

// Write sends p, waiting for the peer to make room.
func (s *stream) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		n, err := s.reserve(min(len(p)-sent, maxChunk))
		if err != nil {
			return sent, err
		}
		if err := s.send(KindData, p[sent:sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return sent, nil
}

// reserve takes up to want bytes of the window, at least one.
func (s *stream) reserve(want int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.credit == 0 && s.err == nil {
		s.wake.Wait()
	}
	if s.err != nil {
		return 0, s.err
	}
	n := min(want, s.credit)
	s.credit -= n
	return n, nil
}

// end says that this side sends no more.
func (s *stream) end() error { return s.send(KindDataEnd, nil) }

// accept takes a frame of the stream from the peer; an error is a breach of the protocol.
func (s *stream) accept(f Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wake.Broadcast()
	switch f.Kind {
	case KindData:
		return s.push(f.Payload)
	case KindDataEnd:
		if s.ended {
			return breach("data ended twice")
		}
		s.ended = true
	case KindWindow:
		return s.widen(f.Payload)
	}
	return nil
}

func (s *stream) push(p []byte) error {
	if s.ended {
		return breach("data after its end")
	}
	if s.held+s.eaten+len(p) > window {
		return breach("more data than the window of %d bytes", window)
	}
	if s.err != nil || len(p) == 0 {
		return nil
	}
	s.held += len(p)
	if last := len(s.in) - 1; last >= 0 && len(p) < small && len(s.in[last]) < maxChunk {
		s.in[last] = append(s.in[last], p...)
		return nil
	}
	s.in = append(s.in, p)
	return nil
}

// small is below what pieces are joined, so that a peer who sends single bytes cannot make each cost
// many times its size.
const small = 4 << 10

func (s *stream) widen(p []byte) error {
	if len(p) != 4 {
		return breach("window of %d bytes of payload", len(p))
	}
	n := binary.BigEndian.Uint32(p)
	if n > window || s.credit+int(n) > window {
		return breach("window wider than %d bytes", window)
	}
	s.credit += int(n)
	return nil
}

// fail ends both directions: writes fail with err at once, reads when what came is used up.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.wake.Broadcast()
}

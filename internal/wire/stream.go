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
	pace *pace // of a stream that may use lanes

	mu    sync.Mutex
	wake  sync.Cond
	in    [][]byte
	early early  // what came before its turn
	next  uint64 // place of what is to come after in
	held  int    // bytes in in and early
	eaten int    // bytes read since the peer was last told
	limit int    // bytes the peer may have under way to us
	size  uint64 // of all data, once said is set
	said  bool   // the peer has said where its data ends
	ended bool   // and all of it has come

	segments bool // the peer spreads it over lanes

	credit int
	sent   uint64   // bytes of data given away
	heard  bool     // the peer has answered: it knows of this stream
	out    *stripes // nil: everything goes over the first channel
	err    error
}

func newStream(send func(Kind, []byte) error) *stream {
	s := &stream{send: send, credit: window, limit: window}
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

// Write sends p, waiting for the peer to make room. Over lanes an error may show only at a later Write.
func (s *stream) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		began := s.pace.now()
		n, err := s.reserve(min(len(p)-sent, maxChunk))
		if err != nil {
			return sent, err
		}
		if err := s.give(p[sent : sent+n]); err != nil {
			return sent, err
		}
		sent += n
		s.pace.count(n, began)
	}
	return sent, nil
}

// give hands on what room was reserved for.
func (s *stream) give(p []byte) error {
	s.mu.Lock()
	out, at := s.out, s.sent
	s.sent += uint64(len(p))
	s.mu.Unlock()
	if out != nil {
		return out.put(at, p)
	}
	return s.send(KindData, p)
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
func (s *stream) end() error {
	s.mu.Lock()
	out, size := s.out, s.sent
	s.mu.Unlock()
	if out == nil {
		return s.send(KindDataEnd, nil)
	}
	if err := out.finish(); err != nil {
		return err
	}
	return s.send(KindDataEnd, binary.BigEndian.AppendUint64(nil, size))
}

// accept takes a frame of the stream from the peer; an error is a breach of the protocol.
func (s *stream) accept(f Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wake.Broadcast()
	s.heard = true
	switch f.Kind {
	case KindData:
		return s.place(s.next, f.Payload)
	case KindSegment:
		s.segments = true
		at, p, err := segment(f.Payload)
		if err != nil {
			return err
		}
		return s.place(at, p)
	case KindDataEnd:
		return s.finish(f.Payload)
	case KindWindow:
		return s.widen(f.Payload)
	}
	return nil
}

// place keeps a piece that begins there in the stream.
func (s *stream) place(at uint64, p []byte) error {
	switch {
	case at < s.next:
		return breach("data twice")
	case s.held+s.eaten+len(p) > s.limit || at-s.next > uint64(s.limit):
		return breach("more data than the window of %d bytes", s.limit)
	case s.said && at+uint64(len(p)) > s.size, s.ended:
		return breach("data after its end")
	}
	if s.err != nil || len(p) == 0 {
		return nil
	}
	s.held += len(p)
	if at > s.next {
		return s.early.add(at, p)
	}
	s.next += uint64(len(p))
	s.in = join(s.in, p)
	return s.catchUp()
}

// catchUp moves on what had come before its turn.
func (s *stream) catchUp() error {
	for {
		r, ok := s.early.take(s.next)
		if !ok {
			break
		}
		s.in = append(s.in, r.parts...)
		s.next = r.end()
	}
	if len(s.early) > 0 && s.early[0].at < s.next {
		return breach("data twice")
	}
	s.ended = s.said && s.next == s.size
	return nil
}

// finish takes the peer's word on where its data ends: here, or at the given size.
func (s *stream) finish(p []byte) error {
	if s.said {
		return breach("data ended twice")
	}
	s.said, s.size = true, s.next
	if len(p) == segmentLen {
		s.size = binary.BigEndian.Uint64(p)
	}
	if s.size < s.next || len(p) != segmentLen && len(p) != 0 {
		return breach("data ends before its end")
	}
	if last := len(s.early) - 1; last >= 0 && s.early[last].end() > s.size {
		return breach("data after its end")
	}
	s.ended = s.next == s.size
	return nil
}

// grow lets the peer have more bytes under way.
func (s *stream) grow(more int) {
	s.mu.Lock()
	more = min(more, maxWindow-s.limit)
	s.limit += more
	s.mu.Unlock()
	if more > 0 {
		_ = s.send(KindWindow, binary.BigEndian.AppendUint32(nil, uint32(more))) // as in Read
	}
}

// small is below what pieces are joined, so that a peer who sends single bytes cannot make each cost
// many times its size.
const small = 4 << 10

func (s *stream) widen(p []byte) error {
	if len(p) != 4 {
		return breach("window of %d bytes of payload", len(p))
	}
	n := binary.BigEndian.Uint32(p)
	if n > maxWindow || s.credit+int(n) > maxWindow {
		return breach("window wider than %d bytes", maxWindow)
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
	if s.out != nil {
		s.out.fail(s.err)
	}
	s.wake.Broadcast()
}

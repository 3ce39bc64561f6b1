package wire

import (
	"bufio"
	"io"

	"godeploy/internal/fault"
)

// AddLane makes rc a lane of the session that the request came by: what is read from it belongs to the
// session's streams, until the session or rc ends. It takes rc over; Close must unblock its Read. An
// error means that there are too many, or that the session is over; rc is closed then too.
func (r *Request) AddLane(rc io.ReadCloser) error {
	s := r.s
	s.mu.Lock()
	if s.closed || len(s.lanes) >= MaxLanes-1 {
		s.mu.Unlock()
		_ = rc.Close() // nothing was taken from it
		return fault.New(fault.Protocol, "no lane can be added")
	}
	s.lanes = append(s.lanes, rc)
	var streams []*stream
	for _, one := range s.open {
		if one.st != nil {
			streams = append(streams, one.st)
		}
	}
	s.work.Go(func() { s.readLane(rc) })
	s.mu.Unlock()
	for _, st := range streams {
		st.grow(window)
	}
	return nil
}

// room is what a new stream may have under way beyond the first channel's window.
func (s *session) room() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lanes) * window
}

// readLane takes a lane's frames until it ends. Nobody knows then what was lost with it, so the streams
// that have used lanes fail.
func (s *session) readLane(rc io.ReadCloser) {
	r := bufio.NewReaderSize(rc, 64<<10)
	for {
		f, err := ReadFrame(r)
		if err != nil {
			break
		}
		if err := s.takeSegment(f); err != nil {
			_ = s.rwc.Close() // a breach ends the session
			break
		}
	}
	_ = rc.Close() // it has ended
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.open {
		if one.st != nil && one.st.usesLanes() {
			one.st.fail(fault.New(fault.SSHLost, "a channel of the connection was lost"))
		}
	}
}

func (s *session) takeSegment(f Frame) error {
	if f.Kind != KindSegment {
		return breach("frame of kind 0x%02x in a lane", uint8(f.Kind))
	}
	s.mu.Lock()
	r, last := s.open[f.ID], s.last
	s.mu.Unlock()
	switch {
	case r == nil && (f.ID == 0 || f.ID > last):
		return breach("frame 0x%02x for no request", uint8(f.Kind))
	case r == nil:
		return nil // crossed with our reply
	}
	return r.take(f)
}

// usesLanes reports whether the peer has spread this stream.
func (s *stream) usesLanes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.segments
}

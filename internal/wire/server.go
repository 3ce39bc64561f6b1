package wire

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"godeploy/internal/fault"
)

// Handler carries out requests. It is called in a goroutine of its own for each one, and must
// return soon after ctx ends: the request was cancelled, or the controller has gone. What it
// returns is the reply; an error travels as an ErrorReply. ErrUnsupported says that it does not
// know the request.
type Handler func(ctx context.Context, r *Request) (reply any, err error)

// Server is the host's end. The zero value plus Handler is fit for use.
type Server struct {
	Handler      Handler
	Capabilities []string
	Silence      time.Duration // without a frame the controller is taken for gone; 0: 30 s
	// Greet gives what the helper says about itself before it is asked, so that the controller need
	// not wait another round trip for it. Nil, or an error: the controller asks.
	Greet func() (HelloReply, error)
}

// maxRequests is how many requests may be under way at once.
const maxRequests = 64

// Request is one request under way.
type Request struct {
	Kind    Kind
	id      uint32
	payload []byte
	cancel  context.CancelCauseFunc
	st      *stream
	s       *session
}

// Decode decodes and checks the request's message.
func (r *Request) Decode(into Checker) error {
	if err := decode(r.payload, into); err != nil {
		return fault.New(fault.Protocol, "request 0x%02x makes no sense", uint8(r.Kind)).Wrap(err)
	}
	return nil
}

// Output sends output of a program: stream 1 or 2. It keeps no reference to p. The caller sends at
// most MaxOutput bytes.
func (r *Request) Output(stream byte, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), maxChunk)
		if err := r.s.send(KindOutput, r.id, append([]byte{stream}, p[:n]...)); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// Stream gives the data of a request that carries some, else nil. It fails when ctx ends.
func (r *Request) Stream() io.ReadWriter {
	if r.st == nil {
		return nil
	}
	return r.st
}

// session is a Server at work.
type session struct {
	*conn
	server *Server
	ctx    context.Context // every request's context comes from it; it lives as long as the session
	work   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	last   uint32
	open   map[uint32]*Request
	lanes  []io.Closer
}

// Serve answers the controller at the other end of rwc until that ends, is silent for too long,
// breaks the protocol, or ctx ends; nil means that it ended in order. Before it returns, every
// handler has been told to stop and has returned, and rwc is closed. Only a Read of rwc that Close
// does not unblock may outlive it.
func (s *Server) Serve(ctx context.Context, rwc io.ReadWriteCloser) error {
	limit := s.Silence
	if limit == 0 {
		limit = 30 * time.Second
	}
	ctx, cancel := context.WithCancelCause(ctx)
	ss := &session{
		conn:   newConn(rwc, bufio.NewReaderSize(rwc, 64<<10), limit),
		server: s, ctx: ctx, open: map[uint32]*Request{},
	}
	ended := make(chan error, 1)
	go func() { ended <- ss.read() }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	cancel(ErrGone)
	_ = rwc.Close() // handlers that write must not hang; nobody listens
	ss.close()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// close waits for the handlers and takes no new request.
func (s *session) close() {
	s.mu.Lock()
	s.closed = true
	for _, l := range s.lanes {
		_ = l.Close() // wakes its reader; nobody is left to read for
	}
	s.mu.Unlock()
	s.work.Wait()
}

// read meets the controller and takes its frames.
func (s *session) read() error {
	if err := s.meet(); err != nil {
		return err
	}
	for {
		f, silent, err := s.recv()
		if silent {
			return fault.New(fault.SSHLost, "nothing was heard from the controller for %s", s.limit)
		}
		if err == nil {
			err = s.take(f)
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) meet() error {
	if _, err := s.rwc.Write(s.first()); err != nil {
		return err
	}
	var p Preface
	silent, err := s.watched(func(func()) (err error) {
		p, err = readPreface(s.r)
		return err
	})
	switch {
	case silent:
		return fault.New(fault.SSHLost, "no controller spoke within %s", s.limit)
	case errors.Is(err, errNoMagic):
		return fault.New(fault.Protocol, "what speaks here is no godeploy").
			Hint("godeploy starts its helper by itself; it is not a command to type")
	case err == nil && p.Protocol != Protocol:
		return fault.New(fault.Protocol, "the controller speaks protocol %d, this helper %d", p.Protocol, Protocol)
	}
	return err
}

// first is what the helper says first: the preface, and who it is.
func (s *session) first() []byte {
	p := Preface{Protocol, s.server.Capabilities}
	var greeting []byte
	if s.server.Greet != nil {
		if hello, err := s.server.Greet(); err == nil {
			greeting, _ = json.Marshal(hello) // plain fields: cannot fail
			p.Capabilities = append(slices.Clone(p.Capabilities), greets)
		}
	}
	b := p.encode()
	if greeting != nil {
		b = AppendFrame(b, Frame{KindHello, 0, greeting})
	}
	return b
}

// take acts on one frame; an error ends the session.
func (s *session) take(f Frame) error {
	switch {
	case f.Kind == KindPing:
		return s.answer(f.ID, KindReply, []byte("{}"))
	case f.Kind.known():
		return s.begin(f)
	case f.Kind >= kindOptional:
		return s.answer(f.ID, KindUnsupported, nil)
	}
	s.mu.Lock()
	r, last := s.open[f.ID], s.last
	s.mu.Unlock()
	if r == nil {
		if f.ID == 0 || f.ID > last {
			return breach("frame 0x%02x for no request", uint8(f.Kind))
		}
		return nil // crossed with our reply
	}
	return r.take(f)
}

func (r *Request) take(f Frame) error {
	switch f.Kind {
	case KindCancel:
		r.cancel(context.Canceled)
		return nil
	case KindData, KindDataEnd, KindWindow, KindSegment:
		if r.st == nil {
			return breach("data for request 0x%02x", uint8(r.Kind))
		}
		return r.st.accept(f)
	}
	return breach("frame of kind 0x%02x from a controller", uint8(f.Kind))
}

// newID wants ids in ascending order, so that one is never used twice.
func (s *session) newID(id uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id <= s.last {
		return breach("id %d after %d", id, s.last)
	}
	s.last = id
	return nil
}

// answer ends an exchange that needs no handler.
func (s *session) answer(id uint32, kind Kind, payload []byte) error {
	if err := s.newID(id); err != nil {
		return err
	}
	_ = s.send(kind, id, payload) // a controller that has gone is noticed by the reader
	return nil
}

// begin starts the handler of a request.
func (s *session) begin(f Frame) error {
	if err := s.newID(f.ID); err != nil {
		return err
	}
	r := &Request{Kind: f.Kind, id: f.ID, payload: f.Payload, s: s}
	if f.Kind.streams() {
		r.st = newStream(func(kind Kind, p []byte) error { return s.send(kind, r.id, p) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrGone
	}
	if len(s.open) >= maxRequests {
		return breach("more than %d requests at once", maxRequests)
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	r.cancel = cancel
	s.open[r.id] = r
	s.work.Go(func() { r.run(ctx) })
	return nil
}

// run carries the request out and answers it.
func (r *Request) run(ctx context.Context) {
	if r.st != nil {
		stop := context.AfterFunc(ctx, func() { r.st.fail(context.Cause(ctx)) })
		defer stop()
		r.st.grow(r.s.room())
	}
	reply, err := r.s.server.Handler(ctx, r)
	r.cancel(nil)
	if r.st != nil {
		r.st.fail(io.ErrClosedPipe)
	}
	r.s.mu.Lock()
	delete(r.s.open, r.id)
	r.s.mu.Unlock()
	r.answer(reply, err)
}

func (r *Request) answer(reply any, err error) {
	kind, payload := KindReply, []byte("{}")
	if err == nil && reply != nil {
		payload, err = json.Marshal(reply)
	}
	if err == nil && len(payload) > MaxFrame {
		err = fault.New(fault.Protocol, "the reply has %d bytes, more than the %d that fit", len(payload), MaxFrame)
	}
	if errors.Is(err, ErrUnsupported) {
		kind, payload, err = KindUnsupported, nil, nil
	}
	if err != nil {
		kind = KindError
		if payload, err = json.Marshal(encodeError(err)); err != nil {
			payload = fmt.Appendf(nil, `{"code":%q,"msg":"the error cannot be encoded"}`, fault.Internal)
		}
	}
	_ = r.s.send(kind, r.id, payload) // a controller that has gone is noticed by the reader
}

package filesync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"godeploy/internal/fault"
)

// Send is the controller's end of a transfer: it tells the host that Receive runs for what the tree
// is and sends what is lacking there. One Source serves many Sends at once; what several hosts lack
// alike is read and compressed once (SendOptions.Hosts).
//
// When ctx ends and rw is an io.Closer, Send closes it to get free, and so it does when the other end has
// not heard of an error 20 seconds later; else the caller sees to it that rw's calls return. A Write that fails must make a waiting Read return too, as every connection
// does. After an error the stream is of no further use.
func Send(ctx context.Context, src *Source, rw io.ReadWriter, o SendOptions) (Stats, error) {
	stop := closeAfter(ctx, rw)
	defer stop()
	c := &counted{r: rw, w: rw}
	if o.Expect.IsZero() {
		o.Expect = lastSent(src.cache, o.Peer)
	}
	s := &sender{ctx: ctx, src: src, o: o, rw: rw, conn: c, in: &frameReader{r: c}, out: newFrameWriter(c)}
	stats, err := s.run()
	stats.Sent, stats.Received = c.wrote, c.read
	if err == nil {
		src.remember(o.Times)
		_ = noteSent(src.cache, o.Peer, src.identity(o.Times)) // what is forgotten is asked for
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return stats, err
}

// closeAfter closes rw, if that can be done, when ctx ends before stop is called.
func closeAfter(ctx context.Context, rw io.ReadWriter) (stop func() bool) {
	c, ok := rw.(io.Closer)
	if !ok {
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, func() { _ = c.Close() }) // nobody is left to hear of it
}

// closeLater closes rw, if that can be done, unless stop is called in time: an end that has given up waits
// no longer for the other to hear of it.
func closeLater(rw io.ReadWriter) (stop func()) {
	c, ok := rw.(io.Closer)
	if !ok {
		return func() {}
	}
	timer := time.AfterFunc(patience, func() { _ = c.Close() }) // nobody is left to hear of it
	return func() { timer.Stop() }
}

// sender is one Send under way.
type sender struct {
	ctx    context.Context
	src    *Source
	o      SendOptions
	rw     io.ReadWriter
	conn   *counted
	in     *frameReader
	out    *frameWriter
	at     Progress
	answer chan reply
	gone   atomic.Bool // the receiver has said its last word
}

// reply is what the receiver said: what it has, what it lacks, how it went, or why it gave up.
type reply struct {
	parent *Hash
	need   *segmentNeed
	want   *wanted
	stats  *Stats
	err    error
}

// errStopped says that the receiver gave up while there was still something to send.
var errStopped = errors.New("the receiver gave up")

func (s *sender) run() (Stats, error) {
	// Answers are taken in while content goes out: a receiver that gives up may not find us writing
	// for ever. The channel holds all answers there can be, so the goroutine ends with the stream.
	s.answer = make(chan reply, 2+maxRounds+1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.listen()
	}()
	stats, err := s.converse()
	<-ended
	return stats, err
}

// listen reads the receiver's answers until the last one.
func (s *sender) listen() {
	hello, needs, wants := 0, 0, 0
	for {
		r := s.readAnswer()
		switch {
		case r.parent != nil:
			hello++
		case r.need != nil:
			needs++
		case r.want != nil:
			wants++
		}
		if r.err == nil && (hello != 1 || needs > 1 || wants > maxRounds) {
			r = reply{err: lost(errors.New("receiver says what is not due"))}
		}
		last := r.err != nil || r.stats != nil
		s.gone.Store(last)
		s.answer <- r
		if last {
			return
		}
	}
}

func (s *sender) readAnswer() (r reply) {
	t, payload, err := s.in.read()
	switch {
	case err != nil:
	case t == frameError:
		return reply{err: decodeFault(payload)}
	case t == frameHello:
		r.parent, err = decodeHello(payload)
	case t == frameDone:
		r.stats, err = decodeStats(payload)
	case t == frameNeed:
		err = s.in.long(t, payload, func(in io.Reader) (err error) {
			r.need, err = decodeNeed(in, len(s.src.segments()))
			return err
		})
	case t == frameWant:
		err = s.in.long(t, payload, func(in io.Reader) (err error) {
			r.want, err = decodeWant(in, s.src.units())
			return err
		})
	default:
		err = fmt.Errorf("frame of type %d", t)
	}
	if err != nil {
		return reply{err: lost(err)}
	}
	return r
}

func decodeHello(payload []byte) (*Hash, error) {
	if len(payload) != len(streamMagic)+len(Hash{}) || string(payload[:len(streamMagic)]) != streamMagic {
		return nil, errors.New("receiver speaks another version")
	}
	h := Hash(payload[len(streamMagic):])
	return &h, nil
}

// lost says that the conversation itself went wrong.
func lost(err error) error {
	if told, ok := errors.AsType[peerError](err); ok {
		return told
	}
	return fault.New(fault.Protocol, "sync stream broke").Wrap(cut(err))
}

// converse tells the tree and answers with content until the receiver is done.
func (s *sender) converse() (Stats, error) {
	if err := s.begin(); err != nil {
		return Stats{}, s.fail(err)
	}
	for {
		r := <-s.answer
		switch {
		case r.err != nil:
			return Stats{}, s.refused(r.err)
		case r.stats != nil:
			return *r.stats, nil
		case r.want == nil:
			return Stats{}, s.fail(lost(errors.New("receiver says what is not due")))
		}
		if err := s.content(r.want); err != nil {
			return Stats{}, s.fail(err)
		}
	}
}

// begin tells the tree: at once when it is known what the receiver has, else once it has said so.
func (s *sender) begin() error {
	told := s.o.Expect
	early := !told.IsZero() && s.knows(told)
	if early {
		if err := s.tell(told); err != nil {
			return err
		}
	}
	r := <-s.answer
	switch {
	case r.err != nil:
		return s.gaveUp(r)
	case r.parent == nil:
		return lost(errors.New("receiver says what is not due"))
	case early && *r.parent == told:
		return nil
	}
	return s.tell(*r.parent)
}

// gaveUp puts the receiver's last word back for fail to find.
func (s *sender) gaveUp(r reply) error {
	s.answer <- r
	return errStopped
}

// refused ends the conversation after the receiver's last word, which was err.
func (s *sender) refused(err error) error {
	if _, told := errors.AsType[peerError](err); told {
		_ = s.out.last(frameStop, nil) // a receiver that does not hear it hears the end of the stream
	}
	return err
}

// fail ends the conversation from this side. When nothing more could be written, or needed to be,
// the receiver's last word is the reason; else err is, and the receiver is told.
func (s *sender) fail(err error) error {
	defer closeLater(s.rw)()
	ours := err != errStopped && s.conn.writeErr == nil
	if ours {
		_ = s.out.last(frameError, encodeFault(err)) // see refused
	}
	r := <-s.answer
	for r.err == nil && r.stats == nil {
		r = <-s.answer
	}
	switch {
	case ours:
		return err
	case r.err != nil:
		return s.refused(r.err)
	}
	return lost(errors.New("receiver was done before everything was sent"))
}

func (s *sender) progress(of load) {
	s.at.Bytes, s.at.Files = s.at.Bytes+int64(of.bytes), s.at.Files+of.files
	if s.o.Progress != nil {
		s.o.Progress(s.at)
	}
}

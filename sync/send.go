package filesync

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"godeploy/internal/fault"
)

// Send is the controller's end of a transfer: it tells the host that Receive runs for what the tree
// is and sends what is lacking there. One Source serves many Sends at once.
//
// When ctx ends and rw is an io.Closer, Send closes it to get free; else the caller sees to it that
// rw's calls return. A Write that fails must make a waiting Read return too, as every connection
// does. After an error the stream is of no further use.
func Send(ctx context.Context, src *Source, rw io.ReadWriter, o SendOptions) (Stats, error) {
	stop := closeAfter(ctx, rw)
	defer stop()
	c := &counted{r: rw, w: rw}
	s := &sender{src: src, o: o, conn: c, in: &frameReader{r: c}, out: newFrameWriter(c)}
	stats, err := s.run()
	stats.Sent, stats.Received = c.wrote, c.read
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

// sender is one Send under way.
type sender struct {
	src    *Source
	o      SendOptions
	conn   *counted
	in     *frameReader
	out    *frameWriter
	done   int64 // content bytes sent
	total  int64
	answer chan reply
}

// reply is what the receiver said: what it lacks, how it went, or why it gave up.
type reply struct {
	want  *unitSet
	stats *Stats
	err   error
}

// errStopped says that the receiver gave up while there was still something to send.
var errStopped = errors.New("the receiver gave up")

func (s *sender) run() (Stats, error) {
	hello, err := s.in.expect(frameHello)
	if err == nil && (len(hello) != len(streamMagic)+len(Hash{}) || string(hello[:len(streamMagic)]) != streamMagic) {
		err = errors.New("receiver speaks another version")
	}
	if err != nil {
		return Stats{}, s.refused(lost(err))
	}
	parent := Hash(hello[len(streamMagic):])
	// Answers are taken in while content goes out: a receiver that gives up may not find us writing
	// for ever. The channel holds all answers there can be, so the goroutine ends with the stream.
	s.answer = make(chan reply, maxRounds+1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.listen()
	}()
	stats, err := s.converse(parent)
	<-ended
	return stats, err
}

// listen reads the receiver's answers until the last one.
func (s *sender) listen() {
	units := s.src.Manifest.units()
	for round := 0; ; round++ {
		r := s.readAnswer(units)
		if r.want != nil && round == maxRounds {
			r = reply{err: lost(errors.New("receiver asked for content too often"))}
		}
		s.answer <- r
		if r.want == nil {
			return
		}
	}
}

func (s *sender) readAnswer(units int) reply {
	t, payload, err := s.in.read()
	switch {
	case err != nil:
		return reply{err: lost(err)}
	case t == frameError:
		return reply{err: decodeFault(payload)}
	case t == frameDone:
		stats, err := decodeStats(payload)
		if err != nil {
			return reply{err: lost(err)}
		}
		return reply{stats: stats}
	case t == frameWant:
		// The set came with its first frame in hand: the rest follows behind it.
		want, err := decodeUnits(&longReader{f: s.in, t: frameWant, rest: payload, done: len(payload) == 0}, units)
		if err != nil {
			return reply{err: lost(err)}
		}
		return reply{want: want}
	}
	return reply{err: lost(fmt.Errorf("frame of type %d", t))}
}

// lost says that the conversation itself went wrong.
func lost(err error) error {
	if told, ok := errors.AsType[peerError](err); ok {
		return told
	}
	return fault.New(fault.Protocol, "sync stream broke").Wrap(cut(err))
}

// converse tells the tree and answers with content until the receiver is done.
func (s *sender) converse(parent Hash) (Stats, error) {
	if err := s.tell(parent); err != nil {
		return Stats{}, s.fail(err)
	}
	for {
		r := <-s.answer
		switch {
		case r.err != nil:
			return Stats{}, s.refused(r.err)
		case r.stats != nil:
			return *r.stats, nil
		}
		if err := s.content(r.want); err != nil {
			return Stats{}, s.fail(err)
		}
	}
}

// refused ends the conversation after the receiver's last word, which was err.
func (s *sender) refused(err error) error {
	if _, told := errors.AsType[peerError](err); told || s.answer == nil {
		_ = s.out.last(frameStop, nil) // a receiver that does not hear it hears the end of the stream
	}
	return err
}

// fail ends the conversation from this side. When nothing more could be written, or needed to be,
// the receiver's last word is the reason; else err is, and the receiver is told.
func (s *sender) fail(err error) error {
	ours := err != errStopped && s.conn.writeErr == nil
	if ours {
		_ = s.out.last(frameError, encodeFault(err)) // see refused
	}
	var r reply
	for r = <-s.answer; r.want != nil; r = <-s.answer {
	}
	switch {
	case ours:
		return err
	case r.err != nil:
		return s.refused(r.err)
	}
	return lost(errors.New("receiver was done before everything was sent"))
}

// tell sends Start and the tree.
func (s *sender) tell(parent Hash) error {
	encoding, form := byte(encodingZstd), byte(formWhole)
	if s.o.Compress == "off" {
		encoding = encodingPlain
	}
	var known *Manifest
	if s.o.Parent != nil && !parent.IsZero() {
		known = s.o.Parent(parent)
	}
	if known != nil {
		form = formChanges
	}
	if err := s.out.write(frameStart, append([]byte(streamMagic), encoding, form)); err != nil {
		return err
	}
	if encoding == encodingZstd {
		if err := s.out.compress(); err != nil {
			return err
		}
	}
	return s.out.long(frameTree, func(w io.Writer) error {
		if known != nil {
			return s.src.Manifest.encodeChanges(w, known)
		}
		return s.src.Manifest.encode(w)
	})
}

// content sends the units asked for, in order.
func (s *sender) content(want *unitSet) error {
	m := s.src.Manifest
	units := unitReader{src: s.src}
	defer units.close()
	_ = want.each(m, func(e *Entry, n int) error { // the function never fails
		s.total += int64(e.unitSize(n))
		return nil
	})
	err := want.each(m, func(e *Entry, n int) error {
		if len(s.answer) > 0 {
			return errStopped // it may not speak before the round is over, but to give up
		}
		data, err := units.read(e, n)
		if err != nil {
			return err
		}
		if err := s.out.write(frameUnit, data); err != nil {
			return err
		}
		s.progress(len(data))
		return nil
	})
	if err != nil {
		return err
	}
	return s.out.last(frameEnd, nil)
}

func (s *sender) progress(n int) {
	s.done += int64(n)
	if s.o.Progress != nil {
		s.o.Progress(s.done, s.total)
	}
}

// encodeStats makes the payload of Done.
func encodeStats(s Stats) []byte {
	var buf []byte
	for _, n := range []int64{int64(s.Files), int64(s.Linked), int64(s.Written), s.Bytes} {
		buf = binary.AppendUvarint(buf, uint64(n))
	}
	if s.Unchanged {
		return append(buf, 1)
	}
	return append(buf, 0)
}

func decodeStats(payload []byte) (*Stats, error) {
	var n [4]uint64
	for i := range n {
		v, used := binary.Uvarint(payload)
		if used <= 0 || v > 1<<63-1 || i < 3 && v > MaxEntries {
			return nil, errors.New("counters that cannot be")
		}
		n[i], payload = v, payload[used:]
	}
	if len(payload) != 1 || payload[0] > 1 {
		return nil, errors.New("counters that cannot be")
	}
	return &Stats{
		Files: int(n[0]), Linked: int(n[1]), Written: int(n[2]), Bytes: int64(n[3]), Unchanged: payload[0] == 1,
	}, nil
}

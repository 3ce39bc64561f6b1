package filesync

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

// The sync stream, as docs/wire-sync.md specifies it.
const (
	streamMagic = "\x89gds\n\x02" // its last byte is the version
	maxFrame    = 1 << 20         // bytes of a frame's payload
	maxWindow   = 8 << 20         // bytes a compressed stream may refer back
	maxRounds   = 2               // times content is asked for
	frameHead   = 5               // bytes before a payload
	maxPadding  = 2 << 20         // bytes by which a long message may be longer than what it holds
	maxDropped  = 256 << 20       // bytes that are read and dropped of a sender that goes on after an error
	leastFrame  = 4 << 10         // bytes that a frame counts there, however short it is
)

// patience is how long an end that has given up waits for the other one to hear of it.
const patience = 20 * time.Second

// frameType says what a frame holds.
type frameType byte

const (
	frameHello frameType = iota + 1 // receiver: magic, root of the parent
	frameStart                      // sender: magic, root of the parent it builds on, form of the tree
	frameTree                       // sender, long: the tree, or what leads to it
	frameNeed                       // receiver, long: the segments it lacks
	frameAhead                      // sender, long: the units it sends unasked
	frameWant                       // receiver, long: the units it lacks, signatures of old contents
	frameBatch                      // sender: contents of units
	frameEnd                        // sender: all units of this round are sent
	frameDone                       // receiver: all is in place
	frameError                      // either: it gives up, and why
	frameStop                       // sender: has seen the receiver's error
)

// form says how the sender tells the tree.
type form byte

const (
	formWhole    form = iota // all entries
	formChanges              // what differs from the parent's tree
	formSegments             // sums of runs of entries; then the runs that are asked for
	formSame                 // nothing: it is the parent's
)

// counted counts bytes that pass. Each direction is used by one goroutine at a time.
type counted struct {
	r        io.Reader
	w        io.Writer
	read     int64
	wrote    int64
	writeErr error
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.read += int64(n)
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.wrote += int64(n)
	if err != nil {
		c.writeErr = err
	}
	return n, err
}

// frameWriter writes frames. Nothing need reach the other end before flush.
type frameWriter struct{ b *bufio.Writer }

func newFrameWriter(w io.Writer) *frameWriter { return &frameWriter{bufio.NewWriterSize(w, 64<<10)} }

// appendHead adds the head of a frame of n bytes to buf.
func appendHead(buf []byte, t frameType, n int) []byte {
	return binary.BigEndian.AppendUint32(append(buf, byte(t)), uint32(n))
}

func (f *frameWriter) write(t frameType, payload []byte) error {
	var head [frameHead]byte
	if _, err := f.b.Write(appendHead(head[:0], t, len(payload))); err != nil {
		return err
	}
	_, err := f.b.Write(payload)
	return err
}

func (f *frameWriter) flush() error { return f.b.Flush() }

// last writes a frame and sees to it that it leaves.
func (f *frameWriter) last(t frameType, payload []byte) error {
	return errors.Join(f.write(t, payload), f.flush())
}

// long writes what encode gives as a long message: compressed, in frames of one type, an empty one
// at the end.
func (f *frameWriter) long(t frameType, encode func(io.Writer) error) error {
	b := bufio.NewWriterSize(longWriter{f, t}, 64<<10)
	z, err := zstd.NewWriter(b, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return err
	}
	if err := errors.Join(encode(z), z.Close(), b.Flush()); err != nil {
		return err
	}
	return f.last(t, nil)
}

type longWriter struct {
	f *frameWriter
	t frameType
}

func (l longWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), maxFrame)
		if err := l.f.write(l.t, rest[:n]); err != nil {
			return len(p) - len(rest), err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// frameReader reads frames. A payload is valid until the next read.
type frameReader struct {
	r   io.Reader
	buf []byte
	bad bool // what comes is no sequence of frames: nothing more can be read
}

func (f *frameReader) read() (frameType, []byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		f.bad = true
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		f.bad = true
		return 0, nil, fmt.Errorf("frame of %d bytes", n)
	}
	if int(n) > cap(f.buf) {
		f.buf = make([]byte, max(int(n), 64<<10))
	}
	f.buf = f.buf[:n]
	if _, err := io.ReadFull(f.r, f.buf); err != nil {
		f.bad = true
		return 0, nil, cut(err)
	}
	return frameType(head[0]), f.buf, nil
}

// expect reads a frame of one type; an Error frame becomes the fault that it tells.
func (f *frameReader) expect(want frameType) ([]byte, error) {
	t, payload, err := f.read()
	switch {
	case err != nil:
		return nil, err
	case t == want:
		return payload, nil
	case t == frameError:
		return nil, decodeFault(payload)
	}
	return nil, fmt.Errorf("frame of type %d where %d was due", t, want)
}

// long reads a long message with decode, which must take all of it. first is the payload of its
// first frame when that was read already.
func (f *frameReader) long(t frameType, first []byte, decode func(io.Reader) error) error {
	l := &longReader{f: f, t: t, rest: first}
	z, err := zstd.NewReader(l, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer z.Close()
	if err := decode(heldReader{z, l}); err != nil {
		return err
	}
	var more [1]byte
	if n, err := z.Read(more[:]); n > 0 || err != io.EOF {
		return errors.Join(errors.New("message is longer than what it holds"), cut(err))
	}
	if !l.done {
		return errors.New("message does not end where it should")
	}
	return nil
}

// longReader gives the payloads of a long message and then io.EOF.
type longReader struct {
	f    *frameReader
	t    frameType
	rest []byte
	done bool
	took int64 // bytes that came
	held int64 // bytes that were in them
}

// heldReader reads what a long message holds and counts it.
type heldReader struct {
	r io.Reader
	l *longReader
}

func (h heldReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.l.held += int64(n)
	return n, err
}

func (l *longReader) Read(p []byte) (int, error) {
	if len(l.rest) == 0 && !l.done {
		payload, err := l.f.expect(l.t)
		if err != nil {
			return 0, cut(err)
		}
		l.rest, l.done = payload, len(payload) == 0
		if l.took += int64(max(len(payload), leastFrame)); l.took > l.held+maxPadding { // decompressing may give nothing for ever
			return 0, errors.New("message is longer than what it holds")
		}
	}
	if l.done {
		return 0, io.EOF
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

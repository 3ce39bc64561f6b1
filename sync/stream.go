package filesync

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"godeploy/internal/fault"
)

// The sync stream, as docs/wire-sync.md specifies it.
const (
	streamMagic = "\x89gds\n\x01" // its last byte is the version
	maxFrame    = 1 << 20         // bytes of a frame's payload
	maxWindow   = 8 << 20         // bytes a compressed stream may refer back
	maxRounds   = 2               // times content is asked for
)

// frameType says what a frame holds.
type frameType byte

const (
	frameHello frameType = iota + 1 // receiver: magic, root of the parent
	frameStart                      // sender: magic, encoding, form of the tree
	frameTree                       // sender, long: the manifest or what differs from the parent's
	frameWant                       // receiver, long: the units it lacks
	frameUnit                       // sender: one unit's content
	frameEnd                        // sender: all units of this round are sent
	frameDone                       // receiver: the release is in place
	frameError                      // either: it gives up, and why
	frameStop                       // sender: has seen the receiver's error
)

// The encodings of what follows Start, and the forms of the tree.
const (
	encodingPlain, encodingZstd = 0, 1
	formWhole, formChanges      = 0, 1
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

// frameWriter writes frames, compressed from the moment compress is called. Nothing need reach the
// other end before flush.
type frameWriter struct {
	b *bufio.Writer
	z *zstd.Encoder
}

func newFrameWriter(w io.Writer) *frameWriter { return &frameWriter{b: bufio.NewWriterSize(w, 64<<10)} }

func (f *frameWriter) compress() (err error) {
	f.z, err = zstd.NewWriter(f.b, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxWindow), zstd.WithLowerEncoderMem(true))
	return err
}

func (f *frameWriter) write(t frameType, payload []byte) error {
	var w io.Writer = f.b
	if f.z != nil {
		w = f.z
	}
	head := [5]byte{byte(t)}
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.Write(payload)
	return err
}

func (f *frameWriter) flush() error {
	if f.z != nil {
		if err := f.z.Flush(); err != nil {
			return err
		}
	}
	return f.b.Flush()
}

// last writes a frame and sees to it that it leaves.
func (f *frameWriter) last(t frameType, payload []byte) error {
	return errors.Join(f.write(t, payload), f.flush())
}

// long writes what encode gives as a long message: frames of one type, an empty one at the end.
func (f *frameWriter) long(t frameType, encode func(io.Writer) error) error {
	b := bufio.NewWriterSize(longWriter{f, t}, 64<<10)
	if err := encode(b); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
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
	z   *zstd.Decoder
	buf []byte
	bad bool // what comes is no sequence of frames: nothing more can be read
}

// decompress reads what follows as a compressed stream.
func (f *frameReader) decompress() (err error) {
	f.z, err = zstd.NewReader(f.r, zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err == nil {
		f.r = f.z
	}
	return err
}

func (f *frameReader) close() {
	if f.z != nil {
		f.z.Close()
	}
}

func (f *frameReader) read() (frameType, []byte, error) {
	var head [5]byte
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

// longReader gives the content of a long message and then io.EOF.
type longReader struct {
	f    *frameReader
	t    frameType
	rest []byte
	done bool
}

func (l *longReader) Read(p []byte) (int, error) {
	if len(l.rest) == 0 && !l.done {
		payload, err := l.f.expect(l.t)
		if err != nil {
			return 0, cut(err)
		}
		l.rest, l.done = payload, len(payload) == 0
	}
	if l.done {
		return 0, io.EOF
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// peerError marks a fault that the other end told.
type peerError struct{ told *fault.Error }

func (e peerError) Error() string { return e.told.Error() }
func (e peerError) Unwrap() error { return e.told }

func isFault(err error) bool {
	_, ok := errors.AsType[*fault.Error](err)
	return ok
}

// encodeFault makes the payload of an Error frame: code, message and hint, each after its length.
func encodeFault(err error) []byte {
	e := fault.All(err)[0]
	var buf []byte
	for _, s := range []string{string(e.Code), e.Error(), e.Cause} {
		s = s[:min(len(s), 4096)]
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	return buf
}

func decodeFault(payload []byte) error {
	var parts [3]string
	for i := range parts {
		n, used := binary.Uvarint(payload)
		if used <= 0 || n > uint64(len(payload)-used) {
			return errors.New("error message that cannot be read")
		}
		parts[i], payload = string(payload[used:used+int(n)]), payload[used+int(n):]
	}
	code := fault.Code(parts[0])
	switch code {
	case fault.SyncSource, fault.SyncSourceChanged, fault.SyncVerify, fault.DiskFull, fault.InodeFull,
		fault.Interrupted, fault.Protocol, fault.LayoutRefused, fault.ReleaseUnknown:
	default:
		code = fault.Internal
	}
	e := fault.New(code, "%s", parts[1])
	if parts[2] != "" {
		e.Hint("%s", parts[2])
	}
	return peerError{e}
}

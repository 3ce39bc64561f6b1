package wire

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"
)

// Kind is the type of a frame.
type Kind uint8

// Requests, sent by the controller. Each opens an exchange under a new id that ends with exactly
// one KindReply, KindError or KindUnsupported.
const (
	KindHello   Kind = 0x01 // {} to HelloReply
	KindPing    Kind = 0x02 // {} to {}
	KindLock    Kind = 0x03 // LockRequest to LockReply
	KindUnlock  Kind = 0x04 // UnlockRequest to {}
	KindState   Kind = 0x05 // StateRequest to State
	KindPrepare Kind = 0x06 // PrepareRequest to {}
	KindStage   Kind = 0x07 // StageRequest, then data both ways, to StageReply
	KindSwitch  Kind = 0x08 // SwitchRequest to SwitchReply
	KindMark    Kind = 0x09 // MarkRequest to {}
	KindRemove  Kind = 0x0a // RemoveRequest to RemoveReply
	KindExec    Kind = 0x0b // ExecRequest, then output, to ExecReply
	KindProcs   Kind = 0x0c // ProcsRequest to ProcsReply
	KindSignal  Kind = 0x0d // SignalRequest to {}
	KindFile    Kind = 0x0e // FileRequest to FileReply
	KindPlace   Kind = 0x0f // PlaceRequest, then data both ways, to PlaceReply
	KindLanes   Kind = 0x10 // {} to LanesReply
	KindAudit   Kind = 0x11 // AuditRequest to {}
	KindArm     Kind = 0x12 // ArmRequest to {}
	KindStep    Kind = 0x13 // StepRequest to {}
	KindRecover Kind = 0x14 // RecoverRequest to Recovered
	KindNote    Kind = 0x15 // NoteRequest to {}
	KindSockets Kind = 0x16 // SocketsRequest to SocketsReply
	KindKeyFile Kind = 0x17 // KeyFileRequest to KeyFileReply
)

// Frames within an exchange, under its id.
const (
	KindCancel      Kind = 0x40 // controller: stop this request
	KindData        Kind = 0x41 // bytes of a stream, either way
	KindDataEnd     Kind = 0x42 // no more data from this side
	KindWindow      Kind = 0x43 // u32: this many more bytes of data may come
	KindOutput      Kind = 0x44 // helper: u8 stream (1 stdout, 2 stderr), bytes
	KindReply       Kind = 0x45 // helper: the end, well
	KindError       Kind = 0x46 // helper: the end, ErrorReply
	KindUnsupported Kind = 0x47 // helper: the end, this optional request is not known here
	KindSegment     Kind = 0x48 // controller: u64 place, bytes of a stream that uses lanes
)

// kindOptional is the first kind that a peer may meet without knowing it; below it an unknown kind
// is a fault of the protocol.
const kindOptional Kind = 0x80

// known reports whether k is a request of this version.
func (k Kind) known() bool { return k >= KindHello && k <= KindKeyFile }

// streams reports whether the request k carries data.
func (k Kind) streams() bool { return k == KindStage || k == KindPlace }

// Limits of the framing.
const (
	MaxFrame  = 1 << 20 // bytes of payload in one frame
	maxChunk  = 64 << 10
	window    = 4 << 20 // bytes of data under way in each direction of a stream
	headerLen = 9
	// piece is how much of a frame has to get through within the time limit, so that a slow line
	// can carry a long one while a peer that only trickles is still found out.
	piece = 128 << 10
)

// Frame is one message: a kind, the exchange it belongs to, and its payload.
type Frame struct {
	Kind    Kind
	ID      uint32
	Payload []byte
}

// ReadFrame reads one frame. It allocates only after the length was found to be within MaxFrame;
// io.EOF means that the peer ended between two frames.
func ReadFrame(r io.Reader) (Frame, error) { return readFrame(r, func() {}) }

// readFrame calls progress after every piece of a long frame.
func readFrame(r io.Reader, progress func()) (Frame, error) {
	var h [headerLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Kind: Kind(h[0]), ID: binary.BigEndian.Uint32(h[1:])}
	n := binary.BigEndian.Uint32(h[5:])
	if n > MaxFrame {
		return Frame{}, fmt.Errorf("frame of %d bytes, more than the %d allowed", n, MaxFrame)
	}
	f.Payload = make([]byte, n)
	for rest := f.Payload; len(rest) > 0; {
		p := rest[:min(len(rest), piece)]
		if _, err := io.ReadFull(r, p); err != nil {
			return Frame{}, fmt.Errorf("frame cut short: %w", noEOF(err))
		}
		rest = rest[len(p):]
		progress()
	}
	return f, nil
}

// AppendFrame appends the encoded frame to b. The payload must be within MaxFrame.
func AppendFrame(b []byte, f Frame) []byte {
	b = append(b, byte(f.Kind))
	b = binary.BigEndian.AppendUint32(b, f.ID)
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Payload)))
	return append(b, f.Payload...)
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// conn is the framing that both ends share: reads by one goroutine, writes by any.
type conn struct {
	rwc   io.ReadWriteCloser
	r     *bufio.Reader
	limit time.Duration // how long a peer may say or take nothing

	wmu sync.Mutex
	buf []byte
}

func newConn(rwc io.ReadWriteCloser, r *bufio.Reader, limit time.Duration) *conn {
	return &conn{rwc: rwc, r: r, limit: limit}
}

// send writes one frame whole. A peer that takes none of a piece of it for the limit loses the
// connection: a frame cannot be taken back half way.
func (c *conn) send(kind Kind, id uint32, payload []byte) error {
	if len(payload) > MaxFrame {
		return errTooLarge
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.buf = AppendFrame(c.buf[:0], Frame{kind, id, payload})
	return c.write(c.buf)
}

// sendFrame is send for a frame that is encoded already.
func (c *conn) sendFrame(b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.write(b)
}

// write writes piece by piece, each within the limit. The lock is held.
func (c *conn) write(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), piece)
		stalled := time.AfterFunc(c.limit, func() { _ = c.rwc.Close() }) // only to unblock the write
		_, err := c.rwc.Write(b[:n])
		stalled.Stop()
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// watched calls read with a watchdog: a peer that neither completes it nor lets it call progress
// within the limit loses the connection. It reports whether that happened.
func (c *conn) watched(read func(progress func()) error) (silent bool, err error) {
	fired := make(chan struct{})
	dog := time.AfterFunc(c.limit, func() {
		close(fired)
		_ = c.rwc.Close() // only to unblock the read
	})
	err = read(func() {
		if dog.Stop() { // else it has barked
			dog.Reset(c.limit)
		}
	})
	if !dog.Stop() {
		<-fired
		return true, err
	}
	return false, err
}

// recv reads one frame under the watchdog.
func (c *conn) recv() (f Frame, silent bool, err error) {
	silent, err = c.watched(func(progress func()) error {
		f, err = readFrame(c.r, progress)
		return err
	})
	return f, silent, err
}

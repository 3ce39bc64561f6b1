package filesync

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/klauspost/compress/zstd"
)

// Contents travel in batches: records of units in the order of the entries, cut where a batch is
// full. All batches of a round that are compressed make up one zstd stream, so that what one file
// says need not be said again for the next; batches that would not shrink stay out of it.
const (
	batchSize = 256 << 10 // bytes of content from which a batch is full
	batchHead = 5         // bytes of a batch before its data: encoding, length of the contents
	maxBatch  = batchSize + ChunkedFrom + 2*binary.MaxVarintLen64
)

// The encodings of a batch.
const (
	batchPlain byte = iota
	batchZstd
)

// lot says what kind of file content is from: one batch holds one kind.
type lot uint8

const (
	small lot = iota // always compressed: its neighbours are alike
	large            // compressed when a sample of it shrinks
	huge             // the same, unless the line is faster than compressing
)

// hugeFrom is the size in bytes of a huge file.
const hugeFrom = 64 << 20

func lotOf(e *Entry) lot {
	switch {
	case len(e.Chunks) == 0:
		return small
	case e.Size < hugeFrom:
		return large
	}
	return huge
}

// batcher gathers records and gives them on as whole frames. The zero value is not usable.
type batcher struct {
	compress string // as in SendOptions
	emit     func(frame []byte, of load) error
	// fast reports whether the line takes more than compressing gives; content that has no
	// neighbours to learn from is not worth the time then.
	fast  func() bool
	raw   []byte
	of    load // what raw holds
	from  lot
	z     *zstd.Encoder
	out   bytes.Buffer
	probe *zstd.Encoder
}

// newBatcher makes a batcher for about total bytes of content.
func newBatcher(compress string, total int64, emit func([]byte, load) error, fast func() bool) (*batcher, error) {
	b := &batcher{compress: compress, emit: emit, fast: fast}
	if compress == "off" {
		return b, nil
	}
	window := min(max(1<<bits.Len64(uint64(total)), zstd.MinWindowSize), maxWindow)
	var err error
	// Lower memory would have the whole window moved for every block, which takes longer than to compress it.
	b.z, err = zstd.NewWriter(&b.out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithEncoderCRC(false))
	return b, err
}

// load is how much of the source a batch stands for.
type load struct {
	bytes int
	files int // that begin in it
}

// add takes in one unit: its whole content, or a patch that stands for it.
func (b *batcher) add(data []byte, patch bool, of load, from lot) error {
	if b.of.bytes > 0 && b.from != from {
		if err := b.flush(); err != nil {
			return err
		}
	}
	b.from = from
	head := uint64(0)
	if patch {
		head = uint64(len(data)) + 1
	}
	b.raw = binary.AppendUvarint(b.raw, head)
	b.raw = append(b.raw, data...)
	b.of.bytes, b.of.files = b.of.bytes+of.bytes, b.of.files+of.files
	if len(b.raw) < batchSize {
		return nil
	}
	return b.flush()
}

// flush gives on what was gathered.
func (b *batcher) flush() error {
	if len(b.raw) == 0 {
		return nil
	}
	frame, err := b.frame()
	if err != nil {
		return err
	}
	of := b.of
	b.raw, b.of = b.raw[:0], load{}
	return b.emit(frame, of)
}

// frame makes a frame of what was gathered; it is the caller's.
func (b *batcher) frame() ([]byte, error) {
	data, encoding := b.raw, batchPlain
	if b.worthIt() {
		b.out.Reset()
		if _, err := b.z.Write(b.raw); err != nil {
			return nil, err
		}
		if err := b.z.Flush(); err != nil {
			return nil, err
		}
		data, encoding = b.out.Bytes(), batchZstd
	}
	frame := make([]byte, 0, frameHead+batchHead+len(data))
	frame = appendHead(frame, frameBatch, batchHead+len(data))
	frame = binary.BigEndian.AppendUint32(append(frame, encoding), uint32(len(b.raw)))
	return append(frame, data...), nil
}

// worthIt decides whether to compress what was gathered.
func (b *batcher) worthIt() bool {
	switch {
	case b.z == nil:
		return false
	case b.compress == "zstd" || b.from == small:
		return true
	case b.from == huge && b.fast != nil && b.fast():
		return false
	}
	return b.shrinks()
}

// shrinks tries a few pieces of a large file: what is compressed or encrypted already shows at once.
func (b *batcher) shrinks() bool {
	const piece, pieces = 4 << 10, 4
	if b.probe == nil {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(piece))
		if err != nil {
			return true
		}
		b.probe = z
	}
	var sample [piece * pieces]byte
	n := 0
	for i := range pieces {
		at := i * (len(b.raw) - piece) / pieces
		n += copy(sample[n:], b.raw[max(at, 0):min(max(at, 0)+piece, len(b.raw))])
	}
	return len(b.probe.EncodeAll(sample[:n], nil)) < n*15/16
}

// close frees what the encoders hold.
func (b *batcher) close() {
	if b.z != nil {
		_ = b.z.Close() // it writes to memory, and nobody reads that any more
	}
}

// batchReader takes the batches of one round apart into records.
type batchReader struct {
	in   *frameReader
	z    *zstd.Decoder
	feed bytes.Reader
	buf  []byte
	rest []byte
}

func (b *batchReader) close() {
	if b.z != nil {
		b.z.Close()
	}
}

// record gives the next unit, of size bytes when it is whole; it is valid until the next call. most
// bounds a patch.
func (b *batchReader) record(size, most int) (data []byte, patch bool, err error) {
	if len(b.rest) == 0 {
		if err := b.next(); err != nil {
			return nil, false, err
		}
	}
	head, n := binary.Uvarint(b.rest)
	if n <= 0 {
		return nil, false, errors.New("record without a head")
	}
	b.rest = b.rest[n:]
	if head > 0 {
		patch, size = true, most+1
		if head <= uint64(most) {
			size = int(head) - 1
		}
	}
	if size > len(b.rest) {
		return nil, false, fmt.Errorf("record of %d bytes where %d are left", size, len(b.rest))
	}
	data, b.rest = b.rest[:size:size], b.rest[size:]
	return data, patch, nil
}

// next reads a batch.
func (b *batchReader) next() error {
	payload, err := b.in.expect(frameBatch)
	if err != nil {
		return err
	}
	if len(payload) < batchHead+1 {
		return fmt.Errorf("batch of %d bytes", len(payload))
	}
	encoding, size := payload[0], binary.BigEndian.Uint32(payload[1:])
	data := payload[batchHead:]
	switch {
	case size == 0 || size > maxBatch:
		return fmt.Errorf("batch of %d bytes of content", size)
	case encoding == batchPlain && int(size) == len(data):
		b.rest = data
		return nil
	case encoding == batchZstd:
		return b.unpack(data, int(size))
	}
	return fmt.Errorf("batch of encoding %d", encoding)
}

// unpack decompresses a batch. The decoder gets no more than this batch, so it cannot wait for one
// that does not come, and gives no more than the batch claims.
func (b *batchReader) unpack(data []byte, size int) error {
	b.feed.Reset(data)
	if b.z == nil {
		var err error
		b.z, err = zstd.NewReader(&b.feed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(false))
		if err != nil {
			return err
		}
	}
	if cap(b.buf) < size {
		b.buf = make([]byte, size, max(size, batchSize+ChunkedFrom))
	}
	b.buf = b.buf[:size]
	if _, err := io.ReadFull(b.z, b.buf); err != nil {
		return fmt.Errorf("batch cannot be unpacked: %w", cut(err))
	}
	if b.feed.Len() > 0 {
		return errors.New("batch is longer than what it holds")
	}
	b.rest = b.buf
	return nil
}

// end reads the end of the round.
func (b *batchReader) end() error {
	if len(b.rest) > 0 {
		return fmt.Errorf("%d bytes more than were asked for", len(b.rest))
	}
	_, err := b.in.expect(frameEnd)
	return err
}

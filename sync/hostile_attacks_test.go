package filesync

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// attack is a peer that means harm: it writes what it likes until it cannot any more. What it is told
// is read and dropped beside it.
type attack struct {
	name  string
	write func(w io.Writer) error
}

// frame makes the bytes of one frame.
func frame(t frameType, payload []byte) []byte {
	return append(appendHead(nil, t, len(payload)), payload...)
}

// frames makes bytes of frames of one type.
func frames(t frameType, payloads ...[]byte) (all []byte) {
	for _, p := range payloads {
		all = append(all, frame(t, p)...)
	}
	return all
}

// packed makes a long message.
func packed(t frameType, content []byte) []byte {
	var b bytes.Buffer
	w := newFrameWriter(&b)
	err := errors.Join(w.long(t, func(z io.Writer) error { _, err := z.Write(content); return err }), w.flush())
	if err != nil {
		panic(err) // into memory nothing fails
	}
	return b.Bytes()
}

// startOf is a Start frame for a host without a parent.
func startOf(how form, ahead byte) []byte {
	return frame(frameStart, append(append([]byte(streamMagic), make([]byte, len(Hash{}))...), byte(how), ahead))
}

// forever writes first, and then more again and again.
func forever(first, more []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(first)
		for err == nil {
			_, err = w.Write(more)
		}
		return err
	}
}

// says writes what there is and ends.
func says(all ...[]byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(slices.Concat(all...))
		return err
	}
}

// emptyBlocks are a frame's worth of zstd that gives nothing; the first begins with a head.
func emptyBlocks() (first, more []byte) {
	more = make([]byte, 1<<20-2)
	more = more[:len(more)/3*3]
	return append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0}, make([]byte, 300)...), more
}

// skipped is a frame's worth of zstd frames that are to be skipped.
func skipped() []byte {
	one := binary.LittleEndian.AppendUint32([]byte{0x50, 0x2a, 0x4d, 0x18}, 8)
	return bytes.Repeat(append(one, make([]byte, 8)...), 60_000)
}

// zeros are so many MiB of nothing, compressed.
func zeros(mib int) []byte {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	for range mib {
		_, werr := z.Write(make([]byte, 1<<20))
		err = errors.Join(err, werr)
	}
	if err = errors.Join(err, z.Close()); err != nil {
		panic(err) // into memory nothing fails
	}
	return b.Bytes()
}

// bomb is a batch that claims little and holds a million times as much.
func bomb() []byte {
	return append(binary.BigEndian.AppendUint32([]byte{batchZstd}, 250), zeros(256)...)
}

// treeBytes is a Tree message in the plain form, whatever it says.
func treeBytes(entries ...Entry) []byte {
	m := &Manifest{Entries: entries}
	var b bytes.Buffer
	if err := m.encode(&b); err != nil {
		panic(err) // into memory nothing fails
	}
	return packed(frameTree, b.Bytes())
}

func oneFile(size int64) Entry {
	return Entry{Path: "f", Kind: File, Mode: 0o644, Size: size, Hash: Hash{1}}
}

// senders are attacks on Receive and Place.
func senders() []attack {
	first, more := emptyBlocks()
	tree := append(startOf(formWhole, 0), treeBytes(oneFile(1))...)
	nothing := append(binary.AppendUvarint(nil, 2_000_000), bytes.Repeat([]byte{0, 1, 'x', 2, 0}, 100)...)
	return []attack{
		{"tree of blocks that hold nothing", forever(append(startOf(formWhole, 0), frame(frameTree, first)...), frame(frameTree, more))},
		{"tree of frames that are skipped", forever(startOf(formWhole, 0), frame(frameTree, skipped()))},
		{"tree of single bytes", forever(append(startOf(formWhole, 0), frame(frameTree, first)...), frames(frameTree, slices.Repeat([][]byte{{0}, {0}, {0}}, 10_000)...))},
		{"tree that ends early", says(startOf(formWhole, 0), packed(frameTree, nothing))},
		{"tree of too many", says(startOf(formWhole, 0), packed(frameTree, binary.AppendUvarint(nil, 10_000_000)))},
		{"changes of nothing", says(startOf(formChanges, 0), packed(frameTree, []byte{0, 0}))},
		{"changes that name what is not there", says(startOf(formChanges, 0), packed(frameTree, binary.AppendUvarint([]byte{1, 5}, math.MaxInt64)))},
		{"sums by the million", says(startOf(formSegments, 0), packed(frameTree, append(binary.AppendUvarint(nil, 125_001), make([]byte, 32+8*125_001)...)))},
		{"sums without end", says(startOf(formSegments, 0), packed(frameTree, append(binary.AppendUvarint(nil, math.MaxUint64), make([]byte, 1<<20)...)))},
		{"ahead of more than there is", says(startOf(formWhole, 1), treeBytes(oneFile(1)), packed(frameAhead, []byte{0, 99}))},
		{"ahead without end", forever(append(append(startOf(formWhole, 1), treeBytes(oneFile(1))...), frame(frameAhead, first)...), frame(frameAhead, more))},
		{"size of nearly everything", says(startOf(formWhole, 0), treeBytes(oneFile(1<<62)))},
		{"size that turns over", says(startOf(formWhole, 0), treeBytes(oneFile(math.MaxInt64)))},
		{"bomb", forever(tree, frame(frameBatch, bomb()))},
		{"patch without a signature", forever(tree, frame(frameBatch, []byte{batchPlain, 0, 0, 0, 3, 3, 9, 9}))},
		{"patch of everything", forever(tree, frame(frameBatch, append([]byte{batchPlain, 0, 0, 0, 10}, binary.AppendUvarint(nil, math.MaxUint64)...)))},
		{"frames of no type", forever(startOf(formWhole, 0), bytes.Repeat(frame(0, nil), 10_000))},
		{"empty batches", forever(tree, bytes.Repeat(frame(frameBatch, nil), 10_000))},
		{"content without end", forever(tree, frame(frameBatch, append([]byte{batchPlain, 0, 4, 0, 1}, make([]byte, 256<<10+1)...)))},
		{"starts without end", forever(nil, startOf(formChanges, 0))},
		{"start, tree and start again", forever(nil, slices.Concat(frame(frameStart, append(append([]byte(streamMagic), bytes.Repeat([]byte{7}, 32)...), byte(formChanges), 1)), packed(frameTree, []byte{0}), packed(frameAhead, []byte{0}), frame(frameEnd, nil)))},
		{"errors without end", forever(nil, frame(frameError, bytes.Repeat([]byte{0xff}, 1<<20)))},
		{"frame too long", forever(nil, []byte{byte(frameTree), 0xff, 0xff, 0xff, 0xff})},
		{"nothing but ends", forever(tree, bytes.Repeat(frame(frameEnd, nil), 10_000))},
	}
}

// receivers are attacks on Send. known is the set of all units.
func receivers(units int) []attack {
	first, more := emptyBlocks()
	hello := frame(frameHello, append([]byte(streamMagic), make([]byte, len(Hash{}))...))
	all := binary.AppendUvarint([]byte{0}, uint64(units))
	sign := func(n int, signature []byte) []byte {
		w := slices.Clone(all)
		for range n {
			w = append(binary.AppendUvarint(append(w, 1), uint64(len(signature))), signature...)
		}
		return packed(frameWant, w)
	}
	return []attack{
		{"want of blocks that hold nothing", forever(append(hello, frame(frameWant, first)...), frame(frameWant, more))},
		{"want of frames that are skipped", forever(hello, frame(frameWant, skipped()))},
		{"want of zeros without end", says(hello, frame(frameWant, zeros(256)))},
		{"want before hello", says(packed(frameWant, all))},
		{"want of more than there is", says(hello, packed(frameWant, binary.AppendUvarint([]byte{0}, uint64(units+1))))},
		{"want of 2^63", says(hello, packed(frameWant, binary.AppendUvarint([]byte{0}, 1<<63)))},
		{"want three times", says(hello, packed(frameWant, all), packed(frameWant, all), packed(frameWant, all))},
		{"need that is not due", says(hello, packed(frameNeed, []byte{0}))},
		{"need of blocks that hold nothing", forever(append(hello, frame(frameNeed, first)...), frame(frameNeed, more))},
		{"hello without end", forever(nil, hello)},
		{"hello of another version", says(frame(frameHello, append([]byte("\x89gds\n\x63"), make([]byte, 32)...)))},
		{"signatures by the million", says(hello, sign(1_000_000, nil))},
		{"signature of nothing", says(hello, sign(1, nil))},
		{"signature of huge blocks", says(hello, sign(1, binary.AppendUvarint(nil, math.MaxUint64)))},
		{"signature that is noise", says(hello, sign(1, []byte(noise(1, 50_000))))},
		{"done at once", says(hello, frame(frameDone, []byte{1, 1, 1, 1, 0}))},
		{"done of more than can be", says(hello, frame(frameDone, binary.AppendUvarint(nil, math.MaxUint64)))},
		{"done without hello", says(frame(frameDone, []byte{1, 1, 1, 1, 0}))},
		{"errors without end", forever(hello, frame(frameError, bytes.Repeat([]byte{0xff}, 1<<20)))},
		{"frames of no type", forever(hello, bytes.Repeat(frame(99, nil), 10_000))},
		{"frame too long", forever(hello, []byte{byte(frameWant), 0xff, 0xff, 0xff, 0xff})},
	}
}

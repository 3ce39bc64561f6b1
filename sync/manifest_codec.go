package filesync

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"

	"godeploy/sync/delta"
)

// manifestMagic begins an encoded manifest; its last byte is the version.
const manifestMagic = "\x89gdm\n\x02"

// storedWindow is how far back a stored manifest's compression looks: names repeat near by, and a
// larger window costs its memory anew each time.
const storedWindow = 1 << 20

// Encode writes the manifest, compressed. docs/wire-sync.md describes the form. It does not check
// the manifest.
func (m *Manifest) Encode(w io.Writer) error {
	if _, err := io.WriteString(w, manifestMagic); err != nil {
		return err
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(storedWindow))
	if err != nil {
		return err
	}
	return errors.Join(m.encode(z), z.Close())
}

// Decode reads what Encode wrote, to its end, and checks it. What it reads and keeps is bounded by
// the limits of a tree.
func Decode(r io.Reader) (*Manifest, error) {
	m, _, err := decodeStored(r)
	return m, err
}

// decodeStored is Decode, and gives the root that it has found to be that of the entries.
func decodeStored(r io.Reader) (*Manifest, Hash, error) {
	magic := make([]byte, len(manifestMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != manifestMagic {
		return nil, Hash{}, errors.Join(errors.New("this is no manifest"), err)
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, Hash{}, err
	}
	defer z.Close()
	return decodeRooted(z)
}

// encode writes the plain form: a count, a row for each entry, the hashes, the root. Hashes do not
// compress; apart from the rest they do not keep it from compressing either.
func (m *Manifest) encode(w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	buf := binary.AppendUvarint(b.AvailableBuffer(), uint64(len(m.Entries)))
	rows := newRows()
	for i := range m.Entries {
		buf = rows.append(buf, &m.Entries[i])
		if _, err := b.Write(buf); err != nil {
			return err
		}
		buf = b.AvailableBuffer()
	}
	if _, err := b.Write(buf); err != nil {
		return err
	}
	for i := range m.Entries {
		if err := m.Entries[i].writeSums(b); err != nil {
			return err
		}
	}
	root := m.Root()
	if _, err := b.Write(root[:]); err != nil {
		return err
	}
	return b.Flush()
}

// writeSums writes the hashes of the entry's units.
func (e *Entry) writeSums(b *bufio.Writer) error {
	for n := range e.units() {
		sum := e.unitHash(n)
		if _, err := b.Write(append(b.AvailableBuffer(), sum[:]...)); err != nil {
			return err
		}
	}
	return nil
}

// rows writes entries one after the other; each leans on the one before.
type rows struct {
	path string
	time int64
	mode [4]uint32 // by kind
}

func newRows() rows { return rows{mode: [4]uint32{Dir: 0o755, File: 0o644}} }

// modeTold is set in a row's kind when the mode is not that of the last entry of this kind.
const modeTold = 4

// append adds an entry's row to buf.
func (s *rows) append(buf []byte, e *Entry) []byte {
	buf = s.appendHead(buf, e)
	switch e.Kind {
	case Link:
		buf = binary.AppendUvarint(buf, uint64(len(e.Link)))
		buf = append(buf, e.Link...)
	case File:
		buf = binary.AppendUvarint(buf, uint64(e.Size))
		if e.Size < ChunkedFrom {
			return buf
		}
		buf = binary.AppendUvarint(buf, uint64(len(e.Chunks)))
		for i := range e.Chunks {
			buf = binary.AppendUvarint(buf, uint64(e.Chunks[i].Len))
		}
	}
	return buf
}

// appendHead adds what every kind of entry has.
func (s *rows) appendHead(buf []byte, e *Entry) []byte {
	buf = s.appendPath(buf, e.Path)
	kind := e.Kind & 3
	if e.Mode == s.mode[kind] {
		buf = append(buf, byte(kind))
	} else {
		buf = append(buf, byte(kind)|modeTold)
		buf = binary.AppendUvarint(buf, uint64(e.Mode))
		s.mode[kind] = e.Mode
	}
	return s.appendTime(buf, e.MTime)
}

func (s *rows) appendPath(buf []byte, path string) []byte {
	same := commonPrefix(s.path, path)
	buf = binary.AppendUvarint(buf, uint64(same))
	buf = binary.AppendUvarint(buf, uint64(len(path)-same))
	s.path = path
	return append(buf, path[same:]...)
}

func (s *rows) appendTime(buf []byte, time int64) []byte {
	buf = binary.AppendVarint(buf, time-s.time)
	s.time = time
	return buf
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// decodeManifest reads the plain form and checks it. r must end where the manifest does.
func decodeManifest(r io.Reader) (*Manifest, error) {
	m, _, err := decodeRooted(r)
	return m, err
}

// decodeRooted is decodeManifest, and gives the root that it has found to be that of the entries.
func decodeRooted(r io.Reader) (*Manifest, Hash, error) {
	p := newPlainReader(r)
	m := &Manifest{Entries: p.entries()}
	for i := range m.Entries {
		p.sums(&m.Entries[i])
	}
	root := p.root()
	return m, root, p.finish(m, root)
}

// entries reads a count and as many rows.
func (p *plainReader) entries() []Entry {
	n := int(p.uvarint("entries", MaxEntries))
	var entries []Entry
	state := newRows()
	for len(entries) < n {
		if len(entries) == cap(entries) { // a promise is not yet content
			entries = append(make([]Entry, 0, min(n, max(2*len(entries), 1<<14))), entries...)
		}
		entries = entries[:len(entries)+1]
		p.row(&state, &entries[len(entries)-1])
		if p.err != nil {
			return nil
		}
	}
	return entries
}

// row reads one row into e.
func (p *plainReader) row(s *rows, e *Entry) {
	p.head(s, e)
	switch e.Kind {
	case Link:
		e.Link = p.textOf("link", "", p.uvarint("link", MaxLink))
	case File:
		e.Size = int64(p.uvarint("size", 1<<63-1))
		if e.Size >= ChunkedFrom {
			e.Chunks = p.chunkLengths(e.Size)
		}
	}
}

func (p *plainReader) head(s *rows, e *Entry) {
	e.Path = p.path(s)
	kind := p.byte("kind")
	e.Kind = Kind(kind &^ modeTold)
	if e.Kind < Dir || e.Kind > Link {
		p.fail("kind %d is unknown", kind)
		return
	}
	if kind&modeTold != 0 {
		s.mode[e.Kind] = uint32(p.uvarint("mode", 0o777))
	}
	e.Mode = s.mode[e.Kind]
	e.MTime = p.time(s)
}

func (p *plainReader) path(s *rows) string {
	same := p.uvarint("path", uint64(len(s.path)))
	s.path = p.textOf("path", s.path[:same], p.uvarint("path", MaxPath))
	return s.path
}

func (p *plainReader) time(s *rows) int64 {
	s.time += p.varint("time")
	return s.time
}

// chunkCount reads how many chunks a file of this size has.
func (p *plainReader) chunkCount(size int64) int {
	n := p.uvarint("chunks", min(MaxChunks, uint64(size/delta.MinChunk)+1))
	p.countChunks(int(n))
	if p.err != nil {
		return 0
	}
	return int(n)
}

// countChunks takes in that an entry has n chunks, told or taken over: each is looked at later.
func (p *plainReader) countChunks(n int) {
	if p.chunks += n; p.chunks > MaxChunks {
		p.fail("chunks: %w", errTooLarge)
	}
}

func (p *plainReader) chunkLengths(size int64) []delta.Chunk {
	n := p.chunkCount(size)
	chunks := make([]delta.Chunk, 0, min(n, 1024)) // a promise is not yet content
	for range n {
		c := delta.Chunk{Len: uint32(p.uvarint("chunk", delta.MaxChunk))}
		if p.err != nil {
			return nil
		}
		chunks = append(chunks, c)
	}
	return chunks
}

// sums reads the hashes of an entry whose row is read.
func (p *plainReader) sums(e *Entry) {
	switch {
	case p.err != nil || e.Kind != File:
	case e.Size == 0:
		e.Hash = emptyHash()
	case e.Size < ChunkedFrom:
		p.bytes("hash", e.Hash[:])
	default:
		for i := range e.Chunks {
			p.bytes("chunk", e.Chunks[i].Sum[:])
		}
		e.Hash = delta.Sum(e.Chunks)
	}
}

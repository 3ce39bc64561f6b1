package filesync

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"godeploy/sync/delta"
)

// manifestMagic begins an encoded manifest; its last byte is the version.
const manifestMagic = "\x89gdm\n\x01"

// Encode writes the manifest, compressed. docs/wire-sync.md describes the form. It does not check
// the manifest.
func (m *Manifest) Encode(w io.Writer) error {
	if _, err := io.WriteString(w, manifestMagic); err != nil {
		return err
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	return errors.Join(m.encode(z), z.Close())
}

// Decode reads what Encode wrote, to its end, and checks it. What it reads and keeps is bounded by
// the limits of a tree.
func Decode(r io.Reader) (*Manifest, error) {
	magic := make([]byte, len(manifestMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != manifestMagic {
		return nil, errors.Join(errors.New("this is no manifest"), err)
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return decodeManifest(z)
}

// encode writes the plain form: a count, the entries front-coded, the root.
func (m *Manifest) encode(w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	if err := encodeEntries(b, m.Entries); err != nil {
		return err
	}
	root := m.Root()
	if _, err := b.Write(root[:]); err != nil {
		return err
	}
	return b.Flush()
}

// encodeEntries writes a count and as many entries.
func encodeEntries(w io.Writer, entries []Entry) error {
	buf := binary.AppendUvarint(nil, uint64(len(entries)))
	last := ""
	for i := range entries {
		buf = entries[i].append(buf, last)
		last = entries[i].Path
		if _, err := w.Write(buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	_, err := w.Write(buf)
	return err
}

// append adds the entry's plain form to buf; last is the path before it.
func (e *Entry) append(buf []byte, last string) []byte {
	same := commonPrefix(last, e.Path)
	buf = binary.AppendUvarint(buf, uint64(same))
	buf = binary.AppendUvarint(buf, uint64(len(e.Path)-same))
	buf = append(buf, e.Path[same:]...)
	buf = append(buf, byte(e.Kind))
	buf = binary.AppendUvarint(buf, uint64(e.Mode))
	buf = binary.AppendVarint(buf, e.MTime)
	switch e.Kind {
	case Link:
		buf = binary.AppendUvarint(buf, uint64(len(e.Link)))
		buf = append(buf, e.Link...)
	case File:
		buf = binary.AppendUvarint(buf, uint64(e.Size))
		if e.Size < ChunkedFrom {
			return append(buf, e.Hash[:]...)
		}
		buf = binary.AppendUvarint(buf, uint64(len(e.Chunks)))
		for i := range e.Chunks {
			buf = binary.AppendUvarint(buf, uint64(e.Chunks[i].Len))
			buf = append(buf, e.Chunks[i].Sum[:]...)
		}
	}
	return buf
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// plainReader reads the parts of the plain form; after the first error it gives zeros.
type plainReader struct {
	r      *bufio.Reader
	text   int64 // bytes of paths and link texts so far
	chunks uint64
	err    error
}

func (p *plainReader) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("manifest: "+format, args...)
	}
}

// uvarint reads a number of at most limit.
func (p *plainReader) uvarint(what string, limit uint64) uint64 {
	if p.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(p.r)
	if err != nil {
		p.fail("%s: %w", what, cut(err))
		return 0
	}
	if n > limit {
		p.fail("%s %d is more than %d", what, n, limit)
		return 0
	}
	return n
}

func (p *plainReader) varint(what string) int64 {
	if p.err != nil {
		return 0
	}
	n, err := binary.ReadVarint(p.r)
	if err != nil {
		p.fail("%s: %w", what, cut(err))
		return 0
	}
	return n
}

func (p *plainReader) bytes(what string, into []byte) {
	if p.err != nil {
		return
	}
	if _, err := io.ReadFull(p.r, into); err != nil {
		p.fail("%s: %w", what, cut(err))
	}
}

// cut makes an end of input in the middle of something an unexpected one.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// textOf reads n bytes of a path or link text behind prefix, within what all of them may have.
func (p *plainReader) textOf(what, prefix string, n uint64) string {
	if p.text += int64(len(prefix)) + int64(n); p.text > MaxText {
		p.fail("%s: %w", what, errTooLarge)
	}
	if p.err != nil {
		return ""
	}
	var b strings.Builder
	b.Grow(len(prefix) + int(n))
	b.WriteString(prefix)
	if _, err := io.CopyN(&b, p.r, int64(n)); err != nil {
		p.fail("%s: %w", what, cut(err))
	}
	return b.String()
}

// entry reads one entry; last is the path before it.
func (p *plainReader) entry(last string) Entry {
	var e Entry
	var kind [1]byte
	same := p.uvarint("path", uint64(len(last)))
	e.Path = p.textOf("path", last[:same], p.uvarint("path", MaxPath))
	p.bytes("kind", kind[:])
	e.Kind = Kind(kind[0])
	e.Mode = uint32(p.uvarint("mode", 0o777))
	e.MTime = p.varint("time")
	switch e.Kind {
	case Link:
		e.Link = p.textOf("link", "", p.uvarint("link", MaxLink))
	case File:
		e.Size = int64(p.uvarint("size", 1<<63-1))
		if e.Size < ChunkedFrom {
			p.bytes("hash", e.Hash[:])
		} else {
			e.Chunks = p.chunkList(e.Size)
			e.Hash = delta.Sum(e.Chunks)
		}
	}
	return e
}

func (p *plainReader) chunkList(size int64) []delta.Chunk {
	n := p.uvarint("chunks", min(MaxChunks, uint64(size/delta.MinChunk)+1))
	if p.chunks += n; p.chunks > MaxChunks {
		p.fail("chunks: %w", errTooLarge)
	}
	if p.err != nil {
		return nil
	}
	chunks := make([]delta.Chunk, 0, min(n, 1024)) // a promise is not yet content
	for range n {
		c := delta.Chunk{Len: uint32(p.uvarint("chunk", delta.MaxChunk))}
		p.bytes("chunk", c.Sum[:])
		if p.err != nil {
			return nil
		}
		chunks = append(chunks, c)
	}
	return chunks
}

// decodeManifest reads the plain form and checks it. r must end where the manifest does.
func decodeManifest(r io.Reader) (*Manifest, error) {
	p := newPlainReader(r)
	m := &Manifest{Entries: p.entries()}
	return m, p.finish(m)
}

func newPlainReader(r io.Reader) *plainReader {
	return &plainReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// entries reads a count and as many entries.
func (p *plainReader) entries() []Entry {
	n := p.uvarint("entries", MaxEntries)
	entries := make([]Entry, 0, min(n, 4096))
	last := ""
	for range n {
		e := p.entry(last)
		if p.err != nil {
			return nil
		}
		last = e.Path
		entries = append(entries, e)
	}
	return entries
}

// finish reads the root and the end, and makes sure that m is a tree with this root.
func (p *plainReader) finish(m *Manifest) error {
	var root Hash
	p.bytes("root", root[:])
	if p.err != nil {
		return p.err
	}
	if _, err := p.r.ReadByte(); err != io.EOF {
		return errors.Join(errors.New("manifest: does not end where it says"), err)
	}
	if err := m.Check(); err != nil {
		return err
	}
	if m.Root() != root {
		return errors.New("manifest: root is not that of its entries")
	}
	return nil
}

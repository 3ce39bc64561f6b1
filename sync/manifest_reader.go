package filesync

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// plainReader reads the parts of a manifest's forms; after the first error it gives zeros.
type plainReader struct {
	src    io.Reader
	buf    []byte
	at     int // buf[at:filled] is read and not yet taken
	filled int
	srcErr error
	texts  textBlock
	text   int64 // bytes of paths and link texts so far
	chunks int
	err    error
}

func newPlainReader(r io.Reader) *plainReader {
	return &plainReader{src: r, buf: make([]byte, 64<<10)}
}

func (p *plainReader) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("manifest: "+format, args...)
	}
}

// need reads on until n bytes can be taken, and reports whether they can; n is at most len(buf).
func (p *plainReader) need(n int) bool {
	if p.filled-p.at >= n {
		return true
	}
	p.filled = copy(p.buf, p.buf[p.at:p.filled])
	p.at = 0
	for idle := 0; p.filled < n && p.srcErr == nil; idle++ {
		var got int
		got, p.srcErr = p.src.Read(p.buf[p.filled:])
		p.filled += got
		if got > 0 {
			idle = 0
		}
		if idle > 100 {
			p.srcErr = io.ErrNoProgress
		}
	}
	return p.filled >= n
}

// short fails because the input ended in the middle of something.
func (p *plainReader) short(what string) {
	p.fail("%s: %w", what, cut(p.srcErr))
}

// cut makes an end of input in the middle of something an unexpected one.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

var errNumber = errors.New("number of more than 64 bits")

// number takes what read finds at the front.
func (p *plainReader) number(what string, read func([]byte) int) {
	if p.err != nil {
		return
	}
	p.need(binary.MaxVarintLen64) // at the end there may be less
	n := read(p.buf[p.at:p.filled])
	switch {
	case n > 0:
		p.at += n
	case n < 0 || p.filled-p.at >= binary.MaxVarintLen64:
		p.fail("%s: %w", what, errNumber)
	default:
		p.short(what)
	}
}

// uvarint reads a number of at most limit.
func (p *plainReader) uvarint(what string, limit uint64) uint64 {
	if p.err == nil && p.at < p.filled && p.buf[p.at] < 0x80 && uint64(p.buf[p.at]) <= limit {
		p.at++
		return uint64(p.buf[p.at-1])
	}
	var v uint64
	p.number(what, func(b []byte) (n int) { v, n = binary.Uvarint(b); return n })
	if v > limit {
		p.fail("%s %d is more than %d", what, v, limit)
	}
	if p.err != nil {
		return 0
	}
	return v
}

func (p *plainReader) varint(what string) int64 {
	var v int64
	p.number(what, func(b []byte) (n int) { v, n = binary.Varint(b); return n })
	return v
}

func (p *plainReader) byte(what string) byte {
	if p.err == nil && !p.need(1) {
		p.short(what)
	}
	if p.err != nil {
		return 0
	}
	p.at++
	return p.buf[p.at-1]
}

// bytes fills into, which is no longer than a hash.
func (p *plainReader) bytes(what string, into []byte) {
	if p.err == nil && !p.need(len(into)) {
		p.short(what)
	}
	if p.err != nil {
		return
	}
	p.at += copy(into, p.buf[p.at:p.filled])
}

// textOf reads n bytes of a path or link text behind prefix, within what all of them may have.
func (p *plainReader) textOf(what, prefix string, n uint64) string {
	if p.countText(what, len(prefix)+int(n)); p.err == nil && !p.need(int(n)) {
		p.short(what)
	}
	if p.err != nil {
		return ""
	}
	p.at += int(n)
	return p.texts.join(prefix, p.buf[p.at-int(n):p.at])
}

// countText takes in that a text of n bytes is about to be made.
func (p *plainReader) countText(what string, n int) {
	if p.text += int64(n); p.text > MaxText {
		p.fail("%s: %w", what, errTooLarge)
	}
}

func (p *plainReader) root() Hash {
	var root Hash
	p.bytes("root", root[:])
	return root
}

// end makes sure that all was read and that the input ends here.
func (p *plainReader) end() error {
	if p.err == nil && (p.need(1) || p.srcErr != io.EOF) {
		p.err = errors.Join(errors.New("manifest: does not end where it says"), p.srcErr)
	}
	return p.err
}

// finish makes sure that the input ends here and that m is a tree with this root.
func (p *plainReader) finish(m *Manifest, root Hash) error {
	if err := p.end(); err != nil {
		return err
	}
	if err := m.Check(); err != nil {
		return err
	}
	if m.Root() != root {
		return errors.New("manifest: root is not that of its entries")
	}
	return nil
}

// textBlock makes many small strings that lie one behind the other in few blocks of memory. All of
// a block lives as long as one of its strings: it is for strings that go together.
type textBlock struct {
	b    strings.Builder
	size int
}

// join makes the string of a prefix and a rest.
func (t *textBlock) join(prefix string, rest []byte) string {
	n := len(prefix) + len(rest)
	if t.b.Cap()-t.b.Len() < n {
		t.size = min(max(2*t.size, 1<<10), 256<<10)
		t.b = strings.Builder{}
		t.b.Grow(max(n, t.size))
	}
	from := t.b.Len()
	t.b.WriteString(prefix)
	t.b.Write(rest)
	return t.b.String()[from:]
}

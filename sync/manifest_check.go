package filesync

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"strings"

	"godeploy/sync/delta"
)

// identity is Root, or where times count a hash of it and of the times of files and folders.
func (m *Manifest) identity(timed bool) Hash {
	root := m.Root()
	if !timed {
		return root
	}
	h := sha256.New()
	h.Write([]byte("godeploy times 1\n"))
	h.Write(root[:])
	buf := make([]byte, 0, 8<<10)
	for i := range m.Entries {
		if m.Entries[i].Kind == Link {
			continue
		}
		if buf = binary.BigEndian.AppendUint64(buf, uint64(m.Entries[i].MTime)); len(buf) == cap(buf) {
			h.Write(buf)
			buf = buf[:0]
		}
	}
	h.Write(buf)
	return Hash(h.Sum(nil))
}

// Root is the identity of the tree: a SHA-256 over paths, kinds, permission bits, sizes, hashes and
// link texts. Times have no part in it, so two checkouts of one commit have one root.
func (m *Manifest) Root() Hash {
	h := sha256.New()
	buf := append(make([]byte, 0, identityBatch+4096), "godeploy tree 1\n"...)
	for i := range m.Entries {
		if buf = m.Entries[i].appendIdentity(buf); len(buf) >= identityBatch {
			h.Write(buf)
			buf = buf[:0]
		}
	}
	h.Write(buf)
	return Hash(h.Sum(nil))
}

// identityBatch is how many bytes are hashed at once: few calls, and all of them in the processor's
// nearest memory.
const identityBatch = 16 << 10

// appendIdentity adds what makes an entry what it is: all but its time.
func (e *Entry) appendIdentity(buf []byte) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(e.Path)))
	buf = append(buf, e.Path...)
	buf = append(buf, byte(e.Kind))
	buf = binary.AppendUvarint(buf, uint64(e.Mode))
	switch e.Kind {
	case File:
		buf = binary.AppendUvarint(buf, uint64(e.Size))
		buf = append(buf, e.Hash[:]...)
	case Link:
		buf = binary.AppendUvarint(buf, uint64(len(e.Link)))
		buf = append(buf, e.Link...)
	}
	return buf
}

// Bytes is the size of all files together.
func (m *Manifest) Bytes() int64 {
	var n int64
	for i := range m.Entries {
		n += m.Entries[i].Size
	}
	return n
}

// Files counts the entries that are files.
func (m *Manifest) Files() int {
	n := 0
	for i := range m.Entries {
		if m.Entries[i].Kind == File {
			n++
		}
	}
	return n
}

// Find gives the entry at path, or nil.
func (m *Manifest) Find(path string) *Entry {
	if i := m.index(path); i >= 0 {
		return &m.Entries[i]
	}
	return nil
}

// index is the place of path among the entries, or -1.
func (m *Manifest) index(path string) int {
	i := m.search(0, path)
	if i == len(m.Entries) || m.Entries[i].Path != path {
		return -1
	}
	return i
}

// search is the place, not before from, of the first entry whose path is not below path in order.
func (m *Manifest) search(from int, path string) int {
	n := len(m.Entries) - from
	return from + sort.Search(n, func(i int) bool { return m.Entries[from+i].Path >= path })
}

// Check refuses what is no tree: paths that are not made of plain components, two entries of one
// name, an entry below something that is no folder, unknown kinds, permission bits past 0777, sizes
// and chunks that do not fit together, and more than the limits allow.
func (m *Manifest) Check() error {
	if len(m.Entries) > MaxEntries {
		return fmt.Errorf("tree has %d entries, more than %d", len(m.Entries), MaxEntries)
	}
	var total, text int64
	chunks := 0
	paths := pathChecker{m: m, parent: "."}
	for i := range m.Entries {
		e := &m.Entries[i]
		err := paths.next(e.Path)
		if err == nil {
			err = e.check()
		}
		if err != nil {
			return fmt.Errorf("entry %q: %w", e.Path, err)
		}
		if total += e.Size; total < 0 {
			return errors.New("tree is larger than 2^63 bytes")
		}
		text += int64(len(e.Path) + len(e.Link))
		chunks += len(e.Chunks)
	}
	if text > MaxText || chunks > MaxChunks {
		return errTooLarge
	}
	return nil
}

var errTooLarge = errors.New("tree is larger than the limits allow")

// pathChecker looks at the paths of a manifest, one after the other. Of each it looks only at what
// the one before it had not.
type pathChecker struct {
	m      *Manifest
	last   string // path before
	parent string // a folder of the tree, or "."
}

func (c *pathChecker) next(path string) error {
	if path == "" || len(path) > MaxPath {
		return errPath
	}
	same := commonPrefix(c.last, path)
	if same == len(path) || same < len(c.last) && path[same] < c.last[same] {
		return errors.New("is there twice or out of order")
	}
	// What both have of a path up to a slash was good then.
	if err := checkNames(path[strings.LastIndexByte(path[:same], '/')+1:]); err != nil {
		return err
	}
	c.last = path
	dir, _ := split(path)
	if dir == c.parent {
		return nil
	}
	if above := c.m.Find(dir); dir != "." && (above == nil || above.Kind != Dir) {
		return errors.New("is not in a folder of the tree")
	}
	c.parent = dir
	return nil
}

// checkNames looks at every component of a path.
func checkNames(path string) error {
	if strings.IndexByte(path, 0) >= 0 {
		return errPath
	}
	for more := true; more; {
		var name string
		name, path, more = strings.Cut(path, "/")
		if name == "" || name == "." || name == ".." || len(name) > MaxComponent {
			return errPath
		}
	}
	return nil
}

// check looks at one entry by itself, but for its path.
func (e *Entry) check() error {
	if e.Mode&^0o777 != 0 {
		return fmt.Errorf("mode %o has more than permission bits", e.Mode)
	}
	if e.Kind != File && (e.Size != 0 || !e.Hash.IsZero() || len(e.Chunks) != 0) || e.Kind != Link && e.Link != "" {
		return errors.New("has fields that its kind has not")
	}
	switch e.Kind {
	case Dir:
		return nil
	case File:
		return e.checkContent()
	case Link:
		if e.Link == "" || len(e.Link) > MaxLink || strings.Contains(e.Link, "\x00") || e.Mode != 0 {
			return errors.New("is no possible link")
		}
		return nil
	}
	return fmt.Errorf("kind %d is unknown", e.Kind)
}

// emptyHash is the hash of a file without content, which is never sent.
func emptyHash() Hash {
	return Hash{
		0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
		0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
	}
}

// checkContent makes sure that size, hash and chunks say the same.
func (e *Entry) checkContent() error {
	if e.Size < 0 {
		return errors.New("size is negative")
	}
	if e.Size < ChunkedFrom {
		if len(e.Chunks) != 0 {
			return errors.New("is too small for chunks")
		}
		if e.Size == 0 && e.Hash != emptyHash() {
			return errors.New("is empty and has another hash")
		}
		return nil
	}
	for i := range e.Chunks {
		n := e.Chunks[i].Len
		if n == 0 || n > delta.MaxChunk || n < delta.MinChunk && i < len(e.Chunks)-1 {
			return fmt.Errorf("chunk of %d bytes", n)
		}
	}
	if delta.Size(e.Chunks) != e.Size || delta.Sum(e.Chunks) != e.Hash {
		return errors.New("chunks are not of its size and hash")
	}
	return nil
}

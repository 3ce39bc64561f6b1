package filesync

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"godeploy/sync/delta"
)

// Root is the identity of the tree: a SHA-256 over paths, kinds, permission bits, sizes, hashes and
// link texts. Times have no part in it, so two checkouts of one commit have one root.
func (m *Manifest) Root() Hash {
	h := sha256.New()
	h.Write([]byte("godeploy tree 1\n"))
	var buf []byte
	text := func(s string) {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		buf = buf[:0]
		text(e.Path)
		buf = append(buf, byte(e.Kind))
		buf = binary.AppendUvarint(buf, uint64(e.Mode))
		switch e.Kind {
		case File:
			buf = binary.AppendUvarint(buf, uint64(e.Size))
			buf = append(buf, e.Hash[:]...)
		case Link:
			text(e.Link)
		}
		h.Write(buf)
	}
	return Hash(h.Sum(nil))
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
	i, found := slices.BinarySearchFunc(m.Entries, path, func(e Entry, path string) int {
		return strings.Compare(e.Path, path)
	})
	if !found {
		return -1
	}
	return i
}

// Check refuses what is no tree: paths that are not made of plain components, two entries of one
// name, an entry below something that is no folder, unknown kinds, permission bits past 0777, sizes
// and chunks that do not fit together, and more than the limits allow.
func (m *Manifest) Check() error {
	if len(m.Entries) > MaxEntries {
		return fmt.Errorf("tree has %d entries, more than %d", len(m.Entries), MaxEntries)
	}
	var total, text int64
	chunks, parent := 0, "."
	for i := range m.Entries {
		e := &m.Entries[i]
		if err := e.check(); err != nil {
			return fmt.Errorf("entry %q: %w", e.Path, err)
		}
		if i > 0 && e.Path <= m.Entries[i-1].Path {
			return fmt.Errorf("entry %q: is there twice or out of order", e.Path)
		}
		if dir, _ := split(e.Path); dir != parent {
			if above := m.Find(dir); dir != "." && (above == nil || above.Kind != Dir) {
				return fmt.Errorf("entry %q: is not in a folder of the tree", e.Path)
			}
			parent = dir
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

// check looks at one entry by itself.
func (e *Entry) check() error {
	if e.Path == "." {
		return errPath
	}
	if err := checkPath(e.Path); err != nil {
		return err
	}
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

// checkContent makes sure that size, hash and chunks say the same.
func (e *Entry) checkContent() error {
	if e.Size < 0 {
		return errors.New("size is negative")
	}
	if e.Size < ChunkedFrom {
		if len(e.Chunks) != 0 {
			return errors.New("is too small for chunks")
		}
		if e.Size == 0 && e.Hash != sha256.Sum256(nil) {
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

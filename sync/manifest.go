package filesync

import (
	"crypto/sha256"
	"encoding/hex"

	"godeploy/sync/delta"
)

// Kind says what an entry of a tree is.
type Kind uint8

// The kinds. A Manifest holds the first three only.
const (
	Dir Kind = iota + 1
	File
	Link
	Special // device, FIFO or socket: seen on disk, never sent
)

// Hash is the identity of a content or of a tree: a SHA-256.
type Hash [sha256.Size]byte

// String gives the hash in lower-case hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether the hash is not set.
func (h Hash) IsZero() bool { return h == Hash{} }

// Entry is one file, folder or link of a tree.
type Entry struct {
	Path  string // relative, separated by slashes, raw bytes
	Kind  Kind
	Mode  uint32 // permission bits, 0777; 0 for a link
	Size  int64  // of a file, in bytes
	MTime int64  // nanoseconds since 1970; informational, no part of Root
	// Hash is the identity of a file's content: its SHA-256 below ChunkedFrom bytes, else
	// delta.Sum of its chunks.
	Hash   Hash
	Link   string        // text of a link
	Chunks []delta.Chunk // of a file of ChunkedFrom bytes or more, in order
}

// Manifest says what a tree is: its entries sorted bytewise by path, each folder therefore before
// what is in it. The root folder itself is no entry.
type Manifest struct {
	Entries []Entry
}

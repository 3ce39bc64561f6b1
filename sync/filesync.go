// Package filesync brings a folder tree from one machine to another: it scans the source, says by a
// manifest what the tree is, and builds the same tree beside the previous one out of that one's
// unchanged files and of what is sent.
//
// It knows no transport. Send and Receive speak over any io.ReadWriter; docs/wire-sync.md is the
// specification of what they say. The folder is called sync; import it always as
//
//	filesync "godeploy/sync"
package filesync

import "time"

// ChunkedFrom is the size in bytes from which a file is known and sent by chunks.
const ChunkedFrom = 256 << 10

// Limits of a tree; a larger one is refused by both ends.
const (
	MaxEntries   = 2_000_000
	MaxChunks    = 4_000_000 // of all files together: about 128 GiB in large files
	MaxPath      = 32 << 10  // bytes of a path
	MaxComponent = 255       // bytes of one name
	MaxLink      = 4095      // bytes of a link's text
	MaxText      = 256 << 20 // bytes of all paths and link texts together
)

// Stats counts what one transfer did. Both ends of a transfer agree on all but Sent and Received.
type Stats struct {
	Files     int   // files of the tree
	Linked    int   // files taken over from the parent without a copy
	Written   int   // files written: sent, put together from old chunks, or copied on the host
	Sent      int64 // bytes this end wrote to the stream
	Received  int64 // bytes this end read from the stream
	Bytes     int64 // size of all files of the tree
	Unchanged bool  // the tree equals the parent's: no content was needed
}

// ScanOptions says what Scan takes. The zero value takes everything but .git and .godeploy, refuses
// links that leave the tree and special files, crosses into other file systems and keeps no hashes.
type ScanOptions struct {
	Rules         *Rules // nil: only .git and .godeploy are left out
	Symlinks      string // links that leave the tree: "inside" or "" refuses, "any" keeps, "skip" leaves out
	Special       string // devices, FIFOs, sockets: "error" or "" refuses, "skip" leaves out
	OneFileSystem bool   // what is mounted below the source stays an empty folder
	Workers       int    // folders and files read at once; 0: twice the processors, 16 at most
	// Cache is a folder for the hashes of files, so that those that did not change since the last
	// Scan of the same source are not read again; "" keeps none. It is made when missing, 0700. What
	// is in it is only ever trusted when it is whole, and may be deleted at any time.
	Cache   string
	Rehash  bool  // read every file, whatever the cache says; the cache is written anew
	MaxFile int64 // bytes a file may have; 0: DefaultMaxFile
}

// DefaultMaxFile is how large a file of a source may be, in bytes, unless ScanOptions say otherwise:
// a file with holes takes no room on its own disk and all of it on the host's.
const DefaultMaxFile = 64 << 30

// Progress is how much of what is lacking has been sent. A file counts from its first byte.
type Progress struct {
	Bytes, TotalBytes int64 // of content, as it is at the source
	Files, TotalFiles int
}

// SendOptions are the sender's. The zero value is fit for use.
type SendOptions struct {
	Compress string // "auto", "zstd" or "" compresses; "off" does not
	// Progress is told how far the sending has come, often, from one goroutine.
	Progress func(Progress)
	// Expect is the root of the tree that the host will build on, as far as the caller knows. The
	// tree is told at once then, and anew when it was wrong.
	Expect Hash
	// Times says that the host sets the times of files and folders also where nothing else changed, as
	// Place does.
	Times bool
	// Peer names who receives, the same each time: what it was sent last is expected to be what it has,
	// where Expect does not say. Only a Source with a cache remembers.
	Peer string
	// RoundTrip is the time that an answer takes. Where it is long, a small change is sent before it
	// is asked for.
	RoundTrip time.Duration
	// Hosts is how many hosts get this Source. With more than one, what they ask for alike is read
	// and compressed once.
	Hosts int
	// Spool is a folder for what is compressed and not sent yet; "" is the system's for such files.
	Spool string
}

// ReceiveOptions say what Receive builds and from what.
type ReceiveOptions struct {
	FS     FS     // rooted at the app's path
	ID     string // becomes releases/ID, built in releases/.ID.partial
	Parent string // id of the release whose unchanged files are used, or ""
	// Links says how unchanged files enter: "auto" or "" links and copies where it must, "hard" links,
	// "reflink" shares blocks and copies where it must, "copy" copies.
	Links         string
	Carry         []string // paths copied from the parent that the tree itself does not have
	UID, GID      int      // owner and group of all that is made; -1 leaves them
	SkipUnchanged bool     // make nothing when the tree equals the parent's
	Workers       int      // files worked on at once; 0: 8
	// Whole asks for changed files as a whole: where to read an old version costs more than to send
	// the new one.
	Whole bool
	// VerifyAll reads every file of the parent: one whose content is not what is recorded is sent anew.
	VerifyAll bool
	// Spare names a tree below releases/ that nobody needs any more, or "". Its folders and links become
	// those of the release as far as they fit, which costs less than to make them; it is used up.
	Spare string
	still bool // what stays where it is need not be made
}

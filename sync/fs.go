package filesync

import "io"

// FS is the folder tree of one host, rooted at the app's path. OpenLocal gives the one a helper
// uses; deploy/overssh has one over SFTP, so that the same Receive runs against a host without a
// helper.
//
// Paths are relative to the root, separated by slashes, raw bytes, without empty, "." or ".."
// components; "." alone is the root. Any other path is an error. No method follows a symbolic link,
// neither in the last component nor on the way: a path that leads through a link is an error.
//
// Errors satisfy errors.Is with fs.ErrNotExist, fs.ErrExist and fs.ErrPermission where these apply
// and carry the path. Where the system has an errno, errors.Is finds it too (ENOSPC, EXDEV, …).
// All methods are safe for concurrent use.
type FS interface {
	// Lstat describes what is at path, a link itself and not what it points to.
	Lstat(path string) (Info, error)
	// Readlink gives the text of a symbolic link.
	Readlink(path string) (string, error)
	// ReadDir describes what is in a folder, sorted by name, without "." and "..". What vanishes
	// while it reads is left out.
	ReadDir(path string) ([]Info, error)
	// Open opens a regular file for reading; anything else is an error and is never waited for, a
	// FIFO neither. The caller closes it.
	Open(path string) (FileReader, error)
	// Create makes a regular file that must not be there yet and opens it for writing. Its
	// permission bits are exactly perm, whatever the umask. The caller closes it; an error of Close
	// means that the content may be lost.
	Create(path string, perm uint32) (FileWriter, error)
	// Mkdir makes one folder that must not be there yet, with exactly these permission bits. Its
	// parent must be there (MkdirAll makes the way).
	Mkdir(path string, perm uint32) error
	// Link makes path another name of the regular file at old.
	Link(old, path string) error
	// Clone makes a new file at path, with exactly these permission bits, that shares the content of
	// the regular file at old until one of the two is written. It copies nothing: where the file
	// system cannot share, nothing is made and the error satisfies errors.Is with
	// errors.ErrUnsupported. The new file's time is now.
	Clone(old, path string, perm uint32) error
	// Symlink makes a symbolic link at path, which must not be there yet; target is kept verbatim.
	Symlink(target, path string) error
	// Chmod sets the permission bits (0777 only) of a file or folder.
	Chmod(path string, perm uint32) error
	// Chtimes sets the modification time, in nanoseconds since 1970, of a file or folder. A file
	// system that counts more coarsely rounds it down.
	Chtimes(path string, mtime int64) error
	// Lchown sets owner and group of anything, a link included; -1 leaves one as it is.
	Lchown(path string, uid, gid int) error
	// Rename moves old to path in one step. A file or link at path is replaced, and a reader sees
	// the one or the other, never none; a folder that is not empty is an error.
	Rename(old, path string) error
	// RemoveAll removes what is at path with all that is in it, folders that forbid writing too. It
	// is no error when nothing is there.
	RemoveAll(path string) error
	// SyncDir makes the names in one folder durable: after it a rename into it survives a power cut.
	SyncDir(path string) error
	// Sync makes all that was written through this FS durable.
	Sync() error
	// Free says how much room is left where the root lies.
	Free() (Space, error)
	// Close lets go of the root. Files still open stay usable.
	Close() error
}

// FileReader is a regular file open for reading.
type FileReader interface {
	io.Reader
	io.ReaderAt
	io.Closer
	// Stat describes the open file, whatever its name points to by now. Info.Name is empty.
	Stat() (Info, error)
}

// FileWriter is a regular file open for writing.
type FileWriter interface {
	io.WriteCloser
	// Chtimes sets the modification time, in nanoseconds since 1970, of the open file, whatever its
	// name points to by now. What is written later changes it again. See FS.Chtimes.
	Chtimes(mtime int64) error
	// Sync makes the content durable.
	Sync() error
}

// Info describes one name in a folder. Fields that a transport cannot tell are 0, owner and group -1.
type Info struct {
	Name  string // last component, raw bytes
	Kind  Kind   // Special for devices, FIFOs and sockets
	Mode  uint32 // permission bits, 0777
	Size  int64  // bytes; of a link the length of its text
	MTime int64  // nanoseconds since 1970
	CTime int64  // nanoseconds since 1970: last change of the inode
	Dev   uint64 // file system it lies on
	Ino   uint64 // inode number; with Dev an identity
	UID   int
	GID   int
}

// Space is the room left on a file system for the user that asks; -1 means unknown.
type Space struct {
	Bytes int64
	Nodes int64 // inodes; -1 also where the file system has no limit
}

package filesync

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"
)

// most is how much one read or write moves: some systems take no more than 2 GiB at once.
const most = 1 << 30

// fdFile is an open regular file. os.File would ask the kernel more than is needed for each: trees
// are made of many small files.
type fdFile struct {
	fd   int
	path string
}

// Close closes the file; a second call is an error.
func (f *fdFile) Close() error {
	if f.fd < 0 {
		return wrap("close", f.path, fs.ErrClosed)
	}
	// Not repeated after EINTR: on Linux the descriptor is gone by then.
	err := unix.Close(f.fd)
	if f.fd = -1; err == unix.EINTR {
		err = nil
	}
	return wrap("close", f.path, err)
}

// localFile is a file that is read.
type localFile struct{ fdFile }

func (f *localFile) Read(p []byte) (int, error) {
	return f.read(p, func(p []byte) (int, error) { return unix.Read(f.fd, p) })
}

func (f *localFile) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && err == nil {
		var got int
		got, err = f.read(p[n:], func(p []byte) (int, error) { return unix.Pread(f.fd, p, off) })
		n, off = n+got, off+int64(got)
	}
	return n, err
}

func (f *localFile) read(p []byte, call func(p []byte) (int, error)) (int, error) {
	n, err := retry(func() (int, error) { return call(p[:min(len(p), most)]) })
	if err != nil {
		return 0, wrap("read", f.path, err)
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (f *localFile) Stat() (Info, error) {
	var st unix.Stat_t
	if err := do("stat", f.path, func() error { return unix.Fstat(f.fd, &st) }); err != nil {
		return Info{}, err
	}
	return infoOf("", &st), nil
}

// hasCapability reports whether the file gives whoever runs it some of root's powers. A file system
// that cannot tell has none.
func (f *localFile) hasCapability() bool {
	n, err := unix.Fgetxattr(f.fd, "security.capability", nil)
	return err == nil && n > 0
}

// inOrder says that the file is read once from its beginning to its end.
func (f *localFile) inOrder() {
	_ = unix.Fadvise(f.fd, 0, 0, unix.FADV_SEQUENTIAL) // advice only
}

// nextHole gives where the next hole begins, at off or behind it, and where it ends: both size when
// there is none or the file system cannot tell. It moves where Read reads.
func (f *localFile) nextHole(off, size int64) (start, end int64) {
	start, err := unix.Seek(f.fd, off, unix.SEEK_HOLE)
	if err != nil || start < off || start >= size {
		return size, size
	}
	end, err = unix.Seek(f.fd, start, unix.SEEK_DATA)
	switch {
	case err == unix.ENXIO: // no data behind it
		return start, size
	case err != nil || end < start:
		return size, size
	}
	return start, min(end, size)
}

// localWriter is a file that is written.
type localWriter struct {
	fdFile
	written int64
	sent    int64 // how much of it the disk has been told of
}

// sendAfter is after how many bytes of one file the disk begins to write them. The kernel would wait until
// much more memory is full of them, and the sync at the end then for all of it.
const sendAfter = 8 << 20

// send has the disk begin with what was written, and does not wait for it.
func (w *localWriter) send() {
	if w.written-w.sent < sendAfter {
		return
	}
	_ = unix.SyncFileRange(w.fd, w.sent, w.written-w.sent, unix.SYNC_FILE_RANGE_WRITE) // the sync at the end tells
	w.sent = w.written
}

func (w *localWriter) Write(p []byte) (n int, err error) {
	for n < len(p) {
		done, err := retry(func() (int, error) { return unix.Write(w.fd, p[n:min(len(p), n+most)]) })
		if err == nil && done == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return n, wrap("write", w.path, err)
		}
		n += done
		w.written += int64(done)
	}
	w.send()
	return n, nil
}

func (w *localWriter) Sync() error {
	return do("sync", w.path, func() error { return unix.Fsync(w.fd) })
}

func (w *localWriter) Chtimes(mtime int64) error {
	times := timesOf(mtime)
	err := do("chtimes", w.path, func() error { return unix.UtimesNanoAt(w.fd, "", times, unix.AT_EMPTY_PATH) })
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	// Before Linux 5.8 a time cannot be set by descriptor with a path that is empty.
	return do("chtimes", w.path, func() error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(w.fd), times, 0)
	})
}

// timesOf says in the system's terms: leave the time of access, set that of modification.
func timesOf(mtime int64) []unix.Timespec {
	sec, nsec := floorDiv(mtime)
	return []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: sec, Nsec: nsec}}
}

func (l *local) Clone(old, path string, perm uint32) error {
	from, err := l.open(old)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := l.create(path, perm)
	if err != nil {
		return err
	}
	// FICLONE has several errors for "not here": of another file system, of another kind, of none.
	if err := unix.IoctlFileClone(to.fd, from.fd); err != nil {
		err = fmt.Errorf("%w (%w)", errors.ErrUnsupported, err)
		return errors.Join(wrap("clone", path, err), to.Close(), l.RemoveAll(path))
	}
	return to.Close()
}

package filesync

import (
	"bytes"
	"crypto/sha256"
	"io"

	"godeploy/internal/fault"
)

// unitReader reads the units of a Source in order, for one host. Its zero value with a src is ready.
type unitReader struct {
	src   *Source
	buf   []byte
	path  string // of the file that is open
	file  FileReader
	place int  // of its entry
	same  bool // it is beyond doubt what was scanned
	next  int  // number of the unit at off
	off   int64
}

func (u *unitReader) close() {
	if u.file != nil {
		_ = u.file.Close() // it was only read
		u.file = nil
	}
}

// read gives a unit's content, which is exactly what was scanned; it is valid until the next read.
// A file that is being written is read again.
//
// What is scanned is not hashed again while the file is the one that was seen then, before it is
// read and after; the host verifies every content in any case.
func (u *unitReader) read(e *Entry, n int) ([]byte, error) {
	if u.path != e.Path || n < u.next {
		u.close()
		u.path, u.next, u.off = e.Path, 0, 0
	}
	for ; u.next < n; u.next++ {
		u.off += int64(e.unitSize(u.next))
	}
	var err error
	for range tries {
		var ok bool
		if ok, err = u.try(e, n); ok {
			return u.buf, nil
		}
		u.close()
	}
	return nil, fault.New(fault.SyncSourceChanged, "%s is no longer what was scanned", showPath(e.Path)).Wrap(plain(err)).
		Hint("something writes into the source; stop it, or exclude the file")
}

// open opens the file of an entry.
func (u *unitReader) open(e *Entry) error {
	f, info, err := openKnown(u.src.fs, e.Path)
	if err != nil {
		return err
	}
	u.file, u.place = f, u.src.Manifest.index(e.Path)
	u.same = u.src.seen.same(e, u.place, &info)
	return nil
}

// try reads the unit once and reports whether it is what was scanned.
func (u *unitReader) try(e *Entry, n int) (ok bool, err error) {
	if u.file == nil {
		if err := u.open(e); err != nil {
			return false, err
		}
	}
	size := e.unitSize(n)
	if cap(u.buf) < size {
		u.buf = make([]byte, max(size, ChunkedFrom))
	}
	u.buf = u.buf[:size]
	if got, err := u.file.ReadAt(u.buf, u.off); got < size && err != io.EOF {
		return false, err
	} else if got < size {
		return false, nil // shorter than it was
	}
	if u.same {
		info, err := u.file.Stat()
		if u.same = err == nil && u.src.seen.same(e, u.place, &info); u.same {
			return true, nil
		}
	}
	want, got := e.unitHash(n), sha256.Sum256(u.buf)
	return bytes.Equal(want[:], got[:]), nil
}

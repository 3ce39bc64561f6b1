package chaos

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"syscall"

	filesync "godeploy/sync"
)

// defect strikes at the k-th operation on an app's folder: it kills the helper before that is done, or lets
// it fail.
type defect struct {
	at   int  // counted from 1; 0 is never
	kill bool // else fail
	err  syscall.Errno
	log  string // file for a line for each operation

	mu   sync.Mutex
	done int
}

// errnos are what operations are made to fail with.
func errnos() map[string]syscall.Errno {
	return map[string]syscall.Errno{
		"ENOSPC": syscall.ENOSPC, "EIO": syscall.EIO, "EDQUOT": syscall.EDQUOT, "EROFS": syscall.EROFS, "EACCES": syscall.EACCES,
	}
}

// parseFault reads "", "kill K" or "fail K ERRNO".
func parseFault(text string) (*defect, error) {
	w := words(text)
	if len(w) == 0 {
		return &defect{}, nil
	}
	k := 0
	var err error
	if len(w) > 1 {
		k, err = strconv.Atoi(w[1])
	}
	switch {
	case err == nil && w[0] == "kill" && len(w) == 2:
		return &defect{at: k, kill: true}, nil
	case err == nil && w[0] == "fail" && len(w) == 3 && errnos()[w[2]] != 0:
		return &defect{at: k, err: errnos()[w[2]]}, nil
	}
	return nil, fmt.Errorf("fault %q", text)
}

// writes reports whether an operation changes what is on disk; only before those a kill is of interest.
func writes(op string) bool {
	switch op {
	case "lstat", "readlink", "readdir", "open", "read", "free":
		return false
	}
	return true
}

// before is called before each operation.
func (f *defect) before(op, path string) error {
	if f.kill && !writes(op) {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done++
	strikes := f.done == f.at
	if f.log != "" && (f.at == 0 || strikes) {
		f.note(op, path)
	}
	if !strikes {
		return nil
	}
	if f.kill {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal comes
	}
	return &fs.PathError{Op: op, Path: path, Err: f.err}
}

func (f *defect) note(op, path string) {
	w, err := os.OpenFile(f.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	_, err = fmt.Fprintf(w, "%s %s\n", op, path)
	if cerr := w.Close(); err != nil || cerr != nil {
		panic("the log of operations cannot be written")
	}
}

func (f *defect) wrap(tree filesync.FS) filesync.FS {
	if f.at == 0 && f.log == "" {
		return tree
	}
	return &faulty{tree, f}
}

// faulty is a folder whose operations the fault sees.
type faulty struct {
	tree filesync.FS
	f    *defect
}

func value[T any](f *defect, op, path string, do func() (T, error)) (T, error) {
	if err := f.before(op, path); err != nil {
		var zero T
		return zero, err
	}
	return do()
}

func (y *faulty) act(op, path string, do func() error) error {
	if err := y.f.before(op, path); err != nil {
		return err
	}
	return do()
}

func (y *faulty) Lstat(p string) (filesync.Info, error) {
	return value(y.f, "lstat", p, func() (filesync.Info, error) { return y.tree.Lstat(p) })
}
func (y *faulty) Readlink(p string) (string, error) {
	return value(y.f, "readlink", p, func() (string, error) { return y.tree.Readlink(p) })
}
func (y *faulty) ReadDir(p string) ([]filesync.Info, error) {
	return value(y.f, "readdir", p, func() ([]filesync.Info, error) { return y.tree.ReadDir(p) })
}
func (y *faulty) Open(p string) (filesync.FileReader, error) {
	return value(y.f, "open", p, func() (filesync.FileReader, error) {
		r, err := y.tree.Open(p)
		if err != nil {
			return nil, err
		}
		return &faultyReader{r, y, p}, nil
	})
}
func (y *faulty) Create(p string, perm uint32) (filesync.FileWriter, error) {
	return value(y.f, "create", p, func() (filesync.FileWriter, error) {
		w, err := y.tree.Create(p, perm)
		if err != nil {
			return nil, err
		}
		return &faultyWriter{w, y, p}, nil
	})
}
func (y *faulty) Mkdir(p string, perm uint32) error {
	return y.act("mkdir", p, func() error { return y.tree.Mkdir(p, perm) })
}
func (y *faulty) Link(old, p string) error {
	return y.act("link", p, func() error { return y.tree.Link(old, p) })
}
func (y *faulty) Clone(old, p string, perm uint32) error {
	return y.act("clone", p, func() error { return y.tree.Clone(old, p, perm) })
}
func (y *faulty) Symlink(target, p string) error {
	return y.act("symlink", p, func() error { return y.tree.Symlink(target, p) })
}
func (y *faulty) Chmod(p string, perm uint32) error {
	return y.act("chmod", p, func() error { return y.tree.Chmod(p, perm) })
}
func (y *faulty) Chtimes(p string, mtime int64) error {
	return y.act("chtimes", p, func() error { return y.tree.Chtimes(p, mtime) })
}
func (y *faulty) Lchown(p string, uid, gid int) error {
	return y.act("lchown", p, func() error { return y.tree.Lchown(p, uid, gid) })
}
func (y *faulty) Rename(old, p string) error {
	return y.act("rename", p, func() error { return y.tree.Rename(old, p) })
}
func (y *faulty) RemoveAll(p string) error {
	return y.act("remove", p, func() error { return y.tree.RemoveAll(p) })
}
func (y *faulty) SyncDir(p string) error {
	return y.act("fsync", p+"/", func() error { return y.tree.SyncDir(p) })
}
func (y *faulty) Sync() error { return y.act("syncfs", "", y.tree.Sync) }
func (y *faulty) Free() (filesync.Space, error) {
	return value(y.f, "free", "", y.tree.Free)
}
func (y *faulty) Close() error { return y.tree.Close() }

type faultyReader struct {
	filesync.FileReader
	y    *faulty
	path string
}

func (r *faultyReader) Read(p []byte) (int, error) {
	return value(r.y.f, "read", r.path, func() (int, error) { return r.FileReader.Read(p) })
}
func (r *faultyReader) ReadAt(p []byte, off int64) (int, error) {
	return value(r.y.f, "read", r.path, func() (int, error) { return r.FileReader.ReadAt(p, off) })
}

type faultyWriter struct {
	filesync.FileWriter
	y    *faulty
	path string
}

// Write of a file that is cut short leaves its first half behind, as a full disk does.
func (w *faultyWriter) Write(p []byte) (int, error) {
	if err := w.y.f.before("write", w.path); err != nil {
		n, werr := w.FileWriter.Write(p[:len(p)/2])
		if werr != nil {
			return n, werr
		}
		return n, err
	}
	return w.FileWriter.Write(p)
}
func (w *faultyWriter) Chtimes(mtime int64) error {
	return w.y.act("chtimes", w.path, func() error { return w.FileWriter.Chtimes(mtime) })
}
func (w *faultyWriter) Sync() error { return w.y.act("fsync", w.path, w.FileWriter.Sync) }

// Close fails after the file is closed: a descriptor is gone either way.
func (w *faultyWriter) Close() error {
	err := w.y.f.before("close", w.path)
	if cerr := w.FileWriter.Close(); err == nil {
		err = cerr
	}
	return err
}

var _ io.Writer = (*faultyWriter)(nil)

package overssh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"

	filesync "godeploy/sync"
)

// sftpFS is a host's folder tree over SFTP. It implements filesync.FS with the weaker guarantees of a
// protocol of paths: a link that is put on the way while a path is used is followed, owners stay the login
// user's, times are whole seconds, and durability is per file.
type sftpFS struct {
	client *sftp.Client
	root   string
	known  *ways
	sent   *atomic.Int64 // bytes of content, as they went to the host
}

func newSFTPFS(client *sftp.Client, root string) sftpFS {
	return sftpFS{client, root, &ways{dirs: map[string]bool{}}, new(atomic.Int64)}
}

// ways remembers which folders were seen to be real ones, so that a path is looked at once and not
// for every file in it.
type ways struct {
	mu   sync.Mutex
	dirs map[string]bool
}

func (w *ways) knows(dir string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dirs[dir]
}

func (w *ways) learn(dir string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirs[dir] = true
}

// forget drops what is at p or below it: it is about to be moved or removed.
func (w *ways) forget(p string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for dir := range w.dirs {
		if dir == p || strings.HasPrefix(dir, p+"/") {
			delete(w.dirs, dir)
		}
	}
}

// reach gives the server's path for p once every folder on the way is seen to be one. Somebody who
// can write there may still swap one for a link between this look and the use.
func (s sftpFS) reach(op, p string) (string, error) {
	if p == "." {
		return s.root, nil
	}
	if err := checkPath(op, p); err != nil {
		return "", err
	}
	for i := range len(p) {
		if p[i] != '/' || s.known.knows(p[:i]) {
			continue
		}
		dir := p[:i]
		info, err := s.client.Lstat(s.root + "/" + dir)
		if err != nil {
			return "", failed(op, p, err)
		}
		if !info.IsDir() {
			return "", &fs.PathError{Op: op, Path: p, Err: fmt.Errorf("%s is no folder", dir)}
		}
		s.known.learn(dir)
	}
	return s.root + "/" + p, nil
}

// checkPath refuses what is no clean path below a root.
func checkPath(op, p string) error {
	for rest, more := p, true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		if part == "" || part == "." || part == ".." || len(part) > filesync.MaxComponent || strings.ContainsRune(part, 0) {
			return &fs.PathError{Op: op, Path: p, Err: fs.ErrInvalid}
		}
	}
	return nil
}

// real is reach for something that must be no link itself.
func (s sftpFS) real(op, p string) (string, error) {
	if p != "." && checkPath(op, p) == nil && s.known.knows(p) {
		return s.reach(op, p)
	}
	info, err := s.Lstat(p)
	if err != nil {
		return "", err
	}
	if info.Kind == filesync.Link {
		return "", &fs.PathError{Op: op, Path: p, Err: errors.New("it is a link")}
	}
	return s.reach(op, p)
}

// failed names the path, and the errors that callers look for.
func failed(op, p string, err error) error {
	if err == nil {
		return nil
	}
	var status *sftp.StatusError
	if errors.As(err, &status) && status.FxCode() == sftp.ErrSSHFxFailure {
		// SFTP version 3 has one code for everything; what stands in the way shows by looking.
		return &fs.PathError{Op: op, Path: p, Err: fmt.Errorf("the server refused (%w)", err)}
	}
	return &fs.PathError{Op: op, Path: p, Err: err}
}

// taken tells "is there already" apart from SFTP's general failure.
func (s sftpFS) taken(op, p string, err error) error {
	if err == nil {
		return nil
	}
	if _, there := s.client.Lstat(s.root + "/" + p); there == nil {
		return &fs.PathError{Op: op, Path: p, Err: fs.ErrExist}
	}
	return failed(op, p, err)
}

func (s sftpFS) Lstat(p string) (filesync.Info, error) {
	at, err := s.reach("lstat", p)
	if err != nil {
		return filesync.Info{}, err
	}
	info, err := s.client.Lstat(at)
	if err != nil {
		return filesync.Info{}, failed("lstat", p, err)
	}
	return infoOf(info), nil
}

func infoOf(info os.FileInfo) filesync.Info {
	out := filesync.Info{
		Name: info.Name(), Mode: uint32(info.Mode().Perm()), Size: info.Size(),
		MTime: info.ModTime().UnixNano(), UID: -1, GID: -1,
	}
	if stat, ok := info.Sys().(*sftp.FileStat); ok {
		out.UID, out.GID = int(stat.UID), int(stat.GID)
	}
	switch info.Mode().Type() {
	case 0:
		out.Kind = filesync.File
	case fs.ModeDir:
		out.Kind = filesync.Dir
	case fs.ModeSymlink:
		out.Kind = filesync.Link
	default:
		out.Kind = filesync.Special
	}
	return out
}

func (s sftpFS) Readlink(p string) (string, error) {
	at, err := s.reach("readlink", p)
	if err != nil {
		return "", err
	}
	target, err := s.client.ReadLink(at)
	return target, failed("readlink", p, err)
}

func (s sftpFS) ReadDir(p string) ([]filesync.Info, error) {
	at, err := s.real("readdir", p)
	if err != nil {
		return nil, err
	}
	list, err := s.client.ReadDir(at)
	if err != nil {
		return nil, failed("readdir", p, err)
	}
	infos := make([]filesync.Info, len(list))
	for i, one := range list {
		infos[i] = infoOf(one)
	}
	sort.Slice(infos, func(i, j int) bool { return infos[i].Name < infos[j].Name })
	return infos, nil
}

func (s sftpFS) Open(p string) (filesync.FileReader, error) {
	info, err := s.Lstat(p)
	if err != nil {
		return nil, err
	}
	if info.Kind != filesync.File { // opening a FIFO would wait for its writer
		return nil, &fs.PathError{Op: "open", Path: p, Err: errors.New("not a regular file")}
	}
	f, err := s.client.Open(s.root + "/" + p)
	if err != nil {
		return nil, failed("open", p, err)
	}
	return sftpReader{f}, nil
}

type sftpReader struct{ *sftp.File }

// WriteTo is hidden: it trusts the size, which may be 0 for what the kernel makes up.
func (r sftpReader) Stat() (filesync.Info, error) {
	info, err := r.File.Stat()
	if err != nil {
		return filesync.Info{}, err
	}
	out := infoOf(info)
	out.Name = ""
	return out, nil
}

// Make saves a file the looks that Chtimes would take afterwards.
func (s sftpFS) Make(p string, perm uint32, mtime, size int64) (filesync.FileWriter, error) {
	f, err := s.Create(p, perm)
	if err != nil {
		return nil, err
	}
	w := f.(*sftpWriter)
	w.told, w.mtime, w.size = true, mtime, size
	return w, nil
}

func (s sftpFS) Create(p string, perm uint32) (filesync.FileWriter, error) {
	at, err := s.reach("create", p)
	if err != nil {
		return nil, err
	}
	f, err := s.client.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, s.taken("create", p, err)
	}
	w := newSFTPWriter(f, s)
	if err := w.chmod(perm & 0o777); err != nil {
		_ = w.Close() // the first error tells more
		return nil, failed("chmod", p, err)
	}
	return w, nil
}

func (s sftpFS) Mkdir(p string, perm uint32) error {
	at, err := s.reach("mkdir", p)
	if err != nil {
		return err
	}
	if err := s.client.Mkdir(at); err != nil {
		return s.taken("mkdir", p, err)
	}
	s.known.learn(p)
	return failed("chmod", p, s.client.Chmod(at, fs.FileMode(perm&0o777)))
}

func (s sftpFS) Link(old, p string) error {
	if _, ok := s.client.HasExtension("hardlink@openssh.com"); !ok {
		return &fs.PathError{Op: "link", Path: p, Err: errors.ErrUnsupported}
	}
	from, err := s.reach("link", old)
	if err != nil {
		return err
	}
	at, err := s.reach("link", p)
	if err != nil {
		return err
	}
	return s.taken("link", p, s.client.Link(from, at))
}

// Clone is nothing that SFTP can ask for.
func (s sftpFS) Clone(_, p string, _ uint32) error {
	return &fs.PathError{Op: "clone", Path: p, Err: errors.ErrUnsupported}
}

func (s sftpFS) Symlink(target, p string) error {
	at, err := s.reach("symlink", p)
	if err != nil {
		return err
	}
	if target == "" {
		return &fs.PathError{Op: "symlink", Path: p, Err: fs.ErrInvalid}
	}
	return s.taken("symlink", p, s.client.Symlink(target, at))
}

func (s sftpFS) Chmod(p string, perm uint32) error {
	at, err := s.real("chmod", p)
	if err != nil {
		return err
	}
	return failed("chmod", p, s.client.Chmod(at, fs.FileMode(perm&0o777)))
}

func (s sftpFS) Chtimes(p string, mtime int64) error {
	at, err := s.real("chtimes", p)
	if err != nil {
		return err
	}
	when := time.Unix(0, mtime)
	return failed("chtimes", p, s.client.Chtimes(at, when, when))
}

// Lchown leaves everything with the login user: SFTP version 3 would follow a link.
func (s sftpFS) Lchown(string, int, int) error { return nil }

func (s sftpFS) Rename(old, p string) error {
	from, err := s.reach("rename", old)
	if err != nil {
		return err
	}
	at, err := s.reach("rename", p)
	if err != nil {
		return err
	}
	s.known.forget(old)
	s.known.forget(p)
	return failed("rename", old, s.client.PosixRename(from, at))
}

func (s sftpFS) RemoveAll(p string) error {
	info, err := s.Lstat(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Kind != filesync.Dir:
		return failed("remove", p, s.client.Remove(s.root+"/"+p))
	case p == ".":
		return &fs.PathError{Op: "remove", Path: p, Err: fs.ErrInvalid}
	}
	s.known.forget(p)
	if info.Mode&0o700 != 0o700 {
		if err := s.Chmod(p, info.Mode|0o700); err != nil {
			return err
		}
	}
	list, err := s.ReadDir(p)
	if err != nil {
		return err
	}
	for _, one := range list {
		if err := s.RemoveAll(path.Join(p, one.Name)); err != nil {
			return err
		}
	}
	s.known.forget(p)
	return failed("rmdir", p, s.client.RemoveDirectory(s.root+"/"+p))
}

// InFlight is 128: a file takes four answers of the server, and OpenSSH's works through requests in the
// order they come.
func (s sftpFS) InFlight() int { return 128 }

// SyncDir does nothing: SFTP has no way to make a folder durable.
func (s sftpFS) SyncDir(string) error { return nil }

// Sync does nothing: files were made durable one by one.
func (s sftpFS) Sync() error { return nil }

func (s sftpFS) Free() (filesync.Space, error) {
	stat, err := s.client.StatVFS(s.root)
	if err != nil {
		return filesync.Space{Bytes: -1, Nodes: -1}, nil // an older server cannot tell
	}
	space := filesync.Space{Bytes: int64(min(stat.Frsize*stat.Bavail, 1<<62)), Nodes: -1}
	if stat.Files > 0 {
		space.Nodes = int64(min(stat.Favail, 1<<62))
	}
	return space, nil
}

func (s sftpFS) Close() error { return nil }

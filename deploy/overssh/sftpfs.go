package overssh

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"time"

	"github.com/pkg/sftp"

	filesync "godeploy/sync"
)

// sftpFS is a host's folder tree over SFTP. It implements filesync.FS with the weaker guarantees of a
// protocol of paths: links on the way to a path are followed by the server, owners stay the login
// user's, times are whole seconds, and durability is per file.
type sftpFS struct {
	client *sftp.Client
	root   string
}

func (s sftpFS) at(p string) string { return path.Join(s.root, p) }

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
	if _, there := s.client.Lstat(s.at(p)); there == nil {
		return &fs.PathError{Op: op, Path: p, Err: fs.ErrExist}
	}
	return failed(op, p, err)
}

func (s sftpFS) Lstat(p string) (filesync.Info, error) {
	info, err := s.client.Lstat(s.at(p))
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
	target, err := s.client.ReadLink(s.at(p))
	return target, failed("readlink", p, err)
}

func (s sftpFS) ReadDir(p string) ([]filesync.Info, error) {
	list, err := s.client.ReadDir(s.at(p))
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
	f, err := s.client.Open(s.at(p))
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

func (s sftpFS) Create(p string, perm uint32) (filesync.FileWriter, error) {
	f, err := s.client.OpenFile(s.at(p), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, s.taken("create", p, err)
	}
	if err := f.Chmod(fs.FileMode(perm & 0o777)); err != nil {
		_ = f.Close() // the first error tells more
		return nil, failed("chmod", p, err)
	}
	return sftpWriter{f, s.client}, nil
}

type sftpWriter struct {
	*sftp.File
	client *sftp.Client
}

// ReadFrom is pkg/sftp's concurrent upload, kept because io.Copy looks for it.
func (w sftpWriter) ReadFrom(r io.Reader) (int64, error) {
	return w.File.ReadFromWithConcurrency(r, 64)
}

// Sync makes the content durable where the server can; others are trusted to write it in time.
func (w sftpWriter) Sync() error {
	if _, ok := w.client.HasExtension("fsync@openssh.com"); !ok {
		return nil
	}
	return w.File.Sync()
}

func (s sftpFS) Mkdir(p string, perm uint32) error {
	if err := s.client.Mkdir(s.at(p)); err != nil {
		return s.taken("mkdir", p, err)
	}
	return s.Chmod(p, perm)
}

func (s sftpFS) Link(old, p string) error {
	if _, ok := s.client.HasExtension("hardlink@openssh.com"); !ok {
		return &fs.PathError{Op: "link", Path: p, Err: errors.ErrUnsupported}
	}
	return s.taken("link", p, s.client.Link(s.at(old), s.at(p)))
}

func (s sftpFS) Symlink(target, p string) error {
	return s.taken("symlink", p, s.client.Symlink(target, s.at(p)))
}

func (s sftpFS) Chmod(p string, perm uint32) error {
	return failed("chmod", p, s.client.Chmod(s.at(p), fs.FileMode(perm&0o777)))
}

func (s sftpFS) Chtimes(p string, mtime int64) error {
	when := time.Unix(0, mtime)
	return failed("chtimes", p, s.client.Chtimes(s.at(p), when, when))
}

// Lchown leaves everything with the login user: SFTP version 3 would follow a link.
func (s sftpFS) Lchown(string, int, int) error { return nil }

func (s sftpFS) Rename(old, p string) error {
	return failed("rename", old, s.client.PosixRename(s.at(old), s.at(p)))
}

func (s sftpFS) RemoveAll(p string) error {
	info, err := s.Lstat(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Kind != filesync.Dir:
		return failed("remove", p, s.client.Remove(s.at(p)))
	}
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
	return failed("rmdir", p, s.client.RemoveDirectory(s.at(p)))
}

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

//go:build !linux

package filesync

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// local is the FS of a machine that is not Linux: an operator's, for the most part, whose trees are
// read and not written. It looks before it opens, so a link is not followed; against somebody who
// swaps names meanwhile only os.Root guards, which keeps to the root.
type local struct {
	root *os.Root
}

// OpenLocal opens a folder of this machine as an FS. Links in dir itself are followed.
func OpenLocal(dir string) (FS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &local{root}, nil
}

func (l *local) Close() error { return l.root.Close() }

// name gives the system's form of a path, once none of the folders on the way is a link.
func (l *local) name(path string) (string, error) {
	if err := checkPath(path); err != nil {
		return "", &fs.PathError{Op: "open", Path: path, Err: err}
	}
	for i := range path {
		if path[i] != '/' {
			continue
		}
		info, err := l.root.Lstat(filepath.FromSlash(path[:i]))
		if err != nil {
			return "", err
		}
		if !info.IsDir() {
			return "", &fs.PathError{Op: "open", Path: path[:i], Err: errors.New("is not a folder")}
		}
	}
	return filepath.FromSlash(path), nil
}

// at runs f with the system's form of path.
func (l *local) at(path string, f func(name string) error) error {
	name, err := l.name(path)
	if err != nil {
		return err
	}
	return f(name)
}

func infoOf(fi fs.FileInfo) Info {
	kind := Special
	switch mode := fi.Mode(); {
	case mode.IsDir():
		kind = Dir
	case mode.IsRegular():
		kind = File
	case mode&fs.ModeSymlink != 0:
		kind = Link
	}
	info := Info{
		Name: fi.Name(), Kind: kind, Mode: uint32(fi.Mode().Perm()), Size: fi.Size(),
		MTime: fi.ModTime().UnixNano(), UID: -1, GID: -1,
	}
	identify(&info, fi)
	return info
}

func (l *local) Lstat(path string) (info Info, err error) {
	err = l.at(path, func(name string) error {
		fi, err := l.root.Lstat(name)
		if err == nil {
			info = infoOf(fi)
		}
		return err
	})
	return info, err
}

func (l *local) Readlink(path string) (text string, err error) {
	err = l.at(path, func(name string) error {
		text, err = l.root.Readlink(name)
		return err
	})
	return text, err
}

func (l *local) ReadDir(path string) ([]Info, error) {
	info, err := l.Lstat(path)
	if err != nil {
		return nil, err
	}
	if info.Kind != Dir {
		return nil, &fs.PathError{Op: "readdir", Path: path, Err: errors.New("is not a folder")}
	}
	dir, err := l.root.Open(filepath.FromSlash(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.Readdir(MaxEntries + 1)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(entries) > MaxEntries {
		return nil, &fs.PathError{Op: "readdir", Path: path, Err: errTooMany}
	}
	infos := make([]Info, 0, len(entries))
	for _, fi := range entries {
		infos = append(infos, infoOf(fi))
	}
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}

func (l *local) Open(path string) (FileReader, error) {
	info, err := l.Lstat(path)
	if err != nil {
		return nil, err
	}
	if info.Kind != File {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errNotFile}
	}
	f, err := l.root.Open(filepath.FromSlash(path))
	if err != nil {
		return nil, err
	}
	return localFile{f}, nil
}

// localFile is an open file that can say Info of itself.
type localFile struct{ *os.File }

func (f localFile) Stat() (Info, error) {
	fi, err := f.File.Stat()
	if err != nil {
		return Info{}, err
	}
	info := infoOf(fi)
	info.Name = ""
	return info, nil
}

func (l *local) Create(path string, perm uint32) (w FileWriter, err error) {
	err = l.at(path, func(name string) error {
		f, err := l.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		w = &localWriter{f, l.root, name}
		return l.root.Chmod(name, fs.FileMode(perm&0o777))
	})
	return w, err
}

// localWriter is a file that is being written.
type localWriter struct {
	*os.File
	root *os.Root
	name string
}

// Chtimes goes by the name: these systems have no call by descriptor that Go reaches.
func (w *localWriter) Chtimes(mtime int64) error {
	return w.root.Chtimes(w.name, time.Time{}, time.Unix(0, mtime))
}

// Clone is not built for these systems.
func (l *local) Clone(_, path string, _ uint32) error {
	return &fs.PathError{Op: "clone", Path: path, Err: errors.ErrUnsupported}
}

func (l *local) Mkdir(path string, perm uint32) error {
	return l.at(path, func(name string) error {
		if err := l.root.Mkdir(name, 0o700); err != nil {
			return err
		}
		return l.root.Chmod(name, fs.FileMode(perm&0o777))
	})
}

func (l *local) Link(old, path string) error {
	return l.at(old, func(from string) error {
		return l.at(path, func(to string) error { return l.root.Link(from, to) })
	})
}

func (l *local) Rename(old, path string) error {
	return l.at(old, func(from string) error {
		return l.at(path, func(to string) error { return l.root.Rename(from, to) })
	})
}

func (l *local) Symlink(target, path string) error {
	return l.at(path, func(name string) error { return l.root.Symlink(target, name) })
}

// Chmod looks first, since the call itself would follow a link.
func (l *local) Chmod(path string, perm uint32) error {
	info, err := l.Lstat(path)
	if err != nil {
		return err
	}
	if info.Kind == Link {
		return &fs.PathError{Op: "chmod", Path: path, Err: errNotFile}
	}
	return l.root.Chmod(filepath.FromSlash(path), fs.FileMode(perm&0o777))
}

func (l *local) Chtimes(path string, mtime int64) error {
	return l.at(path, func(name string) error {
		return l.root.Chtimes(name, time.Time{}, time.Unix(0, mtime))
	})
}

func (l *local) Lchown(path string, uid, gid int) error {
	return l.at(path, func(name string) error { return l.root.Lchown(name, uid, gid) })
}

// SyncDir does nothing: these systems have no call for it that Go reaches.
func (l *local) SyncDir(string) error { return nil }

// Sync does nothing; see SyncDir.
func (l *local) Sync() error { return nil }

// Free knows nothing.
func (l *local) Free() (Space, error) { return Space{Bytes: -1, Nodes: -1}, nil }

func (l *local) RemoveAll(path string) error {
	if path == "." {
		return &fs.PathError{Op: "remove", Path: path, Err: errPath}
	}
	return l.at(path, l.root.RemoveAll)
}

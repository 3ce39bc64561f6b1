package filesync

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// local is the FS of this machine. Every path is resolved from the root's descriptor without
// following a link, so that nobody who may write below the root can lead it astray.
type local struct {
	dir     string
	top     folder // the root itself
	folders folders
	buffers sync.Pool   // for reading folders
	walk    atomic.Bool // openat2 is missing here (old kernel, seccomp): walk by component
	closed  atomic.Bool
}

// OpenLocal opens a folder of this machine as an FS. Links in dir itself are followed.
func OpenLocal(dir string) (FS, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return &local{dir: dir, top: folder{fd: fd}}, nil
}

func (l *local) Close() error {
	if l.closed.Swap(true) {
		return wrap("close", l.dir, fs.ErrClosed)
	}
	l.folders.close()
	return wrap("close", l.dir, unix.Close(l.top.fd))
}

// retry repeats a system call that a signal broke off.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != unix.EINTR {
			return v, err
		}
	}
}

// do is retry for a call that gives nothing but an error, with the path put to it.
func do(op, path string, call func() error) error {
	_, err := retry(func() (struct{}, error) { return struct{}{}, call() })
	return wrap(op, path, err)
}

func wrap(op, path string, err error) error {
	if _, done := err.(*fs.PathError); done || err == nil {
		return err
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// openBelow opens path without following links. The caller closes the descriptor.
func (l *local) openBelow(path string, flags int) (int, error) {
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	if !l.walk.Load() {
		fd, err := retry(func() (int, error) {
			return unix.Openat2(l.top.fd, path, &unix.OpenHow{
				Flags:   uint64(flags),
				Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
			})
		})
		switch err {
		case unix.ENOSYS, unix.EPERM:
			l.walk.Store(true)
		case unix.ENAMETOOLONG, unix.EAGAIN: // longer than PATH_MAX; a rename on the way
		default:
			return fd, err
		}
	}
	return l.walkBelow(path, flags)
}

// walkBelow is openBelow one component at a time.
func (l *local) walkBelow(path string, flags int) (int, error) {
	dir, err := unix.FcntlInt(uintptr(l.top.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for {
		name, rest, more := strings.Cut(path, "/")
		how := flags
		if more {
			how = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		}
		fd, err := retry(func() (int, error) { return unix.Openat(dir, name, how, 0) })
		_ = unix.Close(dir) // opened for a path only: nothing to lose
		if err != nil || !more {
			return fd, err
		}
		dir, path = fd, rest
	}
}

func (l *local) Lstat(path string) (info Info, err error) {
	err = l.at("lstat", path, func(dir int, name string) error {
		info, err = statAt(dir, name)
		return err
	})
	return info, err
}

func statAt(dir int, name string) (Info, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return Info{}, err
	}
	return infoOf(name, &st), nil
}

func infoOf(name string, st *unix.Stat_t) Info {
	kind := Special
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		kind = Dir
	case unix.S_IFREG:
		kind = File
	case unix.S_IFLNK:
		kind = Link
	}
	return Info{
		Name: name, Kind: kind, Mode: uint32(st.Mode) & 0o777, Size: st.Size,
		MTime: nanos(st.Mtim), CTime: nanos(st.Ctim),
		Dev: uint64(st.Dev), Ino: st.Ino, UID: int(st.Uid), GID: int(st.Gid),
	}
}

// nanos is a file's time in ns; years that do not fit stay at the end of what does.
func nanos(t unix.Timespec) int64 {
	const most = 1<<63/1_000_000_000 - 1
	return min(max(int64(t.Sec), -most), most)*1_000_000_000 + int64(t.Nsec)
}

func (l *local) Readlink(path string) (text string, err error) {
	buf := make([]byte, MaxLink+1)
	err = l.at("readlink", path, func(dir int, name string) error {
		n, err := unix.Readlinkat(dir, name, buf)
		text = string(buf[:max(n, 0)])
		return err
	})
	return text, err
}

func (l *local) Open(path string) (FileReader, error) {
	f, err := l.open(path)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (l *local) open(path string) (*localFile, error) {
	err := l.at("open", path, func(dir int, name string) error {
		// Looked at before it is opened: to open a device can have effects of its own.
		info, err := statAt(dir, name)
		if err == nil && info.Kind != File {
			err = errNotFile
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	f, _, err := l.openRegular(path)
	return f, err
}

func (l *local) openKnown(path string) (FileReader, Info, error) {
	f, info, err := l.openRegular(path)
	if err != nil {
		return nil, Info{}, err
	}
	return f, info, nil
}

// openRegular is open for what was just seen to be a regular file, and says what it is now.
func (l *local) openRegular(path string) (*localFile, Info, error) {
	f := &localFile{fdFile{path: path}}
	err := l.at("open", path, func(dir int, name string) (err error) {
		f.fd, err = unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, Info{}, err
	}
	info, err := f.Stat()
	if err == nil && info.Kind != File {
		err = wrap("open", path, errNotFile)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, Info{}, err
	}
	return f, info, nil
}

func (l *local) Create(path string, perm uint32) (FileWriter, error) {
	w, err := l.create(path, perm)
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (l *local) create(path string, perm uint32) (*localWriter, error) {
	w := &localWriter{fdFile: fdFile{path: path}}
	perm &= 0o777
	err := l.in("create", path, func(dir *folder, name string) (err error) {
		const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
		if w.fd, err = unix.Openat(dir.fd, name, flags, perm); err != nil {
			return err
		}
		err = dir.files.settle(perm,
			func(st *unix.Stat_t) error { return unix.Fstat(w.fd, st) },
			func() error { return unix.Fchmod(w.fd, perm) })
		if err != nil {
			err = errors.Join(err, w.Close())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (l *local) Mkdir(path string, perm uint32) error {
	perm &= 0o777
	return l.in("mkdir", path, func(dir *folder, name string) error {
		if err := unix.Mkdirat(dir.fd, name, perm); err != nil {
			return err
		}
		return dir.folders.settle(perm,
			func(st *unix.Stat_t) error { return unix.Fstatat(dir.fd, name, st, unix.AT_SYMLINK_NOFOLLOW) },
			func() error { return chmodAt(dir.fd, name, perm) })
	})
}

func (l *local) Chmod(path string, perm uint32) error {
	return l.at("chmod", path, func(dir int, name string) error { return chmodAt(dir, name, perm) })
}

// chmodAt sets permission bits without following a link, on old kernels by way of /proc.
func chmodAt(dir int, name string, perm uint32) error {
	err := unix.Fchmodat(dir, name, perm&0o777, unix.AT_SYMLINK_NOFOLLOW)
	if err != unix.ENOSYS && err != unix.EOPNOTSUPP && err != unix.EPERM {
		return err
	}
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.ELOOP
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), perm&0o777)
}

func (l *local) Link(old, path string) error {
	return l.at("link", old, func(from int, oldName string) error {
		return l.at("link", path, func(to int, name string) error {
			return unix.Linkat(from, oldName, to, name, 0)
		})
	})
}

func (l *local) Rename(old, path string) error {
	defer l.folders.drop(path)
	defer l.folders.drop(old)
	return l.at("rename", old, func(from int, oldName string) error {
		return l.at("rename", path, func(to int, name string) error {
			return unix.Renameat(from, oldName, to, name)
		})
	})
}

func (l *local) Symlink(target, path string) error {
	return l.at("symlink", path, func(dir int, name string) error {
		return unix.Symlinkat(target, dir, name)
	})
}

func (l *local) Chtimes(path string, mtime int64) error {
	times := timesOf(mtime)
	return l.at("chtimes", path, func(dir int, name string) error {
		return unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (l *local) Lchown(path string, uid, gid int) error {
	return l.at("lchown", path, func(dir int, name string) error {
		return unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (l *local) SyncDir(path string) error {
	if err := checkPath(path); err != nil {
		return wrap("sync", path, err)
	}
	fd, err := l.openBelow(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return wrap("sync", path, err)
	}
	defer unix.Close(fd)
	return do("sync", path, func() error { return unix.Fsync(fd) })
}

func (l *local) Sync() error {
	return do("sync", l.dir, func() error { return unix.Syncfs(l.top.fd) })
}

func (l *local) Free() (Space, error) {
	var st unix.Statfs_t
	if err := do("statfs", l.dir, func() error { return unix.Fstatfs(l.top.fd, &st) }); err != nil {
		return Space{}, err
	}
	space := Space{Bytes: int64(st.Bavail) * st.Bsize, Nodes: int64(st.Ffree)}
	if st.Files == 0 {
		space.Nodes = -1
	}
	return space, nil
}

func (l *local) RemoveAll(path string) error {
	if path == "." {
		return wrap("remove", path, errPath)
	}
	defer l.folders.drop(path)
	return removeTree(path, l.removeOne, l.emptyDir)
}

// removeOne removes a file, a link or an empty folder, and reports a folder that is not empty.
func (l *local) removeOne(path string) (full bool, err error) {
	err = l.at("remove", path, func(dir int, name string) error {
		err := unix.Unlinkat(dir, name, 0)
		if err == unix.EISDIR {
			err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		}
		full = err == unix.ENOTEMPTY || err == unix.EEXIST
		return err
	})
	if full || errors.Is(err, fs.ErrNotExist) {
		return full, nil
	}
	return false, err
}

// emptyDir makes a folder fit for removing and gives the names in it.
func (l *local) emptyDir(path string) ([]string, error) {
	info, err := l.Lstat(path)
	if err != nil {
		return nil, err
	}
	if info.Kind == Dir && info.Mode&0o700 != 0o700 {
		if err := l.Chmod(path, info.Mode|0o700); err != nil {
			return nil, err
		}
	}
	return l.names(path)
}

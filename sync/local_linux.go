package filesync

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// local is the FS of this machine. Every path is resolved from the root's descriptor without
// following a link, so that nobody who may write below the root can lead it astray.
type local struct {
	root *os.File
	walk atomic.Bool // openat2 is missing here (old kernel, seccomp): walk by component
}

// OpenLocal opens a folder of this machine as an FS. Links in dir itself are followed.
func OpenLocal(dir string) (FS, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return &local{root: os.NewFile(uintptr(fd), dir)}, nil
}

func (l *local) Close() error { return l.root.Close() }

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
			return unix.Openat2(int(l.root.Fd()), path, &unix.OpenHow{
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
	dir, err := unix.FcntlInt(l.root.Fd(), unix.F_DUPFD_CLOEXEC, 0)
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

// at opens the folder path lies in, runs f with it and the last component, and names path in the error.
func (l *local) at(op, path string, f func(dir int, name string) error) error {
	if err := checkPath(path); err != nil {
		return wrap(op, path, err)
	}
	parent, name := split(path)
	if parent == "." {
		return do(op, path, func() error { return f(int(l.root.Fd()), name) })
	}
	dir, err := l.openBelow(parent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return wrap(op, path, err)
	}
	err = do(op, path, func() error { return f(dir, name) })
	_ = unix.Close(dir) // opened for a path only: nothing to lose
	return err
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

func (l *local) ReadDir(path string) ([]Info, error) {
	if err := checkPath(path); err != nil {
		return nil, wrap("readdir", path, err)
	}
	fd, err := l.openBelow(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, wrap("readdir", path, err)
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	names, err := dir.Readdirnames(MaxEntries + 1)
	if err != nil && len(names) == 0 && !isEOF(err) {
		return nil, wrap("readdir", path, err)
	}
	if len(names) > MaxEntries {
		return nil, wrap("readdir", path, errTooMany)
	}
	slices.Sort(names)
	infos := make([]Info, 0, len(names))
	for _, name := range names {
		info, err := retry(func() (Info, error) { return statAt(fd, name) })
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, wrap("lstat", join(path, name), err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (l *local) Open(path string) (FileReader, error) {
	var fd int
	err := l.at("open", path, func(dir int, name string) error {
		// Looked at before it is opened: to open a device can have effects of its own.
		info, err := statAt(dir, name)
		if err != nil {
			return err
		}
		if info.Kind != File {
			return errNotFile
		}
		fd, err = unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	f := localFile{os.NewFile(uintptr(fd), path)}
	if info, err := f.Stat(); err != nil || info.Kind != File {
		_ = f.Close() // nothing was written
		return nil, wrap("open", path, errors.Join(errNotFile, err))
	}
	return f, nil
}

// localFile is an open file that can say Info of itself.
type localFile struct{ *os.File }

func (f localFile) Stat() (Info, error) {
	var st unix.Stat_t
	if err := do("stat", f.Name(), func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		return Info{}, err
	}
	return infoOf("", &st), nil
}

func (l *local) Create(path string, perm uint32) (FileWriter, error) {
	var fd int
	err := l.at("create", path, func(dir int, name string) (err error) {
		const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
		fd, err = unix.Openat(dir, name, flags, perm&0o700)
		return err
	})
	if err != nil {
		return nil, err
	}
	f := &localWriter{os.NewFile(uintptr(fd), path)}
	// By descriptor and after the fact: the umask has no say.
	if err := do("chmod", path, func() error { return unix.Fchmod(fd, perm&0o777) }); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// localWriter is a file that is being written.
type localWriter struct{ *os.File }

func (w *localWriter) Chtimes(mtime int64) error {
	sec, nsec := floorDiv(mtime)
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: sec, Nsec: nsec}}
	return do("chtimes", w.Name(), func() error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(w.Fd())), times, 0)
	})
}

func (l *local) Clone(old, path string, perm uint32) error {
	from, err := l.Open(old)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := l.Create(path, perm)
	if err != nil {
		return err
	}
	err = unix.IoctlFileClone(int(to.(*localWriter).Fd()), int(from.(localFile).Fd()))
	if err = errors.Join(err, to.Close()); err == nil {
		return nil
	}
	return errors.Join(wrap("clone", path, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)), l.RemoveAll(path))
}

func (l *local) Mkdir(path string, perm uint32) error {
	return l.at("mkdir", path, func(dir int, name string) error {
		if err := unix.Mkdirat(dir, name, 0o700); err != nil {
			return err
		}
		return chmodAt(dir, name, perm)
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
	sec, nsec := floorDiv(mtime)
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: sec, Nsec: nsec}}
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
	return do("sync", l.root.Name(), func() error { return unix.Syncfs(int(l.root.Fd())) })
}

func (l *local) Free() (Space, error) {
	var st unix.Statfs_t
	if err := do("statfs", l.root.Name(), func() error { return unix.Fstatfs(int(l.root.Fd()), &st) }); err != nil {
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
	infos, err := l.ReadDir(path)
	names := make([]string, 0, len(infos))
	for i := range infos {
		names = append(names, infos[i].Name)
	}
	return names, err
}

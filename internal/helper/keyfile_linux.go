package helper

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// keysName is where sshd looks for keys when its configuration does not say otherwise.
const keysName = ".ssh/authorized_keys"

// keyFile reads or replaces a file of keys as the account it lets in to.
func keyFile(ctx context.Context, req wire.KeyFileRequest) (any, error) {
	who := self()
	if req.User != "" {
		var err error
		if who, err = lookup(ctx, req.User); err != nil {
			return nil, err
		}
	}
	var reply wire.KeyFileReply
	err := asAccount(who, func() (err error) {
		if req.Write {
			edit := keyEdit{ctx: ctx, path: req.Path, home: who.home, req: req}
			reply, err = edit.run()
			return keysFault(err, "write %s", req.Path)
		}
		reply, err = readKeys(who, req.Path)
		return keysFault(err, "read the keys of %s", who.name)
	})
	return reply, err
}

// asAccount runs f with the rights of the account. A helper that runs as root takes them on for one thread
// only, which ends with it: the others go on as root, and nothing that f does can use root's rights.
func asAccount(who account, f func() error) error {
	if os.Geteuid() == who.uid {
		return f()
	}
	if os.Geteuid() != 0 {
		return fault.New(fault.SudoNeeded, "only root can act for %s", who.name).Hint("log in as root, with --as-root")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		err := dropThread(who)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// dropThread gives this thread alone to the account. The calls of packages syscall and unix would change
// every thread.
func dropThread(who account) error {
	groups := append([]uint32{uint32(who.gid)}, who.groups...)
	if _, _, no := syscall.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0); no != 0 {
		return os.NewSyscallError("setgroups", no)
	}
	gid, uid := uintptr(who.gid), uintptr(who.uid)
	if _, _, no := syscall.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); no != 0 {
		return os.NewSyscallError("setresgid", no)
	}
	if _, _, no := syscall.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); no != 0 {
		return os.NewSyscallError("setresuid", no)
	}
	return nil
}

// readKeys tells what there is: the file, where it really lies, and who may write on the way.
func readKeys(who account, path string) (wire.KeyFileReply, error) {
	reply := wire.KeyFileReply{UID: who.uid, GID: who.gid}
	if home, err := filepath.EvalSymlinks(who.home); err == nil {
		reply.Home = home
	}
	if path == "" {
		path = keysName
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(who.home, path)
	}
	real, err := realPath(path)
	if err != nil {
		return reply, err
	}
	reply.Path, reply.Link = real, isLink(path)
	if reply.Way, err = way(real); err != nil {
		return reply, err
	}
	if last := reply.Way[len(reply.Way)-1]; last.Path != real || last.Mode&unix.S_IFMT != unix.S_IFREG {
		reply.Exists = last.Path == real
		return reply, nil
	}
	reply.Exists = true
	reply.Content, err = slurpKeys(real)
	if errors.Is(err, fs.ErrPermission) {
		reply.Denied, err = true, nil
	}
	return reply, err
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&os.ModeSymlink != 0
}

// realPath resolves the links of a path whose end may be missing.
func realPath(path string) (string, error) {
	missing := ""
	for at := path; ; at = filepath.Dir(at) {
		real, err := filepath.EvalSymlinks(at)
		switch {
		case err == nil:
			return filepath.Join(real, missing), nil
		case errors.Is(err, fs.ErrNotExist) && isLink(at):
			return "", fault.New(fault.AccountRefused, "%s is a link to nothing", at).Hint("remove it, or make what it points to")
		case !errors.Is(err, fs.ErrNotExist) || at == "/":
			return "", err
		}
		missing = filepath.Join(filepath.Base(at), missing)
	}
}

// way is every folder from "/" to the file, as far as there is something.
func way(real string) ([]wire.KeyPart, error) {
	var parts []wire.KeyPart
	for at := real; ; at = filepath.Dir(at) {
		var st unix.Stat_t
		err := unix.Lstat(at, &st)
		if err != nil && err != unix.ENOENT {
			return nil, &fs.PathError{Op: "lstat", Path: at, Err: err}
		}
		if err == nil {
			parts = append([]wire.KeyPart{{Path: at, Mode: st.Mode, UID: int(st.Uid), GID: int(st.Gid)}}, parts...)
		}
		if at == "/" {
			return parts, nil
		}
	}
}

// slurpKeys reads a plain file, no link, and waits for no FIFO.
func slurpKeys(path string) ([]byte, error) {
	f, _, err := openKeys(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	return keysOf(f)
}

func keysOf(f *os.File) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(f, wire.MaxKeyFile+1))
	if err == nil && len(b) > wire.MaxKeyFile {
		err = fault.New(fault.AccountRefused, "%s is larger than %d bytes", f.Name(), wire.MaxKeyFile)
	}
	return b, err
}

func openKeys(path string) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, st, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = fault.New(fault.AccountRefused, "%s is no plain file", path)
	}
	if err != nil {
		return nil, st, errors.Join(err, f.Close())
	}
	return f, st, nil
}

// keysFault says what an account may not do with its own keys; the rest is as for other files.
func keysFault(err error, what string, args ...any) error {
	if _, own := errors.AsType[*fault.Error](err); own || err == nil {
		return err
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return fault.New(fault.AccountRefused, "the account may not "+what, args...).Wrap(err).
			Hint("see ls -ld and lsattr -d for the file and its folder: its owner, its mode, an immutable flag, a read-only disk")
	}
	return explain(err, what, args...)
}

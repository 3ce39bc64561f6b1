package helper

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// file reads or writes one small file. A link in the last place is neither followed nor replaced.
func file(_ context.Context, req wire.FileRequest) (any, error) {
	folder, err := os.Open(filepath.Dir(req.Path))
	if errors.Is(err, fs.ErrNotExist) && !req.Write {
		return wire.FileReply{}, nil
	}
	if err != nil {
		return nil, explain(err, "open the folder of %s", req.Path)
	}
	defer func() { _ = folder.Close() }() // only read from
	name := filepath.Base(req.Path)
	if req.Write {
		return wire.FileReply{}, explain(replace(folder, name, req), "write %s", req.Path)
	}
	reply, err := slurp(folder, name)
	return reply, explain(err, "read %s", req.Path)
}

// slurp reads a plain file; a FIFO is not waited for.
func slurp(folder *os.File, name string) (wire.FileReply, error) {
	path := filepath.Join(folder.Name(), name)
	fd, err := unix.Openat(int(folder.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return wire.FileReply{}, nil
	}
	if err != nil {
		return wire.FileReply{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { _ = f.Close() }() // only read from
	info, err := f.Stat()
	if err != nil {
		return wire.FileReply{}, err
	}
	if !info.Mode().IsRegular() {
		return wire.FileReply{}, fault.New(fault.LayoutRefused, "%s is no plain file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, wire.MaxFile+1))
	if err == nil && len(b) > wire.MaxFile {
		err = fault.New(fault.LayoutRefused, "%s is larger than %d bytes", path, wire.MaxFile)
	}
	return wire.FileReply{Exists: true, Content: b}, err
}

// replace writes a file under a temporary name and renames it into place, durably. Without a mode
// it keeps mode and owner of what was there.
func replace(folder *os.File, name string, req wire.FileRequest) error {
	dir := int(folder.Fd())
	old, err := before(dir, name, req)
	if err != nil {
		return err
	}
	temp := ".godeploy-" + rand.Text()[:16]
	fd, err := unix.Openat(dir, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "create", Path: filepath.Join(folder.Name(), temp), Err: err}
	}
	f := os.NewFile(uintptr(fd), filepath.Join(folder.Name(), temp))
	err = fill(f, req.Content, old)
	if err == nil {
		err = unix.Renameat(dir, temp, dir, name)
	}
	if err != nil {
		return errors.Join(err, unix.Unlinkat(dir, temp, 0))
	}
	return folder.Sync()
}

// before gives mode and owner for the new file; owner -1 leaves it.
func before(dir int, name string, req wire.FileRequest) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		st = unix.Stat_t{Mode: 0o644, Uid: ^uint32(0), Gid: ^uint32(0)}
	case err != nil:
		return st, err
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return st, fault.New(fault.LayoutRefused, "%s is no plain file", req.Path)
	}
	if req.Mode != 0 {
		st.Mode = req.Mode
	}
	return st, nil
}

// fill writes, sets owner before mode (a change of owner clears bits), and makes durable.
func fill(f *os.File, content []byte, as unix.Stat_t) error {
	_, err := f.Write(content)
	if err == nil && os.Geteuid() == 0 {
		err = unix.Fchown(int(f.Fd()), int(int32(as.Uid)), int(int32(as.Gid)))
	}
	if err == nil {
		err = unix.Fchmod(int(f.Fd()), as.Mode&0o777)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

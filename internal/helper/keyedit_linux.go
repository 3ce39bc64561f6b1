package helper

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

const (
	keysLock  = ".authorized_keys.godeploy-lock"
	keysPrev  = ".godeploy-prev" // behind the file's name: what it was before the last change
	keysTries = 30 * time.Second // how long the lock of another editor is waited for
	keysPause = 20 * time.Millisecond
)

// keyEdit replaces a file of keys: under a lock, only if the file is what the caller has seen, by a file
// beside it that is whole and on disk before it takes the name. At every instant the name leads to the old
// file or to the new one.
type keyEdit struct {
	ctx  context.Context
	path string
	home string
	req  wire.KeyFileRequest
	// step, when set, is asked before each call that changes the disk; what it returns is the call's error.
	// It is how a test makes the calls fail, or lets nothing more happen after one.
	step func(call string) error

	old    *os.File // nil when there is none
	oldSt  unix.Stat_t
	before []byte
}

// do makes one call.
func (k *keyEdit) do(call string, f func() error) error {
	if k.step != nil {
		if err := k.step(call); err != nil {
			return &fs.PathError{Op: call, Path: k.path, Err: err}
		}
	}
	return f()
}

func (k *keyEdit) run() (wire.KeyFileReply, error) {
	reply := wire.KeyFileReply{Path: k.path}
	if err := k.folder(); err != nil {
		return reply, err
	}
	lock, err := k.lock()
	if err != nil {
		return reply, err
	}
	defer func() { _ = lock.Close() }() // nothing was written to it; the lock goes with it
	if err := k.look(); err != nil {
		return reply, err
	}
	if k.old != nil {
		defer func() { _ = k.old.Close() }() // only read from
	}
	if k.now() != k.req.Expect {
		reply.Stale = true
		return reply, nil
	}
	reply.Stale, err = k.replace()
	return reply, err
}

// now is the SHA-256 of what there is, "" when there is nothing.
func (k *keyEdit) now() string {
	if k.old == nil {
		return ""
	}
	sum := sha256.Sum256(k.before)
	return hex.EncodeToString(sum[:])
}

// folder makes ~/.ssh where it is missing; any other folder is not ours to make.
func (k *keyEdit) folder() error {
	dir := filepath.Dir(k.path)
	_, err := os.Lstat(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if home, herr := filepath.EvalSymlinks(k.home); herr != nil || filepath.Dir(dir) != home {
		return fault.New(fault.AccountRefused, "the folder %s is not there", dir)
	}
	if err := k.do("mkdir", func() error { return os.Mkdir(dir, 0o700) }); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	relabel(k.ctx, dir)
	return nil
}

// lock waits for other editors. Its file stays: removing it would let two in at once.
func (k *keyEdit) lock() (*os.File, error) {
	name := filepath.Join(filepath.Dir(k.path), keysLock)
	var f *os.File
	err := k.do("open lock", func() error {
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return &fs.PathError{Op: "open", Path: name, Err: err}
		}
		f = os.NewFile(uintptr(fd), name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	late := time.NewTimer(keysTries)
	defer late.Stop()
	for {
		err := flock(f, unix.LOCK_EX)
		if err != unix.EWOULDBLOCK {
			if err != nil {
				_ = f.Close() // err tells more
			}
			return f, err
		}
		select {
		case <-time.After(keysPause):
		case <-late.C:
			_ = f.Close() // nothing was done
			return nil, fault.New(fault.LockHeld, "somebody has been editing %s for %s", k.path, keysTries)
		case <-k.ctx.Done():
			_ = f.Close() // nothing was done
			return nil, context.Cause(k.ctx)
		}
	}
}

// look reads the file that is to be replaced and keeps it open, so that its number cannot become another's.
func (k *keyEdit) look() (err error) {
	k.old, k.oldSt, err = openKeys(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		k.old = nil
		return nil
	}
	if err == nil {
		k.before, err = keysOf(k.old)
	}
	return err
}

// replace makes the new file and gives it the name. stale is true when somebody who heeds no lock, a person
// with an editor, has changed the file meanwhile.
func (k *keyEdit) replace() (stale bool, err error) {
	temp := filepath.Join(filepath.Dir(k.path), ".godeploy-"+rand.Text()[:16])
	defer func() {
		if stale || err != nil {
			_ = k.do("unlink", func() error { return os.Remove(temp) }) // it may not have been made
		}
	}()
	if err := k.fill(temp); err != nil {
		return false, err
	}
	k.keep()
	same, err := k.unmoved()
	if err != nil || !same {
		return !same, err
	}
	if err := k.do("rename", func() error { return os.Rename(temp, k.path) }); err != nil {
		return false, err
	}
	relabel(k.ctx, k.path)
	return false, k.do("sync folder", func() error { return syncFolder(filepath.Dir(k.path)) })
}

// fill writes the new file with the old one's mode, group and label.
func (k *keyEdit) fill(temp string) error {
	var f *os.File
	err := k.do("create", func() (err error) {
		f, err = os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	err = k.do("write", func() error { _, err := f.Write(k.req.Content); return err })
	if err == nil {
		err = k.do("dress", func() error { return k.dress(f) })
	}
	if err == nil {
		err = k.do("sync", f.Sync)
	}
	return errors.Join(err, f.Close())
}

// dress gives the new file the mode, the group and the security label of the old one. Group and label are
// kept where the account may: what sshd asks for is mode and owner.
func (k *keyEdit) dress(f *os.File) error {
	mode := uint32(0o600)
	if k.old != nil {
		mode = k.oldSt.Mode & 0o777
		_ = unix.Fchown(int(f.Fd()), -1, int(k.oldSt.Gid)) // only to a group of the account's
		label := make([]byte, 256)
		if n, err := unix.Fgetxattr(int(k.old.Fd()), "security.selinux", label); err == nil {
			_ = unix.Fsetxattr(int(f.Fd()), "security.selinux", label[:n], 0) // restorecon follows
		}
	}
	return unix.Fchmod(int(f.Fd()), mode)
}

// keep lets what there was be found under another name. A file that cannot be linked, say one of root's, is
// no reason to change nothing.
func (k *keyEdit) keep() {
	if k.old == nil {
		return
	}
	prev, temp := k.path+keysPrev, k.path+".godeploy-"+rand.Text()[:8]
	if k.do("link", func() error { return os.Link(k.path, temp) }) != nil {
		return
	}
	if k.do("rename prev", func() error { return os.Rename(temp, prev) }) != nil {
		_ = k.do("unlink", func() error { return os.Remove(temp) })
	}
	_ = os.Remove(temp) // where both names were one file already, rename does nothing
}

// unmoved looks once more, as late as can be. The change time is not compared: the link above moves it.
func (k *keyEdit) unmoved() (bool, error) {
	var st unix.Stat_t
	err := unix.Lstat(k.path, &st)
	if err == unix.ENOENT {
		return k.old == nil, nil
	}
	if err != nil || k.old == nil {
		return false, err
	}
	was := k.oldSt
	return st.Dev == was.Dev && st.Ino == was.Ino && st.Size == was.Size && st.Mtim == was.Mtim, nil
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// relabel gives a path the label that SELinux's policy wants for it, where there is SELinux: sshd may not
// read keys in a file with another one.
func relabel(ctx context.Context, path string) {
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
		return
	}
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	_ = exec.CommandContext(ctx, "restorecon", "-F", path).Run() // the login that follows proves what counts
}

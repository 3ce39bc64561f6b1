package helper

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

const (
	lockName   = "lock"
	maxHolder  = 8 << 10
	lockTries  = 5
	lockPauses = 20 * time.Millisecond
)

// locks are the locks this helper holds. A lock is flock on a file that is never removed: the
// kernel lets go of it with the process, so nothing can go stale. The holder's name stands in the
// file, for people only.
type locks struct {
	state string // where locks lie of apps whose path is not there
	mu    sync.Mutex
	held  map[wire.Site][]*os.File
}

// lockState is where a lock lies while the app's path is not there.
func lockState() string {
	if os.Geteuid() == 0 {
		return "/var/lib/godeploy"
	}
	return filepath.Join(self().home, ".local/state/godeploy")
}

// awayName is the folder in the lock state for an app whose path is not there. The path is part of it: two
// apps of one name, as staging and production on one machine, do not wait for each other.
func awayName(s wire.Site) string {
	sum := sha256.Sum256([]byte(s.Path))
	return s.App + "-" + hex.EncodeToString(sum[:4])
}

// key is a site without its owner: the same files, however they are owned.
func key(s wire.Site) wire.Site { return wire.Site{App: s.App, Path: s.Path} }

func (l *locks) has(s wire.Site) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held[key(s)]) > 0
}

// run names the run that holds the lock of an app here.
func (l *locks) run(s wire.Site) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if mine := l.held[key(s)]; len(mine) > 0 {
		return readHolder(mine[0]).Run
	}
	return ""
}

// take takes the lock of an app, or says who has it. To take what is held here already is fine.
func (l *locks) take(s wire.Site, holder wire.Holder) (*wire.Holder, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.held[key(s)]) > 0 {
		return nil, nil
	}
	f, err := l.open(s)
	if err != nil {
		return nil, explain(err, "open the lock of %s", s.App)
	}
	who, err := claim(f, holder)
	if err != nil || who != nil {
		return who, errors.Join(explain(err, "take the lock of %s", s.App), f.Close())
	}
	l.held[key(s)] = []*os.File{f}
	return nil, nil
}

// follow takes the lock below the app's path too, once that is there, under the same name.
func (l *locks) follow(s wire.Site) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := l.held[key(s)]
	if len(mine) == 0 { // let go of meanwhile
		return fault.New(fault.LockLost, "the lock of %s is not held by this connection", s.App)
	}
	f, err := openLock(s.Path, stateDir, true)
	if err != nil {
		return explain(err, "open the lock of %s", s.App)
	}
	for _, m := range mine {
		if sameFile(m, f) {
			return f.Close()
		}
	}
	who, err := claim(f, readHolder(mine[0]))
	if err == nil && who != nil {
		err = fault.New(fault.LockHeld, "%s is locked by %s", s.App, who.Who)
	}
	if err != nil {
		return errors.Join(explain(err, "take the lock of %s", s.App), f.Close())
	}
	l.held[key(s)] = append(mine, f)
	return nil
}

func sameFile(a, b *os.File) bool {
	x, err1 := a.Stat()
	y, err2 := b.Stat()
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// open opens the file to lock: below the app's path, else in the state folder.
func (l *locks) open(s wire.Site) (*os.File, error) {
	f, err := openLock(s.Path, stateDir, true)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(l.state, 0o755); err != nil {
			return nil, err
		}
		return openLock(l.state, awayName(s), true)
	}
	return f, err
}

// holder says who else holds the lock of an app.
func (l *locks) holder(s wire.Site) (*wire.Holder, error) {
	if l.has(s) {
		return nil, nil
	}
	f, err := openLock(s.Path, stateDir, false)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = openLock(l.state, awayName(s), false)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // lets go of the shared lock as well
	// Shared: two that only look do not meet. One that wants the lock tries more than once.
	if flock(f, unix.LOCK_SH) == nil {
		return nil, nil
	}
	who := readHolder(f)
	return &who, nil
}

// release lets go of an app's lock.
func (l *locks) release(s wire.Site) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.held[key(s)] {
		letGo(f)
	}
	delete(l.held, key(s))
}

// releaseAll lets go of every lock.
func (l *locks) releaseAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, files := range l.held {
		for _, f := range files {
			letGo(f)
		}
		delete(l.held, s)
	}
}

// letGo empties the file while it is still ours, so that no old name is ever shown.
func letGo(f *os.File) {
	_ = f.Truncate(0) // the name is for people; the lock goes with Close
	_ = f.Close()
}

// openLock opens DIR/SUB/lock without following a link below DIR: who may write there must not be
// able to make root write elsewhere. The file must be nobody's second name.
func openLock(dir, sub string, make bool) (*os.File, error) {
	top, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer func() { _ = unix.Close(top) }() // O_PATH: nothing to lose
	at := filepath.Join(dir, sub)
	if make {
		if err := unix.Mkdirat(top, sub, 0o755); err != nil && err != unix.EEXIST {
			return nil, &fs.PathError{Op: "mkdir", Path: at, Err: err}
		}
	}
	folder, err := unix.Openat(top, sub, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: at, Err: err}
	}
	defer func() { _ = unix.Close(folder) }() // O_PATH: nothing to lose
	return openLockFile(folder, filepath.Join(at, lockName), make)
}

func openLockFile(folder int, path string, make bool) (*os.File, error) {
	flags := unix.O_RDONLY
	if make {
		flags = unix.O_RDWR | unix.O_CREAT
	}
	fd, err := unix.Openat(folder, lockName, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		_ = f.Close() // not ours to write
		return nil, fault.New(fault.LayoutRefused, "%s is no plain file", path).Hint("remove it; godeploy makes it anew")
	}
	return f, nil
}

// claim takes the lock and writes the holder into it, or gives who has it.
func claim(f *os.File, holder wire.Holder) (*wire.Holder, error) {
	err := flock(f, unix.LOCK_EX)
	// Somebody who only looks holds it for an instant, and a helper that ends for hardly longer.
	for try := 1; err == unix.EWOULDBLOCK && try < lockTries; try++ {
		time.Sleep(lockPauses)
		err = flock(f, unix.LOCK_EX)
	}
	if err == unix.EWOULDBLOCK {
		who := readHolder(f)
		return &who, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, writeHolder(f, holder)
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}

// writeHolder writes one line in one write: a reader sees the old or the new, and takes only the
// first line.
func writeHolder(f *os.File, holder wire.Holder) error {
	b, err := json.Marshal(holder)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if _, err := f.WriteAt(b, 0); err != nil {
		return fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return f.Truncate(int64(len(b)))
}

// readHolder gives who stands in a lock file; a zero Holder when nobody can be made out.
func readHolder(f *os.File) wire.Holder {
	var who wire.Holder
	b, _ := io.ReadAll(io.NewSectionReader(f, 0, maxHolder)) // for people only
	line, _, _ := bytes.Cut(b, []byte("\n"))
	if json.Unmarshal(line, &who) != nil || who.Check() != nil {
		return wire.Holder{Who: "somebody"}
	}
	return who
}

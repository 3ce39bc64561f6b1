package overssh

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"godeploy/internal/fault"
	filesync "godeploy/sync"
)

// behindFS is a shellFS that makes what is new in new folders behind its caller's back: as one stream to
// one tar, in the order of the calls. It implements filesync.Maker. A folder counts as new when this FS has
// made it itself, and then knows all that is in it. Whatever else is asked for there, reading too, waits
// until tar has made everything. Sync has the host hash what was made.
//
// The caller closes it; what is under way then is broken off.
type behindFS struct {
	shellFS
	*queue
}

// queue is what a behindFS has under way.
type queue struct {
	begin func() (*tarBulk, error)
	sum   func(paths []string) ([]filesync.Hash, error)

	mu    sync.Mutex
	tar   *tarBulk
	tops  []string // new folders that were made by a call of their own; nodes has all below them
	nodes map[string]*node
	sums  []made
	links error // whether the host makes links: errUntried, or what it said
	other map[string]bool
	bad   error // what went wrong with a tar
}

// node is something that was made.
type node struct {
	mode uint32
	new  bool // a folder of which all is known
}

// made is a file that the host is to hash.
type made struct {
	path string
	sum  filesync.Hash
}

var errUntried = errors.New("not tried")

// behind lets everything new go through one stream, where the host has a tar for it. ctx bounds all that
// is done behind the caller's back.
func (s shellFS) behind(ctx context.Context) filesync.FS {
	if s.tools.extract() == nil {
		return s
	}
	return behindFS{s, &queue{
		begin: func() (*tarBulk, error) { return s.bulk(ctx) },
		sum:   func(paths []string) ([]filesync.Hash, error) { return s.Sums(ctx, paths) },
		nodes: map[string]*node{}, other: map[string]bool{}, links: errUntried,
	}}
}

// stream gives the tar under way. The lock is held.
func (q *queue) stream() (*tarBulk, error) {
	if q.bad == nil && q.tar == nil {
		q.tar, q.bad = q.begin()
	}
	return q.tar, q.bad
}

// told notes an error of the stream. The lock is held.
func (q *queue) told(err error) error {
	if err == nil || q.bad != nil {
		return err
	}
	q.bad = err
	if errors.Is(err, errStopped) { // the program's own end tells why
		q.bad = errors.Join(q.tar.Close(), err)
		q.tar = nil
	}
	return q.bad
}

// settle waits until all is there. The lock is held.
func (q *queue) settle() error {
	if q.tar != nil {
		if err := q.tar.Close(); err != nil && q.bad == nil {
			q.bad = err
		}
		q.tar = nil
	}
	return q.bad
}

// check has the host hash what was made since the last time. The lock is held.
func (q *queue) check() error {
	if err := q.settle(); err != nil || len(q.sums) == 0 {
		return err
	}
	paths := make([]string, len(q.sums))
	for i := range q.sums {
		paths[i] = q.sums[i].path
	}
	sums, err := q.sum(paths)
	if errors.Is(err, errors.ErrUnsupported) {
		sums, err = nil, nil
	}
	if err != nil {
		return err
	}
	for i := range sums {
		if sums[i] != q.sums[i].sum {
			q.bad = fault.New(fault.SyncVerify, "%q is not on the host as it was sent", q.sums[i].path).
				Hint("the disk or the connection changes what goes through it")
			return q.bad
		}
	}
	q.sums = nil
	return nil
}

// touches reports whether p lies in, is, or holds one of the new folders. The lock is held.
func (q *queue) touches(p string) bool {
	for _, top := range q.tops {
		if p == "." || p == top || strings.HasPrefix(p, top+"/") || strings.HasPrefix(top, p+"/") {
			return true
		}
	}
	return false
}

// see waits before something there is looked at.
func (q *queue) see(p string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.touches(p) {
		return nil
	}
	return q.settle()
}

// change waits before something there is changed by a call of its own: from then on what is in its folder
// is no longer known.
func (q *queue) change(p string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.touches(p) {
		return nil
	}
	if n := q.nodes[path.Dir(p)]; n != nil {
		n.new = false
	}
	return q.settle()
}

// drop forgets what is at p and below it.
func (q *queue) drop(p string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	below := func(at string) bool { return at == p || strings.HasPrefix(at, p+"/") }
	kept := q.tops[:0]
	for _, top := range q.tops {
		if !below(top) {
			kept = append(kept, top)
		}
	}
	q.tops = kept
	for at := range q.nodes {
		if below(at) {
			delete(q.nodes, at)
		}
	}
	left := q.sums[:0]
	for _, m := range q.sums {
		if !below(m.path) {
			left = append(left, m)
		}
	}
	q.sums = left
}

// add notes what is made at p in a new folder; false says that p's folder is none. The lock is held.
func (q *queue) add(op, p string, n *node) (bool, error) {
	if err := checkPath(op, p); err != nil {
		return true, err
	}
	dir := q.nodes[path.Dir(p)]
	if dir == nil || !dir.new {
		return false, nil
	}
	if q.nodes[p] != nil {
		return true, &fs.PathError{Op: op, Path: p, Err: fs.ErrExist}
	}
	q.nodes[p] = n
	return true, nil
}

// put adds p by what write does with the stream; false says that it is not to be done so.
func (q *queue) put(op, p string, n *node, write func(*tarBulk) error) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if queued, err := q.add(op, p, n); !queued || err != nil {
		return queued, err
	}
	tar, err := q.stream()
	if err != nil {
		return true, err
	}
	return true, q.told(write(tar))
}

func (b behindFS) Mkdir(p string, perm uint32) error {
	n := &node{mode: perm & 0o777, new: true}
	queued, err := b.put("mkdir", p, n, func(t *tarBulk) error { return t.Mkdir(p, perm, time.Now().UnixNano()) })
	if queued {
		return err
	}
	if err := b.change(p); err != nil {
		return err
	}
	if err := b.shellFS.Mkdir(p, perm); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tops, b.nodes[p] = append(b.tops, p), n
	return nil
}

func (b behindFS) Symlink(target, p string) error {
	if target == "" {
		return &fs.PathError{Op: "symlink", Path: p, Err: fs.ErrInvalid}
	}
	queued, err := b.put("symlink", p, &node{}, func(t *tarBulk) error { return t.Symlink(target, p, time.Now().UnixNano()) })
	if queued {
		return err
	}
	if err := b.change(p); err != nil {
		return err
	}
	return b.shellFS.Symlink(target, p)
}

// Link tries once whether the host makes links at all. One to a file of somebody else is refused at once:
// most hosts do (fs.protected_hardlinks), and tar would tell too late.
func (b behindFS) Link(old, p string) error {
	queued, err := b.link(old, p)
	if queued {
		return err
	}
	if err := errors.Join(b.change(p), b.see(old)); err != nil {
		return err
	}
	return b.shellFS.Link(old, p)
}

func (b behindFS) link(old, p string) (queued bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if dir := b.nodes[path.Dir(p)]; dir == nil || !dir.new || checkPath("link", old) != nil || b.touches(old) {
		return false, nil
	}
	switch {
	case b.other[old]:
		return true, &fs.PathError{Op: "link", Path: old, Err: fmt.Errorf("it is another user's: %w", fs.ErrPermission)}
	case errors.Is(b.links, errUntried):
		err := b.tryLink(old, p)
		if errors.Is(err, fs.ErrNotExist) {
			return true, err // it says nothing about others
		}
		b.links = err
	}
	if b.links != nil {
		return true, b.links
	}
	if queued, err := b.add("link", p, &node{}); !queued || err != nil {
		return queued, err
	}
	tar, err := b.stream()
	if err != nil {
		return true, err
	}
	return true, b.told(tar.Link(old, p))
}

// tryLink makes a link in the outermost new folder, which is there, and removes it. No tree has
// anything of that name.
func (b behindFS) tryLink(old, p string) error {
	for _, top := range b.tops {
		if strings.HasPrefix(p, top+"/") {
			try := top + "/.godeploy"
			if err := b.shellFS.Link(old, try); err != nil {
				return err
			}
			return failed("remove", try, b.client.Remove(b.root+"/"+try))
		}
	}
	return &fs.PathError{Op: "link", Path: p, Err: errors.ErrUnsupported}
}

// Chmod and Chtimes of a folder name it once more in the stream.

func (b behindFS) Chmod(p string, perm uint32) error {
	queued, err := b.again(p, func(n *node) int64 { n.mode = perm & 0o777; return time.Now().UnixNano() })
	if queued {
		return err
	}
	if err := b.see(p); err != nil {
		return err
	}
	return b.shellFS.Chmod(p, perm)
}

func (b behindFS) Chtimes(p string, mtime int64) error {
	queued, err := b.again(p, func(*node) int64 { return mtime })
	if queued {
		return err
	}
	if err := b.see(p); err != nil {
		return err
	}
	return b.shellFS.Chtimes(p, mtime)
}

func (b behindFS) again(p string, set func(*node) (mtime int64)) (queued bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[p]
	if n == nil || !n.new {
		return false, nil
	}
	mtime := set(n)
	tar, err := b.stream()
	if err != nil {
		return true, err
	}
	return true, b.told(tar.Mkdir(p, n.mode, mtime))
}

// smallFile is up to what size a file is kept until it is whole, so that others need not wait for it.
const smallFile = 512 << 10

// Make lets small files come in any order; a larger one has the stream for itself until it is closed.
func (b behindFS) Make(p string, perm uint32, mtime, size int64) (filesync.FileWriter, error) {
	b.mu.Lock()
	queued, err := b.add("create", p, &node{})
	if err == nil && queued && size > smallFile {
		err = b.head(p, perm, mtime, size)
	}
	if err == nil && queued {
		w := &behindWriter{b: b, path: p, perm: perm, mtime: mtime, size: size, sum: sha256.New()}
		if w.large = size > smallFile; !w.large {
			b.mu.Unlock()
		}
		return w, nil // a large one keeps the lock
	}
	b.mu.Unlock()
	if queued {
		return nil, err
	}
	if err := b.change(p); err != nil {
		return nil, err
	}
	return b.shellFS.Make(p, perm, mtime, size)
}

// head begins a file in the stream. The lock is held.
func (b behindFS) head(p string, perm uint32, mtime, size int64) error {
	tar, err := b.stream()
	if err != nil {
		return err
	}
	return b.told(tar.begin(p, perm, mtime, size))
}

// behindWriter is a file of a new folder being written.
type behindWriter struct {
	b     behindFS
	path  string
	perm  uint32
	mtime int64
	size  int64
	large bool // the queue is locked, and the content goes straight to the stream
	got   int64
	kept  []byte
	sum   hash.Hash
	shut  bool
}

func (w *behindWriter) Write(p []byte) (int, error) {
	switch {
	case w.shut:
		return 0, fs.ErrClosed
	case int64(len(p)) > w.size-w.got:
		return 0, &fs.PathError{Op: "write", Path: w.path, Err: fmt.Errorf("it is longer than %d bytes", w.size)}
	}
	w.got += int64(len(p))
	_, _ = w.sum.Write(p) // a hash takes everything
	if !w.large {
		w.kept = append(w.kept, p...)
		return len(p), nil
	}
	if w.b.bad != nil {
		return 0, w.b.bad
	}
	n, err := w.b.tar.tar.Write(p)
	return n, w.b.told(err)
}

// Chtimes does nothing for the time that was told.
func (w *behindWriter) Chtimes(mtime int64) error {
	if mtime != w.mtime {
		return &fs.PathError{Op: "chtimes", Path: w.path, Err: errors.ErrUnsupported}
	}
	return nil
}

// Sync does nothing: the FS's does.
func (w *behindWriter) Sync() error { return nil }

// Close fills up a file that is too short: the stream has told its size.
func (w *behindWriter) Close() error {
	if w.shut {
		return fs.ErrClosed
	}
	w.shut = true
	if !w.large {
		w.b.mu.Lock()
	}
	defer w.b.mu.Unlock()
	if w.got < w.size {
		return w.fill()
	}
	if !w.large {
		if err := w.b.head(w.path, w.perm, w.mtime, w.size); err != nil {
			return err
		}
		if _, err := w.b.tar.tar.Write(w.kept); err != nil {
			return w.b.told(err)
		}
		w.kept = nil
	}
	if w.b.bad == nil {
		w.b.sums = append(w.b.sums, made{w.path, filesync.Hash(w.sum.Sum(nil))})
	}
	return w.b.bad
}

// fill ends a file that is good for nothing. A small one was not begun.
func (w *behindWriter) fill() error {
	short := &fs.PathError{Op: "close", Path: w.path, Err: io.ErrUnexpectedEOF}
	if !w.large {
		delete(w.b.nodes, w.path)
		return short
	}
	if w.b.bad != nil {
		return w.b.bad
	}
	if _, err := io.CopyN(w.b.tar.tar, zeros{}, w.size-w.got); err != nil {
		return w.b.told(err)
	}
	return short
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

package filesync

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
)

// spoolMemory is how much of a spool stays in memory; what follows goes into a file.
const spoolMemory = 16 << 20

// spool holds a sequence of bytes that one writer appends to and any number of readers read, each
// from its beginning and at its own pace: a slow reader holds up nobody. What does not fit into
// memory lies in a file without a name.
type spool struct {
	mu    sync.Mutex
	more  *sync.Cond
	dir   string // for the file; "" is the system's
	parts [][]byte
	ends  []int64 // where each part ends
	file  *os.File
	kept  int64 // bytes in parts
	size  int64
	done  bool
	err   error
}

func newSpool(dir string) *spool {
	s := &spool{dir: dir}
	s.more = sync.NewCond(&s.mu)
	return s
}

// append adds p, which the spool keeps.
func (s *spool) append(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil && s.kept+int64(len(p)) <= spoolMemory {
		s.kept += int64(len(p))
		s.parts, s.ends = append(s.parts, p), append(s.ends, s.kept)
	} else if err := s.spill(p); err != nil {
		return err
	}
	s.size += int64(len(p))
	s.more.Broadcast()
	return nil
}

func (s *spool) spill(p []byte) error {
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, ".godeploy-*")
		if err != nil {
			return err
		}
		s.file = f
		_ = os.Remove(f.Name()) // where an open file keeps its name, close removes it
	}
	_, err := s.file.WriteAt(p, s.size-s.kept)
	return err
}

// end says that nothing more comes, and why when that is not the end.
func (s *spool) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done, s.err = true, err
	s.more.Broadcast()
}

// close frees the file. No reader may read any more.
func (s *spool) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	name := s.file.Name()
	err := s.file.Close()
	if rmErr := os.Remove(name); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	return err
}

// spoolReader reads a spool from its beginning.
type spoolReader struct {
	s   *spool
	ctx context.Context
	off int64
	at  int // the part off lies in
}

// Read gives what is there; it waits for more, and returns io.EOF at the end.
func (r *spoolReader) Read(p []byte) (int, error) {
	file, n, err := r.await(p)
	if file == nil {
		return n, err
	}
	n, err = file.ReadAt(p[:n], r.off-r.s.kept)
	r.off += int64(n)
	if n > 0 || err == io.EOF {
		err = nil
	}
	return n, err
}

// await waits until there is something at off. It copies what lies in memory; else it gives the
// file and how much may be read from it.
func (r *spoolReader) await(p []byte) (*os.File, int, error) {
	s := r.s
	stop := context.AfterFunc(r.ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.more.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for r.off == s.size && !s.done && r.ctx.Err() == nil {
		s.more.Wait()
	}
	switch {
	case r.ctx.Err() != nil:
		return nil, 0, r.ctx.Err()
	case r.off == s.size && s.err != nil:
		return nil, 0, s.err
	case r.off == s.size:
		return nil, 0, io.EOF
	case r.off >= s.kept:
		return s.file, int(min(int64(len(p)), s.size-r.off)), nil
	}
	for s.ends[r.at] <= r.off {
		r.at++
	}
	n := copy(p, s.parts[r.at][int64(len(s.parts[r.at]))-(s.ends[r.at]-r.off):])
	r.off += int64(n)
	return nil, n, nil
}

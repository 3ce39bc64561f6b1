package filesync

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math"
	"runtime"
	"slices"
	"sync"

	"godeploy/sync/delta"
)

// blockSize is how much of a large file is read at once, in bytes.
const blockSize = 1 << 20

// block is a piece of a large file, cut into chunks that are to be hashed.
type block struct {
	buf    []byte
	chunks []delta.Chunk
	done   *sync.WaitGroup
}

// sum hashes the chunks.
func (b *block) sum() {
	at := 0
	for i := range b.chunks {
		c := &b.chunks[i]
		c.Sum = sha256.Sum256(b.buf[at : at+int(c.Len)])
		at += int(c.Len)
	}
	b.done.Done()
}

// sums hashes blocks beside the reading of their files, so that one large file has all processors.
type sums struct {
	todo chan *block
	free chan *block // nil stands for one that is not made yet
	wg   sync.WaitGroup
}

// startSums starts as many goroutines as there are processors; stop ends them. readers is how many
// files are read at once.
func startSums(readers int) *sums {
	procs := runtime.GOMAXPROCS(0)
	s := &sums{todo: make(chan *block, procs), free: make(chan *block, readers+2*procs)}
	for range cap(s.free) {
		s.free <- nil
	}
	for range procs {
		s.wg.Go(func() {
			for b := range s.todo {
				b.sum()
				s.free <- b
			}
		})
	}
	return s
}

// stop ends the goroutines; nothing may be added any more.
func (s *sums) stop() {
	close(s.todo)
	s.wg.Wait()
}

// take gives a block that is free. Whoever has one adds or returns it before taking another.
func (s *sums) take() *block {
	b := <-s.free
	if b == nil {
		b = &block{buf: make([]byte, blockSize+delta.MaxChunk)}
	}
	return b
}

// largeReader reads one large file in order and cuts it into chunks.
type largeReader struct {
	f        FileReader
	sums     *sums
	splitter *delta.Splitter
	size     int64 // where reading ends at the latest
	off      int64 // how far it is read
	tail     []byte
	parts    [][]delta.Chunk
	hashing  sync.WaitGroup
	holes    holes
	ended    bool
}

// chunked hashes a large file by its chunks and counts what it read.
func (w *hasher) chunked(ctx context.Context, e *Entry, f FileReader, size int64) (int64, error) {
	if o, ok := f.(interface{ inOrder() }); ok {
		o.inOrder()
	}
	r := &largeReader{f: f, sums: w.sums, splitter: w.splitter, size: size + 1}
	r.holes.look(f, size)
	for !r.ended {
		err := ctx.Err()
		if err == nil {
			err = r.next()
		}
		if err != nil {
			r.hashing.Wait()
			return 0, err
		}
	}
	r.hashing.Wait()
	e.Chunks = slices.Concat(r.parts...)
	e.Hash = delta.Sum(e.Chunks)
	return r.off, nil
}

// next reads a block, cuts it and gives it to be hashed.
func (r *largeReader) next() error {
	if err := r.skipHole(); err != nil {
		return err
	}
	b := r.sums.take()
	n := copy(b.buf, r.tail)
	want := min(int64(blockSize), r.size-r.off)
	got, err := r.f.ReadAt(b.buf[n:n+int(want)], r.off)
	r.off += int64(got)
	if r.ended = errors.Is(err, io.EOF) || r.off == r.size; err != nil && !r.ended {
		r.sums.free <- b
		return err
	}
	r.cut(b, b.buf[:n+got])
	b.done = &r.hashing
	r.hashing.Add(1)
	r.sums.todo <- b
	return nil
}

// cut cuts what is complete off data and keeps the rest.
func (r *largeReader) cut(b *block, data []byte) {
	b.chunks = make([]delta.Chunk, 0, len(data)/delta.AvgChunk+1)
	for len(data) >= delta.MaxChunk || r.ended && len(data) > 0 {
		n := r.splitter.Cut(data)
		b.chunks = append(b.chunks, delta.Chunk{Len: uint32(n)})
		data = data[n:]
	}
	r.tail = append(r.tail[:0], data...)
	r.parts = append(r.parts, b.chunks)
}

// holes says where the nearest hole is of what is still to be read; where there is none, it begins
// and ends behind everything.
type holes struct {
	f          holeFinder
	size       int64
	start, end int64
	zero       delta.Chunk // what a long row of zeros begins with
}

// holeFinder is a file that can tell where it has holes: the first at off or behind it. Without one,
// start is size.
type holeFinder interface {
	nextHole(off, size int64) (start, end int64)
}

// look finds the first hole. Few files have one: for most that is all.
func (h *holes) look(f FileReader, size int64) {
	h.f, _ = f.(holeFinder)
	h.size = size
	h.find(0)
}

func (h *holes) find(off int64) {
	h.start, h.end = h.size, math.MaxInt64
	if h.f == nil || off >= h.size {
		return
	}
	start, end := h.f.nextHole(off, h.size)
	if start < h.size && start < end {
		h.start, h.end = start, min(end, h.size)
	}
}

// skipHole gives the chunks of a hole without reading it: they are the same again and again. What
// is left over before its end is read.
func (r *largeReader) skipHole() error {
	h := &r.holes
	if h.end <= r.off {
		h.find(r.off)
	}
	begin := r.off - int64(len(r.tail)) // where the next chunk does
	if begin < h.start || h.start == h.size || h.end-begin < 2*delta.MaxChunk {
		return nil
	}
	if h.zero.Len == 0 {
		zeros := make([]byte, delta.MaxChunk)
		n := r.splitter.Cut(zeros)
		h.zero = delta.Chunk{Len: uint32(n), Sum: sha256.Sum256(zeros[:n])}
	}
	n := (h.end - begin - delta.MaxChunk) / int64(h.zero.Len)
	if n > MaxChunks {
		return errTooLarge
	}
	r.parts = append(r.parts, slices.Repeat([]delta.Chunk{h.zero}, int(n)))
	r.off, r.tail = begin+n*int64(h.zero.Len), r.tail[:0]
	return nil
}

package filesync

import (
	"context"
	"encoding/binary"
	"io"
	"sync/atomic"

	"godeploy/sync/delta"
)

// content sends the units asked for, in order.
func (s *sender) content(want *wanted) error {
	bytes, files := s.src.size(want.units)
	s.at.TotalBytes, s.at.TotalFiles = s.at.TotalBytes+bytes, s.at.TotalFiles+files
	var err error
	if s.o.Hosts > 1 {
		err = s.shared(want)
	} else {
		err = s.direct(want)
	}
	if err != nil {
		return err
	}
	return s.out.last(frameEnd, nil)
}

// size is how many bytes of content a set of units has, and of how many files.
func (src *Source) size(units *unitSet) (bytes int64, files int) {
	var last *Entry
	_ = units.each(src.Manifest, func(_ int, e *Entry, k int) error { // the function never fails
		bytes += int64(e.unitSize(k))
		if e != last {
			files, last = files+1, e
		}
		return nil
	})
	return bytes, files
}

// produce reads units and gives them on as frames. It stops when ctx ends.
func (src *Source) produce(ctx context.Context, want *wanted, compress string, emit func([]byte, load) error, fast func() bool) error {
	bytes, _ := src.size(want.units)
	b, err := newBatcher(compress, bytes, emit, fast)
	if err != nil {
		return err
	}
	defer b.close()
	units := unitReader{src: src}
	defer units.close()
	signed := want.signed
	var last *Entry
	err = want.units.each(src.Manifest, func(unit int, e *Entry, n int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := units.read(e, n)
		if err != nil {
			return err
		}
		of := load{bytes: len(data)}
		if e != last {
			of.files, last = 1, e
		}
		if len(signed) > 0 && signed[0].unit == unit {
			patch := makePatch(signed[0].signature, data)
			if signed = signed[1:]; patch != nil {
				return b.add(patch, true, of, small)
			}
		}
		return b.add(data, false, of, lotOf(e))
	})
	if err != nil {
		return err
	}
	return b.flush()
}

// makePatch gives a patch if that is smaller than the content; a signature that makes no sense is
// as good as none.
func makePatch(signature, data []byte) []byte {
	s, rest, err := delta.ReadSignature(signature, ChunkedFrom)
	if err != nil || len(rest) > 0 {
		return nil
	}
	if patch := delta.MakePatch(s, data); len(patch) < len(data)*3/4 {
		return patch
	}
	return nil
}

// queued is a frame on its way to the line.
type queued struct {
	frame []byte
	of    load
}

// queueLength is how many frames wait for the line at most.
const queueLength = 8

// direct sends content to one host: it is read and compressed while what came before is on its way.
func (s *sender) direct(want *wanted) error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	queue := make(chan queued, queueLength)
	failed := make(chan error, 1)
	var hungry atomic.Int32 // how many more frames of late found the line waiting than did not
	go func() {
		defer close(queue)
		failed <- s.src.produce(ctx, want, s.o.Compress, func(frame []byte, of load) error {
			if len(queue) == 0 {
				hungry.Store(min(hungry.Load()+1, 4*queueLength))
			} else {
				hungry.Store(max(hungry.Load()-1, 0))
			}
			select {
			case queue <- queued{frame, of}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, func() bool { return hungry.Load() > 2*queueLength })
	}()
	err := s.drain(queue)
	cancel()
	for range queue { // until the reader has heard
	}
	if readErr := <-failed; err == nil {
		err = readErr
	}
	return err
}

// drain writes what is queued.
func (s *sender) drain(queue <-chan queued) error {
	for q := range queue {
		if s.gone.Load() {
			return errStopped
		}
		if _, err := s.out.b.Write(q.frame); err != nil {
			return err
		}
		if len(queue) == 0 {
			if err := s.out.flush(); err != nil {
				return err
			}
		}
		s.progress(q.of)
	}
	return nil
}

// shared sends content that is read and compressed once for all hosts that lack the same.
func (s *sender) shared(want *wanted) error {
	frames := s.src.memo.content(want.key, s.o.Spool, func(ctx context.Context, to *spool) error {
		return s.src.produce(ctx, want, s.o.Compress, func(frame []byte, of load) error {
			// What the batch stands for tells the readers of the spool how far they are.
			frame = binary.BigEndian.AppendUint32(frame, uint32(of.bytes))
			return to.append(binary.BigEndian.AppendUint32(frame, uint32(of.files)))
		}, nil)
	})
	in := &frameReader{r: &spoolReader{s: frames, ctx: s.ctx}}
	var of [8]byte
	for {
		t, payload, err := in.read()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case s.gone.Load():
			return errStopped
		}
		if _, err := io.ReadFull(in.r, of[:]); err != nil {
			return err
		}
		if err := s.out.last(t, payload); err != nil {
			return err
		}
		s.progress(load{int(binary.BigEndian.Uint32(of[:4])), int(binary.BigEndian.Uint32(of[4:]))})
	}
}

package wire

import (
	"encoding/binary"
	"sync"
	"time"
)

// stripes hands the data of one stream to several channels: whole chunks to whichever is free, what
// is less to the first channel alone, so that the other side never has many holes to keep.
type stripes struct {
	id   uint32
	most int // chunks that may wait

	mu   sync.Mutex
	wake sync.Cond
	full []*chunk
	part *chunk // not full yet
	idle []*chunk
	busy int // chunks being sent
	over bool
	err  error
}

// chunk is a Segment frame in the making.
type chunk struct{ frame []byte }

const chunkHead = headerLen + segmentLen

func newStripes(id uint32, lanes int) *stripes {
	o := &stripes{id: id, most: 2 * lanes}
	o.wake.L = &o.mu
	return o
}

// put takes p, which begins at that place, and waits while too much is waiting already.
func (o *stripes) put(at uint64, p []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(p) > 0 {
		for len(o.full) >= o.most && o.err == nil {
			o.wake.Wait()
		}
		if o.err != nil {
			return o.err
		}
		if o.part == nil {
			o.part = o.blank(at)
		}
		n := min(len(p), maxChunk+chunkHead-len(o.part.frame))
		o.part.frame = append(o.part.frame, p[:n]...)
		p, at = p[n:], at+uint64(n)
		if len(o.part.frame) == maxChunk+chunkHead {
			o.full, o.part = append(o.full, o.part), nil
		}
		o.wake.Broadcast()
	}
	return nil
}

// blank gives a chunk for data that begins at that place. The lock is held.
func (o *stripes) blank(at uint64) *chunk {
	c := &chunk{}
	if last := len(o.idle) - 1; last >= 0 {
		c, o.idle = o.idle[last], o.idle[:last]
	} else {
		c.frame = make([]byte, 0, maxChunk+chunkHead)
	}
	b := append(c.frame[:0], byte(KindSegment))
	b = binary.BigEndian.AppendUint32(b, o.id)
	b = binary.BigEndian.AppendUint32(b, 0) // set by take
	c.frame = binary.BigEndian.AppendUint64(b, at)
	return c
}

// take waits for a chunk to send; nil means that there is none any more. The first channel takes what
// is not full too.
func (o *stripes) take(first bool) *chunk {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		var c *chunk
		switch {
		case o.err != nil:
			return nil
		case len(o.full) > 0:
			c, o.full = o.full[0], o.full[1:]
		case first && o.part != nil:
			c, o.part = o.part, nil
		case o.over && o.part == nil:
			return nil
		default:
			o.wake.Wait()
			continue
		}
		o.busy++
		binary.BigEndian.PutUint32(c.frame[5:], uint32(len(c.frame)-headerLen))
		o.wake.Broadcast()
		return c
	}
}

// carry sends what there is by one channel until all has gone. It gives the channel's error.
func (o *stripes) carry(first bool, send func(frame []byte) error) error {
	for {
		c := o.take(first)
		if c == nil {
			return nil
		}
		err := send(c.frame)
		o.mu.Lock()
		o.busy--
		o.idle = append(o.idle, c)
		o.wake.Broadcast()
		o.mu.Unlock()
		if err != nil {
			o.fail(err)
			return err
		}
	}
}

// finish waits until all has been given to the channels.
func (o *stripes) finish() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	o.wake.Broadcast()
	for o.err == nil && (len(o.full) > 0 || o.part != nil || o.busy > 0) {
		o.wake.Wait()
	}
	return o.err
}

func (o *stripes) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
	o.wake.Broadcast()
}

// pace sees whether the window of the channel is what a stream waits for. A nil pace sees nothing.
type pace struct {
	roundTrip func() time.Duration
	always    bool // no matter what the channel does
	ready     func() bool
	widen     func() // called once, when ready; does not wait
	began     time.Time
	bytes     int
	blocked   time.Duration
	done      bool
}

const (
	paceStep = 1 << 20
	// sshWindow is what sshd lets be under way in one channel.
	sshWindow = 2 << 20
)

func (p *pace) now() time.Time {
	if p == nil || p.done {
		return time.Time{}
	}
	return time.Now()
}

// count notes n bytes whose writing began then.
func (p *pace) count(n int, began time.Time) {
	if p == nil || p.done {
		return
	}
	now := time.Now()
	p.blocked += now.Sub(began)
	if p.bytes += n; p.bytes < paceStep {
		return
	}
	if (p.always || p.bound(now.Sub(p.began))) && p.ready() {
		p.done = true
		p.widen()
	}
	p.began, p.bytes, p.blocked = now, 0, 0
}

// bound reports whether the bytes of the last step went about as fast as one channel's window lets
// them: a slower way, or a slower source, gains nothing by lanes.
func (p *pace) bound(took time.Duration) bool {
	underWay := float64(p.bytes) * p.roundTrip().Seconds() / max(took.Seconds(), 1e-6)
	return underWay > sshWindow/4 && 2*p.blocked > took
}

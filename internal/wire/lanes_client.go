package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"godeploy/internal/fault"
)

// Lanes says how a client may send the data of its streams over further channels. The zero value means
// that it does not.
type Lanes struct {
	// Open starts a command in a further session on the same connection. An error means that there
	// is to be no further one. It must not wait for a session to become free.
	Open func(ctx context.Context, command string) (io.ReadWriteCloser, error)
	// RoundTrip is how long a round trip takes, as far as is known; 0: not known.
	RoundTrip func() time.Duration
	// Count is how many channels a long stream uses, the first among them: 0 is by the round trip, 1
	// is none but the first, more than that is so many, whatever the round trip. At most MaxLanes.
	Count int
}

const (
	laneTime = 10 * time.Second     // for opening lanes
	near     = 5 * time.Millisecond // a way that one channel fills
)

// count says how many channels are worth it.
func (l Lanes) count() int {
	if l.Open == nil {
		return 1
	}
	if l.Count > 0 {
		return min(l.Count, MaxLanes)
	}
	switch rtt := l.RoundTrip(); {
	case rtt < near:
		return 1
	case rtt < 4*near:
		return 2
	}
	return 4
}

// lane is one further channel.
type lane struct {
	*conn
}

// laneSet is what a client has of them. Client.mu guards it.
type laneSet struct {
	asked   bool // they are being opened, or have been
	open    []*lane
	waiting []*call
}

// pace gives the watch over a stream that may come to need lanes.
func (c *Client) pace(k *call) *pace {
	l := c.o.Lanes
	if l.Open == nil || l.Count == 1 || c.greeting == nil || c.greeting.PID < 1 {
		return nil
	}
	return &pace{roundTrip: l.RoundTrip, always: l.Count > 1, began: time.Now(),
		ready: k.st.answered, widen: func() { c.widen(k) }}
}

// widen spreads a stream over lanes, as soon as there are some. It does not wait.
func (c *Client) widen(k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.lost != nil:
	case !c.lanes.asked:
		c.lanes.asked = true
		c.lanes.waiting = append(c.lanes.waiting, k)
		c.work.Go(c.openLanes)
	case c.lanes.waiting != nil:
		c.lanes.waiting = append(c.lanes.waiting, k)
	default:
		c.spread(k)
	}
}

// spread begins to use the lanes for a stream. The lock is held, and the connection stands.
func (c *Client) spread(k *call) {
	if len(c.lanes.open) == 0 {
		return
	}
	out := newStripes(k.id, len(c.lanes.open)+1)
	if !k.st.spread(out) {
		return
	}
	c.work.Go(func() { _ = out.carry(true, c.frame) }) // a lost connection tells every call itself
	for _, l := range c.lanes.open {
		c.work.Go(func() {
			if err := out.carry(false, l.sendFrame); err != nil {
				c.laneLost(l, err)
			}
		})
	}
}

// frame sends a frame that is ready; a connection that does not take it is lost.
func (c *Client) frame(b []byte) error {
	if err := c.sendFrame(b); err != nil {
		c.lose(err)
		return lostErr(err)
	}
	return nil
}

// answered reports whether the peer knows of the stream. What goes over a lane may overtake the request
// on the first channel.
func (s *stream) answered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard
}

// spread makes what comes next go by out. It says no where the stream is over.
func (s *stream) spread(out *stripes) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.out != nil {
		return false
	}
	s.out = out
	return true
}

// openLanes opens them all at once and then spreads what waits for them.
func (c *Client) openLanes() {
	ctx, cancel := context.WithTimeout(context.Background(), laneTime)
	defer cancel()
	c.work.Go(func() {
		select {
		case <-c.gone:
			cancel()
		case <-ctx.Done():
		}
	})
	var open []*lane
	for _, l := range c.joinAll(ctx) {
		if l != nil {
			open = append(open, l)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := c.lanes.waiting
	c.lanes.waiting = nil
	if c.lost != nil {
		for _, l := range open {
			_ = l.rwc.Close() // nothing was sent by it
		}
		return
	}
	c.lanes.open = open
	for _, l := range open {
		c.work.Go(func() { c.laneLost(l, l.ended()) })
	}
	for _, k := range waiting {
		c.spread(k)
	}
}

// joinAll asks the helper where to join it while the sessions are being opened; nil stands for each
// that is not to be had.
func (c *Client) joinAll(ctx context.Context) []*lane {
	lanes := make([]*lane, c.o.Lanes.count()-1)
	if len(lanes) == 0 {
		return nil
	}
	var to LanesReply
	var err error
	told := make(chan struct{})
	c.work.Go(func() {
		defer close(told)
		err = c.Call(ctx, KindLanes, &Nothing{}, &to)
	})
	var opened sync.WaitGroup
	for i := range lanes {
		opened.Go(func() {
			rwc, oerr := c.o.Lanes.Open(ctx, JoinCommand(c.greeting.PID))
			if oerr != nil {
				return // fewer, then
			}
			if <-told; err == nil {
				lanes[i] = joinLane(ctx, rwc, to, c.o)
			} else {
				_ = rwc.Close() // nothing was said yet
			}
		})
	}
	opened.Wait()
	<-told
	return lanes
}

// joinLane makes an opened session a lane; nil means that it cannot be one.
func joinLane(ctx context.Context, rwc io.ReadWriteCloser, to LanesReply, o Options) *lane {
	stop := context.AfterFunc(ctx, func() { _ = rwc.Close() }) // only to unblock it
	defer stop()
	r := bufio.NewReaderSize(rwc, 4<<10)
	err := WriteJoin(rwc, to)
	if err == nil {
		_, err = skipNoise(r, o.Noise)
	}
	if err != nil || !stop() {
		_ = rwc.Close() // the stream does without
		return nil
	}
	return &lane{newConn(rwc, r, o.Silence)}
}

// ended waits for the end of a lane. A helper says nothing by it.
func (l *lane) ended() error {
	if _, err := l.r.ReadByte(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return errors.New("the host has ended it")
}

// laneLost takes a lane out of use. What was under way in it is lost, so every stream that is spread
// has failed.
func (c *Client) laneLost(l *lane, cause error) {
	_ = l.rwc.Close() // it has ended
	c.mu.Lock()
	var hurt []*call
	for i, one := range c.lanes.open {
		if one == l {
			c.lanes.open = append(c.lanes.open[:i:i], c.lanes.open[i+1:]...)
			for _, k := range c.calls {
				hurt = append(hurt, k)
			}
			break
		}
	}
	c.mu.Unlock()
	err := fault.New(fault.SSHLost, "a channel of the connection to the helper was lost").Wrap(fmt.Errorf("lane: %w", cause))
	for _, k := range hurt {
		if k.st != nil && k.st.isSpread() {
			k.st.fail(err)
			k.abort(talkFailed{err})
		}
	}
}

func (s *stream) isSpread() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out != nil
}

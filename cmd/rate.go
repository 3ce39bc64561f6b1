package cmd

import (
	"context"
	"net"
	"sync"
	"time"
)

// rate is a limit on what is sent by all connections together: a bucket that so many bytes a second
// drip into. It is safe for concurrent use; a nil rate limits nothing.
type rate struct {
	mu     sync.Mutex
	second float64   // bytes a second
	free   time.Time // when what was taken so far will have dripped in
}

// burst is what may go out at once after a pause, in time: enough to keep a line busy, too little to fill it.
const burst = 50 * time.Millisecond

func newRate(bytesPerSecond int64) *rate {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &rate{second: float64(bytesPerSecond)}
}

// take takes n bytes out and says how long to wait before they may be sent.
func (r *rate) take(n int, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if start := now.Add(-burst); r.free.Before(start) {
		r.free = start
	}
	r.free = r.free.Add(time.Duration(float64(n) / r.second * float64(time.Second)))
	return r.free.Sub(now)
}

// dialer makes connections whose writes keep to the rate; a nil rate gives nil, the default.
func (r *rate) dialer() func(ctx context.Context, network, addr string) (net.Conn, error) {
	if r == nil {
		return nil
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return r.wrapper()(conn), nil
	}
}

// wrapper holds the writes of a connection to the rate; a nil rate gives nil, the default.
func (r *rate) wrapper() func(net.Conn) net.Conn {
	if r == nil {
		return nil
	}
	return func(conn net.Conn) net.Conn { return &limited{Conn: conn, rate: r, closed: make(chan struct{})} }
}

// limited is a connection whose writes keep to a rate.
type limited struct {
	net.Conn
	rate   *rate
	once   sync.Once
	closed chan struct{}
}

// piece is what one connection takes of the rate at a time, so that many of them share it evenly.
const piece = 16 << 10

func (l *limited) Write(p []byte) (int, error) {
	sent := 0
	for len(p) > 0 {
		part := p[:min(len(p), piece)]
		if err := l.pause(l.rate.take(len(part), time.Now())); err != nil {
			return sent, err
		}
		n, err := l.Conn.Write(part)
		sent += n
		if err != nil {
			return sent, err
		}
		p = p[n:]
	}
	return sent, nil
}

func (l *limited) pause(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-l.closed:
		return net.ErrClosed
	}
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Conn.Close()
}

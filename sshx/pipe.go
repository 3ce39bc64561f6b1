package sshx

import (
	"io"
	"net"
)

// detach puts a pipe between a tunnelled connection and its user. A channel of x/crypto/ssh knows no
// deadlines, and closing it does not wake its own reader while the peer is silent; a pipe does both.
// The two copiers end when both sides have closed, or when the connection under the channel ends.
func detach(channel net.Conn) net.Conn {
	near, far := net.Pipe()
	go pump(far, channel)
	go func() {
		// The near side has closed: nobody will read the rest, so the channel goes as a whole.
		_, _ = io.Copy(channel, far)
		_ = channel.Close()
		_ = far.Close()
	}()
	return &tunnel{Conn: near, channel: channel}
}

// pump carries what the peer sends until it stops.
func pump(far net.Conn, channel net.Conn) {
	_, _ = io.Copy(far, channel) // either end's error means the same: the tunnel is over
	_ = far.Close()
}

// tunnel is the near side of a pipe, with the addresses of the channel behind it.
type tunnel struct {
	net.Conn
	channel net.Conn
}

func (t *tunnel) LocalAddr() net.Addr  { return t.channel.LocalAddr() }
func (t *tunnel) RemoteAddr() net.Addr { return t.channel.RemoteAddr() }

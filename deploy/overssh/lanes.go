package overssh

import (
	"context"
	"io"

	"godeploy/internal/wire"
	"godeploy/sshx"
)

// lanes lets the streams of a helper use further sessions of its connection.
func (c *Connector) lanes(conn *sshx.Conn) wire.Lanes {
	return wire.Lanes{
		Count:     c.Lanes,
		RoundTrip: conn.RoundTrip,
		Open: func(ctx context.Context, command string) (io.ReadWriteCloser, error) {
			p, err := conn.StartSpare(ctx, command)
			if err != nil {
				return nil, err
			}
			return p, nil
		},
	}
}

package overssh

import (
	"context"

	"godeploy/deploy"
	"godeploy/internal/wire"
)

var _ deploy.SocketCounter = (*helped)(nil)

// Sockets counts the connections that are open on ports of the host.
func (h *helped) Sockets(ctx context.Context, ports ...int) (wire.SocketsReply, error) {
	var reply wire.SocketsReply
	err := h.client.Call(ctx, wire.KindSockets, &wire.SocketsRequest{Ports: ports}, &reply)
	return reply, err
}

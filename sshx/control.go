package sshx

import (
	"context"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// controlTime bounds the talk with ssh(1) and with its ControlMaster, both of this machine.
const controlTime = 5 * time.Second

// mastered connects through the user's ControlMaster for the target; nil when none is live. Its host key
// was that ssh's to judge, so a target with a pinned one never goes this way.
func (p *Pool) mastered(ctx context.Context, t Target) *Conn {
	path := t.conf.controlPath
	if p.o.NoMaster || t.HostKey != "" || path == "" || !ourSocket(path) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, controlTime)
	defer cancel()
	stream, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil // left behind by a master that has ended
	}
	if socket, ok := stream.(*net.UnixConn); !ok || !ourPeer(socket) {
		_ = stream.Close() // not spoken to
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = stream.Close() }) // only to unblock the handshake
	conn, channels, requests, err := ssh.NewControlClientConn(stream)
	if !stop() || err != nil {
		_ = stream.Close() // the target is dialled instead
		return nil
	}
	return newConn(ssh.NewClient(conn, channels, requests), &counted{Conn: stream}, t, nil, conduct{master: true, patience: p.o.Timeout})
}

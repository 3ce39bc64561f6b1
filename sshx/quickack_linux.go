package sshx

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// prompt makes the kernel acknowledge at once what a connection has received. sshd sends a login's small
// packets by Nagle's rule, each only when the one before it is acknowledged; with the usual delay of
// an acknowledgement that costs 40 ms a host. It holds until the kernel thinks otherwise, so it is
// asked for anew. A connection that is no TCP of this kernel's gives nil.
func prompt(c net.Conn) func() {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return func() { _ = raw.Control(quickACK) } // without it it only takes longer
}

func quickACK(fd uintptr) {
	_ = syscall.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) // the same
}

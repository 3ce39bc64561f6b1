package sshx

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ourPeer reports whether a process of this user is at the other end.
func ourPeer(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	ours := false
	err = raw.Control(func(fd uintptr) {
		who, err := unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		ours = err == nil && int(who.Uid) == os.Geteuid()
	})
	return err == nil && ours
}

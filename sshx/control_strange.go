//go:build !linux && !darwin

package sshx

import "net"

// ourPeer goes by the socket's owner and mode alone: the kernel is not asked here.
func ourPeer(*net.UnixConn) bool { return true }

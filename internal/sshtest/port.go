package sshtest

import (
	"math/rand/v2"
	"net"
	"strconv"
)

// FreePort gives a TCP port on which nothing listens at ip, for a test's own server. Nothing holds it: the
// server has to take it soon. The port lies below those that the kernel gives out by itself (32768 and up,
// net.ipv4.ip_local_port_range in ip(7)): no connection and no other test's listener takes it meanwhile. When
// none of many tries is free, it ends the test.
func FreePort(t interface {
	Helper()
	Fatal(args ...any)
}, ip string) int {
	t.Helper()
	var err error
	for range 100 {
		port := 20000 + rand.IntN(12000)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port))); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal(err)
	return 0
}

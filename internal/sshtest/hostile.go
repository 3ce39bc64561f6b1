package sshtest

import (
	"bytes"
	"net"

	"golang.org/x/crypto/ssh"
)

// preface misbehaves before the first byte of SSH; false ends the connection.
func (s *Server) preface(raw net.Conn, f Faults) bool {
	if f.SlowHandshake > 0 && !s.wait(f.SlowHandshake) {
		return false
	}
	switch {
	case s.penalized():
		_, _ = raw.Write([]byte("Not allowed at this time\r\n")) // OpenSSH's words
		return false
	case f.Silent:
		s.swallow(raw)
		return false
	case f.HugePacket:
		_, _ = raw.Write([]byte("SSH-2.0-sshtest\r\n\xff\xff\xff\xf0\x08\x14"))
		s.swallow(raw)
		return false
	case f.EndlessBanner:
		return flood(raw, append(bytes.Repeat([]byte("x"), 200), "\r\n"...))
	case f.EndlessLine:
		return flood(raw, bytes.Repeat([]byte("x"), 4096))
	}
	return true
}

// flood writes for ever.
func flood(raw net.Conn, text []byte) bool {
	for {
		if _, err := raw.Write(text); err != nil {
			return false
		}
	}
}

// swallow reads until the peer goes away.
func (s *Server) swallow(raw net.Conn) {
	buf := make([]byte, 4096)
	for {
		if _, err := raw.Read(buf); err != nil {
			return
		}
	}
}

// chatter sends banners during the login for ever.
func chatter(meta ssh.ConnMetadata) {
	if conn, ok := meta.(ssh.ServerPreAuthConn); ok {
		for conn.SendAuthBanner("one moment, please\r\n") == nil {
		}
	}
}

// penalized counts and reports a connection that a failed login before it keeps out.
func (s *Server) penalized() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.o.Penalties || s.failures == 0 {
		return false
	}
	s.stats.Dropped++
	return true
}

// failed counts a login that came to nothing.
func (s *Server) failed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures++
}

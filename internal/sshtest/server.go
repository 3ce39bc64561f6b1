package sshtest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Server is a running server. Its methods may be called from any goroutine.
type Server struct {
	o        Options
	keys     []ssh.Signer
	listener net.Listener
	work     sync.WaitGroup // connections, not the commands that outlive them
	closing  chan struct{}

	mu       sync.Mutex
	faults   Faults
	stats    Stats
	starting int // connections before their login
	failures int // logins that came to nothing
	conns    map[net.Conn]bool
	commands map[*command]bool
	frozen   chan struct{} // nil, or closed by Thaw
}

// Start listens and serves. The caller closes the Server.
func Start(o Options) (*Server, error) {
	keys, err := hostKeys(o.HostKeys)
	if err != nil {
		return nil, err
	}
	addr := o.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &Server{o: o, keys: keys, listener: listener, closing: make(chan struct{}), faults: o.Faults,
		conns: make(map[net.Conn]bool), commands: make(map[*command]bool)}
	s.work.Go(s.accept)
	return s, nil
}

// hostKeys are the given ones, or a new one.
func hostKeys(given []ssh.Signer) ([]ssh.Signer, error) {
	if len(given) > 0 {
		return slices.Clone(given), nil
	}
	key, err := NewKey()
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	return []ssh.Signer{key}, nil
}

// NewKey makes an ed25519 key.
func NewKey() (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(private)
}

// Addr is "127.0.0.1:PORT".
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Port is the port it listens on.
func (s *Server) Port() int { return s.listener.Addr().(*net.TCPAddr).Port }

// HostKeys are the public halves of the host keys.
func (s *Server) HostKeys() []ssh.PublicKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	var public []ssh.PublicKey
	for _, key := range s.keys {
		public = append(public, key.PublicKey())
	}
	return public
}

// Fingerprint is that of the first host key, "SHA256:…".
func (s *Server) Fingerprint() string { return ssh.FingerprintSHA256(s.HostKeys()[0]) }

// SetHostKeys gives new connections other host keys, as a reinstalled machine would.
func (s *Server) SetHostKeys(keys ...ssh.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = slices.Clone(keys)
}

// SetFaults changes how the server misbehaves.
func (s *Server) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// Stats gives the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Open = len(s.conns)
	stats.Commands = slices.Clone(s.stats.Commands)
	return stats
}

// count changes the counts.
func (s *Server) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

func (s *Server) currentFaults() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// Freeze stops the server from reading and writing, on all connections, while the kernel goes on to
// take bytes for it: a stopped process, a hanging disk. Thaw lets it go on.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen == nil {
		s.frozen = make(chan struct{})
	}
}

// Thaw ends Freeze.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen != nil {
		close(s.frozen)
		s.frozen = nil
	}
}

// ice is what to wait for while frozen, or nil.
func (s *Server) ice() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frozen
}

// Drop cuts all connections and goes on listening.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close() // its goroutine sees to the rest
	}
}

// Kill kills the process groups of all commands that still run.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.commands {
		c.kill()
	}
}

// Close stops listening, cuts all connections and waits for them. Commands live on, unless
// Options.KillOnDisconnect; Kill ends them.
func (s *Server) Close() error {
	s.mu.Lock()
	select {
	case <-s.closing:
	default:
		close(s.closing)
	}
	s.mu.Unlock()
	err := s.listener.Close()
	s.Drop()
	s.work.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// accept serves until the listener is closed.
func (s *Server) accept() {
	for {
		raw, err := s.listener.Accept()
		if err != nil {
			return
		}
		if s.admit(raw) {
			s.work.Go(func() { s.serve(raw) })
		}
	}
}

// admit takes a connection in, or closes it as MaxStartups does.
func (s *Server) admit(raw net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Conns++
	full := s.o.MaxStartups > 0 && s.starting >= s.o.MaxStartups
	if s.faults.HangUp > 0 {
		s.faults.HangUp--
		full = true
	}
	select {
	case <-s.closing:
		full = true
	default:
	}
	if full {
		s.stats.Dropped++
		_ = raw.Close() // unheard, as meant
		return false
	}
	s.conns[raw] = true
	s.starting++
	s.stats.PeakLogins = max(s.stats.PeakLogins, s.starting)
	return true
}

// serve speaks SSH on one connection until it ends.
func (s *Server) serve(raw net.Conn) {
	defer s.forget(raw)
	faults := s.currentFaults()
	wire := &flawed{Conn: raw, server: s, left: faults.DropAfter, limited: faults.DropAfter > 0}
	login := sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.starting--
	})
	defer login()
	if !s.preface(raw, faults) {
		return
	}
	conn, channels, requests, err := ssh.NewServerConn(wire, s.config(faults))
	login()
	if err != nil {
		s.failed()
		return
	}
	var work sync.WaitGroup
	work.Go(func() { s.answer(requests) })
	l := &link{server: s, conn: conn, channels: &work}
	l.serve(channels)
	work.Wait()
}

// forget closes a connection.
func (s *Server) forget(raw net.Conn) {
	_ = raw.Close() // most often closed already
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, raw)
}

// wait waits; false says that the server was closed meanwhile.
func (s *Server) wait(d time.Duration) bool {
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-late.C:
		return true
	case <-s.closing:
		return false
	}
}

// answer replies to global requests: a keepalive is refused, as by OpenSSH, which is answer enough.
func (s *Server) answer(requests <-chan *ssh.Request) {
	for r := range requests {
		if r.WantReply && !s.currentFaults().DeafToKeepAlive {
			_ = r.Reply(false, nil) // a lost connection ends the loop
		}
	}
}

// config is what the handshake needs.
func (s *Server) config(f Faults) *ssh.ServerConfig {
	config := &ssh.ServerConfig{
		NoClientAuth:  s.o.NoAuth && !f.RefuseAuth,
		MaxAuthTries:  s.authTries(),
		ServerVersion: "SSH-2.0-sshtest",
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if f.AuthBanners {
				chatter(meta)
			}
			s.count(func(st *Stats) { st.AuthTries++ })
			if !f.RefuseAuth && s.authorized(key) {
				return nil, nil
			}
			return nil, errors.New("key is not authorized")
		},
		// Counted before the client is told, so that whoever is logged in finds itself counted.
		AuthLogCallback: func(_ ssh.ConnMetadata, _ string, err error) {
			if err == nil {
				s.count(func(st *Stats) { st.Logins++ })
			}
		},
	}
	config.RekeyThreshold = f.RekeyEvery
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range s.keys {
		config.AddHostKey(key)
	}
	return config
}

// authTries is OpenSSH's number of keys, unless the options say another.
func (s *Server) authTries() int {
	if s.o.MaxAuthTries > 0 {
		return s.o.MaxAuthTries
	}
	return 6
}

func (s *Server) authorized(key ssh.PublicKey) bool {
	return slices.ContainsFunc(s.o.Authorized, func(known ssh.PublicKey) bool {
		return bytes.Equal(known.Marshal(), key.Marshal())
	})
}

// flawed is a connection that freezes, and that ends after so many bytes.
type flawed struct {
	net.Conn
	server *Server

	mu      sync.Mutex
	limited bool
	left    int64
}

// Read waits while the server is frozen, also with what came meanwhile.
func (f *flawed) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	f.thawed()
	return n, err
}

// Write waits likewise, and cuts the connection when its bytes are used up.
func (f *flawed) Write(b []byte) (int, error) {
	f.thawed()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.limited {
		return f.Conn.Write(b)
	}
	if int64(len(b)) <= f.left {
		f.left -= int64(len(b))
		return f.Conn.Write(b)
	}
	n, _ := f.Conn.Write(b[:f.left])
	f.left = 0
	_ = f.Conn.Close() // the fault asked for
	return n, net.ErrClosed
}

// thawed waits until the server is not frozen, or is closed.
func (f *flawed) thawed() {
	if ice := f.server.ice(); ice != nil {
		select {
		case <-ice:
		case <-f.server.closing:
		}
	}
}

package sshtest

import (
	"io"
	"net"
	"strconv"
	"sync"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// link is one logged-in connection.
type link struct {
	server   *Server
	conn     *ssh.ServerConn
	channels *sync.WaitGroup

	mu       sync.Mutex
	sessions int
}

// serve takes channels until the connection ends.
func (l *link) serve(channels <-chan ssh.NewChannel) {
	for incoming := range channels {
		switch incoming.ChannelType() {
		case "session":
			l.session(incoming)
		case "direct-tcpip":
			l.channels.Go(func() { l.forward(incoming) })
		default:
			_ = incoming.Reject(ssh.UnknownChannelType, "unknown channel type")
		}
	}
}

// session opens a session, if there is room for one more.
func (l *link) session(incoming ssh.NewChannel) {
	s := l.server
	l.mu.Lock()
	full := s.o.MaxSessions > 0 && l.sessions >= s.o.MaxSessions
	if !full {
		l.sessions++
	}
	l.mu.Unlock()
	if full {
		s.count(func(st *Stats) { st.Refused++ })
		_ = incoming.Reject(ssh.ConnectionFailed, "open failed") // as OpenSSH words it
		return
	}
	s.count(func(st *Stats) { st.Sessions++ })
	l.channels.Go(func() {
		defer func() {
			l.mu.Lock()
			l.sessions--
			l.mu.Unlock()
		}()
		channel, requests, err := incoming.Accept()
		if err != nil {
			return
		}
		defer channel.Close()
		l.work(channel, requests)
	})
}

// work answers a session's requests; the first command or subsystem is its purpose.
func (l *link) work(channel ssh.Channel, requests <-chan *ssh.Request) {
	env := []string(nil)
	for r := range requests {
		switch r.Type {
		case "env":
			env = append(env, envOf(r.Payload)...)
			reply(r, true)
		case "exec":
			var what struct{ Command string }
			if ssh.Unmarshal(r.Payload, &what) != nil {
				reply(r, false)
				continue
			}
			l.exec(channel, requests, r, what.Command, env)
			return
		case "subsystem":
			l.subsystem(channel, requests, r)
			return
		case "auth-agent-req@openssh.com":
			l.server.count(func(st *Stats) { st.AgentAsks++ })
			reply(r, false)
		default: // no terminals, no login shells, no X11
			reply(r, false)
		}
	}
}

func reply(r *ssh.Request, ok bool) {
	if r.WantReply {
		_ = r.Reply(ok, nil) // a lost connection shows elsewhere
	}
}

// envOf reads an env request. As sshd does by default, it takes LANG and LC_* only.
func envOf(payload []byte) []string {
	var pair struct{ Name, Value string }
	if ssh.Unmarshal(payload, &pair) != nil {
		return nil
	}
	if pair.Name == "LANG" || (len(pair.Name) > 3 && pair.Name[:3] == "LC_") {
		return []string{pair.Name + "=" + pair.Value}
	}
	return nil
}

// subsystem serves sftp.
func (l *link) subsystem(channel ssh.Channel, requests <-chan *ssh.Request, r *ssh.Request) {
	var what struct{ Name string }
	if ssh.Unmarshal(r.Payload, &what) != nil || what.Name != "sftp" || l.server.o.NoSFTP {
		reply(r, false)
		return
	}
	if program := l.server.o.SFTPServer; program != "" {
		l.exec(channel, requests, r, program, nil)
		return
	}
	reply(r, true)
	l.channels.Go(func() { ssh.DiscardRequests(requests) })
	server, err := sftp.NewServer(channel, sftp.WithServerWorkingDirectory(l.server.dir()))
	if err != nil {
		return
	}
	err = server.Serve()
	_ = server.Close() // ends with the channel
	status := uint32(0)
	if err != nil && err != io.EOF {
		status = 1
	}
	sendStatus(channel, status)
}

func sendStatus(channel ssh.Channel, status uint32) {
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
}

// forward connects a direct-tcpip channel.
func (l *link) forward(incoming ssh.NewChannel) {
	var to struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if ssh.Unmarshal(incoming.ExtraData(), &to) != nil || l.server.o.NoForward {
		_ = incoming.Reject(ssh.Prohibited, "administratively prohibited")
		return
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
	if err != nil {
		_ = incoming.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer conn.Close()
	channel, requests, err := incoming.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	l.server.count(func(st *Stats) { st.Forwards++ })
	l.channels.Go(func() { ssh.DiscardRequests(requests) })
	join(channel, conn)
}

// join carries bytes both ways. One side's end of input is passed on; an error, or both ends, end it.
func join(channel ssh.Channel, conn net.Conn) {
	var up sync.WaitGroup
	up.Go(func() {
		if _, err := io.Copy(conn, channel); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok && tcp.CloseWrite() == nil {
				return
			}
		}
		_ = conn.Close()
	})
	_, _ = io.Copy(channel, conn)
	_ = channel.CloseWrite()
	_ = channel.Close() // OpenSSH waits for our end too; nobody here needs that
	_ = conn.Close()
	up.Wait()
}

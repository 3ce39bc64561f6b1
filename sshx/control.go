package sshx

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// controlTime bounds the talk with ssh(1) and with its ControlMaster, both of this machine.
const controlTime = 5 * time.Second

// UserControl gives what Options.Control wants: it asks ssh(1) for the ControlPath that the user's
// configuration has for a target. Where no configuration file speaks of one, ssh is not even started.
func UserControl(home string) func(ctx context.Context, t Target) string {
	c := controlPaths{program: []string{"ssh"}, files: []string{"/etc/ssh/ssh_config", "/etc/ssh/ssh_config.d/*"}}
	if home != "" {
		c.files = append(c.files, filepath.Join(home, ".ssh", "config"), filepath.Join(home, ".ssh", "config.d", "*"))
	}
	c.spoken = sync.OnceValue(c.speak)
	return c.find
}

// controlPaths asks ssh(1) for the sockets of its masters.
type controlPaths struct {
	program []string
	files   []string // patterns of the configuration files
	spoken  func() bool
}

// maxConfig bounds what is read of a configuration file.
const maxConfig = 1 << 20

// speak reports whether some file mentions ControlPath.
func (c *controlPaths) speak() bool {
	for _, pattern := range c.files {
		names, _ := filepath.Glob(pattern) // the patterns are well formed
		for _, name := range names {
			f, err := os.Open(name)
			if err != nil {
				continue
			}
			text, _ := io.ReadAll(io.LimitReader(f, maxConfig)) // what was read decides
			_ = f.Close()                                       // only read
			if bytes.Contains(bytes.ToLower(text), []byte("controlpath")) {
				return true
			}
		}
	}
	return false
}

// find gives the path for a target; "" when there is none, or when the user's configuration leads to
// another address, port or user than the target's.
func (c *controlPaths) find(ctx context.Context, t Target) string {
	if !c.spoken() {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, controlTime)
	defer cancel()
	args := append(c.program[1:len(c.program):len(c.program)], "-G", "-T", "-l", t.User, "-p", strconv.Itoa(t.port()), "--", t.Address)
	out, err := exec.CommandContext(ctx, c.program[0], args...).Output()
	if err != nil {
		return ""
	}
	said := make(map[string]string)
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), " ")
		if said[key] == "" {
			said[key] = value
		}
	}
	if !strings.EqualFold(said["hostname"], t.Address) || said["port"] != strconv.Itoa(t.port()) || said["user"] != t.User ||
		!filepath.IsAbs(said["controlpath"]) {
		return ""
	}
	return said["controlpath"]
}

// mastered connects through the user's ControlMaster for the target; nil when none is live. Its host key
// was that ssh's to judge, so a target with a pinned one never goes this way.
func (p *Pool) mastered(ctx context.Context, t Target) *Conn {
	if p.o.Control == nil || t.HostKey != "" {
		return nil
	}
	path := p.o.Control(ctx, t)
	if path == "" || !ourSocket(path) {
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

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// server is an OpenSSH sshd in the lab's server namespace, with the keys and settings that clients
// need for it.
type server struct {
	dir string
	cmd *exec.Cmd
}

// Files of the server's folder.
func (s *server) config() string     { return filepath.Join(s.dir, "ssh_config") }
func (s *server) muxConfig() string  { return filepath.Join(s.dir, "ssh_config_mux") }
func (s *server) key() string        { return filepath.Join(s.dir, "id") }
func (s *server) knownHosts() string { return filepath.Join(s.dir, "known_hosts") }
func (s *server) home() string       { return filepath.Join(s.dir, "home") } // of who logs in

// newServer starts sshd in its own folder dir; CPU time of it and its sessions is counted in group.
func newServer(ctx context.Context, l *lab, dir string, group *cgroup) (*server, error) {
	s := &server{dir: dir}
	if err := errors.Join(os.MkdirAll(s.home(), 0o700), os.MkdirAll("/run/sshd", 0o755)); err != nil {
		return nil, err
	}
	for _, name := range []string{"host", "id"} {
		if err := run(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(s.writeServer(), s.writeClient()); err != nil {
		return nil, err
	}
	binary, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		return nil, err
	}
	s.cmd = exec.Command(binary, "-D", "-E", filepath.Join(dir, "log"), "-f", filepath.Join(dir, "sshd_config"))
	s.cmd.SysProcAttr = group.attr()
	if err := l.server.do(s.cmd.Start); err != nil {
		return nil, err
	}
	if err := s.await(ctx, l); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// writeServer: settings as Debian has them, but for keys of its own, room for many logins at once, and
// a home of its own so that nothing of this machine's user is read or left behind.
func (s *server) writeServer() error {
	public, err := os.ReadFile(s.key() + ".pub")
	if err != nil {
		return err
	}
	text := fmt.Sprintf(`ListenAddress 0.0.0.0
Port %d
Port %d
HostKey %s/host
PidFile none
AuthorizedKeysFile %s/authorized
StrictModes no
PermitRootLogin yes
UsePAM no
UseDNS no
MaxStartups 500
MaxSessions 50
SetEnv HOME=%s
Subsystem sftp internal-sftp
Match LocalPort %d
  ForceCommand internal-sftp
`, sshPort, sftpPort, s.dir, s.dir, s.home(), sftpPort)
	return errors.Join(os.WriteFile(filepath.Join(s.dir, "sshd_config"), []byte(text), 0o600),
		os.WriteFile(filepath.Join(s.dir, "authorized"), public, 0o600))
}

// writeClient writes known_hosts and two ssh_configs: the usual one, and one that keeps a connection.
func (s *server) writeClient() error {
	public, err := os.ReadFile(filepath.Join(s.dir, "host.pub"))
	if err != nil {
		return err
	}
	var known, config strings.Builder
	add := func(name, address string, port int) {
		fmt.Fprintf(&known, "[%s]:%d %s\n", address, port, strings.TrimSpace(string(public)))
		fmt.Fprintf(&config, "Host %s\n  HostName %s\n  Port %d\n", name, address, port)
	}
	for _, k := range links() {
		add(k.Name+" "+k.address(0), k.address(0), sshPort)
	}
	add(linkSFTP, links()[0].address(0), sftpPort)
	for i := range fleetSize {
		add(fleetName(i+1), links()[0].address(i+1), sshPort)
	}
	fmt.Fprintf(&config, "Host *\n  User root\n  IdentityFile %s\n  IdentitiesOnly yes\n  UserKnownHostsFile %s\n  BatchMode yes\n  LogLevel ERROR\n", s.key(), s.knownHosts())
	mux := config.String() + "  ControlMaster auto\n  ControlPath " + s.dir + "/mux-%C\n  ControlPersist 600\n"
	return errors.Join(os.WriteFile(s.knownHosts(), []byte(known.String()), 0o600),
		os.WriteFile(s.config(), []byte(config.String()), 0o600), os.WriteFile(s.muxConfig(), []byte(mux), 0o600))
}

func fleetName(i int) string { return fmt.Sprintf("h%d", i) }

// await waits until sshd answers on every link.
func (s *server) await(ctx context.Context, l *lab) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, k := range links() {
		address := net.JoinHostPort(k.address(0), strconv.Itoa(sshPort))
		for {
			err := l.client.do(func() error { return greets(ctx, address) })
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("sshd does not answer on %s: %w", k.Name, err)
			}
		}
	}
	return nil
}

// greets connects and reads sshd's greeting.
func greets(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close() // nothing was sent
	deadline, _ := ctx.Deadline()
	_ = conn.SetReadDeadline(deadline) // a connection that is open has one
	_, err = conn.Read(make([]byte, 4))
	return err
}

// Close ends the server.
func (s *server) Close() error {
	err := s.cmd.Process.Kill()
	_ = s.cmd.Wait() // killed, as it says
	return err
}

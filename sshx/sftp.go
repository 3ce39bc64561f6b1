package sshx

import (
	"context"
	"io"

	"github.com/pkg/sftp"

	"godeploy/internal/fault"
)

// SFTP opens the sftp subsystem. ctx bounds the opening only. The caller closes the client, which
// gives its session back; it ends with the Conn at the latest.
func (c *Conn) SFTP(ctx context.Context) (*sftp.Client, error) {
	s, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	stdin, err := s.StdinPipe()
	if err != nil {
		s.leave()
		return nil, err
	}
	stdout, err := s.StdoutPipe()
	if err != nil {
		s.leave()
		return nil, err
	}
	if err := s.launch(ctx, func() error { return s.RequestSubsystem("sftp") }); err != nil {
		return nil, c.noSFTP(err)
	}
	// A subsystem has no Wait of its own: the session is over when its output is.
	client, err := within(ctx, c, func() (*sftp.Client, error) {
		return sftp.NewClientPipe(&leaving{stdout, s}, &closing{stdin, s})
	}, func(late *sftp.Client) { _ = late.Close() })
	if err != nil {
		_ = s.Close() // the error before it says more
		s.leave()
		return nil, c.noSFTP(err)
	}
	return client, nil
}

// noSFTP says what a host without the subsystem lacks.
func (c *Conn) noSFTP(err error) error {
	if c.ended() {
		return c.endError()
	}
	return fault.New(fault.RemoteToolMissing, "%s does not offer sftp", c.target.place(viaOf(c.hop))).On(c.target.Name).
		Hint("sshd_config needs a line like: Subsystem sftp internal-sftp").Wrap(err)
}

// leaving gives the session's place back at the end of its output.
type leaving struct {
	io.Reader
	s *session
}

func (l *leaving) Read(b []byte) (int, error) {
	n, err := l.Reader.Read(b)
	if err != nil {
		l.s.leave()
	}
	return n, err
}

// closing ends the session when the client is closed.
type closing struct {
	io.WriteCloser
	s *session
}

func (c *closing) Close() error {
	err := c.WriteCloser.Close()
	_ = c.s.Close() // sftp-server would end by the end of its input alone, only later
	return err
}

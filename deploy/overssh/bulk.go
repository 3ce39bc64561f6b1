package overssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"godeploy/internal/fault"
	"godeploy/sshx"
	filesync "godeploy/sync"
)

// shellFS is a host's folder tree over SFTP whose host also runs commands: what would be a request for
// every file is one program there. It implements filesync.FS, and Summer, TreeReader and TreeCopier as far
// as the host has the programs.
//
// Every shell text is constant; the root and paths are its arguments, or stand in what it reads.
type shellFS struct {
	sftpFS
	conn     *sshx.Conn
	tools    tools
	uid      int  // the login user's
	compress bool // what is sent in bulk
}

// script runs constant shell text on the host with the root as $1 and the given words after it. Status 9
// is kept for a root that cannot be entered.
func (s shellFS) script(ctx context.Context, text string, stdin io.Reader, stdout io.Writer, words ...string) error {
	command, err := sshx.Quote(append([]string{"/bin/sh", "-c", text, "sh", s.root}, words...)...)
	if err != nil {
		return err
	}
	var said bounded
	err = s.conn.Run(ctx, command, stdin, stdout, &said)
	if exit := (*sshx.ExitError)(nil); errors.As(err, &exit) {
		return &scriptError{exit: exit, said: strings.TrimSpace(said.String())}
	}
	return err
}

// scriptError is how a program on the host ended, with the beginning of what it said.
type scriptError struct {
	exit *sshx.ExitError
	said string
}

func (e *scriptError) Error() string {
	if e.said == "" {
		return e.exit.Error()
	}
	return fmt.Sprintf("%v: %s", e.exit, e.said)
}

func (e *scriptError) Unwrap() error { return e.exit }

// ended gives the status of a program that ended by itself, else -1.
func ended(err error) int {
	var e *scriptError
	if errors.As(err, &e) && e.exit.Signal == "" {
		return e.exit.Status
	}
	return -1
}

// told makes the fault that callers look for of what a program on the host said.
func told(op string, err error) error {
	var e *scriptError
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case strings.Contains(e.said, "No space left on device"):
		return fault.New(fault.DiskFull, "disk is full").Hint("keep fewer releases, or make room").Wrap(err)
	case strings.Contains(e.said, "Disk quota exceeded"):
		return fault.New(fault.DiskFull, "disk quota is used up").Hint("keep fewer releases, or make room").Wrap(err)
	}
	return fmt.Errorf("%s on the host: %w", op, err)
}

var (
	_ filesync.Summer     = shellFS{}
	_ filesync.TreeReader = shellFS{}
	_ filesync.TreeCopier = shellFS{}
	_ filesync.Far        = sftpFS{}
	_ filesync.Maker      = sftpFS{}
	_ filesync.Maker      = behindFS{}
)

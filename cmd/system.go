// Package cmd is the face of godeploy: it turns the words of a command line into options, events
// and errors into output, and what happened into an exit code. Nothing below it prints, reads a
// flag or knows an exit code.
package cmd

import (
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
)

// System is everything godeploy takes from the machine it runs on. Tests pass their own; the zero
// value of an optional field means the machine has no such thing.
type System struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Env            func(name string) string // "" when unset
	Environ        []string                 // for local hooks, as os.Environ gives it
	Dir            string                   // the working folder, absolute
	Home           string                   // the user's home folder; "" if there is none
	User           string                   // login name of whoever runs it, "" if unknown
	Now            func() time.Time
	Signals        <-chan os.Signal        // the first one stops safely, the second one at once; optional
	StdoutTTY      bool                    // whether a person sees stdout
	StderrTTY      bool                    // whether a person sees stderr
	Size           func() (cols, rows int) // of the terminal behind stderr; optional
	OpenTTY        func() (TTY, error)     // the controlling terminal, for questions; optional
	OpenScreen     func() (Screen, error)  // the terminal behind stdin, for a session on a host; optional
}

// TTY is a terminal to ask on. The caller closes it. Not for concurrent use.
type TTY interface {
	io.ReadWriteCloser
	// ReadPassword reads one line without echo and without its end.
	ReadPassword() ([]byte, error)
	// Restore puts echo back when a ReadPassword had to be left behind.
	Restore()
}

// RealSystem is the process's own System. Call it once, early: it takes over SIGINT, SIGTERM and
// SIGHUP, and makes a write to a closed pipe an error instead of the end of the process, because
// `godeploy release prod | head -1` must not die between a switch and its proof.
func RealSystem() System {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	ignoreBrokenPipes()
	dir, err := os.Getwd()
	if err != nil {
		dir = "." // a removed working folder: commands that need a file say so themselves
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // as in a container without HOME; only ~ and the known_hosts there need it
	}
	return System{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Env: os.Getenv, Environ: os.Environ(), Dir: dir, Home: home, User: userName(),
		Now: time.Now, Signals: signals,
		StdoutTTY:  term.IsTerminal(int(os.Stdout.Fd())),
		StderrTTY:  term.IsTerminal(int(os.Stderr.Fd())),
		Size:       stderrSize,
		OpenTTY:    openTTY,
		OpenScreen: openScreen,
	}
}

// userName reads the environment only: os/user would need cgo or a parse of /etc/passwd, and CI
// systems set USER to what they want shown.
func userName() string {
	for _, name := range []string{"USER", "LOGNAME", "USERNAME"} {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}

func stderrSize() (int, int) {
	cols, rows, err := term.GetSize(int(os.Stderr.Fd()))
	if err != nil {
		return 80, 24
	}
	return cols, rows
}

// terminal is the controlling terminal as a TTY.
type terminal struct {
	*os.File
	before *term.State
}

func openTTY() (TTY, error) {
	f, err := os.OpenFile(ttyName, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	state, err := term.GetState(int(f.Fd()))
	if err != nil {
		_ = f.Close() // never used
		return nil, err
	}
	return &terminal{File: f, before: state}, nil
}

// ReadPassword reads one line without echo.
func (t *terminal) ReadPassword() ([]byte, error) { return term.ReadPassword(int(t.Fd())) }

// Restore puts the terminal back as it was when it was opened.
func (t *terminal) Restore() { _ = term.Restore(int(t.Fd()), t.before) } // nothing left to try

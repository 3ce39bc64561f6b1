package cmd

import (
	"context"
	"errors"
	"io"
	"strings"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
	"godeploy/sshx"

	"github.com/urfave/cli/v2"
)

func sshCommand() *command {
	return &command{
		Name: "ssh", Aliases: []string{"console"}, Group: groupAccess, Usage: "log in to one host, through the same jump hosts", Args: "[ENV] HOST [-- CMD...]",
		Env: true, MaxArgs: 1, Rest: true,
		Examples: []string{"godeploy ssh prod app1", "godeploy ssh app1 --app", "godeploy ssh app1 --tty -- top", "godeploy ssh app1 -- journalctl -u swiper -n 50"},
		About: "Without a command and at a terminal this is the login shell. A command gets a terminal with --tty only, and its words\n" +
			"reach it as they are, unless --shell is given. Exit status: the command's own, or 255 when there was no connection.\n" +
			"At a terminal, at the beginning of a line, ~. ends the connection, ~~ sends a tilde and ~? shows these.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "app", Usage: "as the app's owner, in the release that serves"},
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give the command a terminal"},
			&cli.BoolFlag{Name: "shell", Usage: "give the words to the login shell, joined by spaces"},
		},
		Run: runSSH,
	}
}

func runSSH(ctx context.Context, c *call) error {
	host, err := c.oneHost()
	if err != nil {
		return err
	}
	command, err := c.sshCommandLine(host)
	if err != nil {
		return err
	}
	screen, err := c.sshScreen()
	if err != nil {
		return err
	}
	target, err := c.target(host)
	if err != nil {
		return err
	}
	pool := c.connect(event.Discard{})
	defer pool.Close() // the session has ended
	conn, err := pool.Dial(ctx, target)
	if err != nil {
		return &outcome{Code: exitNoConnection, Err: err}
	}
	defer conn.Close() // likewise
	return sshResult(c.converse(ctx, conn, command, screen))
}

// oneHost is the host that the line names.
func (c *call) oneHost() (inventory.Host, error) {
	if len(c.words) == 0 {
		return inventory.Host{}, usagef("godeploy %s needs a host", c.leaf.name()).Try("godeploy inventory show %s", c.env.Name)
	}
	if h, ok := c.env.Host(c.words[0]); ok {
		return h, nil
	}
	var known []string
	for _, h := range c.env.Hosts {
		known = append(known, h.Name)
	}
	f := fault.New(fault.HostUnknown, "%s has no host %q", c.env.Name, c.words[0]).Try("godeploy inventory show %s", c.env.Name)
	if near := nearest(c.words[0], known); near != "" {
		return inventory.Host{}, f.Hint("did you mean %q?", near)
	}
	return inventory.Host{}, f
}

// sshCommandLine is what runs there; "" is the login shell.
func (c *call) sshCommandLine(h inventory.Host) (string, error) {
	at := place{shell: c.flags.Bool("shell")}
	if c.flags.Bool("app") {
		at.as, at.cd = "owner", "current"
	}
	return c.placed(h, at, c.rest)
}

// sshScreen gives the terminal of a session that has one, else nil.
func (c *call) sshScreen() (Screen, error) {
	wanted := c.flags.Bool("tty")
	if !wanted && len(c.rest) > 0 {
		return nil, nil
	}
	if c.sys.OpenScreen != nil {
		if screen, err := c.sys.OpenScreen(); err == nil {
			return screen, nil
		}
	}
	if wanted {
		return nil, usagef("--tty needs a terminal, and stdin is none").Hint("leave --tty away: the command then runs without one")
	}
	return nil, nil
}

func (c *call) converse(ctx context.Context, conn *sshx.Conn, command string, screen Screen) error {
	switch {
	case screen != nil:
		return c.atScreen(ctx, conn, command, screen)
	case command == "":
		return conn.Shell(ctx, c.sys.Stdin, c.sys.Stdout, c.sys.Stderr)
	default:
		return conn.Run(ctx, command, c.sys.Stdin, c.sys.Stdout, c.sys.Stderr)
	}
}

// errHungUp is how a session ends after "~.".
var errHungUp = errors.New("hung up")

// atScreen hands the terminal over to the host for as long as the session runs.
func (c *call) atScreen(ctx context.Context, conn *sshx.Conn, command string, screen Screen) error {
	ctx, hangUp := context.WithCancelCause(ctx)
	defer hangUp(nil)
	if err := screen.Raw(); err != nil {
		return err
	}
	c.atEnd(screen.Restore)
	defer screen.Restore()
	input := &escapes{from: screen, told: c.sys.Stdout, hangUp: func() { hangUp(errHungUp) }}
	err := conn.Interact(ctx, command, sshx.Terminal{
		Name: c.sys.Env("TERM"), Size: sizeOf(screen), Resized: resizes(ctx, screen), Input: input, Output: c.sys.Stdout,
	})
	if errors.Is(err, errHungUp) {
		_, _ = io.WriteString(c.sys.Stdout, "\r\nconnection to "+conn.Name()+" closed\r\n") // a person's terminal
		return exitWith(exitNoConnection, nil)
	}
	return err
}

func sizeOf(screen Screen) sshx.Window {
	cols, rows := screen.Size()
	return sshx.Window{Cols: cols, Rows: rows}
}

// resizes turns the news that the size has changed into sizes.
func resizes(ctx context.Context, screen Screen) <-chan sshx.Window {
	sizes := make(chan sshx.Window)
	go func() { // ends with the session
		for {
			select {
			case <-screen.Resized():
			case <-ctx.Done():
				return
			}
			select {
			case sizes <- sizeOf(screen):
			case <-ctx.Done():
				return
			}
		}
	}()
	return sizes
}

// sshResult is ssh's own rule: the command's status, 255 when there was no connection any more.
func sshResult(err error) error {
	var own *outcome
	if err == nil || errors.As(err, &own) {
		return err
	}
	status, lost := statusOf(err)
	return &outcome{Code: status, Err: lost}
}

// escapes reads what a person types and obeys ~. and ~? at the beginning of a line, as ssh(1) does.
// Not for concurrent use.
type escapes struct {
	from   io.Reader
	told   io.Writer
	hangUp func()

	inLine bool // something stands before it on this line
	tilde  bool // a tilde at the beginning of a line is held back
	left   []byte
}

const escapeHelp = "~?\r\n  ~.  end the connection\r\n  ~~  send a tilde\r\n  ~?  this\r\n(at the beginning of a line)\r\n"

// Read gives what is for the host.
func (e *escapes) Read(b []byte) (int, error) {
	for len(e.left) == 0 {
		typed := make([]byte, 1024)
		n, err := e.from.Read(typed)
		for _, key := range typed[:n] {
			e.key(key)
		}
		if err != nil && len(e.left) == 0 {
			return 0, err
		}
	}
	n := copy(b, e.left)
	e.left = e.left[n:]
	return n, nil
}

func (e *escapes) key(key byte) {
	switch {
	case e.tilde && key == '.':
		e.hangUp()
	case e.tilde && key == '?':
		_, _ = io.WriteString(e.told, escapeHelp) // a person's terminal
		e.tilde = false
		return
	case e.tilde && key != '~':
		e.left = append(e.left, '~', key)
	case !e.tilde && !e.inLine && key == '~':
		e.tilde = true
		return
	default:
		e.left = append(e.left, key)
	}
	e.tilde, e.inLine = false, !strings.ContainsRune("\r\n", rune(key))
}

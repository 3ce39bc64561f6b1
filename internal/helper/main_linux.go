package helper

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"godeploy/internal/wire"
)

// Main is the helper: it answers the controller at stdin and stdout until that goes, is silent for
// 30 s, or a signal comes. Then it ends the programs it runs with all they started, and only after
// that lets go of its locks. It returns the exit status: 0 when the controller ended in order.
//
// It is made for a process of its own: it sets the umask to 022, so that no login's umask decides
// over modes, and takes over the signals HUP, INT, TERM and PIPE.
func Main(ctx context.Context, stdin io.Reader, stdout io.Writer, stderr io.Writer) int {
	return MainWith(ctx, Options{}, stdin, stdout, stderr)
}

// MainWith is Main for a helper that differs from the usual.
func MainWith(ctx context.Context, o Options, stdin io.Reader, stdout io.Writer, stderr io.Writer) int {
	if os.Getenv(wire.ProbeEnv) != "" {
		if _, err := fmt.Fprintln(stdout, wire.ProbeAnswer); err != nil {
			return 1
		}
		return 0
	}
	if os.Getenv(wire.JoinEnv) != "" {
		if err := joinHelper(stdin, stdout); err != nil {
			_, _ = fmt.Fprintf(stderr, "godeploy-helper: join: %v\n", err)
			return 1
		}
		return 0
	}
	unix.Umask(0o022)
	ctx, stop := signal.NotifyContext(ctx, unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
	defer stop()
	// Caught, not ignored: programs would inherit an ignored one, and a write to a controller that
	// has gone must fail and not kill the helper before it has tidied up.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, unix.SIGPIPE)
	defer signal.Stop(broken)
	h, err := newHost(o)
	if err == nil {
		err = h.serve(ctx, &stdio{pollable(stdin), pollable(stdout)})
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "godeploy-helper: %v\n", err)
		return 1
	}
	return 0
}

// stdio is the two streams as one.
type stdio struct {
	io.Reader
	io.Writer
}

// Close closes both, so that nothing waits on them any more.
func (s *stdio) Close() error {
	for _, one := range []any{s.Reader, s.Writer} {
		if c, ok := one.(io.Closer); ok {
			_ = c.Close() // the process ends next
		}
	}
	return nil
}

// pollable reopens a pipe or socket so that Close unblocks its Read and Write; a file made for the
// process's own descriptors is blocking. Anything else is given back as it is.
func pollable(stream any) interface {
	io.Reader
	io.Writer
} {
	f, ok := stream.(*os.File)
	if !ok {
		return half(stream)
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return f
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return f
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd) // ours, and not used
		return f
	}
	return os.NewFile(uintptr(fd), f.Name())
}

// half makes a reader or a writer both.
func half(stream any) interface {
	io.Reader
	io.Writer
} {
	both := &oneWay{}
	both.Reader, _ = stream.(io.Reader)
	both.Writer, _ = stream.(io.Writer)
	both.Closer, _ = stream.(io.Closer)
	return both
}

type oneWay struct {
	io.Reader
	io.Writer
	io.Closer
}

// Close closes what can be closed.
func (o *oneWay) Close() error {
	if o.Closer == nil {
		return nil
	}
	return o.Closer.Close()
}

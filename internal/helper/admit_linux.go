package helper

import (
	"context"
	"io"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// admitPatience is how long a held lock is asked for again: a helper whose run has just ended, or was
// killed, lets go within moments, when it has ended what it ran.
const admitPatience = 2 * time.Second

// admit does for a request that stands alone what Lock and Prepare do before the others: it takes the
// lock, which stays held, and makes the app's path.
func (h *host) admit(ctx context.Context, s wire.Site, holder wire.Holder) error {
	held, err := h.locks.take(s, holder)
	for deadline := time.Now().Add(admitPatience); err == nil && held != nil && time.Now().Before(deadline); {
		if err := pause(ctx, admitPatience/20); err != nil {
			return err
		}
		held, err = h.locks.take(s, holder)
	}
	if err != nil {
		return err
	}
	if held != nil {
		return fault.New(fault.LockHeld, "%s is locked by %s (%s)", s.App, held.Who, held.Command).
			Hint("the lock is held by a live run and ends with it")
	}
	h.programs.killOrphans()
	return h.ground(ctx, s)
}

// ground makes the app's path where it is missing and takes the lock that lies in it.
func (h *host) ground(ctx context.Context, s wire.Site) error {
	if err := makePath(ctx, s); err != nil {
		return explain(err, "make %s", s.Path)
	}
	// The lock was taken elsewhere while the path was not there.
	return h.locks.follow(s)
}

// Serve is Main for a process that is not the helper's own: it answers the controller at rwc, which it
// closes, and leaves signals and the umask of the process as they are.
func Serve(ctx context.Context, rwc io.ReadWriteCloser) error { return ServeWith(ctx, Options{}, rwc) }

// ServeWith is Serve for a helper that differs from the usual.
func ServeWith(ctx context.Context, o Options, rwc io.ReadWriteCloser) error {
	h, err := newHost(o)
	if err != nil {
		return err
	}
	return h.serve(ctx, rwc)
}

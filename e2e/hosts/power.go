package hosts

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Reboot shuts the host down in order, starts it again over the same files, and waits for its sshd.
func (h *Host) Reboot(ctx context.Context) error {
	if err := h.Shutdown(ctx); err != nil {
		return err
	}
	return h.Boot(ctx)
}

// Shutdown stops the host in order: systemd ends its units first.
func (h *Host) Shutdown(ctx context.Context) error {
	pid, err := h.pid1()
	if err != nil {
		return err
	}
	// What systemd takes for "halt", see systemd(1): SIGRTMIN+3. The C library keeps the first two.
	const sigHalt = unix.Signal(34 + 3)
	if err := unix.Kill(pid, sigHalt); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := h.wait(ctx); err != nil {
		return fmt.Errorf("%s does not shut down: %w", h.Name, err)
	}
	return nil
}

// PowerCut ends every process of the host at one instant, without a word to any. Boot starts it
// again; its files are as the kernel had them, its memory is gone.
func (h *Host) PowerCut(ctx context.Context) error {
	pid, err := h.pid1()
	if err != nil {
		return err
	}
	// The kernel takes a pid namespace's other processes with its PID 1.
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return err
	}
	return h.wait(ctx)
}

// Reset gives a clean slate: power cut, all changes since the base tree dropped, booted anew with
// the same name, addresses and keys.
func (h *Host) Reset(ctx context.Context) error {
	if h.Up() {
		if err := h.PowerCut(ctx); err != nil {
			return err
		}
	}
	if err := removeTree(h.dir("")); err != nil {
		return err
	}
	if err := os.MkdirAll(h.dir(""), 0o755); err != nil {
		return err
	}
	return h.create(ctx)
}

// Up says whether the host runs.
func (h *Host) Up() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.nspawn != nil
}

// wait ends when the host's nspawn does, and frees the mounts it held.
func (h *Host) wait(ctx context.Context) error {
	h.mu.Lock()
	ended := h.ended
	h.mu.Unlock()
	select {
	case <-ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	h.mu.Lock()
	h.nspawn = nil
	h.mu.Unlock()
	return nil
}

// reap waits for the nspawn that tearDown has killed, so that no goroutine outlives Close.
func (h *Host) reap() {
	h.mu.Lock()
	ended := h.ended
	h.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

package sshx

import (
	"context"
	"sync"
)

// turnstile lets so many through at once. Its width can shrink, never below one: that is how a
// server with a small MaxSessions is learnt.
type turnstile struct {
	mu    sync.Mutex
	width int
	used  int
	freed chan struct{} // closed and replaced whenever one leaves
}

func newTurnstile(width int) *turnstile {
	return &turnstile{width: width, freed: make(chan struct{})}
}

// enter waits for a place, until ctx or done ends. It returns false when done came first.
func (t *turnstile) enter(ctx context.Context, done <-chan struct{}) (bool, error) {
	for {
		t.mu.Lock()
		if t.used < t.width {
			t.used++
			t.mu.Unlock()
			return true, nil
		}
		freed := t.freed
		t.mu.Unlock()
		select {
		case <-freed:
		case <-done:
			return false, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// tryEnter takes a place if one is free and another is left then.
func (t *turnstile) tryEnter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used >= t.width-1 {
		return false
	}
	t.used++
	return true
}

// leave gives the place back.
func (t *turnstile) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free()
}

// shrink gives the place back and lets no more in than are in now: the server would not have one
// more. It returns false when nobody else is in, so that there is nobody to wait for.
func (t *turnstile) shrink() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free()
	if t.used < 1 {
		t.width = 1
		return false
	}
	t.width = min(t.width, t.used)
	return true
}

// free wakes all who wait; the lock is held.
func (t *turnstile) free() {
	t.used--
	close(t.freed)
	t.freed = make(chan struct{})
}

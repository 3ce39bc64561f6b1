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

// leave gives the place back.
func (t *turnstile) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used--
	close(t.freed)
	t.freed = make(chan struct{})
}

// shrink gives the place back and keeps it closed for good: the server would not have this many. It
// returns false when this was the only one, so that waiting would not help.
func (t *turnstile) shrink() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used--
	if t.used < 1 {
		return false
	}
	t.width = min(t.width, t.used)
	return true
}

package overssh

import "godeploy/deploy"

var _ deploy.Abandoner = (*helped)(nil)

// Abandon ends the connection without letting go of the lock: for the helper the run has died, and it
// finishes or undoes what its journal says before the lock is free. Close may still be called.
func (h *helped) Abandon() error {
	h.locked.Store(false)
	return h.Close()
}

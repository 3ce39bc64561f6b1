package deploy

import (
	"context"
	"errors"
	"sync"

	"godeploy/internal/event"
	"godeploy/internal/wire"
)

// meeting is where hosts wait for each other: it is over when all have come, or one cannot.
type meeting struct {
	mu   sync.Mutex
	left int
	over chan struct{}
	err  error
}

func newMeeting(hosts int) *meeting { return &meeting{left: hosts, over: make(chan struct{})} }

// come says that one more host is there.
func (m *meeting) come() (last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left--
	if m.left == 0 && m.err == nil {
		close(m.over)
		return true
	}
	return false
}

// fail ends the meeting for everybody, if it is not over yet; nil does nothing.
func (m *meeting) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil || m.err != nil || m.left <= 0 {
		return
	}
	m.err = errElsewhere
	close(m.over)
}

func (m *meeting) wait(ctx context.Context) error {
	select {
	case <-m.over:
		return m.err // written before over was closed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errElsewhere is why a host is not brought anything: another one failed. That one's own error is told.
var errElsewhere = errors.New("another host failed")

// arrive takes one host's lock and looks at what it has, both at once.
func (s *syncRun) arrive(ctx context.Context, m *member) error {
	type answer struct {
		held *wire.Holder
		err  error
	}
	locked := make(chan answer, 1)
	go func() {
		held, err := patiently(ctx, m, s.holder())
		locked <- answer{held, err}
	}()
	state, err := m.State(ctx, s.sharedFiles())
	lock := <-locked
	m.state, m.now = state, state.Current
	switch {
	case lock.err != nil:
		err = lock.err
	case lock.held != nil:
		err = s.heldBy(m.name, *lock.held)
	case err == nil:
		err = errors.Join(s.obey(state), s.fit(m))
	}
	s.meet.fail(err)
	if err == nil && s.meet.come() {
		s.Report.Report(event.Event{Type: event.Lock, Hosts: names(s.members)})
	}
	return err
}

// sharedFiles are those that a release links to; what is made in place has none.
func (s *syncRun) sharedFiles() []string {
	if s.want.Place != nil {
		return nil
	}
	return s.Env.Shared.Files
}

// fit finds what would stop the sync on a host.
func (s *syncRun) fit(m *member) error {
	if s.want.Place != nil {
		return nil // the host's end knows the folder, and refuses before it changes anything
	}
	return errors.Join(refusal(s.run, m), s.room(m))
}

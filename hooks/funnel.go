package hooks

import "sync"

// funnel joins the two streams of a process, which are written by two goroutines, into one caller.
type funnel struct {
	mu  sync.Mutex
	out func(stream string, p []byte)
}

func newFunnel(out func(stream string, p []byte)) *funnel { return &funnel{out: out} }

type mouth struct {
	into *funnel
	name string
}

func (f *funnel) stream(name string) mouth { return mouth{into: f, name: name} }

func (m mouth) Write(p []byte) (int, error) {
	m.into.mu.Lock()
	defer m.into.mu.Unlock()
	m.into.out(m.name, p)
	return len(p), nil
}

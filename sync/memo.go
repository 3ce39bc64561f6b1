package filesync

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
)

// memo keeps what several Sends of one Source need alike. The zero value is ready.
type memo struct {
	roots        [2]rootMemo // without times and with them
	unitsOnce    sync.Once
	unitCount    int
	segmentsOnce sync.Once
	segs         []segment
	parents      once[*Manifest]
	changes      once[*change]

	mu         sync.Mutex
	remembered bool
	contents   map[Hash]*spool
	running    sync.WaitGroup
	stop       context.CancelFunc
	ctx        context.Context
}

// once works out one value for each key, however many ask for it at once.
type once[T any] struct {
	mu   sync.Mutex
	make map[Hash]func() T
}

func (o *once[T]) get(key Hash, f func() T) T {
	o.mu.Lock()
	if o.make == nil {
		o.make = map[Hash]func() T{}
	}
	value, known := o.make[key]
	if !known {
		value = sync.OnceValue(f)
		o.make[key] = value
	}
	o.mu.Unlock()
	return value()
}

type rootMemo struct {
	once sync.Once
	hash Hash
}

func (s *Source) root() Hash { return s.identity(false) }

func (s *Source) identity(timed bool) Hash {
	r := &s.memo.roots[0]
	if timed {
		r = &s.memo.roots[1]
	}
	r.once.Do(func() { r.hash = s.Manifest.identity(timed) })
	return r.hash
}

func (s *Source) units() int {
	s.memo.unitsOnce.Do(func() { s.memo.unitCount = s.Manifest.units() })
	return s.memo.unitCount
}

func (s *Source) segments() []segment {
	s.memo.segmentsOnce.Do(func() { s.memo.segs = s.Manifest.segments() })
	return s.memo.segs
}

// remember keeps the tree for the next time, beside what else goes on; Close waits for it. A tree that
// cannot be kept is told whole the next time, which is no reason to fail.
func (s *Source) remember(timed bool) {
	s.memo.mu.Lock()
	defer s.memo.mu.Unlock()
	if s.memo.remembered || s.cache == "" {
		return
	}
	s.memo.remembered = true
	s.memo.running.Go(func() { _ = remember(s.cache, s.Manifest, s.identity(timed)) }) // see above
}

func sum(p []byte) Hash { return sha256.Sum256(p) }

// content gives the frames of one content, which produce makes when nobody asked for it before.
func (m *memo) content(key Hash, dir string, produce func(ctx context.Context, s *spool) error) *spool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, known := m.contents[key]; known {
		return s
	}
	if m.contents == nil {
		m.contents = map[Hash]*spool{}
		m.ctx, m.stop = context.WithCancel(context.Background())
	}
	s := newSpool(dir)
	m.contents[key] = s
	m.running.Go(func() { s.end(produce(m.ctx, s)) })
	return s
}

// close ends what is still being made and frees it.
func (m *memo) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stop != nil {
		m.stop()
	}
	m.running.Wait()
	var errs []error
	for _, s := range m.contents {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

package chaos

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"godeploy/internal/wire"
)

// tap stands in every pipe between the controller and its helpers and counts the frames, those that go
// and those that come, over all hosts. At the one that was asked for it strikes, before that is passed on.
type tap struct {
	at     int               // counted from 1; 0 is never
	strike func(host string) // called once, not to block
	frozen chan struct{}     // closed: nothing is passed on any more

	mu     sync.Mutex
	seen   int
	steps  []step // one for each frame, in order
	struck *step
	hosts  map[string]*progress
	wrong  []string // what must never be seen on the wire
}

// step says where in a release a frame is.
type step struct {
	Host string    `json:"host"`
	Kind wire.Kind `json:"kind"`
	Back bool      `json:"back"` // from the helper
	Name string    `json:"name"` // as release.md names the steps
}

// progress is how far a host has come, as seen on its pipe.
type progress struct {
	ids       map[uint32]wire.Kind
	staged    bool // Stage was answered well
	built     bool // and a hook ran after it
	switched  bool
	restarted bool
}

var errCut = errors.New("cut by the test")

func newTap(at int) *tap {
	return &tap{at: at, hosts: map[string]*progress{}, frozen: make(chan struct{})}
}

// frame is called for each frame before it is passed on.
func (t *tap) frame(host string, f wire.Frame, back bool) {
	t.mu.Lock()
	if f.Kind == wire.KindPing {
		t.mu.Unlock()
		return
	}
	p := t.hosts[host]
	if p == nil {
		p = &progress{ids: map[uint32]wire.Kind{}}
		t.hosts[host] = p
	}
	if !back {
		p.ids[f.ID] = orRequest(p.ids[f.ID], f.Kind)
	}
	kind := p.ids[f.ID]
	if kind == wire.KindPing {
		t.mu.Unlock()
		return
	}
	t.barrier(host, f, back)
	s := step{host, f.Kind, back, p.name(kind)}
	t.seen++
	t.steps = append(t.steps, s)
	p.note(kind, f, back)
	strikes := t.seen == t.at
	if strikes {
		t.struck = &s
	}
	t.mu.Unlock()
	if strikes && t.strike != nil {
		t.strike(host)
	}
}

// orRequest keeps the request that opened an exchange.
func orRequest(had, kind wire.Kind) wire.Kind {
	if had != 0 || kind >= wire.KindCancel {
		return had
	}
	return kind
}

// barrier wants every host staged before the first switches to what was staged.
func (t *tap) barrier(host string, f wire.Frame, back bool) {
	if back || f.Kind != wire.KindSwitch {
		return
	}
	staging := false
	for _, p := range t.hosts {
		staging = staging || p.staged
	}
	for name, p := range t.hosts {
		if staging && !p.staged {
			t.wrong = append(t.wrong, "I4: "+host+" switches while "+name+" is not staged")
		}
	}
}

// note learns from a frame that is passed on.
func (p *progress) note(kind wire.Kind, f wire.Frame, back bool) {
	if !back || f.Kind != wire.KindReply {
		return
	}
	switch kind {
	case wire.KindStage:
		p.staged = true
	case wire.KindSwitch:
		p.switched = true
	case wire.KindExec:
		p.built = p.staged
		p.restarted = p.switched
	}
}

// name gives the step of release.md's order.
func (p *progress) name(kind wire.Kind) string {
	switch kind {
	case wire.KindLock:
		return "2 lock"
	case wire.KindRecover:
		return "4 recover"
	case wire.KindRemove:
		if p.switched {
			return "16 prune"
		}
		return "5 make room"
	case wire.KindPrepare:
		return "6 manifest"
	case wire.KindStage:
		return "7-9 stage"
	case wire.KindExec:
		if p.switched {
			return "13 restart"
		}
		return "10 hooks, check"
	case wire.KindArm, wire.KindSwitch, wire.KindStep:
		if p.restarted {
			return "14 health"
		}
		return "12 switch"
	case wire.KindMark:
		if p.restarted {
			return "14 health"
		}
		return "12 switch"
	case wire.KindAudit:
		return "16 prune"
	case wire.KindUnlock:
		return "17 unlock"
	}
	if p.restarted {
		return "14 health"
	}
	return "1 connect"
}

// pipe gives the controller's end of a pipe with the tap in it.
func (t *tap) pipe(host string, rwc io.ReadWriteCloser) io.ReadWriteCloser {
	return &tapped{t: t, host: host, rwc: rwc,
		out: cutter{prefaced: 0}, in: cutter{}}
}

// tapped passes on whole frames only, in both directions.
type tapped struct {
	t       *tap
	host    string
	rwc     io.ReadWriteCloser
	out, in cutter
	ready   []byte // what came and was counted
}

func (p *tapped) Close() error { return p.rwc.Close() }

func (p *tapped) Write(b []byte) (int, error) {
	p.out.add(b)
	for {
		whole, f, ok := p.out.next()
		if !ok {
			return len(b), nil
		}
		if f != nil {
			p.t.frame(p.host, *f, false)
		}
		if err := p.pass(); err != nil {
			return 0, err
		}
		if _, err := p.rwc.Write(whole); err != nil {
			return 0, err
		}
	}
}

// pass blocks while the line is frozen, for ever: closing the pipe is for others to do.
func (p *tapped) pass() error {
	select {
	case <-p.t.frozen:
		var b [1]byte
		for {
			if _, err := p.rwc.Read(b[:]); err != nil { // ends when the pipe is closed
				return errCut
			}
		}
	default:
		return nil
	}
}

func (p *tapped) Read(b []byte) (int, error) {
	for len(p.ready) == 0 {
		if whole, f, ok := p.in.next(); ok {
			if f != nil {
				p.t.frame(p.host, *f, true)
			}
			p.ready = whole
			break
		}
		var buf [32 << 10]byte
		n, err := p.rwc.Read(buf[:])
		p.in.add(buf[:n])
		if n == 0 && err != nil {
			return 0, err
		}
	}
	if err := p.pass(); err != nil {
		return 0, err
	}
	n := copy(b, p.ready)
	p.ready = p.ready[n:]
	return n, nil
}

// cutter cuts a stream of bytes into the preface and frames.
type cutter struct {
	prefaced int // 0: not yet
	buf      []byte
}

func (c *cutter) add(b []byte) { c.buf = append(c.buf, b...) }

// next gives the next whole piece; f is nil for the preface.
func (c *cutter) next() (whole []byte, f *wire.Frame, ok bool) {
	const preface, header = 8, 9
	n := 0
	switch {
	case c.prefaced == 0 && len(c.buf) >= preface:
		n = preface + int(binary.BigEndian.Uint16(c.buf[6:]))
	case c.prefaced != 0 && len(c.buf) >= header:
		n = header + int(binary.BigEndian.Uint32(c.buf[5:]))
	}
	if n == 0 || len(c.buf) < n {
		return nil, nil, false
	}
	whole = append([]byte(nil), c.buf[:n]...)
	c.buf = c.buf[n:]
	if c.prefaced == 0 {
		c.prefaced = 1
		return whole, nil, true
	}
	return whole, &wire.Frame{Kind: wire.Kind(whole[0]), ID: binary.BigEndian.Uint32(whole[1:])}, true
}

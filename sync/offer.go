package filesync

import (
	"bytes"
	"errors"
	"io"
	"time"
)

// few is how many entries a tree may have that is told whole without further ado.
const few = 2000

// knows reports whether what leads from a host's tree to ours can be told without asking.
func (s *sender) knows(root Hash) bool {
	return root == s.identity() || s.known(root) != nil
}

// identity is what the Source's tree is to this receiver.
func (s *sender) identity() Hash { return s.src.identity(s.o.Times) }

// known gives the tree with this root if there is still a record of it.
func (s *sender) known(root Hash) *Manifest {
	if root.IsZero() {
		return nil
	}
	return s.src.memo.parents.get(root, func() *Manifest { return recall(s.src.cache, root, s.o.Times) })
}

// tell sends Start and the tree, as what leads to it from the receiver's parent; and what is surely
// lacking, when an answer would take longer.
func (s *sender) tell(parent Hash) error {
	if parent == s.identity() {
		return s.start(parent, formSame, false)
	}
	if known := s.known(parent); known != nil {
		return s.tellChanges(parent, known)
	}
	if parent.IsZero() || s.o.Times || len(s.src.Manifest.Entries) <= few {
		if err := s.start(parent, formWhole, false); err != nil {
			return err
		}
		return s.out.long(frameTree, s.src.Manifest.encode)
	}
	return s.tellSegments(parent)
}

func (s *sender) start(parent Hash, how form, ahead bool) error {
	payload := append([]byte(streamMagic), parent[:]...)
	payload = append(payload, byte(how), 0)
	if ahead {
		payload[len(payload)-1] = 1
	}
	if how == formSame {
		return s.out.last(frameStart, payload)
	}
	return s.out.write(frameStart, payload)
}

// tellSegments lets the receiver say which runs of the tree's entries it has.
func (s *sender) tellSegments(parent Hash) error {
	if err := s.start(parent, formSegments, false); err != nil {
		return err
	}
	segs := s.src.segments()
	err := s.out.long(frameTree, func(w io.Writer) error { return encodeSegments(w, segs, s.src.root()) })
	if err != nil {
		return err
	}
	r := <-s.answer
	switch {
	case r.err != nil:
		return s.gaveUp(r)
	case r.need == nil:
		return lost(errors.New("receiver says what is not due"))
	}
	return s.out.long(frameTree, func(w io.Writer) error {
		return encodeSegmentEntries(w, s.src.Manifest, segs, s.src.root(), r.need)
	})
}

// change is what leads from one tree to the Source's: the frames that tell it, and what surely must
// be sent for it.
type change struct {
	frames []byte
	units  *unitSet
	size   int64
	err    error
}

// tellChanges sends what differs from a tree that both ends know.
func (s *sender) tellChanges(parent Hash, known *Manifest) error {
	c := s.src.memo.changes.get(parent, func() *change { return s.src.change(known, s.o.Times) })
	if c.err != nil {
		return c.err
	}
	ahead := c.size > 0 && s.worthGuessing(c.size)
	if err := s.start(parent, formChanges, ahead); err != nil {
		return err
	}
	if _, err := s.out.b.Write(c.frames); err != nil {
		return err
	}
	if !ahead {
		return s.out.flush()
	}
	if err := s.out.long(frameAhead, c.units.encode); err != nil {
		return err
	}
	return s.content(&wanted{units: c.units, key: sum(append([]byte("ahead"), parent[:]...))})
}

// change works out what leads from a tree to this one.
func (src *Source) change(known *Manifest, times bool) *change {
	var buf bytes.Buffer
	out := newFrameWriter(&buf)
	c := &change{}
	c.err = out.long(frameTree, func(w io.Writer) error { return src.Manifest.tellChanges(w, known, times) })
	c.frames = buf.Bytes()
	all := func(*basis, int) state { return sameContent | sameMeta }
	c.units, c.size = draft([]*basis{{manifest: known}}, src.Manifest, draftOptions{state: all, links: true}).units()
	return c
}

// worthGuessing decides whether so much content is sent before it is asked for. An answer could make
// less of it: a patch, or nothing where an older release has it. That is only worth a round trip
// when sending takes longer; lines are taken for 20 Mbit/s, content for three times its size sent.
func (s *sender) worthGuessing(size int64) bool {
	const bytesPerSecond = 20e6 / 8 * 3
	return s.o.RoundTrip >= 5*time.Millisecond && float64(size) <= bytesPerSecond*s.o.RoundTrip.Seconds()
}

package filesync

import "strings"

// A tree is walked folder by folder and told in the order of its paths. The two differ where a name
// begins with another and goes on with a character before the slash: a, a-b, a/c. So what is in a
// folder waits until its neighbours of that kind had their turn.

// arranger puts what was walked in order.
type arranger struct {
	s *scanner
	m *Manifest
	// stack are the folders that are begun, the innermost last: trees may be deeper than a stack of
	// calls should be.
	stack []begun
}

// begun is a folder of which the first entries are in place.
type begun struct {
	d                 *sourceDir
	info, link, below int          // how many of each are
	waiting           []*sourceDir // folders whose entry is in place and not what is in them, the latest first to go
}

// arrange makes the manifest out of what was walked, with the contents that the cache knows. It uses
// up what it is given.
func (s *scanner) arrange(top *sourceDir) *Manifest {
	n := int(s.found.Load())
	a := arranger{s: s, m: &Manifest{Entries: make([]Entry, 0, n)}}
	s.seen.at = make([]sighting, 0, n)
	a.begin(top)
	for len(a.stack) > 0 {
		if below := a.step(&a.stack[len(a.stack)-1]); below != nil {
			a.begin(below)
		}
	}
	return a.m
}

func (a *arranger) begin(d *sourceDir) { a.stack = append(a.stack, begun{d: d}) }

// step puts entries of a folder in place until it is the turn of what is in one of them, which it
// gives. A folder that is done is taken off the stack.
func (a *arranger) step(b *begun) *sourceDir {
	for b.info < len(b.d.infos) {
		if last := len(b.waiting) - 1; last >= 0 && !goesBetween(b.waiting[last].path, b.d.infos[b.info].Name) {
			return b.pop()
		}
		a.place(b)
	}
	if len(b.waiting) > 0 {
		return b.pop()
	}
	b.d.infos, b.d.links, b.d.known, b.d.below = nil, nil, nil, nil
	a.stack = a.stack[:len(a.stack)-1]
	return nil
}

func (b *begun) pop() *sourceDir {
	last := len(b.waiting) - 1
	d := b.waiting[last]
	b.waiting = b.waiting[:last]
	return d
}

// goesBetween reports whether path, which comes after dir, comes before what is in dir.
func goesBetween(dir, path string) bool {
	return len(path) > len(dir) && path[len(dir)] < '/' && strings.HasPrefix(path, dir)
}

// place puts the next entry of a folder in place.
func (a *arranger) place(b *begun) {
	info := &b.d.infos[b.info]
	e := Entry{Path: info.Name, Kind: info.Kind, Mode: info.Mode, MTime: info.MTime}
	switch info.Kind {
	case Dir:
		if d := b.d.below[b.below]; d != nil {
			b.waiting = append(b.waiting, d)
		}
		b.below++
	case Link:
		e.Mode, e.Link = 0, b.d.links[b.link]
		b.link++
	case File:
		e.Size = info.Size
		if b.d.known != nil && b.d.known[b.info] != 0 {
			a.known(&e, b.d.known[b.info])
		}
	}
	a.m.Entries = append(a.m.Entries, e)
	a.s.seen.at = append(a.s.seen.at, sighting{info.Dev, info.Ino, info.CTime})
	b.info++
}

// known fills in what the cache has of a file.
func (a *arranger) known(e *Entry, at uint32) {
	if a.s.cache.content(e, at) {
		a.s.noteCapability(len(a.m.Entries), e.Path)
	}
}

// noteCapability says that the file at this place has powers that the host's will not have.
func (s *scanner) noteCapability(place int, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.capable == nil {
		s.capable = make(map[int]bool)
	}
	if !s.capable[place] {
		s.notes.add("%s has capabilities, which are not sent", path)
	}
	s.capable[place] = true
}

package filesync

import (
	"godeploy/sync/delta"
)

// origin says where a file's content comes from.
type origin uint8

const (
	fromWire   origin = iota // all of it from the sender
	fromLink                 // another name of a file of the parent
	fromCopy                 // copied from a file of the parent
	fromChunks               // put together from chunks of the parent's files and from the sender
	fromTwin                 // copied from another file of the same tree
	fromNone                 // empty
)

// item is one file to be made.
type item struct {
	entry  *Entry
	from   origin
	source int        // place of the parent's entry, or of the twin among the items
	ops    []delta.Op // of a large file that does not come by link, copy or twin
}

// state is what a file of the parent is good for.
type state uint8

const (
	sameContent state = 1 << iota // size and time are as recorded
	sameMeta                      // and so are permission bits and owner: it can be linked
)

// plan says how each file of want is made and which units that takes. It does no input or output;
// states tell for each of the parent's entries what became of it on disk.
func plan(parent *Manifest, states []state, want *Manifest, links bool) ([]item, *unitSet) {
	p := planner{parent: parent, want: want, states: states, links: links, twins: map[Hash]int{}, moved: map[int]bool{}}
	p.learn()
	units := newUnitSet(want.units())
	unit := 0
	var items []item
	for i := range want.Entries {
		e := &want.Entries[i]
		if e.Kind != File {
			continue
		}
		it := p.item(e)
		// A file that its owner may not read is no good to copy from.
		sent := it.from == fromWire || it.from == fromChunks
		if _, known := p.twins[e.Hash]; !known && sent && e.Mode&0o400 != 0 {
			p.twins[e.Hash] = len(items)
		}
		items = append(items, it)
		it.lacking(unit, units)
		unit += e.units()
	}
	return items, units
}

type planner struct {
	parent *Manifest
	want   *Manifest
	states []state
	links  bool
	moved  map[int]bool // the parent's entries that are linked under another path
	byHash map[Hash]int // contents of the parent that can be had
	chunks delta.Index
	twins  map[Hash]int // contents that are sent, by the item they are sent for
}

// learn takes in what the parent offers.
func (p *planner) learn() {
	p.byHash = make(map[Hash]int)
	for i := range p.parent.Entries {
		e := &p.parent.Entries[i]
		if e.Kind != File || e.Size == 0 || p.states[i]&sameContent == 0 {
			continue
		}
		if old, known := p.byHash[e.Hash]; !known || p.states[old]&sameMeta == 0 {
			p.byHash[e.Hash] = i
		}
		p.chunks.Add(i, e.Chunks)
	}
}

// item decides about one file: the same path first, then the same content anywhere.
func (p *planner) item(e *Entry) item {
	if i := p.parent.index(e.Path); i >= 0 {
		old := &p.parent.Entries[i]
		if old.Kind == File && old.Hash == e.Hash && p.states[i]&sameContent != 0 {
			return p.take(e, i)
		}
	}
	if e.Size == 0 {
		return item{entry: e, from: fromNone}
	}
	if i, ok := p.byHash[e.Hash]; ok {
		return p.move(e, i)
	}
	if i, ok := p.twins[e.Hash]; ok {
		return item{entry: e, from: fromTwin, source: i}
	}
	if len(e.Chunks) == 0 {
		return item{entry: e, from: fromWire}
	}
	ops := delta.Diff(&p.chunks, e.Chunks)
	if len(ops) == 1 && !ops[0].Copy {
		return item{entry: e, from: fromWire, ops: ops}
	}
	return item{entry: e, from: fromChunks, ops: ops}
}

// take uses a file of the parent whole: linked where that changes nothing about it, else copied.
func (p *planner) take(e *Entry, i int) item {
	if p.links && p.states[i]&sameMeta != 0 && p.parent.Entries[i].Mode == e.Mode {
		return item{entry: e, from: fromLink, source: i}
	}
	if e.Size == 0 {
		return item{entry: e, from: fromNone}
	}
	return item{entry: e, from: fromCopy, source: i}
}

// move is take for a file that the parent has under another path. One file of the parent becomes one
// file of the tree: two names of one inode would make a change of the one a change of the other.
func (p *planner) move(e *Entry, i int) item {
	stays := p.want.Find(p.parent.Entries[i].Path)
	if p.moved[i] || stays != nil && stays.Kind == File && stays.Hash == e.Hash {
		return item{entry: e, from: fromCopy, source: i}
	}
	p.moved[i] = true
	return p.take(e, i)
}

// lacking adds the units the item needs from the sender; its first unit has the number first.
func (it *item) lacking(first int, units *unitSet) {
	if it.from != fromWire && it.from != fromChunks {
		return
	}
	if len(it.ops) == 0 {
		units.add(first)
		return
	}
	for _, op := range it.ops {
		for n := first; !op.Copy && n < first+op.Chunks; n++ {
			units.add(n)
		}
		first += op.Chunks
	}
}

// again makes the item one that takes all its content from the sender.
func (it *item) again() {
	it.from, it.ops = fromWire, nil
	if n := len(it.entry.Chunks); n > 0 {
		it.ops = []delta.Op{{Chunks: n}}
	}
}

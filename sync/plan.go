package filesync

import (
	"godeploy/sync/delta"
)

// origin says where a file's content comes from.
type origin uint8

const (
	fromWire   origin = iota // all of it from the sender
	fromLink                 // another name of a file of a basis
	fromCopy                 // copied from a file of a basis
	fromChunks               // put together from chunks of old files and from the sender
	fromTwin                 // copied from another file of the same tree
	fromNone                 // empty
	fromPlace                // it is where it should be, and nothing is to be done
)

// item is one file to be made.
type item struct {
	entry  int32 // place in the manifest
	source int32 // place of the basis's entry, of the twin among the items; of fromWire an old version, or -1
	from   origin
	basis  uint8 // which one
	made   bool
	sure   bool  // what a doubted basis has was verified
	tries  uint8 // times its content came and was not what it should be
}

// place is one file of one basis.
type place struct {
	basis uint8
	entry int32
}

// blueprint says how each file of a tree is made.
type blueprint struct {
	want  *Manifest
	bases []*basis
	items []item
	// ops are those of large files that do not come by link, copy or twin, by item; a Source in
	// them counts places.
	ops    map[int32][]delta.Op
	places []place
}

// drafter decides on a blueprint. It reads nothing but the states of bases.
type drafter struct {
	blueprint
	state  func(b *basis, i int) state
	links  bool
	still  bool           // files that stay need not be made
	byHash map[Hash]place // wanted contents that can be had
	twins  map[Hash]int32 // contents that are sent, by the item they are sent for
	moved  map[place]bool // files of bases that are linked under another path
	chunks delta.Index
}

// draft says how each file of want is made from what the bases have; the first is the parent.
func draft(bases []*basis, want *Manifest, o draftOptions) *blueprint {
	d := drafter{
		blueprint: blueprint{want: want, bases: bases, ops: map[int32][]delta.Op{}},
		state:     o.state, links: o.links, still: o.still,
		byHash: map[Hash]place{}, twins: map[Hash]int32{}, moved: map[place]bool{},
	}
	open := d.stays()
	if len(open) == 0 {
		return &d.blueprint
	}
	d.learn(open)
	for _, i := range open {
		d.resolve(i)
	}
	return &d.blueprint
}

// draftOptions say what a draft may use.
type draftOptions struct {
	state func(b *basis, i int) state
	links bool // files may be other names of old ones
	still bool // files that stay are where they should be already
}

// stays makes an item of every file, settles those that the parent has at the same path, and names
// the others.
func (d *drafter) stays() (open []int32) {
	parent, at := d.bases[0].manifest.Entries, 0
	for i := range d.want.Entries {
		e := &d.want.Entries[i]
		if e.Kind != File {
			continue
		}
		for at < len(parent) && parent[at].Path < e.Path {
			at++
		}
		n := int32(len(d.items))
		it := item{entry: int32(i), source: -1}
		switch old := at < len(parent) && parent[at].Path == e.Path && parent[at].Kind == File; {
		case old && parent[at].Hash == e.Hash && d.state(d.bases[0], at)&sameContent != 0:
			d.take(&it, place{0, int32(at)})
		case e.Size == 0:
			it.from = fromNone
		case old && d.state(d.bases[0], at)&sameContent != 0:
			it.source = int32(at)
			fallthrough
		default:
			open = append(open, n)
		}
		d.items = append(d.items, it)
	}
	return open
}

// take uses a file of a basis whole: linked where that changes nothing about it, else copied.
func (d *drafter) take(it *item, p place) {
	e, b := &d.want.Entries[it.entry], d.bases[p.basis]
	old := &b.manifest.Entries[p.entry]
	it.source, it.basis = p.entry, p.basis
	switch {
	case d.still && p.basis == 0 && old.Path == e.Path:
		it.from = fromPlace
	case d.links && d.state(b, int(p.entry))&sameMeta != 0 && old.Mode == e.Mode:
		it.from = fromLink
	case e.Size == 0:
		it.from = fromNone
	default:
		it.from = fromCopy
	}
}

// learn looks for the contents of open items in all bases.
func (d *drafter) learn(open []int32) {
	wanted := make(map[Hash]bool, len(open))
	chunked := false
	for _, i := range open {
		e := d.file(i)
		wanted[e.Hash] = true
		chunked = chunked || len(e.Chunks) > 0
	}
	for k, b := range d.bases {
		for i := range b.manifest.Entries {
			e := &b.manifest.Entries[i]
			if e.Kind != File || e.Size == 0 {
				continue
			}
			if wanted[e.Hash] {
				d.offer(place{uint8(k), int32(i)}, e)
			}
			if chunked && len(e.Chunks) > 0 {
				d.cutUp(place{uint8(k), int32(i)}, e)
			}
		}
	}
}

// offer notes where a content can be had; one that can be linked is better than one that cannot.
func (d *drafter) offer(p place, e *Entry) {
	s := d.state(d.bases[p.basis], int(p.entry))
	if s&sameContent == 0 {
		return
	}
	old, known := d.byHash[e.Hash]
	if !known || old.basis == p.basis && s&sameMeta != 0 && d.state(d.bases[old.basis], int(old.entry))&sameMeta == 0 {
		d.byHash[e.Hash] = p
	}
}

// cutUp notes where the chunks of a large file can be had.
func (d *drafter) cutUp(p place, e *Entry) {
	s := d.state(d.bases[p.basis], int(p.entry))
	chunks := e.Chunks
	switch {
	case s&someContent != 0:
		chunks = whole(chunks, d.bases[p.basis].begun[int(p.entry)])
	case s&sameContent == 0:
		return
	}
	d.chunks.Add(len(d.places), chunks)
	d.places = append(d.places, p)
}

// whole gives the chunks that lie within the first size bytes.
func whole(chunks []delta.Chunk, size int64) []delta.Chunk {
	for i := range chunks {
		if size -= int64(chunks[i].Len); size < 0 {
			return chunks[:i]
		}
	}
	return chunks
}

func (b *blueprint) file(i int32) *Entry { return &b.want.Entries[b.items[i].entry] }

// resolve decides about a file that does not stay: the same content anywhere, else parts of it.
func (d *drafter) resolve(i int32) {
	it, e := &d.items[i], d.file(i)
	if p, ok := d.byHash[e.Hash]; ok {
		d.move(it, e, p)
		return
	}
	if twin, ok := d.twins[e.Hash]; ok {
		it.from, it.source = fromTwin, twin
		return
	}
	// A file that its owner may not read is no good to copy from.
	if e.Mode&0o400 != 0 {
		d.twins[e.Hash] = i
	}
	if len(e.Chunks) == 0 {
		return
	}
	it.source = -1
	ops := delta.Diff(&d.chunks, e.Chunks)
	if len(ops) > 1 || ops[0].Copy {
		it.from = fromChunks
	}
	d.ops[i] = ops
}

// move is take for a file that a basis has under another path. One old file becomes one file of the
// tree: two names of one inode would make a change of the one a change of the other.
func (d *drafter) move(it *item, e *Entry, p place) {
	if d.moved[p] || p.basis == 0 && d.keeps(p) {
		it.from, it.source, it.basis = fromCopy, p.entry, p.basis
		return
	}
	d.moved[p] = true
	d.take(it, p)
}

// keeps reports whether a file of the parent is in the tree under its own path too.
func (d *drafter) keeps(p place) bool {
	old := &d.bases[0].manifest.Entries[p.entry]
	e := d.want.Find(old.Path)
	return e != nil && e.Kind == File && e.Hash == old.Hash
}

// needed calls f for each unit of an item that comes from the sender.
func (b *blueprint) needed(i int32, f func(n int)) {
	if b.items[i].from != fromWire && b.items[i].from != fromChunks {
		return
	}
	ops, n := b.ops[i], 0
	if len(ops) == 0 {
		f(0)
	}
	for _, op := range ops {
		for end := n + op.Chunks; n < end; n++ {
			if !op.Copy {
				f(n)
			}
		}
	}
}

// needsAny reports whether any unit of an item comes from the sender.
func (b *blueprint) needsAny(i int32) bool {
	switch b.items[i].from {
	case fromWire:
		return true
	case fromChunks:
		for _, op := range b.ops[i] {
			if !op.Copy {
				return true
			}
		}
	}
	return false
}

// units gives what is still to come from the sender, and how many bytes that is.
func (b *blueprint) units() (set *unitSet, size int64) {
	set = newUnitSet(b.want.units())
	b.eachFile(func(i int32, first int) {
		e := b.file(i)
		if b.items[i].made || !b.needsAny(i) {
			return
		}
		b.needed(i, func(n int) {
			set.add(first + n)
			size += int64(e.unitSize(n))
		})
	})
	return set, size
}

// eachFile calls f for every file with the number of its first unit.
func (b *blueprint) eachFile(f func(i int32, first int)) {
	first := 0
	for i := range b.items {
		f(int32(i), first)
		first += b.file(int32(i)).units()
	}
}

// again makes the item one that takes all its content from the sender.
func (b *blueprint) again(i int32) {
	it := &b.items[i]
	if it.from == fromWire || it.from == fromChunks {
		it.tries++
	}
	it.from, it.source = fromWire, -1
	delete(b.ops, i)
	if n := len(b.file(i).Chunks); n > 0 {
		b.ops[i] = []delta.Op{{Chunks: n}}
	}
}

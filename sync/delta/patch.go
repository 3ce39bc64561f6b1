package delta

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// MakePatch says how target is made from the content that s describes. What it gives is not
// compressed: it goes into a compressed stream. It is a few bytes longer than target when nothing of
// the old content is in there; whether it is worth sending is for the caller to judge by its length.
//
// The time it takes is bounded by the length of target, whatever s holds.
func MakePatch(s Signature, target []byte) []byte {
	d := differ{blockTable: newBlockTable(s), target: target}
	end := len(target)
	// The short block at the end of the old content is looked for at the end of the new one only.
	tail := s.size % d.block
	hasTail := tail > 0 && tail <= end && blockSum(rolled(target[end-tail:])) == s.sums[len(s.sums)-1]
	if hasTail {
		end -= tail
	}
	d.search(target[:end])
	if hasTail {
		d.match(end, len(s.sums)-1, tail)
	}
	d.endRun()
	if d.done < len(target) {
		d.literal(len(target))
	}
	return d.patch
}

// differ is one MakePatch under way.
type differ struct {
	blockTable
	target []byte
	patch  []byte
	done   int // so much of target is in patch, or in the run that goes on
	first  int // block with which that run begins
	count  int // blocks it has; 0 without a run
	last   int // block behind the last run in patch
}

// search finds blocks in b, which target begins with.
func (d *differ) search(b []byte) {
	if len(d.full) == 0 || len(b) < d.block {
		return
	}
	out := leaving(d.block)
	h := rolled(b[:d.block])
	for at := 0; ; {
		if i := d.find(blockSum(h), d.first+d.count); i >= 0 {
			d.match(at, i, d.block)
			if at += d.block; at+d.block > len(b) {
				return
			}
			h = rolled(b[at : at+d.block])
			continue
		}
		if at+d.block >= len(b) {
			return
		}
		h = h*factor + uint64(b[at+d.block]) + 1 - out[b[at]]
		at++
	}
}

// match takes in that block i, of n bytes, is at a place of target.
func (d *differ) match(at, i, n int) {
	if d.count > 0 && at == d.done && i == d.first+d.count {
		d.count++
	} else {
		d.endRun()
		d.literal(at)
		d.first, d.count = i, 1
	}
	d.done = at + n
}

// literal adds what lies before end and is not there yet.
func (d *differ) literal(end int) {
	d.patch = binary.AppendUvarint(d.patch, uint64(end-d.done))
	d.patch = append(d.patch, d.target[d.done:end]...)
	d.done = end
}

func (d *differ) endRun() {
	if d.count == 0 {
		return
	}
	d.patch = binary.AppendVarint(d.patch, int64(d.first-d.last))
	d.patch = binary.AppendUvarint(d.patch, uint64(d.count))
	d.last, d.count = d.first+d.count, 0
	d.first = d.last
}

// probes is at how many places of the table a block may lie. One that finds them taken is not in the
// table, as is the second of two with one sum: crafted sums cost content, never time.
const probes = 2

// blockTable finds blocks by their sums.
type blockTable struct {
	block int
	full  []uint64 // sums of the blocks of whole length
	slots []uint16 // number of a block plus one, or 0
	shift int
	steps int // places looked at
}

func newBlockTable(s Signature) blockTable {
	t := blockTable{block: blockLength(s.size)}
	t.full = s.sums[:s.size/t.block]
	width := bits.Len(uint(8*len(t.full))) + 1
	t.slots, t.shift = make([]uint16, 1<<width), 8*sumBytes-width
	for i, sum := range t.full {
		at := sum >> t.shift
		for range probes {
			if held := t.slots[at]; held == 0 || t.full[held-1] == sum {
				if held == 0 {
					t.slots[at] = uint16(i + 1)
				}
				break
			}
			at ^= 1
		}
	}
	return t
}

// find gives a block with this sum, likely if that is one, or -1.
func (t *blockTable) find(sum uint64, likely int) int {
	if t.steps++; likely < len(t.full) && t.full[likely] == sum {
		return likely
	}
	at := sum >> t.shift
	for range probes {
		t.steps++
		held := t.slots[at]
		if held == 0 {
			return -1
		}
		if t.full[held-1] == sum {
			return int(held - 1)
		}
		at ^= 1
	}
	return -1
}

var errPatch = errors.New("patch does not fit its contents")

// ApplyPatch makes a content of size bytes out of old and a patch for it. It refuses a patch that is
// malformed, that names what old has not, or that does not make exactly size bytes, and a size above
// MaxSigned; it never needs more memory than size. That the outcome is what was meant is for the
// caller to verify by its hash: old may have changed, and sums may agree by chance.
func ApplyPatch(old, patch []byte, size int) ([]byte, error) {
	if size < 0 || size > MaxSigned {
		return nil, errPatch
	}
	old = old[:min(len(old), MaxSigned)]
	p := patched{out: make([]byte, 0, size), old: old, patch: patch}
	for len(p.out) < size && !p.bad {
		p.literal()
		if len(p.out) < size {
			p.run()
		}
	}
	if p.bad || len(p.patch) > 0 {
		return nil, errPatch
	}
	return p.out, nil
}

// patched is one ApplyPatch under way.
type patched struct {
	out   []byte // its capacity is the size that is due
	old   []byte
	patch []byte // what is left of it
	last  int    // block behind the last run
	bad   bool
}

// uvarint takes a number of at most most.
func (p *patched) uvarint(most int) int {
	v, n := binary.Uvarint(p.patch)
	if n <= 0 || v > uint64(most) {
		p.bad = true
		return 0
	}
	p.patch = p.patch[n:]
	return int(v)
}

func (p *patched) literal() {
	n := p.uvarint(cap(p.out) - len(p.out))
	if n > len(p.patch) {
		p.bad = true
		return
	}
	p.out = append(p.out, p.patch[:n]...)
	p.patch = p.patch[n:]
}

// run takes over a run of blocks.
func (p *patched) run() {
	step, n := binary.Varint(p.patch)
	if n <= 0 || step < -MaxSigned || step > MaxSigned {
		p.bad = true
		return
	}
	p.patch = p.patch[n:]
	first, all := p.last+int(step), blocks(len(p.old))
	if first < 0 || first >= all {
		p.bad = true
		return
	}
	p.last = first + p.uvarint(all-first)
	b := blockLength(len(p.old))
	piece := p.old[min(first*b, len(p.old)):min(p.last*b, len(p.old))]
	if len(piece) == 0 || len(piece) > cap(p.out)-len(p.out) {
		p.bad = true
		return
	}
	p.out = append(p.out, piece...)
}

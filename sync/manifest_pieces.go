package filesync

import (
	"encoding/binary"
	"sort"

	"godeploy/sync/delta"
)

// piece is a run of chunks of a new content: taken over from the parent, or told.
type piece struct {
	count int
	from  int // number of the first chunk taken over, or -1
}

// chunkIndex numbers the chunks of all of a tree's files, in the order of the entries, and finds some.
type chunkIndex struct {
	files []chunkFile
	total int
	next  int            // number behind the chunk named last
	at    map[uint64]int // wanted chunks by the start of their sums
}

// chunkFile is a file with chunks.
type chunkFile struct {
	place  int // of its entry
	first  int // number of its first chunk
	chunks []delta.Chunk
}

func newChunkIndex(m *Manifest) chunkIndex {
	var x chunkIndex
	for i := range m.Entries {
		if chunks := m.Entries[i].Chunks; len(chunks) > 0 {
			x.files = append(x.files, chunkFile{i, x.total, chunks})
			x.total += len(chunks)
		}
	}
	return x
}

// chunk gives the chunk of a number, or nil.
func (x *chunkIndex) chunk(n int) *delta.Chunk {
	i := sort.Search(len(x.files), func(i int) bool { return x.files[i].first > n }) - 1
	if i < 0 || n >= x.total {
		return nil
	}
	return &x.files[i].chunks[n-x.files[i].first]
}

// begin says where the chunks of a content are expected: where those of the parent's entry of its
// path are, which lies at place, else behind those named last.
func (x *chunkIndex) begin(place int) {
	i := sort.Search(len(x.files), func(i int) bool { return x.files[i].place >= place })
	if i < len(x.files) && x.files[i].place == place {
		x.next = x.files[i].first
	}
}

// key is what a chunk is looked for by.
func key(c *delta.Chunk) uint64 { return binary.LittleEndian.Uint64(c.Sum[:]) }

// want says that these chunks will be looked for.
func (x *chunkIndex) want(chunks []delta.Chunk) {
	if x.at == nil && x.total > 0 {
		x.at = make(map[uint64]int, len(chunks))
	}
	for i := range chunks {
		if x.total > 0 {
			x.at[key(&chunks[i])] = -1
		}
	}
}

// find looks for all the chunks that are wanted.
func (x *chunkIndex) find() {
	if len(x.at) == 0 {
		return
	}
	for _, f := range x.files {
		for i := range f.chunks {
			if at, wanted := x.at[key(&f.chunks[i])]; wanted && at < 0 {
				x.at[key(&f.chunks[i])] = f.first + i
			}
		}
	}
}

// look gives the number of a chunk that equals c, likely if that one does, or -1.
func (x *chunkIndex) look(c *delta.Chunk, likely int) int {
	if old := x.chunk(likely); old != nil && *old == *c {
		return likely
	}
	if n, wanted := x.at[key(c)]; wanted && n >= 0 && *x.chunk(n) == *c {
		return n
	}
	return -1
}

// pieces says where the chunks of a content come from; place is that of the parent's entry of its
// path, or -1.
func (x *chunkIndex) pieces(chunks []delta.Chunk, place int) []piece {
	next := x.next // append must begin where we do
	x.begin(place)
	likely := x.next
	x.next = next
	var all []piece
	for i := range chunks {
		n := x.look(&chunks[i], likely)
		likely++
		if n >= 0 {
			likely = n + 1
		}
		last := len(all) - 1
		if last >= 0 && (n < 0 && all[last].from < 0 || n >= 0 && n == all[last].from+all[last].count && all[last].from >= 0) {
			all[last].count++
			continue
		}
		all = append(all, piece{1, n})
	}
	return all
}

// append adds a list of chunks to buf: how many, and the pieces.
func (x *chunkIndex) append(buf []byte, chunks []delta.Chunk, pieces []piece, place int) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(chunks)))
	x.begin(place)
	for _, p := range pieces {
		if p.from < 0 {
			buf = binary.AppendUvarint(buf, uint64(p.count)<<1)
			for i := range chunks[:p.count] {
				buf = binary.AppendUvarint(buf, uint64(chunks[i].Len))
			}
		} else {
			buf = binary.AppendUvarint(buf, uint64(p.count)<<1|1)
			buf = binary.AppendVarint(buf, int64(p.from-x.next))
			x.next = p.from + p.count
		}
		chunks = chunks[p.count:]
	}
	return buf
}

// pieces reads a list of chunks of a file of this size; old is at its end set to the chunks taken over.
func (p *plainReader) pieces(x *chunkIndex, size int64, place int) ([]delta.Chunk, []piece) {
	n := p.chunkCount(size)
	x.begin(place)
	chunks := make([]delta.Chunk, 0, min(n, 1024)) // a promise is not yet content
	var all []piece
	for len(chunks) < n && p.err == nil {
		head := p.uvarint("chunks", uint64(n-len(chunks))<<1|1)
		next := piece{count: int(head >> 1), from: -1}
		if next.count == 0 || next.count > n-len(chunks) {
			p.fail("run of %d chunks of %d", next.count, n-len(chunks))
			break
		}
		if head&1 == 1 {
			next.from = p.step("chunk", x.next, x.total-next.count+1)
			chunks = p.takeChunks(x, chunks, next)
		} else {
			for range next.count {
				chunks = append(chunks, delta.Chunk{Len: uint32(p.uvarint("chunk", delta.MaxChunk))})
				if p.err != nil {
					return nil, nil
				}
			}
		}
		all = append(all, next)
	}
	return chunks, all
}

// takeChunks adds chunks of the parent.
func (p *plainReader) takeChunks(x *chunkIndex, chunks []delta.Chunk, from piece) []delta.Chunk {
	if p.err != nil {
		return nil
	}
	x.next = from.from + from.count
	for n := from.from; n < x.next; n++ {
		chunks = append(chunks, *x.chunk(n))
	}
	return chunks
}

package filesync

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"godeploy/sync/delta"
)

// grove makes and changes trees at random that exist as manifests only.
type grove struct {
	*rand.Rand
}

func newGrove(seed uint64) grove { return grove{rand.New(rand.NewPCG(seed, 7))} }

func (g grove) hash() (h Hash) {
	for at := 0; at < len(h); at += 8 {
		binary.LittleEndian.PutUint64(h[at:], g.Uint64())
	}
	return h
}

func (g grove) time() int64 { return 1_700_000_000_000_000_000 + g.Int64N(1<<50) }

// small gives a file of less than ChunkedFrom bytes.
func (g grove) small() Entry {
	e := Entry{Kind: File, Mode: 0o644, Size: g.Int64N(9000), MTime: g.time(), Hash: g.hash()}
	if e.Size == 0 {
		e.Hash = emptyHash()
	}
	return e
}

// large gives a file of n chunks.
func (g grove) large(n int) Entry {
	e := Entry{Kind: File, Mode: 0o644, MTime: g.time(), Chunks: g.chunks(max(n, ChunkedFrom/delta.MinChunk+1))}
	return chunked(e)
}

func (g grove) chunks(n int) []delta.Chunk {
	chunks := make([]delta.Chunk, n)
	for i := range chunks {
		chunks[i] = delta.Chunk{Len: delta.MinChunk + uint32(g.IntN(delta.MaxChunk-delta.MinChunk)), Sum: g.hash()}
	}
	return chunks
}

// chunked makes size and hash those of the chunks.
func chunked(e Entry) Entry {
	e.Size, e.Hash = delta.Size(e.Chunks), delta.Sum(e.Chunks)
	return e
}

// edited gives another version of a file.
func (g grove) edited(e Entry) Entry {
	if len(e.Chunks) == 0 {
		next := g.small()
		next.Mode = e.Mode
		return next
	}
	at, n := g.IntN(len(e.Chunks)), g.IntN(4)
	e.Chunks = slices.Concat(e.Chunks[:at], g.chunks(n), e.Chunks[min(at+n, len(e.Chunks)):])
	if g.IntN(3) == 0 {
		at = g.IntN(len(e.Chunks))
		e.Chunks = slices.Concat(e.Chunks[at:], e.Chunks[:at])
	}
	if delta.Size(e.Chunks) < ChunkedFrom {
		e.Chunks = append(e.Chunks, g.chunks(32)...)
	}
	e.MTime = g.time()
	return chunked(e)
}

// plant makes a tree of n files or so.
func (g grove) plant(n int) *Manifest {
	at := map[string]Entry{}
	for i := range n {
		e := g.small()
		switch g.IntN(40) {
		case 0:
			e = g.large(0)
		case 1:
			e = Entry{Kind: Link, Link: fmt.Sprint("to", i)}
		}
		at[g.path(i)] = e
	}
	return sorted(at)
}

func (g grove) path(i int) string {
	path := fmt.Sprintf("file%d.py", i)
	for range g.IntN(4) {
		path = fmt.Sprintf("%s%d/%s", []string{"app", "a", "lib", "lib-"}[g.IntN(4)], g.IntN(3), path)
	}
	return path
}

// change gives another version of a tree, by so many steps.
func (g grove) change(m *Manifest, steps int) *Manifest {
	at := map[string]Entry{}
	var paths []string
	for _, e := range m.Entries {
		at[e.Path] = e
		paths = append(paths, e.Path)
	}
	for range steps {
		if len(paths) == 0 {
			break
		}
		path := paths[g.IntN(len(paths))]
		if e, there := at[path]; there {
			g.step(at, e, path)
		}
	}
	return sorted(at)
}

// step changes one entry, or a folder with all that is in it.
func (g grove) step(at map[string]Entry, e Entry, path string) {
	switch g.IntN(9) {
	case 0:
		delete(at, path)
	case 1, 2:
		g.move(at, path, g.path(g.IntN(1000)))
	case 3:
		at[g.path(g.IntN(1000))] = e
	case 4:
		e.MTime = g.time()
		at[path] = e
	case 5:
		if e.Kind != Link {
			e.Mode ^= 0o111
			at[path] = e
		}
	case 6:
		at[path] = Entry{Kind: Link, Link: "elsewhere"}
	case 7:
		at[path] = g.small()
	default:
		if e.Kind == File {
			at[path] = g.edited(e)
		}
	}
}

// move renames what is at a path and all below it.
func (g grove) move(at map[string]Entry, from, to string) {
	for _, p := range slices.Collect(maps.Keys(at)) {
		if rest, below := strings.CutPrefix(p, from); below && (rest == "" || rest[0] == '/') {
			e := at[p]
			delete(at, p)
			at[to+rest] = e
		}
	}
}

// sorted makes a tree of entries by path. Where one lies below something that is no folder, a folder
// takes its place.
func sorted(at map[string]Entry) *Manifest {
	for p := range maps.Clone(at) {
		for dir, _ := split(p); dir != "."; dir, _ = split(dir) {
			if e, there := at[dir]; !there || e.Kind != Dir {
				at[dir] = Entry{Kind: Dir, Mode: 0o755, MTime: int64(len(dir))}
			}
		}
	}
	m := &Manifest{}
	for _, p := range slices.Sorted(maps.Keys(at)) {
		e := at[p]
		e.Path = p
		m.Entries = append(m.Entries, e)
	}
	return m
}

package filesync

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

// wide makes a tree of n files in folders of a hundred, as a synthetic source has.
func wide(n int) *Manifest {
	rng := rand.New(rand.NewPCG(1, 2))
	m := &Manifest{Entries: make([]Entry, 0, n+n/100+12)}
	add := func(e Entry) { m.Entries = append(m.Entries, e) }
	for i := range n {
		if i%1000 == 0 {
			add(Entry{Path: fmt.Sprintf("app%04d", i/1000), Kind: Dir, Mode: 0o755, MTime: 1_700_000_000_000_000_000 + int64(i)})
		}
		dir := fmt.Sprintf("app%04d/module%02d", i/1000, i/100%10)
		if i%100 == 0 {
			add(Entry{Path: dir, Kind: Dir, Mode: 0o755, MTime: 1_700_000_000_000_000_000 + int64(i)})
		}
		e := Entry{Path: fmt.Sprintf("%s/file_%05d_%x.py", dir, i, rng.Uint32()>>16), Kind: File, Mode: 0o644, Size: int64(1 + rng.IntN(9000)), MTime: 1_700_000_000_000_000_000 + int64(i)*1_234_567 + int64(rng.IntN(1e6))}
		for at := 0; at < len(e.Hash); at += 8 {
			binary.LittleEndian.PutUint64(e.Hash[at:], rng.Uint64())
		}
		add(e)
	}
	return m
}

func BenchmarkManifest(b *testing.B) {
	m := wide(100_000)
	if err := m.Check(); err != nil {
		b.Fatal(err)
	}
	whole := encoded(b, m)
	b.Logf("%d entries are %d bytes", len(m.Entries), len(whole))
	run := func(name string, f func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("root", func() error { m.Root(); return nil })
	run("check", func() error { return m.Check() })
	run("segments", func() error { m.segments(); return nil })
	run("encode", func() error { return m.Encode(io.Discard) })
	run("decode", func() error { _, err := Decode(bytes.NewReader(whole)); return err })
}

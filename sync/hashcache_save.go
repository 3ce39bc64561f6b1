package filesync

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// saveHashes writes what a scan found for the next one, in place of what was there. Files that were
// not at rest are left out. Two that write at once do not meet: the later one stays.
func saveHashes(file string, m *Manifest, seen sightings, capable map[int]bool) error {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, tempName)
	if err != nil {
		return err
	}
	w := &cacheWriter{b: bufio.NewWriterSize(f, 256<<10), m: m, seen: seen, capable: capable}
	err = errors.Join(w.all(), w.b.Flush(), f.Close())
	if err == nil {
		// Not synced: a cache that a power cut spoils is found out and made anew.
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return sweep(dir)
}

// sweep takes away what no scan used for long: caches of sources that are gone, and what a killed
// run left.
func sweep(dir string) error {
	in, err := os.ReadDir(dir)
	for _, e := range in {
		info, infoErr := e.Info()
		if infoErr != nil || !info.Mode().IsRegular() {
			continue // another run took it
		}
		age := time.Since(info.ModTime())
		if age > cacheLifetime || age > tempLifetime && strings.HasPrefix(e.Name(), tempName[:len(tempName)-1]) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// cacheWriter writes one cache.
type cacheWriter struct {
	b       *bufio.Writer
	sum     uint32
	size    int64
	m       *Manifest
	seen    sightings
	capable map[int]bool
}

func (w *cacheWriter) write(p []byte) error {
	w.sum = checksum(w.sum, p)
	w.size += int64(len(p))
	if w.size > maxCacheFile-cacheFooter {
		return fmt.Errorf("hash cache is larger than %d bytes", maxCacheFile)
	}
	_, err := w.b.Write(p)
	return err
}

func (w *cacheWriter) all() error {
	if err := w.write([]byte(cacheMagic)); err != nil {
		return err
	}
	var table []byte
	for _, d := range w.folders() {
		table = binary.LittleEndian.AppendUint32(table, uint32(w.size))
		if err := w.folder(d); err != nil {
			return err
		}
	}
	footer := binary.LittleEndian.AppendUint32(nil, uint32(w.size))
	footer = binary.LittleEndian.AppendUint32(footer, uint32(len(table)/4))
	if err := errors.Join(w.write(table), w.write(footer)); err != nil {
		return err
	}
	return w.write(binary.LittleEndian.AppendUint32(nil, w.sum))
}

// cachedFolder is a folder with the places of its files, in order.
type cachedFolder struct {
	path  string
	files []int
}

// folders gives the files that were at rest, by folder.
func (w *cacheWriter) folders() []*cachedFolder {
	byPath := make(map[string]*cachedFolder)
	var all []*cachedFolder
	d := &cachedFolder{}
	for i := range w.m.Entries {
		e := &w.m.Entries[i]
		if e.Kind != File || !w.seen.settled(e, i) {
			continue
		}
		if dir, _ := split(e.Path); dir != d.path {
			if d = byPath[dir]; d == nil {
				d = &cachedFolder{path: dir}
				byPath[dir] = d
				all = append(all, d)
			}
		}
		d.files = append(d.files, i)
	}
	slices.SortFunc(all, func(a, b *cachedFolder) int { return strings.Compare(a.path, b.path) })
	return all
}

func (w *cacheWriter) folder(d *cachedFolder) error {
	buf := binary.LittleEndian.AppendUint32(nil, uint32(len(d.path)))
	buf = append(buf, d.path...)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(d.files)))
	for _, i := range d.files {
		buf = w.file(buf, i)
		if err := w.write(buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	return nil
}

// file adds a file to buf.
func (w *cacheWriter) file(buf []byte, i int) []byte {
	e, at := &w.m.Entries[i], &w.seen.at[i]
	_, name := split(e.Path)
	var flags byte
	if len(e.Chunks) > 0 {
		flags |= cacheChunked
	}
	if w.capable[i] {
		flags |= cacheCapable
	}
	buf = append(buf, byte(len(name)))
	buf = append(buf, name...)
	buf = append(buf, flags)
	buf = appendStamp(buf, &Info{Dev: at.dev, Ino: at.ino, Size: e.Size, MTime: e.MTime, CTime: at.ctime})
	buf = append(buf, e.Hash[:]...)
	if len(e.Chunks) == 0 {
		return buf
	}
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(e.Chunks)))
	for k := range e.Chunks {
		buf = binary.LittleEndian.AppendUint32(buf, e.Chunks[k].Len)
		buf = append(buf, e.Chunks[k].Sum[:]...)
	}
	return buf
}

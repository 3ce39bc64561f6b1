package filesync

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sort"
	"time"

	"godeploy/sync/delta"
)

// The hash cache of a source is one file. It belongs to this machine and this version alone: what it
// says is used when all of it is sound, and else it is as if there were none. All numbers are little
// endian:
//
//	magic     8 bytes; its last is the version, which changes with this form and with how contents are
//	          cut and hashed
//	folders   one behind the other: path length 4, path, count of files 4, the files sorted by name:
//	          name length 1, name, flags 1, device 8, inode 8, size 8, mtime 8, ctime 8, hash 32, and
//	          where the flags say so the count of chunks 4 and of each its length 4 and sum 32
//	table     of each folder, sorted by path, where it begins 4
//	footer    where the table begins 4, count of folders 4, CRC-32C of all before 4
const (
	cacheMagic    = "gdhash\x00\x01"
	cacheFooter   = 12
	cacheFixed    = 1 + 5*8 + 32 // of a file, behind its name
	cacheChunk    = 4 + 32
	cacheChunked  = 1       // flag: has chunks
	cacheCapable  = 2       // flag: has capabilities
	maxCacheFile  = 1 << 30 // bytes; a source that needs more keeps no hashes
	cacheLifetime = 90 * 24 * time.Hour
	tempLifetime  = 24 * time.Hour
	tempName      = ".temp-*"
)

// cacheFile is where the hashes of a source lie below the cache folder, "" when there is none.
func cacheFile(cache, dir string) string {
	abs, err := filepath.Abs(dir)
	if cache == "" || err != nil {
		return ""
	}
	key := sha256.Sum256([]byte(abs))
	return filepath.Join(cache, "hashes", hex.EncodeToString(key[:16]))
}

// hashCache is what an earlier scan knew. A nil one knows nothing. It is read-only and safe for
// concurrent use.
type hashCache struct {
	data  []byte
	table []byte // of the folders
}

// loadHashes reads a cache, nil when there is none that is sound.
func loadHashes(file string) *hashCache {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxCacheFile {
		return nil
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil
	}
	c := parseHashes(data)
	if c != nil && time.Since(info.ModTime()) > tempLifetime {
		now := time.Now()
		_ = os.Chtimes(file, now, now) // it is in use: what is old is swept away
	}
	return c
}

// checksum goes on from sum over p; its zero is the beginning. MakeTable gives the one table there is.
func checksum(sum uint32, p []byte) uint32 {
	return crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), p)
}

// parseHashes checks a cache as a whole.
func parseHashes(data []byte) *hashCache {
	end := len(data) - cacheFooter
	if end < len(cacheMagic) || string(data[:len(cacheMagic)]) != cacheMagic {
		return nil
	}
	footer := data[end:]
	from, n := uint64(binary.LittleEndian.Uint32(footer)), uint64(binary.LittleEndian.Uint32(footer[4:]))
	if checksum(0, data[:len(data)-4]) != binary.LittleEndian.Uint32(footer[8:]) || from+4*n != uint64(end) {
		return nil
	}
	return &hashCache{data: data[:from], table: data[from:end]}
}

// find says for each of the infos, which are sorted and whose names are paths in dir, where content
// has it, or 0; it is nil when the folder is not known.
func (c *hashCache) find(dir string, infos []Info) []uint32 {
	at := c.folder(dir)
	if at == 0 {
		return nil
	}
	r := cacheReader{data: c.data, at: at}
	n := r.uint32()
	known := make([]uint32, len(infos))
	skip := len(dir) + 1
	if dir == "." {
		skip = 0
	}
	i := 0
	for range n {
		at := r.at
		name, stamp := r.file()
		if r.bad {
			return nil
		}
		for i < len(infos) && infos[i].Name[skip:] < string(name) {
			i++
		}
		if i < len(infos) && infos[i].Name[skip:] == string(name) && stamp.is(&infos[i]) {
			known[i] = uint32(at)
		}
	}
	return known
}

// folder gives where a folder's count of files stands, or 0.
func (c *hashCache) folder(dir string) int {
	if c == nil {
		return 0
	}
	path := func(i int) (name []byte, end int) {
		r := cacheReader{data: c.data, at: int(binary.LittleEndian.Uint32(c.table[4*i:]))}
		name = r.bytes(int(r.uint32()))
		return name, r.at
	}
	i := sort.Search(len(c.table)/4, func(i int) bool {
		name, _ := path(i)
		return string(name) >= dir
	})
	if i == len(c.table)/4 {
		return 0
	}
	name, end := path(i)
	if string(name) != dir {
		return 0
	}
	return end
}

// content fills in hash and chunks of the file that find found, and reports whether it has
// capabilities.
func (c *hashCache) content(e *Entry, at uint32) (capable bool) {
	r := cacheReader{data: c.data, at: int(at)}
	name := r.bytes(int(r.byte()))
	fixed := r.bytes(cacheFixed)
	if r.bad || len(name) == 0 {
		return false
	}
	if fixed[0]&cacheChunked != 0 {
		n := int(r.uint32())
		list := r.bytes(n * cacheChunk)
		if r.bad {
			return false
		}
		e.Chunks = make([]delta.Chunk, n)
		for i := range e.Chunks {
			p := list[i*cacheChunk:]
			e.Chunks[i] = delta.Chunk{Len: binary.LittleEndian.Uint32(p), Sum: [32]byte(p[4:cacheChunk])}
		}
	}
	e.Hash = Hash(fixed[cacheFixed-len(e.Hash):])
	return fixed[0]&cacheCapable != 0
}

// cacheStamp is what a file looked like: device, inode, size, mtime and ctime.
type cacheStamp []byte

func (s cacheStamp) is(info *Info) bool {
	var want [5 * 8]byte
	return info.Kind == File && info.Ino != 0 && info.CTime != 0 && bytes.Equal(s, appendStamp(want[:0], info))
}

func appendStamp(p []byte, info *Info) []byte {
	for _, n := range [...]uint64{info.Dev, info.Ino, uint64(info.Size), uint64(info.MTime), uint64(info.CTime)} {
		p = binary.LittleEndian.AppendUint64(p, n)
	}
	return p
}

// cacheReader reads the parts of a cache. After something that is not there it is bad and gives zeros.
type cacheReader struct {
	data []byte
	at   int
	bad  bool
}

func (r *cacheReader) bytes(n int) []byte {
	if n < 0 || r.at < 0 || n > len(r.data)-r.at {
		r.bad, r.at = true, len(r.data)
		return nil
	}
	p := r.data[r.at : r.at+n]
	r.at += n
	return p
}

func (r *cacheReader) uint32() uint32 {
	if p := r.bytes(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (r *cacheReader) byte() byte {
	if p := r.bytes(1); p != nil {
		return p[0]
	}
	return 0
}

// file passes over one file and gives its name and stamp.
func (r *cacheReader) file() (name []byte, stamp cacheStamp) {
	name = r.bytes(int(r.byte()))
	fixed := r.bytes(cacheFixed)
	if r.bad {
		return nil, nil
	}
	if fixed[0]&cacheChunked != 0 {
		r.bytes(int(r.uint32()) * cacheChunk)
	}
	return name, fixed[1 : 1+5*8]
}

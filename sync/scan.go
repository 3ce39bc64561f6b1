package filesync

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"godeploy/internal/fault"
)

// Source is a scanned folder, ready to be sent to any number of hosts at once. Close it.
type Source struct {
	Manifest *Manifest
	// Notes name what was left out by an option and not by a rule, and what else is not sent as it
	// is or came from another file system, one line each, 100 at most.
	Notes []string
	// Hashed counts the files that were read, Trusted those whose hash the cache knew.
	Hashed, Trusted int
	fs              FS
	cache           string // as in ScanOptions
	memo            memo
	seen            sightings
	saving          sync.WaitGroup // the cache, if it is being written
}

// Close lets go of the folder, once the cache is written. No Send may run on the Source any more.
func (s *Source) Close() error {
	s.saving.Wait()
	return errors.Join(s.memo.close(), s.fs.Close())
}

// Scan reads the tree below dir and the content of every file in it that the cache does not know.
// Links inside are never followed. A file that changes while it is read is read again, three times
// in all.
//
// A file whose device, inode, size and times are those it was hashed with is taken to be unchanged,
// unless it was changed less than two seconds before that: clocks of file systems tick slowly. What
// a program writes into a mapped file shows late; ScanOptions.Rehash sees it at once.
//
// All that is wrong with the tree comes as one joined error of code fault.SyncSource, one fault a
// path, 100 at most; fault.SyncSourceChanged is for files that would not hold still.
func Scan(ctx context.Context, dir string, o ScanOptions) (*Source, error) {
	return scanAt(ctx, dir, o, time.Now())
}

// scanAt is Scan at a time of day.
func scanAt(ctx context.Context, dir string, o ScanOptions, began time.Time) (*Source, error) {
	fsys, err := openSource(dir)
	if err != nil {
		return nil, err
	}
	s := &scanner{fs: fsys, o: o, cacheFile: cacheFile(o.Cache, dir), faults: &faults{}}
	s.seen.began = began.UnixNano()
	m, err := s.scan(ctx)
	if err != nil {
		return nil, errors.Join(err, fsys.Close())
	}
	src := &Source{
		Manifest: m, Notes: s.notes.all, Hashed: s.hashed, Trusted: m.Files() - s.hashed, fs: fsys, seen: s.seen, cache: o.Cache,
	}
	if s.cacheFile != "" && s.hashed > 0 {
		// What cannot be kept is hashed again the next time: nobody need hear of it.
		src.saving.Go(func() { _ = saveHashes(s.cacheFile, m, s.seen, s.capable) })
	}
	return src, nil
}

func openSource(dir string) (FS, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return nil, fault.New(fault.SyncSource, "source %s is not a folder", dir)
	}
	var fsys FS
	if err == nil {
		fsys, err = OpenLocal(dir)
	}
	if err != nil {
		return nil, fault.New(fault.SyncSource, "source %s cannot be read", dir).Wrap(errors.Unwrap(err))
	}
	if abs, err := filepath.Abs(dir); err == nil && filepath.Dir(abs) == abs {
		return nil, errors.Join(fault.New(fault.SyncSource, "source %s is the root of the machine", dir), fsys.Close())
	}
	return fsys, nil
}

// scanner is one Scan under way.
type scanner struct {
	fs        FS
	o         ScanOptions
	cacheFile string
	cache     *hashCache
	dev       uint64
	faults    *faults
	notes     remarks
	seen      sightings
	found     atomic.Int64 // files, folders and links so far
	hashed    int          // files that were read

	mu      sync.Mutex
	capable map[int]bool // places of the files that have capabilities
}

// sightings are what the entries of a manifest looked like when they were scanned, in their order.
type sightings struct {
	began int64 // when the scan did, in nanoseconds since 1970
	at    []sighting
}

// sighting is what an Entry does not say of a file.
type sighting struct {
	dev, ino uint64
	ctime    int64
}

// restlessFor is how long before a scan a file must have come to rest, in nanoseconds: one that was changed
// later can be changed again without a sign, since clocks of file systems tick slowly.
const restlessFor = 2e9

// same reports whether info is what the i-th entry was, beyond doubt: then so is the content.
func (s *sightings) same(e *Entry, i int, info *Info) bool {
	return i >= 0 && i < len(s.at) && s.at[i] == sighting{info.Dev, info.Ino, info.CTime} &&
		info.Kind == File && info.Size == e.Size && info.MTime == e.MTime && s.settled(e, i)
}

// settled reports whether the i-th entry was at rest when it was scanned, and can be told from others.
func (s *sightings) settled(e *Entry, i int) bool {
	at := &s.at[i]
	return at.ino != 0 && at.ctime != 0 && at.ctime < s.began-restlessFor && e.MTime < s.began-restlessFor
}

func (s *scanner) workers() int {
	if s.o.Workers > 0 {
		return s.o.Workers
	}
	return min(16, 2*runtime.GOMAXPROCS(0))
}

func (s *scanner) scan(ctx context.Context) (*Manifest, error) {
	if s.o.Rules == nil {
		s.o.Rules = &Rules{flat: always()} // made once and not for every question
	}
	root, err := s.fs.Lstat(".")
	if err != nil {
		return nil, err
	}
	s.dev = root.Dev
	if s.cacheFile != "" && !s.o.Rehash {
		s.cache = loadHashes(s.cacheFile)
	}
	top, err := s.walk(ctx)
	if err != nil {
		return nil, err
	}
	m := s.arrange(top)
	s.cache = nil // all that is known is in m
	s.checkLinks(m)
	if err := s.hash(ctx, m); err != nil {
		return nil, err
	}
	slices.Sort(s.notes.all)
	if err := s.faults.err(); err != nil {
		return nil, err
	}
	if len(m.Entries) == 0 {
		return nil, fault.New(fault.SyncSource, "source is empty").Hint("nothing is there, or the rules leave out all of it")
	}
	if err := m.Check(); err != nil {
		return nil, fault.New(fault.SyncSource, "source cannot be sent").Wrap(err)
	}
	return m, nil
}

// checkLinks applies the policy on links that leave the tree.
func (s *scanner) checkLinks(m *Manifest) {
	if s.o.Symlinks == "any" {
		return
	}
	leaves := make(map[int]bool)
	for i := range m.Entries {
		if e := &m.Entries[i]; e.Kind == Link && m.escapes(e) {
			leaves[i] = true
			if s.o.Symlinks == "skip" {
				s.notes.add("%s is a link that leaves the tree and is left out", e.Path)
				continue
			}
			s.faults.add(fault.SyncSource, e.Path, "is a link that leaves the tree: %q", e.Link).
				Hint(`exclude it, or set [sync] symlinks = "any" or "skip"`)
		}
	}
	if len(leaves) > 0 {
		s.leaveOut(m, leaves)
	}
}

// leaveOut takes entries out of the manifest and what belongs to it.
func (s *scanner) leaveOut(m *Manifest, places map[int]bool) {
	kept := 0
	capable := make(map[int]bool)
	for i := range m.Entries {
		if places[i] {
			continue
		}
		if s.capable[i] {
			capable[kept] = true
		}
		m.Entries[kept], s.seen.at[kept] = m.Entries[i], s.seen.at[i]
		kept++
	}
	clear(m.Entries[kept:])
	m.Entries, s.seen.at, s.capable = m.Entries[:kept], s.seen.at[:kept], capable
}

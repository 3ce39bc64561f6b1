package filesync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"godeploy/internal/fault"
)

// Source is a scanned folder, ready to be sent to any number of hosts at once. Close it.
type Source struct {
	Manifest *Manifest
	// Notes name what was left out by an option and not by a rule, one line each, 100 at most.
	Notes []string
	// Hashed counts the files that were read, Trusted those whose hash the cache knew.
	Hashed, Trusted int
	fs              FS
	cache           string // as in ScanOptions
	memo            memo
}

// Close lets go of the folder. No Send may run on the Source any more.
func (s *Source) Close() error { return errors.Join(s.memo.close(), s.fs.Close()) }

// Scan reads the tree below dir and the content of every file in it. Links inside are never
// followed. A file that changes while it is read is read again, three times in all.
//
// All that is wrong with the tree comes as one joined error of code fault.SyncSource, one fault a
// path, 100 at most; fault.SyncSourceChanged is for files that would not hold still.
func Scan(ctx context.Context, dir string, o ScanOptions) (*Source, error) {
	fsys, err := openSource(dir)
	if err != nil {
		return nil, err
	}
	s := &scanner{fs: fsys, o: o, faults: &faults{}}
	m, err := s.scan(ctx)
	if err != nil {
		return nil, errors.Join(err, fsys.Close())
	}
	return &Source{Manifest: m, Notes: s.notes, fs: fsys, cache: o.Cache}, nil
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

// faults gathers what is wrong with a tree, from many goroutines.
type faults struct {
	mu   sync.Mutex
	all  []*fault.Error
	more int
}

const mostFaults = 100

func (f *faults) add(code fault.Code, path, format string, args ...any) *fault.Error {
	e := fault.New(code, "%s "+format, append([]any{showPath(path)}, args...)...)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.all) < mostFaults {
		f.all = append(f.all, e)
	} else {
		f.more++
	}
	return e
}

// showPath writes a path for people: as it is when that is safe to print, else quoted.
func showPath(path string) string {
	if quoted := fmt.Sprintf("%q", path); quoted != `"`+path+`"` || strings.Contains(path, " ") {
		return quoted
	}
	return path
}

// err joins what was gathered, sorted, so that one tree always gives one message.
func (f *faults) err() error {
	if len(f.all) == 0 {
		return nil
	}
	slices.SortFunc(f.all, func(a, b *fault.Error) int { return cmp.Compare(a.Msg, b.Msg) })
	errs := make([]error, 0, len(f.all)+1)
	for _, e := range f.all {
		errs = append(errs, e)
	}
	if f.more > 0 {
		errs = append(errs, fault.New(fault.SyncSource, "source has %d more such paths", f.more))
	}
	return errors.Join(errs...)
}

// scanner is one Scan under way.
type scanner struct {
	fs      FS
	o       ScanOptions
	dev     uint64
	faults  *faults
	mu      sync.Mutex
	entries []Entry
	notes   []string
}

func (s *scanner) workers() int {
	if s.o.Workers > 0 {
		return s.o.Workers
	}
	return min(16, 2*runtime.GOMAXPROCS(0))
}

func (s *scanner) scan(ctx context.Context) (*Manifest, error) {
	root, err := s.fs.Lstat(".")
	if err != nil {
		return nil, err
	}
	s.dev = root.Dev
	if err := s.walk(ctx); err != nil {
		return nil, err
	}
	slices.SortFunc(s.entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	slices.Sort(s.notes)
	m := &Manifest{Entries: s.entries}
	m.Entries = s.checkLinks(m)
	if err := s.hash(ctx, m); err != nil {
		return nil, err
	}
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

// walk lists all folders, level by level: no recursion, so no depth exhausts it.
func (s *scanner) walk(ctx context.Context) error {
	for level := []string{"."}; len(level) > 0; {
		var mu sync.Mutex
		var next []string
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(s.workers())
		for _, dir := range level {
			g.Go(func() error {
				below, err := s.list(dir)
				mu.Lock()
				next = append(next, below...)
				mu.Unlock()
				return errors.Join(err, ctx.Err())
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		level = next
	}
	return nil
}

// list takes in what is in one folder and gives the folders to go on with.
func (s *scanner) list(dir string) (below []string, err error) {
	infos, err := s.fs.ReadDir(dir)
	if err != nil {
		s.faults.add(fault.SyncSource, dir, "cannot be listed").Wrap(plain(err))
		return nil, nil
	}
	var entries []Entry
	for i := range infos {
		path := join(dir, infos[i].Name)
		if s.o.Rules.Excluded(path, infos[i].Kind == Dir) {
			continue
		}
		e, ok := s.entry(path, &infos[i])
		if !ok {
			continue
		}
		entries = append(entries, e)
		if e.Kind == Dir && !s.foreign(path, &infos[i]) {
			below = append(below, path)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries = append(s.entries, entries...); len(s.entries) > MaxEntries {
		return nil, fault.New(fault.SyncSource, "source has more than %d files and folders", MaxEntries).
			Hint("leave out what need not be sent with [sync] exclude")
	}
	return below, nil
}

// foreign reports whether a folder lies on another file system and is not to be entered.
func (s *scanner) foreign(path string, info *Info) bool {
	if !s.o.OneFileSystem || info.Dev == s.dev {
		return false
	}
	s.note("%s is another file system and is sent empty", showPath(path))
	return true
}

func (s *scanner) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.notes) < 100 {
		s.notes = append(s.notes, fmt.Sprintf(format, args...))
	}
}

// entry makes an entry of what was seen, without its content, if it is to be sent.
func (s *scanner) entry(path string, info *Info) (Entry, bool) {
	e := Entry{Path: path, Kind: info.Kind, Mode: info.Mode, MTime: info.MTime}
	switch {
	case len(path) > MaxPath:
		s.faults.add(fault.SyncSource, path[:64]+"…", "is a path of more than %d bytes", MaxPath)
		return e, false
	case info.Kind == File:
		e.Size = info.Size
	case info.Kind == Link:
		e.Mode = 0
		text, err := s.fs.Readlink(path)
		if err != nil {
			s.faults.add(fault.SyncSource, path, "cannot be read").Wrap(plain(err))
			return e, false
		}
		e.Link = text
	case info.Kind == Special && s.o.Special == "skip":
		s.note("%s is a device, FIFO or socket and is left out", showPath(path))
		return e, false
	case info.Kind == Special:
		s.faults.add(fault.SyncSource, path, "is a device, FIFO or socket").
			Hint(`exclude it, or set [sync] special = "skip"`)
		return e, false
	}
	return e, true
}

// plain takes the path off an error: the message names it already.
func plain(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// checkLinks applies the policy on links that leave the tree and gives the entries that stay.
func (s *scanner) checkLinks(m *Manifest) []Entry {
	if s.o.Symlinks == "any" {
		return m.Entries
	}
	leaves := make(map[string]bool)
	for i := range m.Entries {
		if e := &m.Entries[i]; e.Kind == Link && m.escapes(e) {
			leaves[e.Path] = true
			if s.o.Symlinks == "skip" {
				s.note("%s is a link that leaves the tree and is left out", showPath(e.Path))
				continue
			}
			s.faults.add(fault.SyncSource, e.Path, "is a link that leaves the tree: %q", e.Link).
				Hint(`exclude it, or set [sync] symlinks = "any" or "skip"`)
		}
	}
	return slices.DeleteFunc(m.Entries, func(e Entry) bool { return leaves[e.Path] })
}

package filesync

import (
	"context"
	"io"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"godeploy/internal/fault"
)

// sourceDir is a folder of the source and what of it is to be sent.
type sourceDir struct {
	path  string
	dev   uint64       // file system it lies on
	rules *Rules       // those of the folder it lies in, until it is listed
	infos []Info       // what is in it, sorted; the names are whole paths
	links []string     // texts of the links among infos, in order
	below []*sourceDir // the folders among infos, in order; nil for one that is not entered
	known []uint32     // for each of infos where the cache has its content; nil when it has none
}

// walk lists all folders, several at once.
func (s *scanner) walk(ctx context.Context) (*sourceDir, error) {
	top := &sourceDir{path: ".", dev: s.dev, rules: s.o.Rules}
	w := &walker{todo: []*sourceDir{top}}
	w.more.L = &w.mu
	g, ctx := errgroup.WithContext(ctx)
	for range s.workers() {
		g.Go(func() error {
			for d := w.next(); d != nil; d = w.next() {
				err := s.list(d)
				if err == nil {
					err = ctx.Err()
				}
				if w.done(d, err); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return top, g.Wait()
}

// walker hands out folders to be listed.
type walker struct {
	mu    sync.Mutex
	more  sync.Cond // something changed
	todo  []*sourceDir
	busy  int // folders that are being listed
	ended bool
}

// next gives a folder to be listed, or nil when there are no more.
func (w *walker) next() *sourceDir {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.todo) == 0 && w.busy > 0 && !w.ended {
		w.more.Wait()
	}
	if len(w.todo) == 0 || w.ended {
		return nil
	}
	last := len(w.todo) - 1
	d := w.todo[last]
	w.todo, w.busy = w.todo[:last], w.busy+1
	return d
}

// done takes in what a listed folder has below it; an error ends the walk.
func (w *walker) done(d *sourceDir, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy--
	w.ended = w.ended || err != nil
	for _, b := range d.below {
		if b != nil {
			w.todo = append(w.todo, b)
		}
	}
	w.more.Broadcast()
}

// list fills in what is in one folder.
func (s *scanner) list(d *sourceDir) error {
	infos, err := s.fs.ReadDir(d.path)
	if err != nil {
		s.faults.add(fault.SyncSource, d.path, "cannot be listed").Wrap(plain(err))
		return nil
	}
	rules, err := d.rules.Enter(d.path, infos, func(name string) ([]byte, error) { return s.ruleFile(join(d.path, name)) })
	if err != nil {
		for _, e := range fault.All(err) {
			s.faults.take(e)
		}
		return nil
	}
	d.rules = nil
	wholePaths(d.path, infos)
	kept := 0
	for i := range infos {
		info := &infos[i]
		if rules.Excluded(info.Name, info.Kind == Dir) || !s.takes(d, info) {
			continue
		}
		if info.Kind == Dir {
			d.below = append(d.below, s.below(d, info, rules))
		}
		infos[kept] = *info
		kept++
	}
	d.infos = infos[:kept]
	d.known = s.cache.find(d.path, d.infos)
	return s.countUp(kept)
}

// below gives the folder to go on with, or nil for one that is not entered.
func (s *scanner) below(d *sourceDir, info *Info, rules *Rules) *sourceDir {
	if info.Dev != d.dev && s.o.OneFileSystem {
		s.notes.add("%s is another file system and is sent empty", info.Name)
		return nil
	}
	if info.Dev != d.dev {
		s.notes.add("%s is another file system and is sent with what is in it", info.Name)
	}
	return &sourceDir{path: info.Name, dev: info.Dev, rules: rules}
}

func (s *scanner) countUp(n int) error {
	if s.found.Add(int64(n)) > MaxEntries {
		return fault.New(fault.SyncSource, "source has more than %d files and folders", MaxEntries).
			Hint("leave out what need not be sent with [sync] exclude")
	}
	return nil
}

// wholePaths makes the names in a folder paths, in one string.
func wholePaths(dir string, infos []Info) {
	if dir == "." {
		return
	}
	size := 0
	for i := range infos {
		size += len(dir) + 1 + len(infos[i].Name)
	}
	var text strings.Builder
	text.Grow(size)
	for i := range infos {
		from := text.Len()
		text.WriteString(dir)
		text.WriteByte('/')
		text.WriteString(infos[i].Name)
		infos[i].Name = text.String()[from:]
	}
}

// ruleFile reads a file of rules.
func (s *scanner) ruleFile(path string) ([]byte, error) {
	f, err := s.fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxRuleFile+1))
}

// takes reports whether what was seen is to be sent.
func (s *scanner) takes(d *sourceDir, info *Info) bool {
	path, most := info.Name, s.o.MaxFile
	if most == 0 {
		most = DefaultMaxFile
	}
	switch {
	case len(path) > MaxPath:
		s.faults.add(fault.SyncSource, path[:64]+"…", "is a path of more than %d bytes", MaxPath)
		return false
	case info.Kind == File && info.Size > most:
		s.faults.add(fault.SyncSource, path, "has %d bytes, more than %d", info.Size, most).
			Hint("exclude it; the holes of a sparse file count, too")
		return false
	case info.Kind == Link:
		text, err := s.fs.Readlink(path)
		if err != nil {
			s.faults.add(fault.SyncSource, path, "cannot be read").Wrap(plain(err))
			return false
		}
		d.links = append(d.links, text)
	case info.Kind == Special && s.o.Special == "skip":
		s.notes.add("%s is a device, FIFO or socket and is left out", path)
		return false
	case info.Kind == Special:
		s.faults.add(fault.SyncSource, path, "is a device, FIFO or socket").
			Hint(`exclude it, or set [sync] special = "skip"`)
		return false
	}
	return true
}

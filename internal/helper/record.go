package helper

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

const (
	maxRecord  = 64 << 10  // bytes of one record
	maxRecords = 640 << 10 // bytes of all that are told: State must fit one frame
)

func recordPath(id string) string { return recordsDir + "/" + id + ".json" }

// releases reads the records of the releases whose trees are there, by sequence number. A record
// that makes no sense is passed over: its release is not offered, and not removed either. Of very
// many the oldest are left out.
func (s *Site) releases() ([]wire.Release, error) {
	trees, err := s.names(releasesDir)
	if err != nil {
		return nil, err
	}
	var list []*wire.Release
	for _, id := range trees {
		if wire.CheckID(id) != nil {
			continue
		}
		r, err := s.record(id)
		switch {
		case err == nil:
			list = append(list, &r)
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errRecord):
			return nil, err
		}
	}
	slices.SortFunc(list, func(a, b *wire.Release) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.ID, b.ID))
	})
	return newest(list), nil
}

// newest keeps as many from the end as may be told.
func newest(list []*wire.Release) []wire.Release {
	var told []wire.Release
	room := maxRecords
	for _, r := range slices.Backward(list) {
		b, _ := json.Marshal(r) // it came out of JSON
		if room -= len(b) + 1; room < 0 {
			break
		}
		told = append(told, *r)
	}
	slices.Reverse(told)
	return told
}

var errRecord = errors.New("the record makes no sense")

func (s *Site) record(id string) (wire.Release, error) {
	var r wire.Release
	b, err := s.read(recordPath(id))
	if err != nil {
		return r, err
	}
	if json.Unmarshal(b, &r) != nil || r.Check() != nil || r.ID != id {
		return r, fmt.Errorf("%s: %w", recordPath(id), errRecord)
	}
	return r, nil
}

func (s *Site) read(p string) ([]byte, error) {
	f, err := s.FS.Open(p)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err == nil && len(b) > maxRecord {
		err = fmt.Errorf("%s: %w", p, errRecord)
	}
	return b, errors.Join(err, f.Close())
}

// write puts a record in place, whole and durable.
func (s *Site) write(r wire.Release) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return s.replace(recordPath(r.ID), append(b, '\n'))
}

// replace puts a file in place, whole and durable: a reader sees the old content or the new.
func (s *Site) replace(p string, content []byte) error {
	if err := s.create(p+".new", content); err != nil {
		return err
	}
	if err := s.FS.Rename(p+".new", p); err != nil {
		return err
	}
	return s.FS.SyncDir(path.Dir(p))
}

func (s *Site) create(p string, content []byte) error {
	if err := s.FS.RemoveAll(p); err != nil { // of a run that died
		return err
	}
	f, err := s.FS.Create(p, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Mark records what became of a release; previous is recorded when it is not empty. That it is healthy
// closes the journal's entry too.
func (s *Site) Mark(_ context.Context, id string, mark wire.Mark, previous string) error {
	r, err := s.record(id)
	if err != nil {
		return s.unknown(id, err)
	}
	r.Mark = mark
	if previous != "" {
		r.Previous = previous
	}
	if err := s.write(r); err != nil {
		return explain(err, "write the record of %s", id)
	}
	if mark == wire.MarkHealthy {
		return s.settle(id)
	}
	return nil
}

// unknown says that a release is not there, or why its record cannot be read.
func (s *Site) unknown(id string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.ReleaseUnknown, "release %s is not on this host", id)
	}
	return explain(err, "read the record of %s", id)
}

// next gives the sequence number after the largest in use.
func (s *Site) next() (int, error) {
	names, err := s.names(recordsDir)
	if err != nil {
		return 0, err
	}
	last := 0
	for _, n := range names {
		id, ok := strings.CutSuffix(n, ".json")
		if !ok || wire.CheckID(id) != nil {
			continue
		}
		r, err := s.record(id)
		if err == nil {
			last = max(last, r.Seq)
		} else if !errors.Is(err, errRecord) {
			return 0, err
		}
	}
	return last + 1, nil
}

// explain turns an error of the file system into a fault that says what to do, if one can be said.
// A fault stays as it is, and nil too.
func explain(err error, what string, args ...any) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e
	}
	doing := fmt.Sprintf(what, args...)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.New(fault.DiskFull, "no room left to %s", doing).Wrap(err).
			Hint("the disk, its inodes or the user's quota are used up: see df -h and df -i")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fault.New(fault.SudoNeeded, "this user may not %s", doing).Wrap(err).Try("godeploy setup")
	case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENOTDIR):
		return fault.New(fault.LayoutRefused, "a link or a file stands in the way to %s", doing).Wrap(err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// isDir reports whether p is a folder, not a link to one.
func (s *Site) isDir(p string) (bool, error) {
	info, err := s.FS.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Kind == filesync.Dir, err
}

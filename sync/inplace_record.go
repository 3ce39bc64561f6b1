package filesync

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"time"
)

// record is what the last run left: the tree, and what the inodes of its entries showed then.
type record struct {
	tree   Manifest
	stamps []stamp // of each entry; none where it is not known
}

// knows reports whether the record is of this very tree, times too, with all its stamps.
func (r *record) knows(m *Manifest) bool {
	if len(r.stamps) != len(m.Entries) || len(r.tree.Entries) != len(m.Entries) {
		return false
	}
	for i := range m.Entries {
		a, b := &r.tree.Entries[i], &m.Entries[i]
		if a.Path != b.Path || a.Kind != b.Kind || a.Mode != b.Mode || a.Size != b.Size || a.MTime != b.MTime || a.Hash != b.Hash || a.Link != b.Link {
			return false
		}
	}
	return true
}

// noStampTime is a time of change that no inode shows.
const noStampTime = int64(-1 << 63)

const (
	stampsMagic   = "godeploy stamps 1\n"
	maxStampsFile = 128 << 20
)

// readRecord reads what the last run left. What is missing or damaged is as if there were nothing: then
// all is hashed, which mends it.
func readRecord(fsys FS) *record {
	m, err := ReadManifest(fsys, placeRecord)
	if err != nil {
		return &record{}
	}
	r := &record{tree: *m}
	f, err := fsys.Open(placeStamps)
	if err != nil {
		return r
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxStampsFile))
	if err == nil {
		r.stamps = decodeStamps(content, m)
	}
	return r
}

// encodeStamps writes the stamps of a tree's entries: magic, root, five numbers for each, each as the
// difference to the one before, and a SHA-256 over all of it.
func encodeStamps(m *Manifest, stamps []stamp) []byte {
	root := m.Root()
	buf := append([]byte(stampsMagic), root[:]...)
	var last stamp
	for _, s := range stamps {
		buf = binary.AppendVarint(buf, int64(s.dev-last.dev))
		buf = binary.AppendVarint(buf, int64(s.ino-last.ino))
		buf = binary.AppendVarint(buf, s.size-last.size)
		buf = binary.AppendVarint(buf, s.mtime-last.mtime)
		buf = binary.AppendVarint(buf, s.ctime-last.ctime)
		last = s
	}
	sum := sha256.Sum256(buf)
	return append(buf, sum[:]...)
}

// decodeStamps reads them back, nil when they are damaged or of another tree.
func decodeStamps(content []byte, m *Manifest) []stamp {
	head := len(stampsMagic) + len(Hash{})
	if len(content) < head+sha256.Size {
		return nil
	}
	body, sum := content[:len(content)-sha256.Size], content[len(content)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) || string(body[:len(stampsMagic)]) != stampsMagic ||
		Hash(body[len(stampsMagic):head]) != m.Root() {
		return nil
	}
	body = body[head:]
	stamps := make([]stamp, len(m.Entries))
	var s stamp
	for i := range stamps {
		var n [5]int64
		for k := range n {
			v, used := binary.Varint(body)
			if used <= 0 {
				return nil
			}
			n[k], body = v, body[used:]
		}
		s = stamp{s.dev + uint64(n[0]), s.ino + uint64(n[1]), s.size + n[2], s.mtime + n[3], s.ctime + n[4], 0, 0}
		stamps[i] = s
	}
	if len(body) != 0 {
		return nil
	}
	return stamps
}

// stamps looks once more at what was changed and gives the stamps to record. A file that changed too
// short a while ago could change again without showing it, and one that is not as it was made has been
// changed already: neither is trusted by the next run, which reads it.
func (p *placePlan) stamps(ctx context.Context, o *PlaceOptions, changed []bool) ([]stamp, error) {
	stamps := make([]stamp, len(p.want.Entries))
	var todo []int
	j := 0
	for i := range p.want.Entries {
		for j < len(p.have.stamps) && p.have.tree.Entries[j].Path < p.want.Entries[i].Path {
			j++
		}
		if !changed[i] && j < len(p.have.stamps) && p.have.tree.Entries[j].Path == p.want.Entries[i].Path {
			stamps[i] = p.have.stamps[j]
			continue
		}
		todo = append(todo, i)
	}
	err := o.each(ctx, len(todo), func(k int) error {
		e := &p.want.Entries[todo[k]]
		in, err := o.FS.Lstat(e.Path)
		if errors.Is(err, fs.ErrNotExist) {
			in, err = Info{}, nil
		}
		stamps[todo[k]] = stampOf(&in)
		return err
	})
	now := o.now()
	for i := range stamps {
		if e := &p.want.Entries[i]; e.Kind == File && (stamps[i].size != e.Size || changed[i] && !sameTime(stamps[i].mtime, e.MTime) || racy(&stamps[i], now)) {
			stamps[i].ctime = noStampTime
		}
	}
	return stamps, err
}

// Ticks of the clocks that files are stamped by: a change within the same tick does not show. What a
// whole second shows may be a clock of seconds.
const (
	fineTick   = 50 * time.Millisecond
	coarseTick = 2 * time.Second
)

// racy reports whether a file could change after now and still show this stamp.
func racy(s *stamp, now time.Time) bool {
	if s.ctime == 0 {
		return false // a transport that tells nothing: size and time have to do
	}
	tick := fineTick
	if s.ctime%int64(time.Second) == 0 {
		tick = coarseTick
	}
	return now.UnixNano()-s.ctime < int64(tick)
}

// writeRecord stores what this run leaves. The caller makes it durable; until then, and when it is lost,
// the next run reads more than it needed to.
func writeRecord(fsys FS, m *Manifest, stamps []stamp) error {
	if _, err := MkdirAll(fsys, manifestsDir, 0o755); err != nil {
		return err
	}
	err := replaceFile(fsys, manifestsDir+"/"+placeRecord, m.Encode)
	if err != nil {
		return err
	}
	return replaceFile(fsys, placeStamps, func(w io.Writer) error {
		_, err := w.Write(encodeStamps(m, stamps))
		return err
	})
}

// replaceFile writes a file of the record under a temporary name and moves it into place. Hashes of
// secrets could be guessed from: nobody else reads it.
func replaceFile(fsys FS, path string, content func(io.Writer) error) error {
	dir, name := split(path)
	temp := dir + "/." + name + ".partial"
	if err := fsys.RemoveAll(temp); err != nil {
		return err
	}
	f, err := fsys.Create(temp, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(content(f), f.Close()); err != nil {
		return errors.Join(err, fsys.RemoveAll(temp))
	}
	return fsys.Rename(temp, path)
}

package filesync

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"godeploy/internal/fault"
)

// Place is the host's end of a transfer in place: it makes the folder that o.FS is rooted at what Send
// tells of. What is there already and right stays; new contents come complete and verified into
// .godeploy/place.partial first, and then each replaces its file in one step, so that a reader finds the
// old file or the new one. What the source does not have goes last, with Delete only, and only when all
// before went well. The state is recorded below .godeploy/manifests, so that the next run hashes nothing
// that is as this one leaves it.
//
// Every refusal comes before anything is changed: fault.DeleteRefused for too many deletions,
// fault.LayoutRefused for what is in the way. Whatever interrupts the work, every file is whole, and the
// next Place goes on from there; what has arrived and was not put in place is used by it.
//
// The caller holds the folder's lock, but with DryRun. For ctx, rw and what holds after an error see Send.
func Place(ctx context.Context, o PlaceOptions, rw io.ReadWriter) (PlaceResult, error) {
	// Files are copied, never linked: a later change of the one must not change the other.
	ro := &ReceiveOptions{FS: o.FS, UID: o.UID, GID: o.GID, Workers: o.Workers, Links: "copy", VerifyAll: o.VerifyAll, still: true}
	f := &placeFolder{o: &o}
	stats, err := receive(ctx, ro, f, rw)
	if err != nil {
		return PlaceResult{Stats: stats}, err
	}
	return f.result(stats), nil
}

// placeFolder is the layout of a folder that is changed in place.
type placeFolder struct {
	o     *PlaceOptions
	notes notes
	last  *record
	have  *found
	todo  *placePlan

	names  map[string]string // of want's files whose content is new: where it is made
	staged bool              // placePartial is there and is ours
	begun  bool              // the target is being changed
}

// placeOld is where what has arrived for an earlier run waits to be used.
const placeOld = ".godeploy/place.old"

func (f *placeFolder) check() error { return nil }

// parent gives the tree that the last run made, which a sender may know.
func (f *placeFolder) parent(context.Context) (*basis, error) {
	f.last = readRecord(f.o.FS)
	return &basis{dir: ".", manifest: &f.last.tree, timed: true}, nil
}

// inspect looks at what is there.
func (f *placeFolder) inspect(ctx context.Context, _ *basis) error {
	have, err := look(ctx, f.o, &f.notes)
	if err != nil {
		return placeFault(err)
	}
	have.recall(f.last)
	f.have = have
	return nil
}

// done decides what is to be done, and reports whether that is nothing at all. From here on the parent is
// what is there, as far as it is known.
func (f *placeFolder) done(ctx context.Context, parent *basis, want *Manifest) (bool, error) {
	have, err := f.have.reveal(ctx, f.o, want, &f.notes)
	if err != nil {
		return false, placeFault(err)
	}
	f.have = have
	if err := have.learn(ctx, f.o, want); err != nil {
		return false, placeFault(err)
	}
	if f.todo, err = planPlace(have, want, f.o); err != nil {
		return false, err
	}
	if f.o.DryRun || f.todo.idle() {
		return true, nil
	}
	parent.manifest = &have.tree
	parent.states = make([]state, len(have.tree.Entries))
	for j := range parent.states {
		if !have.tree.Entries[j].Hash.IsZero() {
			parent.states[j] = sameContent
		}
	}
	return false, nil
}

// prepare makes sure that there is room, and makes the folder for what comes.
func (f *placeFolder) prepare(_ context.Context, r *receiver) error {
	if err := f.room(r); err != nil {
		return err
	}
	if len(f.todo.puts) == 0 {
		return nil
	}
	f.name(r)
	if err := f.o.FS.RemoveAll(placePartial); err != nil {
		return err
	}
	f.staged = true
	shards := map[string]bool{placePartial: true}
	for _, name := range f.names {
		shards[path.Dir(name)] = true
	}
	for _, dir := range sortedKeys(shards) {
		if _, err := MkdirAll(f.o.FS, dir, 0o700); err != nil {
			return err
		}
	}
	return checkFold(f.o.FS, placePartial, r.want)
}

func sortedKeys(m map[string]bool) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// manyPuts is from how many files on they are made in several folders: one folder is made in by one
// process at a time.
const manyPuts = 1000

// name says where each new content is made. Names tell the content, so that a later run finds it.
func (f *placeFolder) name(r *receiver) {
	f.names = make(map[string]string, len(f.todo.puts))
	for _, i := range f.todo.puts {
		e := &r.want.Entries[i]
		of := sum([]byte(e.Path))
		name := hex.EncodeToString(e.Hash[:]) + "-" + hex.EncodeToString(of[:8])
		if len(f.todo.puts) >= manyPuts {
			name = name[:2] + "/" + name
		}
		f.names[e.Path] = placePartial + "/" + name
	}
}

func (f *placeFolder) path(e *Entry) string { return f.names[e.Path] }

// room refuses a source that would fill the disk before anything of it is written.
func (f *placeFolder) room(r *receiver) error {
	space, err := f.o.FS.Free()
	if err != nil {
		return err
	}
	var bytes int64
	for _, i := range f.todo.puts {
		bytes += r.want.Entries[i].Size
	}
	nodes := int64(len(f.todo.puts) + len(f.todo.folders) + len(f.todo.links))
	if space.Bytes >= 0 && bytes > space.Bytes {
		return fault.New(fault.DiskFull, "disk has room for %d bytes, and the new files need %d before the old ones go", space.Bytes, bytes).
			Hint("make room")
	}
	if space.Nodes >= 0 && nodes > space.Nodes {
		return fault.New(fault.InodeFull, "disk has room for %d files, and %d are new", space.Nodes, nodes).Hint("make room")
	}
	return nil
}

// others gives what arrived for a run that was broken off.
func (f *placeFolder) others(ctx context.Context, _ int64) []*basis {
	// What is used must not be where new files are made.
	if free, err := missing(f.o.FS, placePartial); err == nil && !free {
		if f.o.FS.RemoveAll(placeOld) != nil || f.o.FS.Rename(placePartial, placeOld) != nil {
			return nil // then it is of no use
		}
	}
	wanted := make(map[Hash]*Entry, len(f.todo.puts))
	for _, i := range f.todo.puts {
		wanted[f.todo.want.Entries[i].Hash] = &f.todo.want.Entries[i]
	}
	m := &Manifest{}
	for level := []string{"."}; len(level) > 0 && ctx.Err() == nil; level = level[1:] {
		infos, err := f.o.FS.ReadDir(join(placeOld, level[0]))
		if err != nil {
			continue
		}
		for _, in := range infos {
			p := join(level[0], in.Name)
			if in.Kind == Dir && len(in.Name) == 2 && level[0] == "." {
				level = append(level, p)
			}
			if e := wanted[hashInName(in.Name)]; e != nil && in.Kind == File {
				m.Entries = append(m.Entries, arrived(p, &in, e))
			}
		}
	}
	if len(m.Entries) == 0 {
		return nil
	}
	slices.SortFunc(m.Entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return []*basis{{dir: placeOld, manifest: m, doubted: true}}
}

// arrived is the entry of a file that has come, or of as many of its chunks as have.
func arrived(path string, in *Info, want *Entry) Entry {
	e := Entry{Path: path, Kind: File, Mode: in.Mode, Size: in.Size, MTime: in.MTime}
	if in.Size == want.Size {
		e.Hash, e.Chunks = want.Hash, want.Chunks
		return e
	}
	room := in.Size
	for _, c := range want.Chunks {
		if room -= int64(c.Len); room < 0 {
			break
		}
		e.Chunks = append(e.Chunks, c)
	}
	return e
}

func hashInName(name string) (h Hash) {
	if len(name) > 2*len(h) && name[2*len(h)] == '-' {
		if n, err := hex.Decode(h[:], []byte(name[:2*len(h)])); err == nil && n == len(h) {
			return h
		}
	}
	return Hash{}
}

// finish puts all of it in place.
func (f *placeFolder) finish(ctx context.Context, r *receiver) error {
	if err := r.makeTwins(ctx); err != nil {
		return err
	}
	f.begun = true
	err := applyPlace(ctx, f.todo, f.o, &f.notes, func(i int) string { return f.names[r.want.Entries[i].Path] })
	if err == nil {
		f.staged = false
	}
	return err
}

// abandon removes what has come, or leaves it for a later run: also when only part of it is in place.
func (f *placeFolder) abandon(keep bool) error {
	if !f.staged || keep || f.begun {
		return nil
	}
	return f.o.FS.RemoveAll(placePartial)
}

func (f *placeFolder) result(stats Stats) PlaceResult {
	for _, j := range f.todo.kept {
		if e := &f.have.tree.Entries[j]; e.Kind == Dir && f.have.guards[j] == 0 {
			f.notes.add("%s is kept: a rule protects something in it", showPath(e.Path))
		}
	}
	return PlaceResult{
		Stats: stats, Same: f.todo.same, Written: len(f.todo.puts), Touched: len(f.todo.touch),
		Made: len(f.todo.folders) + len(f.todo.links), Deleted: f.todo.deleted, Kept: len(f.todo.kept), Hashed: f.have.hashed,
		Notes: f.notes.lines(), Changes: f.todo.changes,
	}
}

// clearPlace removes what is left of runs.
func clearPlace(fsys FS) error {
	for _, dir := range []string{placePartial, placeOld} {
		if _, err := fsys.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := fsys.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

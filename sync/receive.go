package filesync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"godeploy/internal/fault"
)

// Receive is the host's end of a transfer: it builds the tree that Send tells of in
// releases/.ID.partial, out of the parent's unchanged files and of what is sent, verifies every
// content, stores the manifest as .godeploy/manifests/ID, makes all of it durable and renames it to
// releases/ID. Before that rename nothing is at releases/ID; a failure leaves releases/.ID.partial
// at most, which the next Receive of the same ID removes first.
//
// Permission bits are exactly the source's, whatever the umask; times are the source's, but for
// linked files, which keep theirs. Release folders themselves are made 0755.
//
// For ctx, rw and what holds after an error see Send. Errors of the sender come back as the faults
// they were.
func Receive(ctx context.Context, o ReceiveOptions, rw io.ReadWriter) (Stats, error) {
	stop := closeAfter(ctx, rw)
	defer stop()
	c := &counted{r: rw, w: rw}
	r := &receiver{o: o, in: &frameReader{r: c}, out: newFrameWriter(c), stage: releasesDir + "/." + o.ID + ".partial"}
	defer r.in.close()
	err := r.run(ctx)
	r.stats.Sent, r.stats.Received = c.wrote, c.read
	if err == nil {
		return r.stats, nil
	}
	if ctx.Err() != nil {
		return r.stats, ctx.Err()
	}
	if r.staged && !r.in.bad {
		err = errors.Join(err, o.FS.RemoveAll(r.stage))
	}
	r.fail(err)
	return r.stats, err
}

func (o *ReceiveOptions) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	return 8
}

// check refuses options that lead to no release.
func (o *ReceiveOptions) check() error {
	for _, id := range []string{o.ID, o.Parent} {
		if id == "" && o.ID != "" {
			continue
		}
		if checkName(id) != nil || strings.HasPrefix(id, ".") || len(id) > 200 {
			return fault.New(fault.LayoutRefused, "release id %q is no name of a folder", id)
		}
	}
	for _, path := range o.Carry {
		if path == "." || checkPath(path) != nil {
			return fault.New(fault.LayoutRefused, "path to carry %q is not a clean relative one", path)
		}
	}
	switch o.Links {
	case "", "auto", "hard", "copy":
		return nil
	}
	return fault.New(fault.ConfigValue, "links %q is unknown", o.Links).Hint("auto, hard or copy")
}

// receiver is one Receive under way.
type receiver struct {
	o      ReceiveOptions
	in     *frameReader
	out    *frameWriter
	stage  string
	staged bool // the stage is there and is ours
	parent *parentTree
	want   *Manifest
	items  []item
	stats  Stats

	mu     sync.Mutex
	failed []int // items whose content was not what it should be
}

func (r *receiver) run(ctx context.Context) error {
	if err := r.o.check(); err != nil {
		return err
	}
	r.parent = openParent(r.o.FS, r.o.Parent)
	root := r.parent.root()
	if err := r.out.last(frameHello, append([]byte(streamMagic), root[:]...)); err != nil {
		return lost(err)
	}
	if err := r.readTree(); err != nil {
		return err
	}
	if err := r.parent.inspect(ctx, &r.o); err != nil {
		return err
	}
	r.stats.Files, r.stats.Bytes = r.want.Files(), r.want.Bytes()
	r.stats.Unchanged = root == r.want.Root()
	if r.o.SkipUnchanged && r.stats.Unchanged && r.parent.intact {
		return r.done()
	}
	if err := r.build(ctx); err != nil {
		return err
	}
	return r.done()
}

// readTree reads Start and what the tree is.
func (r *receiver) readTree() error {
	start, err := r.in.expect(frameStart)
	if err != nil {
		return lost(err)
	}
	n := len(streamMagic)
	if len(start) != n+2 || string(start[:n]) != streamMagic || start[n] > encodingZstd || start[n+1] > formChanges {
		return lost(errors.New("sender speaks another version"))
	}
	encoding, form := start[n], start[n+1]
	if encoding == encodingZstd {
		if err := r.in.decompress(); err != nil {
			return lost(err)
		}
	}
	tree := &longReader{f: r.in, t: frameTree}
	if form == formChanges {
		r.want, err = decodeChanges(tree, r.parent.manifest)
	} else {
		r.want, err = decodeManifest(tree)
	}
	if err != nil {
		return lost(err)
	}
	return nil
}

func (r *receiver) done() error {
	if err := r.out.last(frameDone, encodeStats(r.stats)); err != nil {
		return lost(err)
	}
	return nil
}

// build makes the release.
func (r *receiver) build(ctx context.Context) error {
	var units *unitSet
	r.items, units = plan(r.parent.manifest, r.parent.states, r.want, r.o.Links != "copy")
	if err := r.prepare(); err != nil {
		return err
	}
	if err := r.out.long(frameWant, units.encode); err != nil {
		return lost(err)
	}
	if err := r.makeFolders(ctx); err != nil {
		return err
	}
	if err := r.round(ctx, units, true); err != nil {
		return err
	}
	if err := r.secondRound(ctx); err != nil {
		return err
	}
	for i := range r.items {
		if r.items[i].from == fromLink {
			r.stats.Linked++
		} else {
			r.stats.Written++
		}
	}
	return r.finish(ctx)
}

// secondRound asks once more for what was not what it should be.
func (r *receiver) secondRound(ctx context.Context) error {
	if len(r.failed) == 0 {
		return nil
	}
	again := make(map[*Entry]bool, len(r.failed))
	for _, i := range r.failed {
		r.items[i].again()
		again[r.items[i].entry] = true
	}
	r.failed = nil
	units, at := newUnitSet(r.want.units()), 0
	for i := range r.want.Entries {
		e := &r.want.Entries[i]
		for n := range e.units() {
			if again[e] {
				units.add(at + n)
			}
		}
		at += e.units()
	}
	if err := r.out.long(frameWant, units.encode); err != nil {
		return lost(err)
	}
	if err := r.round(ctx, units, false); err != nil {
		return err
	}
	if len(r.failed) > 0 {
		return fault.New(fault.SyncVerify, "%s is not what was sent, twice", showPath(r.items[r.failed[0]].entry.Path)).
			Hint("the disk or the connection changes what goes through it")
	}
	return nil
}

// prepare makes sure that there is room and that the release is not there yet, and makes its stage.
func (r *receiver) prepare() error {
	fsys := r.o.FS
	free, err := missing(fsys, releasesDir+"/"+r.o.ID)
	if err != nil {
		return r.diskFault(err)
	}
	if !free {
		return fault.New(fault.LayoutRefused, "release %s is there already", r.o.ID)
	}
	if err := fsys.RemoveAll(r.stage); err != nil {
		return r.diskFault(err)
	}
	if err := r.room(); err != nil {
		return err
	}
	if _, err := MkdirAll(fsys, releasesDir, 0o755); err != nil {
		return r.diskFault(err)
	}
	if err := fsys.Mkdir(r.stage, 0o755); err != nil {
		return r.diskFault(err)
	}
	r.staged = true
	return nil
}

// room refuses a tree that would fill the disk before anything of it is written.
func (r *receiver) room() error {
	space, err := r.o.FS.Free()
	if err != nil {
		return r.diskFault(err)
	}
	var bytes int64
	nodes := int64(len(r.want.Entries))
	for i := range r.items {
		if r.items[i].from == fromLink {
			nodes--
			continue
		}
		bytes += r.items[i].entry.Size
	}
	if space.Bytes >= 0 && bytes > space.Bytes {
		return fault.New(fault.DiskFull, "disk has room for %d bytes and the release needs %d", space.Bytes, bytes).
			Hint("keep fewer releases, or make room")
	}
	if space.Nodes >= 0 && nodes > space.Nodes {
		return fault.New(fault.InodeFull, "disk has room for %d files and the release needs %d", space.Nodes, nodes).
			Hint("keep fewer releases, or make room")
	}
	return nil
}

// fail tells the sender and reads on until it has heard.
func (r *receiver) fail(err error) {
	if r.out.last(frameError, encodeFault(err)) != nil {
		return // nobody is there
	}
	if _, told := errors.AsType[peerError](err); told {
		return
	}
	for !r.in.bad {
		t, _, err := r.in.read()
		if err != nil || t == frameStop || t == frameError {
			return
		}
	}
}

// diskFault makes a fault of what the host's file system said.
func (r *receiver) diskFault(err error) error {
	switch {
	case err == nil || isFault(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case isFull(err):
		return fault.New(fault.DiskFull, "disk is full").Hint("keep fewer releases, or make room").Wrap(err)
	}
	return fmt.Errorf("release %s: %w", r.o.ID, err)
}

package filesync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"godeploy/internal/fault"
)

// Receive is the host's end of a transfer: it builds the tree that Send tells of in
// releases/.ID.partial, out of what releases on this host have and of what is sent, verifies every
// content that comes, stores the manifest as .godeploy/manifests/ID, makes all of it durable and
// renames it to releases/ID. Before that rename nothing is at releases/ID.
//
// When the stream breaks or ctx ends, releases/.ID.partial may stay with a manifest beside the
// others: what it holds is used, once verified, by the next Receive of any ID, which removes it. After
// any other failure nothing stays.
//
// Permission bits are exactly the source's, whatever the umask; times are the source's, but for
// linked files, which keep theirs. Release folders themselves are made 0755.
//
// For ctx, rw and what holds after an error see Send. Errors of the sender come back as the faults
// they were.
func Receive(ctx context.Context, o ReceiveOptions, rw io.ReadWriter) (Stats, error) {
	return receive(ctx, &o, &releaseFolder{o: &o}, rw)
}

// layout says where what is received comes to lie.
type layout interface {
	// check refuses options that lead nowhere.
	check() error
	// parent gives the tree to build on, not inspected yet; its manifest may be empty.
	parent(ctx context.Context) (*basis, error)
	// inspect fills in the parent's states.
	inspect(ctx context.Context, parent *basis) error
	// others gives more trees that may have what the parent lacks, which is so many bytes.
	others(ctx context.Context, lacking int64) []*basis
	// done reports whether the tree needs nothing made at all. It may change the parent: what is built
	// comes out of that.
	done(ctx context.Context, parent *basis, want *Manifest) (bool, error)
	// prepare makes the stage for what the blueprint says.
	prepare(ctx context.Context, r *receiver) error
	// path is where a file is made.
	path(e *Entry) string
	// finish makes the rest and puts all of it in place.
	finish(ctx context.Context, r *receiver) error
	// abandon cleans up after a failure; keep says that what has come may be of use.
	abandon(keep bool) error
}

func receive(ctx context.Context, o *ReceiveOptions, l layout, rw io.ReadWriter) (Stats, error) {
	stop := closeAfter(ctx, rw)
	defer stop()
	c := &counted{r: rw, w: rw}
	r := &receiver{o: o, layout: l, in: &frameReader{r: c}, out: newFrameWriter(c)}
	err := r.run(ctx)
	r.stats.Sent, r.stats.Received = c.wrote, c.read
	if err == nil {
		return r.stats, nil
	}
	err = errors.Join(err, l.abandon(r.in.bad || ctx.Err() != nil))
	if ctx.Err() != nil {
		return r.stats, ctx.Err()
	}
	defer closeLater(rw)()
	r.fail(err)
	return r.stats, err
}

func (o *ReceiveOptions) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	if far, ok := o.FS.(Far); ok {
		return far.InFlight()
	}
	return 8
}

// receiver is one transfer under way, seen from the host.
type receiver struct {
	o      *ReceiveOptions
	layout layout
	in     *frameReader
	out    *frameWriter
	parent *basis
	ahead  bool // the sender sends content before it is asked
	*blueprint
	stats Stats

	mu     sync.Mutex
	failed []int32 // items whose content was not what it should be
}

func (r *receiver) run(ctx context.Context) error {
	if err := r.layout.check(); err != nil {
		return err
	}
	var err error
	if r.parent, err = r.layout.parent(ctx); err != nil {
		return err
	}
	root := r.parent.root()
	if err := r.out.last(frameHello, append([]byte(streamMagic), root[:]...)); err != nil {
		return lost(err)
	}
	// The parent is looked at while the sender still speaks.
	g, inspecting := errgroup.WithContext(ctx)
	g.Go(func() error { return r.layout.inspect(inspecting, r.parent) })
	want, err := r.readTree(root)
	if inspectErr := g.Wait(); err == nil {
		err = inspectErr
	}
	if err != nil {
		return err
	}
	r.stats.Files, r.stats.Bytes = want.Files(), want.Bytes()
	// Told to be the same it is the same list, which need not be hashed again.
	r.stats.Unchanged = want == r.parent.manifest || root == want.identity(r.parent.timed)
	done, err := r.layout.done(ctx, r.parent, want)
	if err != nil {
		return err
	}
	if !done {
		if err := r.build(ctx, want); err != nil {
			return err
		}
	}
	if err := r.out.last(frameDone, encodeStats(r.stats)); err != nil {
		return lost(err)
	}
	return nil
}

// startHead is the length of Start's payload.
const startHead = len(streamMagic) + len(Hash{}) + 2

// readTree reads Start and what the tree is. A sender that took the parent for another one begins
// anew once it has read Hello; what it said before is passed over.
func (r *receiver) readTree(root Hash) (*Manifest, error) {
	for again := false; ; again = true {
		start, err := r.in.expect(frameStart)
		if err != nil {
			return nil, lost(err)
		}
		n := len(streamMagic)
		if len(start) != startHead || string(start[:n]) != streamMagic || start[startHead-1] > 1 {
			return nil, lost(errors.New("sender speaks another version"))
		}
		on, how := Hash(start[n:]), form(start[startHead-2])
		r.ahead = start[startHead-1] == 1
		if on == root || how == formWhole {
			m, err := r.tree(how)
			if err != nil {
				return nil, lost(err)
			}
			return m, nil
		}
		if again {
			return nil, lost(errors.New("sender builds on another tree"))
		}
		if err := r.skipTree(how); err != nil {
			return nil, lost(err)
		}
	}
}

// tree reads the tree in the form that Start told.
func (r *receiver) tree(how form) (m *Manifest, err error) {
	switch how {
	case formSame:
		if m = r.parent.manifest; len(m.Entries) == 0 {
			err = errors.New("the same as nothing")
		}
	case formWhole:
		err = r.in.long(frameTree, nil, func(in io.Reader) error {
			m, err = decodeManifest(in)
			return err
		})
	case formChanges:
		err = r.in.long(frameTree, nil, func(in io.Reader) error {
			m, err = decodeChanges(in, r.parent.manifest)
			return err
		})
	case formSegments:
		return r.segments()
	default:
		err = fmt.Errorf("tree of form %d", how)
	}
	return m, err
}

// segments reads the sums of the tree's segments and asks for those that the parent lacks.
func (r *receiver) segments() (m *Manifest, err error) {
	var told segmentSums
	err = r.in.long(frameTree, nil, func(in io.Reader) error {
		told, err = decodeSegments(in)
		return err
	})
	if err != nil {
		return nil, err
	}
	need := missingSegments(r.parent.manifest, told)
	if err := r.out.long(frameNeed, need.encode); err != nil {
		return nil, err
	}
	err = r.in.long(frameTree, nil, func(in io.Reader) error {
		m, err = joinSegments(in, told, need)
		return err
	})
	return m, err
}

// skipTree reads over what a sender said that had not heard Hello.
func (r *receiver) skipTree(how form) error {
	ends := 0 // of messages and rounds
	switch {
	case how == formSame:
	case how != formChanges:
		return fmt.Errorf("tree of form %d for another parent", how)
	default:
		ends++
	}
	if r.ahead {
		ends += 2
	}
	for ends > 0 {
		t, payload, err := r.in.read()
		switch {
		case err != nil:
			return err
		case t == frameError:
			return decodeFault(payload)
		case t == frameEnd, len(payload) == 0 && (t == frameTree || t == frameAhead):
			ends--
		case t != frameTree && t != frameAhead && t != frameBatch:
			return fmt.Errorf("frame of type %d", t)
		}
	}
	return nil
}

// enough is how many bytes may be lacking before other trees than the parent are searched for them:
// below it, to have them sent is as quick.
const enough = 256 << 10

// build makes the tree.
func (r *receiver) build(ctx context.Context, want *Manifest) error {
	bases := []*basis{r.parent}
	r.blueprint = r.draft(bases, want)
	if _, lacking := r.units(); lacking > enough {
		if more := r.layout.others(ctx, lacking); len(more) > 0 {
			r.blueprint = r.draft(append(bases, more...), want)
		}
	}
	if err := r.bringNear(ctx); err != nil {
		return r.diskFault(err)
	}
	if err := r.layout.prepare(ctx, r); err != nil {
		return r.diskFault(err)
	}
	if err := r.contents(ctx); err != nil {
		return err
	}
	for i := range r.items {
		switch r.items[i].from {
		case fromLink, fromPlace:
			r.stats.Linked++
		default:
			r.stats.Written++
		}
	}
	return r.diskFault(r.layout.finish(ctx, r))
}

func (r *receiver) draft(bases []*basis, want *Manifest) *blueprint {
	return draft(bases, want, draftOptions{
		state: func(b *basis, i int) state { return b.state(r.o, i) },
		links: r.o.Links != "copy" && r.o.Links != "reflink", still: r.o.still,
	})
}

// contents makes all files, round by round, until nothing is lacking.
func (r *receiver) contents(ctx context.Context) error {
	first := true
	if r.ahead {
		set := new(unitSet)
		err := r.in.long(frameAhead, nil, func(in io.Reader) (err error) {
			set, err = decodeUnits(in, r.want.units())
			return err
		})
		if err != nil {
			return lost(err)
		}
		if err := r.round(ctx, set, nil, first); err != nil {
			return err
		}
		first = false
	}
	for n := 0; ; n++ {
		lacking, bytes := r.units()
		if bytes == 0 && !first {
			return nil
		}
		if bytes == 0 { // what seems to be here may turn out not to be
			if err := r.round(ctx, nil, nil, first); err != nil {
				return err
			}
			first, n = false, n-1
			continue
		}
		if n == maxRounds {
			return r.twice()
		}
		signed := r.sign(lacking)
		err := r.out.long(frameWant, func(w io.Writer) error { return encodeWant(w, lacking, signed) })
		if err != nil {
			return lost(err)
		}
		if err := r.round(ctx, lacking, signed, first); err != nil {
			return err
		}
		first = false
	}
}

// twice is the error for content that was wrong as often as it was asked for.
func (r *receiver) twice() error {
	i := slices.IndexFunc(r.items, func(it item) bool { return !it.made && it.tries > 0 })
	if i < 0 {
		return lost(errors.New("sender left out what was asked for"))
	}
	return fault.New(fault.SyncVerify, "%s did not arrive as it was scanned", showPath(r.file(int32(i)).Path)).
		Hint("something writes into the mapped file at the source, or the disk or the connection changes what goes through it")
}

// fail tells the sender and reads on until it has heard, or so much has come that it never will.
func (r *receiver) fail(err error) {
	if r.out.last(frameError, encodeFault(err)) != nil {
		return // nobody is there
	}
	if _, told := errors.AsType[peerError](err); told {
		return
	}
	for dropped := 0; !r.in.bad && dropped < maxDropped; {
		t, payload, err := r.in.read()
		if err != nil || t == frameStop || t == frameError {
			return
		}
		dropped += max(len(payload), leastFrame)
	}
}

// diskFault makes a fault of what the host's file system said.
func (r *receiver) diskFault(err error) error {
	switch {
	case err == nil || isFault(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case isFull(err):
		return fault.New(fault.DiskFull, "disk is full").Hint("keep fewer releases, or make room").Wrap(err)
	case r.o.ID == "":
		return err
	}
	return fmt.Errorf("release %s: %w", r.o.ID, err)
}

// parallel runs f for 0 to n-1, so many at once, until one fails.
func parallel(ctx context.Context, workers, n int, f func(i int) error) error {
	const block = 16
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(workers, (n+block-1)/block) {
		g.Go(func() error {
			for {
				first := int(next.Add(block)) - block
				for i := first; i < min(first+block, n); i++ {
					if err := ctx.Err(); err != nil {
						return err
					}
					if err := f(i); err != nil {
						return err
					}
				}
				if first >= n {
					return nil
				}
			}
		})
	}
	return g.Wait()
}

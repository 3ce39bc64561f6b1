package filesync

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"godeploy/internal/fault"
)

// Where a sync in place keeps what it needs between two runs, below the target folder.
const (
	placePartial = ".godeploy/place.partial" // new contents, until all are there; what is moved out of the way
	placeRecord  = "inplace"                 // name of the manifest of the last run, among the others
	placeStamps  = manifestsDir + "/inplace.stamps"
	placeTemp    = ".godeploy-place." // begins a temporary name beside a target on another file system
)

// PlaceOptions say how a folder is made equal to a source in place. FS must be set; UID and GID are -1
// where owners are left alone.
type PlaceOptions struct {
	FS        FS           // rooted at the target folder
	Rules     *FolderRules // what Delete leaves alone; nil: .git and .godeploy
	Delete    bool         // remove what the source does not have
	Limit     MaxDelete    // of Delete
	DryRun    bool         // change nothing, not even below .godeploy
	VerifyAll bool         // hash what looks as the last run left it, too
	List      bool         // gather PlaceResult.Changes
	UID, GID  int          // owner and group of everything the source has; -1 leaves or keeps them
	KeepOwner bool         // with UID -1: a file that replaces another gets that one's owner; needs root
	Workers   int          // things worked on at once; 0: 8
	// Avoid is the source's own folder, if it is on this machine: a target that has it inside is refused.
	Avoid Identity
	// Now gives the time by the clock of the host; nil: time.Now.
	Now func() time.Time
}

// Identity is a folder on this machine. The zero value is none.
type Identity struct{ Dev, Ino uint64 }

// MaxDelete bounds what one run may delete. The zero value means 50 percent.
type MaxDelete struct {
	N       int  // things, or percent of what is there
	Percent bool // N is a percentage
	Set     bool // N counts even when it is 0
}

// fewDeletes may always go, whatever the percentage: half of a handful says nothing. A source with
// hardly anything in it has no such allowance.
const fewDeletes = 10

// of gives how many of there things may be deleted for a source of so many entries.
func (m MaxDelete) of(there, source int) int {
	if m.N == 0 && !m.Set {
		m = MaxDelete{N: 50, Percent: true}
	}
	if !m.Percent {
		return m.N
	}
	n := int(int64(there) * int64(m.N) / 100)
	if source > 1 && m.N > 0 {
		n = max(n, fewDeletes)
	}
	return n
}

// String gives "20" or "50%".
func (m MaxDelete) String() string {
	switch {
	case m.N == 0 && !m.Set:
		return "50%"
	case m.Percent:
		return fmt.Sprintf("%d%%", m.N)
	}
	return fmt.Sprint(m.N)
}

// PlaceChange is one difference between the target and the source, or something Delete leaves alone.
type PlaceChange struct {
	Op   Op // Keep for what is left alone
	Kind Kind
	Why  Why
	Path string
	Size int64 // of the file as wanted, or as it was when it is deleted or kept
}

// Keep says that something stays that the source does not have.
const Keep Op = "keep"

// Why is a set of reasons for a change.
type Why uint16

// The reasons.
const (
	WhyNew       Why = 1 << iota // nothing was there
	WhyContent                   // other content of the same size, or another link text
	WhySize                      // other content of another size
	WhyMode                      // other permission bits
	WhyTime                      // another modification time
	WhyOwner                     // another owner or group
	WhyType                      // something of another kind was there
	WhyDeleted                   // the source does not have it
	WhyProtected                 // the source does not have it, and a rule protects it or something in it
)

// PlaceResult is what a sync in place did, or with DryRun would have done.
type PlaceResult struct {
	Stats   Stats
	Same    int      // files that were right already
	Written int      // files with new content
	Touched int      // things of which only mode, time or owner changed
	Made    int      // folders and links made or replaced
	Deleted int      // files, links and folders
	Kept    int      // things Delete left alone
	Hashed  int      // files of the target that had to be read
	Notes   []string // one line each, safe to print, 100 at most
	Changes []PlaceChange
}

func (o *PlaceOptions) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	return 8
}

func (o *PlaceOptions) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// each runs f for 0 to n-1, some at once, until one fails or ctx ends.
func (o *PlaceOptions) each(ctx context.Context, n int, f func(i int) error) error {
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(o.workers())
	for i := 0; i < n && running.Err() == nil; i++ {
		g.Go(func() error { return f(i) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// notes gathers lines for the operator, from many goroutines.
type notes struct {
	mu   sync.Mutex
	all  []string
	more int
}

const mostNotes = 100

func (n *notes) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.all) < mostNotes-1 {
		n.all = append(n.all, fmt.Sprintf(format, args...))
	} else {
		n.more++
	}
}

// lines gives them sorted, so that one tree always gives one text.
func (n *notes) lines() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	lines := slices.Sorted(slices.Values(n.all))
	if n.more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more such lines", n.more))
	}
	return lines
}

// placeFault makes a fault of what the host's file system said.
func placeFault(err error) error {
	if err == nil || isFault(err) {
		return err
	}
	if isFull(err) {
		return fault.New(fault.DiskFull, "disk is full").Hint("make room").Wrap(err)
	}
	return err
}

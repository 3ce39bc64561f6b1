package filesync

import (
	"cmp"
	"slices"
	"strings"

	"godeploy/internal/fault"
)

// placePlan says what makes a target equal to a source. Numbers are places of entries of the one or the
// other; all lists hold outer folders before what is in them.
type placePlan struct {
	want    *Manifest
	have    *found
	aside   []int // of have: folders that give way to something else, and what gives way to a folder
	folders []int // of want: to make
	puts    []int // of want: files whose content is new
	links   []int // of want: links to make or replace
	touch   []touch
	remove  []int // of have
	kept    []int // of have: what Delete would remove, but for a rule
	same    int   // files that are right already
	deleted int   // have entries that go, those in folders that give way too
	changes []PlaceChange
}

// touch is a change of something that stays otherwise as it is.
type touch struct {
	want, have int
	why        Why
}

// planPlace compares what is there with what is wanted. It does no input or output. It refuses what
// cannot be done, and what would delete too much, before anything is changed.
func planPlace(have *found, want *Manifest, o *PlaceOptions) (*placePlan, error) {
	p := &placer{placePlan: &placePlan{want: want, have: have}, o: o, fate: make([]fate, len(have.tree.Entries))}
	p.compareAll()
	if err := p.extras(); err != nil {
		return nil, err
	}
	if err := p.limit(); err != nil {
		return nil, err
	}
	slices.SortFunc(p.changes, func(a, b PlaceChange) int { return strings.Compare(a.Path, b.Path) })
	return p.placePlan, nil
}

// fate is what becomes of something that is there.
type fate uint8

const (
	fateWanted fate = 1 << iota // the source has this path
	fateAside                   // gives way to something of another kind
	fateShut                    // is in a folder that stays as it is because a rule protects it
	fateHolds                   // is a folder with something in it that stays
	fateUnder                   // is in a folder that gives way
	fateInside                  // is in a folder that the source does not have
)

type placer struct {
	*placePlan
	o    *PlaceOptions
	fate []fate
}

// compareAll goes over both trees in the order of their paths.
func (p *placer) compareAll() {
	have, j := p.have.tree.Entries, 0
	for i := range p.want.Entries {
		w := &p.want.Entries[i]
		for j < len(have) && have[j].Path < w.Path {
			j++
		}
		if j == len(have) || have[j].Path != w.Path {
			p.create(i, WhyNew)
			continue
		}
		p.fate[j] |= fateWanted
		if have[j].Kind != w.Kind {
			// A file and a link replace each other in one step; nothing replaces a folder so.
			if have[j].Kind == Dir || w.Kind == Dir {
				p.fate[j] |= fateAside
				p.aside = append(p.aside, j)
			}
			p.create(i, WhyType)
			continue
		}
		p.update(i, j)
	}
}

func (p *placer) create(i int, why Why) {
	w := &p.want.Entries[i]
	switch w.Kind {
	case Dir:
		p.folders = append(p.folders, i)
	case File:
		p.puts = append(p.puts, i)
	case Link:
		p.links = append(p.links, i)
	}
	op := Create
	if why != WhyNew {
		op = Update
	}
	p.tell(op, w, why)
}

// update compares what has one path and one kind on both sides.
func (p *placer) update(i, j int) {
	w, h := &p.want.Entries[i], &p.have.tree.Entries[j]
	why := p.meta(i, j)
	switch {
	case w.Kind == File && w.Size != h.Size:
		why |= WhySize
	case w.Kind == File && w.Hash != h.Hash, w.Kind == Link && w.Link != h.Link:
		why |= WhyContent
	}
	switch {
	case why&(WhySize|WhyContent) == 0:
		if w.Kind == File {
			p.same++
		}
		if why != 0 {
			p.touch = append(p.touch, touch{i, j, why})
			p.tell(Meta, w, why)
		}
		return
	case w.Kind == File:
		p.puts = append(p.puts, i)
	default:
		p.links = append(p.links, i)
	}
	p.tell(Update, w, why)
}

// meta says how bits, time and owner differ.
func (p *placer) meta(i, j int) (why Why) {
	w, h, s := &p.want.Entries[i], &p.have.tree.Entries[j], &p.have.stamps[j]
	if w.Kind != Link && w.Mode != h.Mode {
		why |= WhyMode
	}
	if !p.have.timeIs(j, w.MTime) {
		why |= WhyTime
	}
	if s.uid >= 0 && (p.o.UID >= 0 && int(s.uid) != p.o.UID || p.o.GID >= 0 && int(s.gid) != p.o.GID) {
		why |= WhyOwner
	}
	return why
}

func (p *placer) tell(op Op, e *Entry, why Why) {
	if p.o.List {
		p.changes = append(p.changes, PlaceChange{Op: op, Kind: e.Kind, Why: why, Path: e.Path, Size: e.Size})
	}
}

// extras decides about what the source does not have, as rsync does: a protected folder stays with all
// that is in it, and a folder with something in it that stays does so too.
func (p *placer) extras() error {
	p.shelter()
	have := p.have.tree.Entries
	for j := len(have) - 1; j >= 0; j-- {
		f := p.fate[j]
		switch {
		case f&fateWanted != 0:
			if f&fateAside != 0 && have[j].Kind == Dir && (f&fateHolds != 0 || slices.Contains(p.have.closed, have[j].Path)) {
				return p.inTheWay(j)
			}
			continue
		case !p.o.Delete:
			p.holds(j)
			continue
		case p.guarded(j) || f&(fateShut|fateHolds) != 0:
			p.holds(j)
			if f&fateShut == 0 {
				p.kept = append(p.kept, j)
				p.tell(Keep, &have[j], WhyProtected)
			}
			continue
		}
		p.deleted++
		p.tell(Delete, &have[j], WhyDeleted)
		if f&fateUnder == 0 {
			p.remove = append(p.remove, j)
		}
	}
	slices.Reverse(p.remove)
	slices.Reverse(p.kept)
	return nil
}

// shelter hands down from folders to what is in them that they stay closed or give way.
func (p *placer) shelter() {
	have := p.have.tree.Entries
	at, dir := -1, "." // the folder looked up last
	for j := range have {
		if p.fate[j]&fateWanted != 0 && p.fate[j]&fateAside == 0 {
			continue
		}
		if above, _ := split(have[j].Path); above != dir {
			at, dir = p.have.tree.index(above), above
		}
		if at < 0 {
			continue
		}
		if p.fate[at]&fateWanted == 0 || p.fate[at]&fateAside != 0 {
			p.fate[j] |= fateInside
		}
		if p.fate[at]&(fateAside|fateUnder) != 0 {
			p.fate[j] |= fateUnder
		}
		if p.fate[at]&fateWanted == 0 && (p.guarded(at) || p.fate[at]&fateShut != 0) {
			p.fate[j] |= fateShut
		}
	}
}

// guarded reports whether a rule protects j; some do so only where the folder j is in stays.
func (p *placer) guarded(j int) bool {
	if p.fate[j]&fateInside != 0 {
		return p.have.guards[j]&tied != 0
	}
	return p.have.guards[j]&guarded != 0
}

// holds notes at the folder of j that something stays in it.
func (p *placer) holds(j int) {
	dir, _ := split(p.have.tree.Entries[j].Path)
	if at := p.have.tree.index(dir); at >= 0 {
		p.fate[at] |= fateHolds
	}
}

// inTheWay refuses to replace a folder with something in it that must stay.
func (p *placer) inTheWay(j int) error {
	path := p.have.tree.Entries[j].Path
	f := fault.New(fault.LayoutRefused, "%s is a folder on the host and none in the source, and it is not empty", showPath(path))
	if !p.o.Delete {
		return f.Hint("--delete would remove what is in it")
	}
	return f.Hint("a rule protects something in it; move that away, or change the rule")
}

// limit refuses to delete too much.
func (p *placer) limit() error {
	there := len(p.have.tree.Entries)
	if most := p.o.Limit.of(there, len(p.want.Entries)); p.deleted > most {
		f := fault.New(fault.DeleteRefused, "%d of the %d files, folders and links on the host would be deleted, more than max_delete = %s allows",
			p.deleted, there, p.o.Limit)
		for _, j := range p.remove[:min(3, len(p.remove))] {
			f = f.Fact("would delete %s", showPath(p.have.tree.Entries[j].Path))
		}
		return f.Hint("is this the right source and the right folder? godeploy sync --dry-run --list shows them all; --max-delete %d allows it", p.deleted)
	}
	return nil
}

// byDepth cuts entries into groups of one depth, the outermost first, so that those of one group can be
// worked on at once.
func byDepth(entries []Entry, places []int) [][]int {
	sorted := slices.Clone(places)
	depth := func(i int) int { return strings.Count(entries[i].Path, "/") }
	slices.SortStableFunc(sorted, func(a, b int) int { return cmp.Compare(depth(a), depth(b)) })
	var groups [][]int
	for first := 0; first < len(sorted); {
		end := first + 1
		for end < len(sorted) && depth(sorted[end]) == depth(sorted[first]) {
			end++
		}
		groups = append(groups, sorted[first:end])
		first = end
	}
	return groups
}

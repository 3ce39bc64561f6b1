package inventory

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"godeploy/internal/fault"
)

// problems collects everything that is wrong, without repeating itself.
type problems struct {
	list []*fault.Error
	seen map[string]bool
	more int
}

func (p *problems) add(e *fault.Error) {
	if p == nil {
		return
	}
	id := e.Pos.String() + "\x00" + e.Msg
	if p.seen[id] {
		return
	}
	if p.seen == nil {
		p.seen = map[string]bool{}
	}
	if len(p.list) >= maxProblems {
		p.more++
		return
	}
	p.seen[id] = true
	p.list = append(p.list, e)
}

// full reports whether further problems would only be counted.
func (p *problems) full() bool { return len(p.list) >= maxProblems }

// err joins the problems in the order of the files; nil when there are none.
func (p *problems) err() error {
	slices.SortStableFunc(p.list, func(a, b *fault.Error) int {
		return cmp.Or(strings.Compare(a.Pos.File, b.Pos.File), cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col))
	})
	errs := make([]error, 0, len(p.list)+1)
	for _, e := range p.list {
		errs = append(errs, e)
	}
	if p.more > 0 {
		errs = append(errs, fault.New(fault.ConfigValue, "%d more problems are not shown", p.more))
	}
	return errors.Join(errs...)
}

// nearest gives the word that was probably meant, "" when none is near.
func nearest(word string, words []string) string {
	if len(words) > 5000 {
		return "" // not worth the wait
	}
	best, distance := "", max(len(word)/3, 1)+1
	for _, w := range words {
		if strings.EqualFold(w, word) {
			return w
		}
		if d := editDistance(strings.ToLower(word), w, distance); d < distance {
			best, distance = w, d
		}
	}
	return best
}

// editDistance counts the changes, swaps of neighbours included, that make b of a. Words that
// differ in length by limit or more, or are very long, are just "far".
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit || len(a) > 64 {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

package deploy

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// Synced is what a sync did to one host, or with a dry run would do.
type Synced struct {
	Host    string
	Outcome Outcome // Unchanged, Staged, Healthy for what was made in place, Unknown when that was cut short
	Release string  // that was staged, or is there already
	Files   int     // of the source
	Changed int     // files with new content
	Made    int     // folders and links that were made or changed
	Touched int     // of which only mode, time or owner was changed
	Deleted int
	Kept    int   // that Delete would have removed and a rule protects
	Sent    int64 // bytes over the wire
	Bytes   int64 // size of the source
	Pruned  int   // staged releases that were removed
	Took    time.Duration
	Notes   []string
	// Changes are sorted by path. Listed is false when they were not asked for or cannot be known.
	Changes []wire.PlaceChange
	Listed  bool
}

// took fills in what staging did.
func (s *Synced) took(reply wire.StageReply, stats filesync.Stats, m *filesync.Manifest) {
	s.Files, s.Bytes, s.Sent = m.Files(), m.Bytes(), stats.Sent
	if !reply.Unchanged {
		s.Changed = reply.Written
	}
}

// placed fills in what was done in place.
func (s *Synced) placed(reply wire.PlaceReply, stats filesync.Stats, m *filesync.Manifest) {
	s.Files, s.Bytes, s.Sent = m.Files(), m.Bytes(), stats.Sent
	s.Changed, s.Made, s.Touched = reply.Written, reply.Made, reply.Touched
	s.Deleted, s.Kept, s.Notes = reply.Deleted, reply.Kept, reply.Notes
	s.Changes = reply.Changes
}

// count sums the changes that are listed.
func (s *Synced) count() {
	s.Changed, s.Made, s.Touched, s.Deleted, s.Kept = 0, 0, 0, 0, 0
	for _, c := range s.Changes {
		switch {
		case c.Op == wire.PlaceMeta:
			s.Touched++
		case c.Op == wire.PlaceDelete:
			s.Deleted++
		case c.Op == wire.PlaceKept:
			s.Kept++
		case c.Kind == wire.PlaceFile:
			s.Changed++
		default:
			s.Made++
		}
	}
}

// Differs reports whether the host differed from the source before the sync.
func (s *Synced) Differs() bool {
	return s.Changed+s.Made+s.Touched+s.Deleted > 0 || s.Outcome == Staged
}

// Parts says in a few short texts what became of it: "3 changed of 11,478 files", "2 made" of folders
// and links, "4 touched" where only mode, time or owner was wrong, "1 deleted",
// "sent 18.2 KB instead of 128.0 MB".
func (s *Synced) Parts() []string {
	parts := []string{fmt.Sprintf("%s changed of %s", Count(s.Changed), plurals(s.Files, "file"))}
	for _, more := range []struct {
		n    int
		what string
	}{{s.Made, "made"}, {s.Touched, "touched"}, {s.Deleted, "deleted"}, {s.Kept, "protected"}} {
		if more.n > 0 {
			parts = append(parts, Count(more.n)+" "+more.what)
		}
	}
	switch {
	case s.Sent >= s.Bytes && s.Sent > 0:
		parts = append(parts, "sent "+Size(s.Sent))
	case s.Sent > 0:
		parts = append(parts, fmt.Sprintf("sent %s instead of %s", Size(s.Sent), Size(s.Bytes)))
	}
	return parts
}

// SyncResult is what a sync did: one line for each host.
type SyncResult struct {
	Env     string
	Release string // that was staged; "" in place
	DryRun  bool
	Verdict Verdict
	Hosts   []Synced
	Took    time.Duration
}

// Staged names the release that has the tree: the new one where any host got it, else the one that every
// host had already, or "" when they have it under several names.
func (r *SyncResult) Staged() string {
	id := ""
	for _, h := range r.Hosts {
		switch {
		case h.Outcome == Staged:
			return h.Release
		case id != "" && id != h.Release:
			return ""
		}
		id = h.Release
	}
	return id
}

// Sum adds up the hosts: counts are the most that any host needed, bytes those of all.
func (r *SyncResult) Sum() Synced {
	var sum Synced
	for _, h := range r.Hosts {
		sum.Files, sum.Changed, sum.Touched = max(sum.Files, h.Files), max(sum.Changed, h.Changed), max(sum.Touched, h.Touched)
		sum.Made = max(sum.Made, h.Made)
		sum.Deleted, sum.Kept = max(sum.Deleted, h.Deleted), max(sum.Kept, h.Kept)
		sum.Sent, sum.Bytes = sum.Sent+h.Sent, sum.Bytes+h.Bytes
	}
	return sum
}

// Differs reports whether any host differs from the source, or did before the sync.
func (r *SyncResult) Differs() bool {
	for i := range r.Hosts {
		if r.Hosts[i].Differs() {
			return true
		}
	}
	return false
}

// end fills the result.
func (s *syncRun) end(err error) *SyncResult {
	r := &SyncResult{
		Env: s.Env.Name, Release: s.release.ID, DryRun: s.want.DryRun, Hosts: s.done, Took: s.Now().Sub(s.began),
	}
	if s.want.Place != nil {
		r.Release = ""
	}
	r.Verdict = r.judge(s.want.Place != nil, err != nil)
	return r
}

// log writes a line into the log of every host that the sync has changed; one that had everything is not
// written to.
func (s *syncRun) log(ctx context.Context, verdict Verdict) {
	if s.want.DryRun {
		return
	}
	s.result.Verdict = verdict
	s.logged(ctx, func(m *member) (wire.AuditEntry, bool) {
		line := s.line(m)
		e := s.entry(m)
		e.Release, e.Outcome, e.MS = line.Release, string(line.Outcome), line.Took.Milliseconds()
		return e, line.Differs() && line.Outcome != Unknown
	})
}

// judge says in which state the fleet is. What was staged serves nowhere: the fleet is whole on what it had.
func (r *SyncResult) judge(inPlace, failed bool) Verdict {
	touched := false
	for _, h := range r.Hosts {
		touched = touched || h.Outcome != Unchanged
	}
	switch {
	case !failed && !r.Differs():
		return Nothing
	case !failed:
		return Done
	case !touched || r.DryRun:
		return Refused
	case inPlace:
		return Mixed
	}
	return WholeOld
}

// tellHost tells what became of one host.
func (s *syncRun) tellHost(line *Synced) {
	result := "ok"
	if !line.Differs() {
		result = "unchanged"
	}
	for _, note := range line.Notes {
		s.Report.Report(event.Event{Type: event.Warn, Host: line.Host, Phase: "sync", Msg: "sync: " + note})
	}
	s.Report.Report(event.Event{
		Type: event.HostEnd, Host: line.Host, Phase: "sync", Result: result, Release: line.Release,
		Bytes: line.Sent, MS: line.Took.Milliseconds(), Changed: line.Changed + line.Made + line.Touched, Deleted: line.Deleted,
		Msg: "sync: " + strings.Join(line.Parts(), ", "),
	})
}

// sum is the text of what all hosts together came to, short enough for a line of the live display.
func (s *syncRun) sum() string {
	all := (&SyncResult{Hosts: s.done}).Sum()
	text := fmt.Sprintf("%s, %s changed", plurals(all.Files, "file"), Count(all.Changed+all.Made+all.Touched))
	if all.Deleted > 0 {
		text += fmt.Sprintf(", %s deleted", Count(all.Deleted))
	}
	switch {
	case all.Sent >= all.Bytes && all.Sent > 0:
		text += ", sent " + Size(all.Sent)
	case all.Sent > 0:
		text += fmt.Sprintf(", sent %s of %s", Size(all.Sent), Size(all.Bytes))
	}
	return text
}

func (s *syncRun) sent() int64 { return (&SyncResult{Hosts: s.done}).Sum().Sent }

// Count gives a number with its thousands set apart: 11,478.
func Count(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func plurals(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return Count(n) + " " + what + "s"
}

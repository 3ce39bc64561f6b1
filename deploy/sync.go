package deploy

import (
	"context"
	"errors"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// Early is a Host that can be asked to stage before it is known whether every other host is free: what
// is asked for at once costs one round trip and not one after the other.
type Early interface {
	// StageWhen is Stage for a request with a Holder, which takes the lock itself. The request goes out
	// at once, and nothing of the tree before ready has said how; its error ends the stage.
	StageWhen(ctx context.Context, req wire.StageRequest, src *filesync.Source, ready func(context.Context) (filesync.SendOptions, error)) (wire.StageReply, filesync.Stats, error)
	// PlaceWhen is the same for Place. Until ready has spoken the host may look at its folder, and
	// changes nothing in it.
	PlaceWhen(ctx context.Context, req wire.PlaceRequest, src *filesync.Source, ready func(context.Context) (filesync.SendOptions, error)) (wire.PlaceReply, filesync.Stats, error)
}

// Unlocker is a Host that can let go of its lock before Close.
type Unlocker interface {
	Unlock(ctx context.Context) error
}

// Placer is a Host whose app's path can be made what a source is, in place.
type Placer interface {
	Place(ctx context.Context, req wire.PlaceRequest, src *filesync.Source, o filesync.SendOptions) (wire.PlaceReply, filesync.Stats, error)
}

// SyncWant is what a sync is asked to bring.
type SyncWant struct {
	// Scan reads the source. It is called once; the caller closes the Source when the run is over.
	Scan    func(ctx context.Context) (*filesync.Source, error)
	Commit  string
	Branch  string
	Message string
	// Place, when set, makes the app's path what the source is, in place; else a release is staged
	// beside what serves, and nothing is switched.
	Place  *Placing
	DryRun bool // change nothing, tell what would be changed; takes no lock
	List   bool // fill in the Changes of every host; a dry run always does
}

// Placing says how a folder is made what the source is.
type Placing struct {
	Delete bool       // remove what the source does not have
	Limit  wire.Share // of Delete; the zero Share is the default of the host's side
	Verify string     // as wire.PlaceRequest has it
	Rules  [][]byte   // what Delete leaves alone
	Source wire.Origin
}

// keptStaged is how many releases stay on a host that were staged and never switched to.
const keptStaged = 2

// Sync brings the source to every host of the fleet and switches nothing: as a staged release, or in
// place. All hosts are locked or none, and nothing is sent before all are. The result is never nil and
// tells the truth about every host whether or not there is an error.
func (f *Fleet) Sync(ctx context.Context, want SyncWant) (*SyncResult, error) {
	s := &syncRun{run: f.newRun("sync"), want: want}
	s.yields = !want.DryRun
	for _, m := range s.members {
		s.done = append(s.done, Synced{Host: m.name, Outcome: Unchanged})
	}
	err := s.bringOut(ctx)
	result := s.end(err)
	s.log(ctx, result.Verdict)
	return result, err
}

// syncRun is a run that brings the source and switches nothing.
type syncRun struct {
	*run
	want SyncWant
	done []Synced // in the order of members; each is changed only by the goroutine that works on its host
	meet *meeting
	slot chan struct{} // hosts that are sent to at once
}

func (s *syncRun) bringOut(ctx context.Context) error {
	var err error
	if s.source, err = s.want.Scan(ctx); err != nil {
		return err
	}
	s.describe(Want{Commit: s.want.Commit, Branch: s.want.Branch, Message: s.want.Message})
	s.tellPhase()
	began := time.Now()
	if s.want.DryRun {
		err = each(ctx, s.members, s.Parallel, s.preview)
	} else {
		err = s.bringAll(ctx)
	}
	end := event.Event{Type: event.PhaseEnd, Phase: "sync", MS: time.Since(began).Milliseconds(), Result: "failed", Bytes: s.sent()}
	if err == nil {
		end.Result, end.Msg = "ok", "sync ok: "+s.sum()
	}
	s.Report.Report(end)
	return err
}

func (s *syncRun) tellPhase() {
	msg := "sync: to " + plural(len(s.members), "host")
	if s.want.DryRun {
		msg = "sync: look at " + plural(len(s.members), "host")
	}
	s.Report.Report(event.Event{Type: event.PhaseStart, Phase: "sync", Msg: msg, Hosts: names(s.members)})
}

// bringAll brings the source to all hosts. Locks are asked for everywhere at once; when another run has
// some of them, ours are let go of and taken again one after the other in the order of names, so that of
// two runs that meet one goes on.
func (s *syncRun) bringAll(ctx context.Context) error {
	err := s.together(ctx)
	if fault.Is(err, fault.LockHeld) && onlyHeld(err) {
		s.unlock(ctx)
		if err := s.lock(ctx); err != nil {
			return err
		}
		err = s.together(ctx)
	}
	return err
}

// onlyHeld reports whether nothing but locks of others stood in the way.
func onlyHeld(err error) bool {
	for _, f := range fault.All(err) {
		if f.Code != fault.LockHeld {
			return false
		}
	}
	return true
}

func (s *syncRun) unlock(ctx context.Context) {
	_ = each(ctx, s.members, len(s.members), func(ctx context.Context, m *member) error { // the lock is asked for again
		if u, ok := m.Host.(Unlocker); ok {
			return u.Unlock(ctx)
		}
		return nil
	})
}

// together works on all hosts at once: each is asked for all it can be asked for in one go, and is sent
// nothing before every one has answered well.
func (s *syncRun) together(ctx context.Context) error {
	s.meet = newMeeting(len(s.members))
	s.slot = make(chan struct{}, max(s.Parallel, 1))
	return each(ctx, s.members, len(s.members), func(ctx context.Context, m *member) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		arrived := make(chan error, 1)
		go func() { arrived <- s.arrive(ctx, m) }()
		m.began = s.Now()
		err := s.bring(ctx, m)
		s.meet.fail(err)
		elsewhere := errors.Is(err, errElsewhere)
		if err != nil && !elsewhere {
			cancel(err) // what it still waits for has lost its meaning
		}
		if first := <-arrived; first != nil && (err == nil || !errors.Is(first, err)) {
			return first
		}
		if elsewhere {
			return nil // the one that failed says why
		}
		return err
	})
}

func (s *syncRun) line(m *member) *Synced { return &s.done[indexOf(s.members, m)] }

// bring brings the source to one host.
func (s *syncRun) bring(ctx context.Context, m *member) error {
	line := s.line(m)
	var err error
	if s.want.Place != nil {
		err = s.place(ctx, m, line)
	} else {
		err = s.stage(ctx, m, line)
	}
	if err != nil {
		return err
	}
	line.Took = s.Now().Sub(m.began)
	s.tellHost(line)
	s.pruneStaged(ctx, m, line)
	return nil
}

// ready waits until every host has answered well and there is room to send to one more. leave gives the
// room back.
func (s *syncRun) ready(ctx context.Context) error {
	if err := s.meet.wait(ctx); err != nil {
		return err
	}
	select {
	case s.slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *syncRun) leave() { <-s.slot }

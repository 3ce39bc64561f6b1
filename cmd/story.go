package cmd

import (
	"sync"
	"time"

	"godeploy/internal/event"
)

// maxQueued bounds the memory that a stuck terminal can cost: over so many bytes of waiting command
// output, whoever reports more output waits. Every other kind of event always gets in at once.
const maxQueued = 16 << 20

// record is an event as the outputs see it: numbered, with its time and run.
type record struct {
	Seq int64
	Run string
	queued
}

// queued is an event that waits. People are not shown one for machines: they read it elsewhere.
type queued struct {
	event.Event
	machines bool
}

// sink draws or keeps records. All its methods are called by one goroutine, that of its story.
type sink interface {
	show(record)
	// tick is called every so often between records, for clocks and heartbeats.
	tick(now time.Time)
	// close is called once, after the last record.
	close() error
}

// story takes the events of one run and hands them, in order, to its sinks. Report may be called
// from any goroutine, also after Close, when it does nothing.
type story struct {
	now   func() time.Time
	run   string
	sinks []sink

	mu      sync.Mutex
	room    *sync.Cond // output may be queued again
	queue   []queued
	merged  map[progressKey]int // where in queue the newest Progress of a host and phase waits
	output  int                 // bytes of command output in queue
	closed  bool
	last    *event.Event // the command's own RunEnd, kept back until the exit code is known
	errors  map[string]bool
	started time.Time

	wake chan struct{}
	done chan struct{}
}

type progressKey struct{ host, phase, step string }

// newStory starts the goroutine that owns the sinks; Close ends it. A tick of 0 means none.
func newStory(run string, now func() time.Time, tick time.Duration, sinks ...sink) *story {
	s := &story{
		now: now, run: run, sinks: sinks, started: now(),
		merged: map[progressKey]int{}, errors: map[string]bool{},
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	s.room = sync.NewCond(&s.mu)
	go s.draw(tick)
	return s
}

// Report queues the event.
func (s *story) Report(e event.Event) { s.report(queued{Event: e}) }

// forMachines queues an event that people are told in another form.
func (s *story) forMachines(e event.Event) { s.report(queued{Event: e, machines: true}) }

func (s *story) report(e queued) {
	if e.Time.IsZero() {
		e.Time = s.now()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for e.Type == event.CmdOutput && s.output > maxQueued && !s.closed {
		s.room.Wait()
	}
	if s.closed {
		return
	}
	s.add(e)
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already
	}
}

// add puts e into the queue; s.mu is held.
func (s *story) add(e queued) {
	switch e.Type {
	case event.RunEnd:
		s.last = &e.Event
		return
	case event.Progress:
		key := progressKey{e.Host, e.Phase, e.Step}
		if at, waiting := s.merged[key]; waiting {
			s.queue[at] = e
			return
		}
		s.merged[key] = len(s.queue)
	case event.Error:
		s.errors[e.Code+"\x00"+e.Msg] = true
	case event.CmdOutput:
		s.output += len(e.Text)
	}
	s.queue = append(s.queue, e)
}

// told reports whether an error with that code and message has been reported.
func (s *story) told(code, msg string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.errors[code+"\x00"+msg]
}

// Close sends the last event, flushes everything and ends the goroutine. The end that the command
// reported itself, if any, is completed with result, exit code and duration. Only the first call does
// anything.
func (s *story) Close(result string, exit int) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.done
		return nil
	}
	s.closed = true
	s.queue = append(s.queue, queued{Event: s.ending(result, exit)})
	s.room.Broadcast()
	s.mu.Unlock()
	close(s.wake)
	<-s.done
	var first error
	for _, k := range s.sinks {
		if err := k.close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (s *story) ending(result string, exit int) event.Event {
	end := event.Event{Type: event.RunEnd, Time: s.now()}
	if s.last != nil {
		end = *s.last
	}
	if end.Result == "" {
		end.Result = result
	}
	end.Exit, end.MS = &exit, s.now().Sub(s.started).Milliseconds()
	return end
}

// draw owns the sinks until the story is closed and the queue is empty.
func (s *story) draw(every time.Duration) {
	defer close(s.done)
	var ticks <-chan time.Time
	if every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		ticks = t.C
	}
	var seq int64
	for open := true; open; {
		select {
		case _, open = <-s.wake:
		case <-ticks:
		}
		for _, e := range s.take() {
			seq++
			s.show(record{Seq: seq, Run: s.run, queued: e})
		}
		for _, k := range s.sinks {
			k.tick(s.now())
		}
	}
}

func (s *story) show(r record) {
	for _, k := range s.sinks {
		k.show(r)
	}
}

func (s *story) take() []queued {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch := s.queue
	s.queue, s.output = nil, 0
	clear(s.merged)
	s.room.Broadcast()
	return batch
}

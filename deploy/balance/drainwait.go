package balance

import "time"

// quietFor is how long no connection may be open on a server before it counts as idle while workers of
// the balancer that know it as up are still at work: such a worker may yet have read only half of a request.
const quietFor = time.Second

// Quiet decides when the requests of drained servers have ended. It is told what is seen, in order.
type Quiet struct {
	Deadline time.Time // when nobody waits any longer

	since time.Time // no connection was open from here on
	idle  bool
}

// Look is what is seen at one moment.
type Look struct {
	At time.Time
	// Open counts the connections that others than the server itself have open on it; below 0 when it
	// cannot be told.
	Open int
	// Settled says that no worker of the balancer is left that knows the server as up.
	Settled bool
}

// See takes a look; it reports whether the requests have ended, and whether the wait is over.
func (q *Quiet) See(l Look) (ended, over bool) {
	if l.Open == 0 && !q.idle {
		q.since = l.At
	}
	q.idle = l.Open == 0
	ended = l.Settled || q.idle && l.At.Sub(q.since) >= quietFor
	return ended, ended || !l.At.Before(q.Deadline)
}

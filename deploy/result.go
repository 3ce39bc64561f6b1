package deploy

import (
	"time"

	"godeploy/internal/wire"
)

// Outcome is what is true of one host when a run has ended.
type Outcome string

// The outcomes. Unknown means that the host could not be asked; it is never success.
const (
	Unchanged  Outcome = "unchanged"
	Staged     Outcome = "staged"
	Switched   Outcome = "switched" // the new code is linked, its service not proven
	Healthy    Outcome = "healthy"
	RolledBack Outcome = "rolled_back"
	Broken     Outcome = "broken" // neither release is proven to serve: a person is needed
	Unknown    Outcome = "unknown"
)

// HostResult is one host's part of a Result.
type HostResult struct {
	Host     string
	Outcome  Outcome
	Release  string // what current points to now, as far as is known
	Previous string // what it pointed to before the run
	Weight   int
	Took     time.Duration
	Failed   bool          // the breach began here
	Drained  *wire.Drained // why it is out of the balancer, nil when it is not
}

// Verdict is the state of the fleet after a run, from which the exit code follows.
type Verdict string

// The verdicts.
const (
	Done     Verdict = "ok"          // every chosen host serves what was asked for
	Nothing  Verdict = "unchanged"   // it already did
	Refused  Verdict = "refused"     // stopped before any change
	WholeOld Verdict = "rolled_back" // failed, and every host is on what it had before
	Mixed    Verdict = "mixed"       // failed, and hosts differ or a service is down
)

// Result is what a run did: one line for each host, and the sum.
type Result struct {
	Command  string
	Env      string
	Release  string // what was to serve
	Previous string // what most hosts had before
	Proven   bool   // Previous was healthy when it was released: a rollback without a name finds it
	Verdict  Verdict
	Hosts    []HostResult
	Stats    Transfer
	Once     bool // once hooks ran; a rollback does not undo them
	// Behind names hosts that a release goes to and that this run left out, by choice: nothing was done
	// there and nothing is known of them.
	Behind []string
	Took   time.Duration
}

// Transfer sums what was sent to all hosts.
type Transfer struct {
	Files   int   // in the tree
	Changed int   // most that any host needed
	Sent    int64 // bytes over the wire, all hosts
	Bytes   int64 // size of the tree
}

// Fleet maps each release to the hosts that have it as current, in file order.
func (r *Result) Fleet() map[string][]string {
	fleet := map[string][]string{}
	for _, h := range r.Hosts {
		fleet[h.Release] = append(fleet[h.Release], h.Host)
	}
	return fleet
}

// Outcomes maps each host to what is true of it.
func (r *Result) Outcomes() map[string]string {
	all := map[string]string{}
	for _, h := range r.Hosts {
		all[h.Host] = string(h.Outcome)
	}
	return all
}

// checkWhole takes back the word whole when hosts were not on one release before the run either, or
// one is on a release that nobody has seen serve, or is on the new one from an earlier run. A host that has had no release yet does not count.
func (r *Result) checkWhole() {
	one := ""
	for _, h := range r.Hosts {
		switch {
		case h.Outcome == Switched, h.Outcome == Healthy, one != "" && h.Release != "" && h.Release != one:
			r.Verdict = Mixed
			return
		case h.Release != "":
			one = h.Release
		}
	}
	if one != "" {
		r.Previous = one
	}
}

// judge derives the verdict from what became of the hosts.
func (r *Result) judge(failed bool) {
	whole, done := true, true
	for _, h := range r.Hosts {
		switch h.Outcome {
		case Healthy:
			whole = false
		case Unchanged, Staged, RolledBack:
			done = false
		default:
			whole, done = false, false
		}
	}
	switch {
	case done:
		r.Verdict = Done
	case whole && failed:
		r.Verdict = WholeOld
	default:
		r.Verdict = Mixed
	}
}

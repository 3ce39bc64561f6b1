package wire

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Step is how far a host has come in a run, as its journal has it.
type Step string

// The steps, in order. Between StepSwitching and StepProven a host is neither on the old release nor on
// the new one for certain: whoever finds such an entry finishes it or undoes it.
const (
	StepStaged     Step = "staged"
	StepSwitching  Step = "switching"
	StepSwitched   Step = "switched"
	StepRestarting Step = "restarting"
	StepProven     Step = "proven"
	StepUndoing    Step = "undoing"
	StepDone       Step = "done"
)

// Journal is what a host wrote down of the last run that moved its current, in .godeploy/journal.
type Journal struct {
	Holder  Holder    `json:"holder"`  // whose run it is
	BootID  string    `json:"boot_id"` // another one now: its processes are gone
	Step    Step      `json:"step"`
	From    string    `json:"from,omitempty"` // release that was current, "" for none
	To      string    `json:"to,omitempty"`   // release that current moves to
	Back    string    `json:"back,omitempty"` // release that an undo returns to; "" for none
	Mark    Mark      `json:"mark,omitempty"` // of To before the run; an undo gives it back
	Drained bool      `json:"drained,omitempty"`
	Since   time.Time `json:"since"`
	// Aftermath is what the host does when nobody is there to finish; nil when it was never told.
	Aftermath *Aftermath `json:"aftermath,omitempty"`
	// Did is what the host did by itself, once the run was gone: finished or undone. "" is nothing.
	Did string `json:"did,omitempty"`
	Why string `json:"why,omitempty"` // why what it tried did not come out
}

// Open reports whether the entry is of a run that has neither finished nor undone what it did.
func (j *Journal) Open() bool { return j != nil && j.Step != StepDone && j.Step != StepStaged }

// Aftermath is what a host can do by itself, without the controller, to serve a release: argument
// lists that are executed without a shell, and a request to ask for its health. Every list is run in the
// app's current, and what it leaves running stays.
type Aftermath struct {
	Graceful []string `json:"graceful,omitempty"` // restart without losing a request; empty when Full is the way
	Full     []string `json:"full,omitempty"`     // stop and start
	Stop     []string `json:"stop,omitempty"`     // for a host that has no release to return to
	User     string   `json:"user,omitempty"`     // who runs them; "" is the helper's own user
	// Env is added to the small fixed environment. GODEPLOY_RELEASE is the release to serve, whatever
	// stands here.
	Env map[string]string `json:"env,omitempty"`
	// Proof asks /proc too: a restart counts once a process that was not there before stands in the
	// release, and no process without children stands in the one that was left.
	Proof bool `json:"proof,omitempty"`
	// URL is asked by GET until Tries answers in a row were no success, Interval apart, each within
	// Timeout; "" asks nothing. Low and High bound the statuses that are well, 0 and 0 mean 200 to 299.
	// Of https only that somebody listens there can be asked. Header, when set, must be the release.
	URL      string        `json:"url,omitempty"`
	Header   string        `json:"header,omitempty"`
	Low      int           `json:"low,omitempty"`
	High     int           `json:"high,omitempty"`
	Tries    int           `json:"tries,omitempty"`
	Interval time.Duration `json:"interval,omitempty"`
	Timeout  time.Duration `json:"timeout,omitempty"`
	// Within bounds all of it; 0 means MaxAftermath, which is also the most.
	Within time.Duration `json:"within,omitempty"`
}

// MaxAftermath is the longest that a host acts by itself. With the 30 s of silence and the end of what
// still ran before it, the lock is free within a minute.
const MaxAftermath = 25 * time.Second

// ArmRequest opens the journal's entry before current moves. The lock is held by this connection.
type ArmRequest struct {
	Site      Site       `json:"site"`
	Holder    Holder     `json:"holder"`
	To        string     `json:"to,omitempty"`
	Back      string     `json:"back,omitempty"`
	Aftermath *Aftermath `json:"aftermath,omitempty"`
}

// StepRequest notes how far the host has come in the entry that is open.
type StepRequest struct {
	Site Site `json:"site"`
	Step Step `json:"step"`
}

// RecoverRequest asks the host to finish or undo what its journal says of a run that died. It may be
// asked any number of times; the lock is held by this connection.
type RecoverRequest struct {
	Site Site `json:"site"`
}

// Recovered says what was done about a run that died.
type Recovered struct {
	Did     string   `json:"did"` // nothing, finished, undone, kept (the journal could not be acted on)
	Current string   `json:"current,omitempty"`
	Journal *Journal `json:"journal,omitempty"` // as it was found
	Why     string   `json:"why,omitempty"`     // why it was kept
}

// Check wants one of the steps.
func (s Step) Check() error {
	switch s {
	case StepStaged, StepSwitching, StepSwitched, StepRestarting, StepProven, StepUndoing, StepDone:
		return nil
	}
	return fmt.Errorf("step %.40q", string(s))
}

// Check checks every part.
func (j *Journal) Check() error {
	if j.Aftermath != nil {
		if err := j.Aftermath.Check(); err != nil {
			return err
		}
	}
	return firstError(j.Holder.Check(), j.Step.Check(), checkShort(j.BootID, j.Did, j.Why),
		optional(string(j.Mark), func(string) error { return j.Mark.Check() }), optional(j.From, CheckID), optional(j.To, CheckID), optional(j.Back, CheckID))
}

// Check wants bounded lists and times, and a plain request.
func (a *Aftermath) Check() error {
	if a.Tries < 0 || a.Tries > 10_000 || a.Low < 0 || a.High < 0 || a.High > 999 || a.Low > a.High {
		return errors.New("impossible health check")
	}
	for _, d := range []time.Duration{a.Interval, a.Timeout, a.Within} {
		if d < 0 || d > MaxTimeout {
			return fmt.Errorf("time %s", d)
		}
	}
	for _, argv := range [][]string{a.Graceful, a.Full, a.Stop} {
		if len(argv) > 0 {
			if err := checkArgs(argv); err != nil {
				return err
			}
		}
	}
	return firstError(checkUser(a.User), checkEnv(a.Env), optional(a.URL, checkURL), checkHeader(a.Header))
}

// checkURL wants what can stand in one line of a request as it is.
func checkURL(s string) error {
	if !strings.HasPrefix(s, "http://") && !strings.HasPrefix(s, "https://") || hasControl(s) || strings.Contains(s, " ") {
		return fmt.Errorf("url %.80q", s)
	}
	return checkShort(s)
}

func checkHeader(s string) error {
	if len(s) > maxName || !only(s, lower+upper+digit+"-_") {
		return fmt.Errorf("header %.80q", s)
	}
	return nil
}

// Check checks every part.
func (r *ArmRequest) Check() error {
	if r.Aftermath != nil {
		if err := r.Aftermath.Check(); err != nil {
			return err
		}
	}
	return firstError(r.Site.Check(), r.Holder.Check(), optional(r.To, CheckID), optional(r.Back, CheckID))
}

// Check checks site and step.
func (r *StepRequest) Check() error { return firstError(r.Site.Check(), r.Step.Check()) }

// Check checks the site.
func (r *RecoverRequest) Check() error { return r.Site.Check() }

// Check wants a known word and bounded texts.
func (r *Recovered) Check() error {
	switch r.Did {
	case "nothing", "finished", "undone", "kept":
	default:
		return fmt.Errorf("did %.40q", r.Did)
	}
	if r.Journal != nil {
		if err := r.Journal.Check(); err != nil {
			return err
		}
	}
	return firstError(optional(r.Current, CheckID), checkShort(r.Why))
}

package wire

import (
	"errors"
	"time"
)

// AuditEntry is one line of a host's log of changing commands: who did what, when, and what came of it
// there.
type AuditEntry struct {
	Time     time.Time `json:"t"` // by the operator's clock
	Run      string    `json:"run"`
	By       string    `json:"by"` // user@machine
	Command  string    `json:"command"`
	Release  string    `json:"release,omitempty"`  // what was to serve
	Previous string    `json:"previous,omitempty"` // what current was before
	Now      string    `json:"now,omitempty"`      // what current is after
	Commit   string    `json:"commit,omitempty"`
	Outcome  string    `json:"outcome"` // of this host
	Verdict  string    `json:"verdict"` // of the fleet
	MS       int64     `json:"ms"`      // of this host's part
	Message  string    `json:"message,omitempty"`
}

// AuditRequest adds a line to the log. The lock is held by this connection.
type AuditRequest struct {
	Site  Site       `json:"site"`
	Entry AuditEntry `json:"entry"`
}

// Check wants ids or nothing, and bounded texts.
func (e *AuditEntry) Check() error {
	if e.MS < 0 {
		return errors.New("negative duration")
	}
	return firstError(
		optional(e.Release, CheckID), optional(e.Previous, CheckID), optional(e.Now, CheckID),
		checkShort(e.Run, e.By, e.Command, e.Commit, e.Outcome, e.Verdict, e.Message), validUTF8(e.Message))
}

// Check checks site and entry.
func (r *AuditRequest) Check() error { return firstError(r.Site.Check(), r.Entry.Check()) }

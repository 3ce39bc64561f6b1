package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/wire"
)

// auditTime bounds the writing of the log: a run that is over waits no longer for its last line, and one
// that a signal ended hardly at all.
const (
	auditTime   = 5 * time.Second
	auditInHand = 800 * time.Millisecond
)

// audit writes a line into the log of every host that the run had locked. One that cannot be written is
// told, and changes nothing.
func (r *run) audit(ctx context.Context) {
	if !r.locked {
		return
	}
	r.logged(ctx, func(m *member) (wire.AuditEntry, bool) { return r.entry(m), m.outcome != Unknown })
}

// logged writes each host's entry, where there is one.
func (r *run) logged(ctx context.Context, entry func(*member) (wire.AuditEntry, bool)) {
	limit := auditTime
	if errors.Is(ctx.Err(), context.Canceled) {
		limit = auditInHand
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	_ = each(ctx, r.members, r.Parallel, func(ctx context.Context, m *member) error { // told per host
		a, ok := m.Host.(Auditor)
		e, is := entry(m)
		if !ok || !is {
			return nil
		}
		if err := a.Audit(ctx, e); err != nil {
			r.Report.Report(event.Event{Type: event.Warn, Host: m.name, Phase: "after", Msg: "audit: " + err.Error(), Error: err.Error()})
		}
		return nil
	})
}

// entry is what the run did to one host.
func (r *run) entry(m *member) wire.AuditEntry {
	return wire.AuditEntry{
		Time: r.Now().UTC(), Run: r.Holder.Run, By: r.Holder.Who, Command: r.result.Command,
		Release: r.release.ID, Previous: m.previous, Now: m.now, Commit: r.release.Commit,
		Outcome: string(m.outcome), Verdict: string(r.result.Verdict), MS: m.took.Milliseconds(), Message: r.release.Message,
	}
}

// maxAuditLines bounds what is told of a host's log.
const maxAuditLines = 200

// Ledger reads the logs of all hosts, changes nothing and takes no lock: for each host, by its name, the
// newest entries, oldest first. A line that makes no sense is passed over; a host without a log has no
// entries.
func (f *Fleet) Ledger(ctx context.Context) (map[string][]wire.AuditEntry, error) {
	r := f.newRun("releases")
	all := make([][]wire.AuditEntry, len(r.members))
	err := each(ctx, r.members, r.Parallel, func(ctx context.Context, m *member) error {
		reply, err := m.File(ctx, wire.FileRequest{Path: m.env.App.Path + "/.godeploy/audit.log"})
		all[indexOf(r.members, m)] = auditLines(reply.Content)
		return err
	})
	ledger := map[string][]wire.AuditEntry{}
	for i, m := range r.members {
		ledger[m.name] = all[i]
	}
	return ledger, err
}

// auditLines reads the lines of a log.
func auditLines(content []byte) []wire.AuditEntry {
	var list []wire.AuditEntry
	for line := range bytes.Lines(content) {
		var e wire.AuditEntry
		if errors.Join(json.Unmarshal(line, &e), e.Check()) == nil {
			list = append(list, e)
		}
	}
	return list[max(0, len(list)-maxAuditLines):]
}

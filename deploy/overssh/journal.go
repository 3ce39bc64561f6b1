package overssh

import (
	"context"

	"godeploy/deploy"
	"godeploy/internal/wire"
)

var (
	_ deploy.Journaled = (*helped)(nil)
	_ deploy.Auditor   = (*helped)(nil)
	_ deploy.Auditor   = (*plain)(nil)
)

// Arm opens the journal's entry; the helper acts on it by itself when this connection ends without an
// Unlock.
func (h *helped) Arm(ctx context.Context, req wire.ArmRequest) error {
	req.Site = h.site
	return h.client.Call(ctx, wire.KindArm, &req, nil)
}

// Reach notes a step in the entry.
func (h *helped) Reach(ctx context.Context, step wire.Step) error {
	return h.client.Call(ctx, wire.KindStep, &wire.StepRequest{Site: h.site, Step: step}, nil)
}

// Recover lets the helper finish or undo what a dead run left.
func (h *helped) Recover(ctx context.Context) (wire.Recovered, error) {
	var reply wire.Recovered
	err := h.client.Call(ctx, wire.KindRecover, &wire.RecoverRequest{Site: h.site}, &reply)
	return reply, err
}

// Audit adds a line to the host's log.
func (h *helped) Audit(ctx context.Context, entry wire.AuditEntry) error {
	return h.client.Call(ctx, wire.KindAudit, &wire.AuditRequest{Site: h.site, Entry: entry}, nil)
}

// Audit adds a line to the host's log.
func (p *plain) Audit(ctx context.Context, entry wire.AuditEntry) error {
	return p.layout().Audit(ctx, entry)
}

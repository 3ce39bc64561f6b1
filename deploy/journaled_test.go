package deploy

import (
	"context"

	"godeploy/internal/wire"
)

// Every fakeHost keeps a journal and a log, as a host with the helper does.
var (
	_ Journaled = (*fakeHost)(nil)
	_ Auditor   = (*fakeHost)(nil)
)

func (h *fakeHost) Arm(_ context.Context, req wire.ArmRequest) error {
	if err := h.w.step(h, "arm", req.To); err != nil {
		return err
	}
	h.w.change(func() {
		h.state.Journal = &wire.Journal{Holder: req.Holder, Step: wire.StepSwitching, From: h.state.Current, To: req.To, Back: req.Back}
	})
	return h.w.did(h, "arm", req.To)
}

func (h *fakeHost) Reach(_ context.Context, step wire.Step) error {
	if err := h.w.step(h, "reach "+string(step), ""); err != nil {
		return err
	}
	if j := h.state.Journal; j.Open() || j != nil && step == wire.StepUndoing {
		h.w.change(func() { h.note(step) })
	}
	return h.w.did(h, "reach "+string(step), "")
}

// note changes the step of the entry; whoever was told of it before keeps what was true then.
func (h *fakeHost) note(step wire.Step) {
	j := *h.state.Journal
	j.Step = step
	h.state.Journal = &j
}

func (h *fakeHost) Recover(context.Context) (wire.Recovered, error) {
	if err := h.w.step(h, "recover", ""); err != nil {
		return wire.Recovered{}, err
	}
	found := h.state.Journal
	if !found.Open() {
		return wire.Recovered{Did: "nothing", Current: h.state.Current}, nil
	}
	if err := h.w.step(h, "restart", found.Back); err != nil {
		return wire.Recovered{Did: "kept", Current: h.state.Current, Journal: found, Why: err.Error()}, nil
	}
	h.w.change(h.alone)
	return wire.Recovered{Did: "undone", Current: h.state.Current, Journal: found}, h.w.did(h, "recover", "")
}

// alone is what the host does by itself about an entry that is open: it goes back.
func (h *fakeHost) alone() {
	if !h.state.Journal.Open() {
		return
	}
	j := *h.state.Journal
	j.Step = wire.StepDone
	h.state.Current, h.serving, h.running, h.state.Journal = j.Back, j.Back, j.Back != "", &j
	for i, one := range h.state.Releases {
		if one.ID == j.To && one.Mark != wire.MarkHealthy {
			h.state.Releases[i].Mark = wire.MarkStaged
		}
	}
}

func (h *fakeHost) Audit(_ context.Context, e wire.AuditEntry) error {
	if err := h.w.step(h, "audit", ""); err != nil {
		return err
	}
	h.audit = append(h.audit, e)
	return nil
}

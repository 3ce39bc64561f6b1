package overssh

import (
	"context"
	"encoding/json"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

var (
	_ deploy.Freezer = (*helped)(nil)
	_ deploy.Freezer = (*plain)(nil)
)

// Freeze notes who wants no changes on the host; nil lifts it.
func (h *helped) Freeze(ctx context.Context, f *wire.Freeze) error {
	var text []byte
	if f != nil {
		var err error
		if text, err = json.Marshal(f); err != nil {
			return fault.New(fault.Internal, "the freeze cannot be written").Wrap(err)
		}
	}
	_, err := h.File(ctx, wire.FileRequest{Path: h.site.Path + "/" + wire.FreezeFile, Write: true, Content: text, Mode: 0o644})
	return err
}

// Freeze notes who wants no changes on the host; nil lifts it.
func (p *plain) Freeze(ctx context.Context, f *wire.Freeze) error {
	return p.layout().Freeze(ctx, f)
}

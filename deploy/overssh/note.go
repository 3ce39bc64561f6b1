package overssh

import (
	"context"

	"godeploy/deploy"
	"godeploy/internal/wire"
)

var (
	_ deploy.Noter = (*helped)(nil)
	_ deploy.Noter = (*plain)(nil)
)

// Note adds to the record of a release.
func (h *helped) Note(ctx context.Context, id string, note wire.Note) error {
	return h.client.Call(ctx, wire.KindNote, &wire.NoteRequest{Site: h.site, ID: id, Note: note}, nil)
}

// Note adds to the record of a release.
func (p *plain) Note(ctx context.Context, id string, note wire.Note) error {
	return p.layout().Annotate(ctx, id, note)
}

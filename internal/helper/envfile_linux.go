package helper

import (
	"context"

	"godeploy/internal/wire"
)

func (h *host) annotate(ctx context.Context, req wire.NoteRequest) (any, error) {
	return h.locked(ctx, req.Site, func(s *Site) (any, error) {
		return nil, s.Annotate(ctx, req.ID, req.Note)
	})
}

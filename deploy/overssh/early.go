package overssh

import (
	"context"
	"io"

	"godeploy/deploy"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

var (
	_ deploy.Early    = (*helped)(nil)
	_ deploy.Unlocker = (*helped)(nil)
	_ deploy.Unlocker = (*plain)(nil)
)

// StageWhen sends the request at once. What the host says first comes while ready is waited for.
func (h *helped) StageWhen(ctx context.Context, req wire.StageRequest, src *filesync.Source, ready func(context.Context) (filesync.SendOptions, error)) (wire.StageReply, filesync.Stats, error) {
	var reply wire.StageReply
	var stats filesync.Stats
	h.locked.Store(true) // by the request; Close lets go of it
	err := h.client.Stream(ctx, wire.KindStage, &req, func(rw io.ReadWriter) (err error) {
		o, err := ready(ctx)
		if err != nil {
			return err
		}
		o.RoundTrip = h.conn.RoundTrip()
		stats, err = filesync.Send(ctx, src, rw, o)
		return err
	}, &reply)
	return reply, stats, err
}

// PlaceWhen sends the request at once; see StageWhen.
func (h *helped) PlaceWhen(ctx context.Context, req wire.PlaceRequest, src *filesync.Source, ready func(context.Context) (filesync.SendOptions, error)) (wire.PlaceReply, filesync.Stats, error) {
	var reply wire.PlaceReply
	var stats filesync.Stats
	var changes []wire.PlaceChange
	h.locked.Store(true) // by the request; Close lets go of it
	err := h.client.Stream(ctx, wire.KindPlace, &req, func(rw io.ReadWriter) error {
		o, err := ready(ctx)
		if err != nil {
			return err
		}
		o.RoundTrip = h.conn.RoundTrip()
		stats, changes, err = offer(ctx, req, src, rw, o)
		return err
	}, &reply)
	reply.Changes = changes
	return reply, stats, err
}

// Unlock lets go of the lock, once what was asked for under it has ended.
func (h *helped) Unlock(ctx context.Context) error {
	err := h.client.Call(ctx, wire.KindUnlock, &wire.UnlockRequest{Site: h.site}, nil)
	if err == nil {
		h.locked.Store(false)
	}
	return err
}

// Unlock removes the lock's folder if it is ours.
func (p *plain) Unlock(context.Context) error {
	p.unlock()
	return nil
}

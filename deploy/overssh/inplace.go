package overssh

import (
	"bufio"
	"context"
	"io"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// Place makes the host's folder what the source is, in place. req.Site is the app's when it names no
// path. The host's lock is held, but for a dry run.
func (h *helped) Place(ctx context.Context, req wire.PlaceRequest, src *filesync.Source, o filesync.SendOptions) (wire.PlaceReply, filesync.Stats, error) {
	if req.Site.Path == "" {
		req.Site = h.site
	}
	var reply wire.PlaceReply
	var changes []wire.PlaceChange
	var stats filesync.Stats
	err := h.client.Stream(ctx, wire.KindPlace, &req, func(rw io.ReadWriter) (err error) {
		if stats, err = filesync.Send(ctx, src, rw, o); err != nil || !req.List {
			return err
		}
		changes, err = readChanges(rw)
		return err
	}, &reply)
	reply.Changes = changes
	return reply, stats, err
}

func readChanges(r io.Reader) ([]wire.PlaceChange, error) {
	changes, err := wire.ReadPlaceChanges(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		return nil, fault.New(fault.Protocol, "the helper's list of changes makes no sense").Wrap(err)
	}
	return changes, nil
}

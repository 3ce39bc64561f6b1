package deploy

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// place makes the app's path what the source is.
func (s *syncRun) place(ctx context.Context, m *member, line *Synced) error {
	var reply wire.PlaceReply
	var stats filesync.Stats
	req, begun := s.placeRequest(m), false
	var err error
	if early, ok := m.Host.(Early); ok {
		holder := s.holder()
		req.Holder = &holder
		reply, stats, err = early.PlaceWhen(ctx, req, s.source, func(ctx context.Context) (filesync.SendOptions, error) {
			err := s.ready(ctx)
			begun = err == nil
			return s.sendOptions(m), err
		})
	} else if err = s.ready(ctx); err == nil {
		begun = true
		reply, stats, err = placeOn(ctx, m.Host, req, s.source, s.sendOptions(m))
	}
	if begun {
		s.leave()
	}
	if err != nil {
		if begun && stats.Received > 0 && !refused(err) {
			line.Outcome, m.outcome = Unknown, Unknown
		}
		return err
	}
	line.placed(reply, stats, s.source.Manifest)
	line.Listed = req.List
	if line.Differs() {
		line.Outcome, m.outcome = Healthy, Healthy
	}
	return nil
}

func (s *syncRun) placeRequest(m *member) wire.PlaceRequest {
	p := s.want.Place
	return wire.PlaceRequest{
		Site: SiteOf(s.Env, m.Inventory()), Delete: p.Delete, Limit: p.Limit, Verify: p.Verify,
		Rules: p.Rules, Source: p.Source,
		DryRun: s.want.DryRun, List: s.want.List || s.want.DryRun,
	}
}

// placeOn asks a host that may not be able to.
func placeOn(ctx context.Context, h Host, req wire.PlaceRequest, src *filesync.Source, o filesync.SendOptions) (wire.PlaceReply, filesync.Stats, error) {
	placer, ok := h.(Placer)
	if !ok {
		return wire.PlaceReply{}, filesync.Stats{}, fault.New(fault.HelperArch, "files cannot be brought in place").
			Hint("this needs the helper, or SFTP with a shell")
	}
	return placer.Place(ctx, req, src, o)
}

// refused reports whether a host's end said no before it changed anything. A host that said nothing of
// what it has was told nothing either; after that only these codes are sure to come before any change.
func refused(err error) bool {
	for _, f := range fault.All(err) {
		switch f.Code {
		case fault.LockHeld, fault.LockLost, fault.ConfigValue, fault.DeleteRefused, fault.SyncSource, fault.HelperArch, fault.Usage:
		default:
			return false
		}
	}
	return true
}

// maxManifestRead bounds the manifests that are fetched to be compared with.
const maxManifestRead = 1 << 20

// errNoManifest says that what a host has cannot be itemised from here.
var errNoManifest = errors.New("the manifest cannot be had")

// manifestOf gives the manifest of a release on a host: the one that is still known here under the
// recorded root, else the host's own. The release "" is an empty tree.
func (r *run) manifestOf(ctx context.Context, m *member, id string) (*filesync.Manifest, error) {
	if id == "" {
		return &filesync.Manifest{}, nil
	}
	if had, ok := find(m.state, id); ok {
		if known := r.knownRoot(had.Root); known != nil {
			return known, nil
		}
	}
	reply, err := m.File(ctx, wire.FileRequest{Path: m.env.App.Path + "/.godeploy/manifests/" + id})
	if err != nil {
		return nil, err
	}
	if !reply.Exists || len(reply.Content) > maxManifestRead {
		return nil, errNoManifest
	}
	return filesync.Decode(bytes.NewReader(reply.Content))
}

// knownRoot gives the manifest with this root, in hex, if it is the one at hand or still known.
func (r *run) knownRoot(root string) *filesync.Manifest {
	if r.source != nil && root == r.release.Root {
		return r.source.Manifest
	}
	var hash filesync.Hash
	if n, err := hex.Decode(hash[:], []byte(root[:min(len(root), 2*len(hash))])); r.Known == nil || err != nil || n != len(hash) {
		return nil
	}
	return r.Known(hash)
}

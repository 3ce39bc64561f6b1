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

// placeOn makes a host's folder what the source is, or with a dry run says what that would change.
func (s *syncRun) placeOn(ctx context.Context, m *member, line *Synced) error {
	placer, ok := m.Host.(Placer)
	if !ok {
		return fault.New(fault.HelperArch, "files cannot be brought in place on %s", m.name).
			Hint("this needs the helper, or SFTP with a shell")
	}
	p := s.want.Place
	reply, stats, err := placer.Place(ctx, wire.PlaceRequest{
		Site: SiteOf(s.Env, m.Inventory()), Delete: p.Delete, Limit: p.Limit, Verify: p.Verify,
		Rules: p.Rules, Gitignore: p.Gitignore, Source: p.Source,
		DryRun: s.want.DryRun, List: s.want.List || s.want.DryRun,
	}, s.source, s.sendOptions(m))
	if err != nil {
		if line.begun && !refused(err) {
			line.Outcome, m.outcome = Unknown, Unknown
		}
		return err
	}
	line.placed(reply, stats, s.source.Manifest)
	line.Listed = s.want.List || s.want.DryRun
	if line.Differs() && !s.want.DryRun {
		line.Outcome, m.outcome = Healthy, Healthy
	}
	return nil
}

// refused reports whether a host's end said no before it changed anything.
func refused(err error) bool {
	for _, f := range fault.All(err) {
		switch f.Code {
		case fault.LayoutRefused, fault.DeleteRefused, fault.LockHeld, fault.LockLost, fault.ConfigValue, fault.SyncSource,
			fault.SyncSourceChanged, fault.SudoNeeded, fault.HelperArch, fault.Usage:
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

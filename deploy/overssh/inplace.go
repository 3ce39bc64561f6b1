package overssh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path"
	"strconv"
	"strings"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/helper"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

var (
	_ deploy.Placer = (*helped)(nil)
	_ deploy.Placer = (*plain)(nil)
)

// Place makes the host's folder what the source is, in place. req.Site is the app's when it names no
// path. The host's lock is held, but for a dry run.
func (h *helped) Place(ctx context.Context, req wire.PlaceRequest, src *filesync.Source, o filesync.SendOptions) (wire.PlaceReply, filesync.Stats, error) {
	if req.Site.Path == "" {
		req.Site = h.site
	}
	var reply wire.PlaceReply
	var stats filesync.Stats
	var changes []wire.PlaceChange
	err := h.client.Stream(ctx, wire.KindPlace, &req, func(rw io.ReadWriter) (err error) {
		stats, changes, err = offer(ctx, req, src, rw, o)
		return err
	}, &reply)
	reply.Changes = changes
	return reply, stats, err
}

// offer is this side's half of the stream: the source, and then the list of changes.
func offer(ctx context.Context, req wire.PlaceRequest, src *filesync.Source, rw io.ReadWriter, o filesync.SendOptions) (filesync.Stats, []wire.PlaceChange, error) {
	o.Times = true
	o.Peer += " in place " + req.Site.Path
	if req.DryRun {
		o.RoundTrip = 0 // nothing is sent before it is asked for: it will not be
	}
	stats, err := filesync.Send(ctx, src, rw, o)
	if err != nil || !req.List {
		return stats, nil, err
	}
	changes, err := wire.ReadPlaceChanges(bufio.NewReaderSize(rw, 64<<10))
	if err != nil {
		err = fault.New(fault.Protocol, "the host's list of changes makes no sense").Wrap(err)
	}
	return stats, changes, err
}

// Place runs both ends here; what the receiving end writes goes over SFTP.
func (p *plain) Place(ctx context.Context, req wire.PlaceRequest, src *filesync.Source, o filesync.SendOptions) (wire.PlaceReply, filesync.Stats, error) {
	if req.Site.Path == "" {
		req.Site = p.site
	}
	site, err := p.target(ctx, req)
	if err != nil {
		return wire.PlaceReply{}, filesync.Stats{}, err
	}
	files := newSFTPFS(p.client, req.Site.Path)
	if site.FS == nil {
		site.FS = p.tree(files, o.Compress != "off")
	}
	if s, ok := site.FS.(shellFS); ok {
		site.FS = s.behind(ctx)
		defer site.FS.Close() // what was not finished shows in Place's error
	}
	o.Compress = "off" // what goes through the pipe goes nowhere
	here, there := net.Pipe()
	type end struct {
		stats   filesync.Stats
		changes []wire.PlaceChange
		err     error
	}
	done := make(chan end, 1)
	go func() {
		stats, changes, err := offer(ctx, req, src, here, o)
		_ = here.Close() // unblocks the other end when this one failed
		done <- end{stats, changes, err}
	}()
	reply, err := site.Place(ctx, req, there, helper.Placed{})
	_ = there.Close() // unblocks the sender
	sent := <-done
	if err == nil {
		err = sent.err
	}
	reply.Changes = sent.changes
	sent.stats.Sent = files.sent.Load()
	return reply, sent.stats, err
}

// target looks at the folder and refuses what is not to be changed in place. Its FS is set where the
// folder is not there and need not be.
func (p *plain) target(ctx context.Context, req wire.PlaceRequest) (*helper.Site, error) {
	home, err := p.client.RealPath(".")
	if err != nil {
		return nil, failed("realpath", ".", err)
	}
	physical, err := helper.CheckTarget(req.Site, home, p.resolve, p.kindAt)
	if err != nil {
		return nil, err
	}
	if err := p.apart(ctx, physical, req.Source); err != nil {
		return nil, err
	}
	site := &helper.Site{Path: req.Site.Path, UID: -1, GID: -1}
	if _, err := p.client.Lstat(req.Site.Path); errors.Is(err, fs.ErrNotExist) {
		if req.DryRun {
			site.FS = helper.Nothing()
			return site, nil
		}
		if err := p.client.MkdirAll(req.Site.Path); err != nil {
			return nil, failed("mkdir", req.Site.Path, err)
		}
	}
	return site, nil
}

// resolve gives a path without links, of as much of it as is there.
func (p *plain) resolve(at string) (string, error) {
	rest := ""
	for ; ; at = path.Dir(at) {
		_, err := p.client.Lstat(at)
		if err == nil || at == "/" {
			physical, err := p.client.RealPath(at)
			return path.Join(physical, rest), failed("realpath", at, err)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", failed("lstat", at, err)
		}
		rest = path.Join(path.Base(at), rest)
	}
}

func (p *plain) kindAt(at string) (filesync.Kind, error) {
	info, err := p.client.Lstat(at)
	if err != nil {
		return 0, failed("lstat", at, err)
	}
	return infoOf(info).Kind, nil
}

// apart refuses a target on this very machine that is the source, lies in it or has it inside.
func (p *plain) apart(ctx context.Context, physical string, source wire.Origin) error {
	if source.BootID == "" || source.BootID != p.facts.BootID || source.Ino == 0 {
		return nil
	}
	said, err := p.say(ctx, `p=$1; while :; do stat -c '%d %i' "$p" 2>/dev/null; [ "$p" = / ] && break; p=${p%/*}; [ -n "$p" ] || p=/; done
find "$1" -type d -inum "$2" -exec stat -c '%d %i' '{}' ';' 2>/dev/null; :`, physical, strconv.FormatUint(source.Ino, 10))
	if err != nil {
		return err
	}
	if strings.Contains("\n"+said, fmt.Sprintf("\n%d %d\n", source.Dev, source.Ino)) {
		return fault.New(fault.LayoutRefused, "%s and the source lie one in the other", physical).
			Hint("a sync must not write into its own source")
	}
	return nil
}

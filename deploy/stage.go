package deploy

import (
	"context"
	"fmt"
	"sync"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// stageAll brings the tree to every host, beside what serves. Nothing that runs can see it yet.
func (r *run) stageAll(ctx context.Context) error {
	var mu sync.Mutex
	sum := &r.result.Stats
	if r.source != nil {
		sum.Bytes = r.source.Manifest.Bytes()
	}
	total := func() string {
		return fmt.Sprintf("sync ok: %s, %d changed, %s sent in all", plural(sum.Files, "file"), sum.Changed, Size(sum.Sent))
	}
	return r.phaseSummed(ctx, "sync", "sync: to "+plural(len(r.members), "host"), func(ctx context.Context, m *member) error {
		if _, has := find(m.state, r.release.ID); has { // a run before this one has sent it
			m.outcome = Staged
			return nil
		}
		if err := m.Prepare(ctx, r.Env.Shared.Dirs); err != nil {
			return err
		}
		if err := r.clearUnfinished(ctx, m); err != nil {
			return err
		}
		if err := r.makeRoom(ctx, m); err != nil {
			return err
		}
		reply, stats, err := m.Stage(ctx, r.stageRequest(m), r.source, r.sendOptions(m))
		if err != nil {
			return err
		}
		m.outcome = Staged
		mu.Lock()
		defer mu.Unlock()
		sum.Files, sum.Sent, sum.Changed = reply.Files, sum.Sent+stats.Sent, max(sum.Changed, reply.Written)
		r.Report.Report(event.Event{Type: event.HostEnd, Host: m.name, Phase: "sync", Result: "ok", Bytes: stats.Sent,
			Msg: fmt.Sprintf("sync: %s, %d changed, %s sent", plural(reply.Files, "file"), reply.Written, Size(stats.Sent))})
		return nil
	}, total)
}

func (r *run) stageRequest(m *member) wire.StageRequest {
	req := r.stageAnew(m)
	req.Parent = parentOf(m.state)
	if len(req.Carry) == 0 { // what is carried over comes from what serves
		req.Parent = nearestTo(m.state, r.release)
	}
	return req
}

// stageAnew is a stage request that names no release to build from: the state of the host is not known.
func (r *run) stageAnew(m *member) wire.StageRequest {
	return wire.StageRequest{
		Site: SiteOf(r.Env, m.Inventory()), Release: r.release,
		SharedDirs: r.Env.Shared.Dirs, SharedFiles: r.Env.Shared.Files,
		Carry: r.Env.Release.Carry, Links: r.Env.Sync.Links, Verify: r.Env.Sync.Verify, Env: r.envFile(),
	}
}

// sendOptions are those of everything that is sent to a host.
func (r *run) sendOptions(m *member) filesync.SendOptions {
	return filesync.SendOptions{
		Compress: r.Env.Sync.Compress,
		Hosts:    len(r.members),
		Peer:     r.Env.Name + " " + m.name + " " + SiteOf(r.Env, m.Inventory()).Path,
		Progress: func(p filesync.Progress) {
			r.Report.Report(event.Event{Type: event.Progress, Host: m.name, Phase: "sync", Unit: "bytes",
				Done: p.Bytes, Total: p.TotalBytes, Files: p.Files, OfFiles: p.TotalFiles})
		},
	}
}

// parentOf picks the release whose unchanged files are linked: current, else the newest.
func parentOf(s wire.State) string {
	if _, ok := find(s, s.Current); ok {
		return s.Current
	}
	if n := len(s.Releases); n > 0 {
		return s.Releases[n-1].ID
	}
	return ""
}

// build runs the release hooks and the check on every host, then the once hooks on the first. All
// happens in the staged release: what serves does not see it.
func (r *run) build(ctx context.Context) error {
	err := r.phase(ctx, "build", "build: on "+plural(len(r.members), "host"), func(ctx context.Context, m *member) error {
		if err := r.giveSecrets(ctx, m); err != nil {
			return err
		}
		if err := r.hostHooks(ctx, m, "release", "build", m.releaseDir(r.release.ID), r.Env.Hooks.Release, false); err != nil {
			return err
		}
		return r.Service.Check(ctx, m.Host, r.release.ID)
	})
	if err != nil {
		return err
	}
	return r.once(ctx)
}

// abandon ends a run before the barrier: no host has switched. What was staged stays for the next run,
// which sends less for it, or resumes; where room is short it is taken away again.
func (r *run) abandon(ctx context.Context, cause error) error {
	r.result.Verdict = WholeOld
	if !fault.Is(cause, fault.DiskFull) && !fault.Is(cause, fault.InodeFull) {
		return cause
	}
	ctx, cancel := r.cleanup(ctx)
	defer cancel()
	_ = each(ctx, r.todo(), r.Parallel, func(ctx context.Context, m *member) error { // the cause is what counts
		if m.outcome != Staged {
			return nil
		}
		if _, err := m.Remove(ctx, []string{r.release.ID}); err == nil {
			m.outcome = Unchanged
		}
		return nil
	})
	return cause
}

// plural gives "1 host", "3 hosts".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Size gives a number of bytes as a person says it: 18.2 KB, 41.7 MB.
func Size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f KB", float64(n)/1e3)
	case n < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

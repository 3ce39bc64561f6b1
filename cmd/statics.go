package cmd

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"godeploy/deploy"
	"godeploy/deploy/balance"
	"godeploy/deploy/overssh"
	"godeploy/internal/event"
	"godeploy/internal/wire"
	"godeploy/inventory"
	"godeploy/sshx"
	filesync "godeploy/sync"
)

// statics brings the folders of [[nginx.location]] sync to the nginx hosts. It implements deploy.Statics;
// close drops its connections, and with them the locks of the folders.
type statics struct {
	c       *call
	report  event.Reporter
	pool    *sshx.Pool
	folders []*balance.Statics
}

// statics gives what a release has to bring there, nil when nothing.
func (c *call) statics(report event.Reporter) *statics {
	if c.env.Nginx == nil || c.opt.DryRun || len(c.env.NginxHosts()) == 0 {
		return nil
	}
	for _, l := range c.env.Nginx.Location {
		if l.Sync != "" {
			return &statics{c: c, report: report, pool: c.connect(report)}
		}
	}
	return nil
}

func (s *statics) close() {
	for _, f := range s.folders {
		overssh.Close(f.Hosts)
	}
	_ = s.pool.Close() // the run is over
}

// Bring implements deploy.Statics.
func (s *statics) Bring(ctx context.Context, release wire.Release) error {
	for _, l := range s.c.env.Nginx.Location {
		if l.Sync == "" {
			continue
		}
		if err := s.bringOne(ctx, l, release); err != nil {
			return err
		}
	}
	return nil
}

func (s *statics) bringOne(ctx context.Context, l inventory.Location, release wire.Release) error {
	env := s.envOf(l)
	hosts := s.hostsOf(env)
	if len(hosts) == 0 {
		return nil
	}
	connector := s.c.connector(s.pool, s.report)
	connector.Env = env
	connected, err := connector.Connect(ctx, hosts)
	if err != nil {
		return err
	}
	folder := &balance.Statics{Env: env, Hosts: connected, Folder: env.App.Path, Keep: max(env.App.Keep, 2)}
	s.folders = append(s.folders, folder)
	if err := folder.Prepare(ctx); err != nil {
		return err
	}
	fleet := s.c.over(connected, s.report)
	fleet.Env = env
	var source *filesync.Source
	_, err = fleet.Sync(ctx, deploy.SyncWant{
		Scan: func(ctx context.Context) (_ *filesync.Source, err error) {
			source, err = s.scan(ctx, l)
			return source, err
		},
		Message: "static files of " + release.ID, Place: &deploy.Placing{Source: originOf(s.from(l))},
	})
	if source == nil {
		return err
	}
	defer source.Close() // it was only read
	if err != nil {
		return err
	}
	return folder.Record(ctx, release, filesOf(source.Manifest))
}

// envOf is the environment whose app is nothing but the folder of static files.
func (s *statics) envOf(l inventory.Location) *inventory.Env {
	env := *s.c.env
	env.App.Path, env.App.Layout, env.App.Owner = strings.TrimSuffix(l.Alias, "/"), "inplace", ""
	env.Shared, env.Hooks, env.Secrets = inventory.Shared{}, inventory.Hooks{}, inventory.Secrets{}
	return &env
}

// hostsOf leaves out hosts on which the folder is part of the app: there the switch brings the files.
func (s *statics) hostsOf(env *inventory.Env) []inventory.Host {
	released := map[string]bool{}
	for _, h := range s.c.env.ReleaseHosts() {
		released[h.Name] = strings.HasPrefix(env.App.Path+"/", s.c.env.On(h).App.Path+"/")
	}
	var hosts []inventory.Host
	for _, h := range env.NginxHosts() {
		if released[h.Name] {
			s.report.Report(event.Event{Type: event.Info, Host: h.Name, Phase: "sync", Msg: fmt.Sprintf("sync: %s is part of the release here", env.App.Path)})
			continue
		}
		hosts = append(hosts, h)
	}
	return hosts
}

func (s *statics) from(l inventory.Location) string {
	return filepath.Join(s.c.sourceDir(), filepath.FromSlash(l.Sync))
}

// scan reads the folder as the hooks have left it. Patterns that are anchored speak of the whole source and
// mean nothing here.
func (s *statics) scan(ctx context.Context, l inventory.Location) (*filesync.Source, error) {
	o := s.c.env.Sync
	floating := func(list []string) (kept []string) {
		for _, p := range list {
			if !strings.Contains(strings.TrimSuffix(p, "/"), "/") {
				kept = append(kept, p)
			}
		}
		return kept
	}
	rules, err := filesync.ReadRules(filesync.RuleOptions{Dir: s.from(l), Include: floating(o.Include), Exclude: floating(o.Excludes())})
	if err != nil {
		return nil, err
	}
	return filesync.Scan(ctx, s.from(l), filesync.ScanOptions{Rules: rules, Symlinks: o.Symlinks, Special: o.Special, OneFileSystem: o.OneFileSystem})
}

func filesOf(m *filesync.Manifest) []string {
	var paths []string
	for _, e := range m.Entries {
		if e.Kind == filesync.File {
			paths = append(paths, string(e.Path))
		}
	}
	return paths
}

// Prune implements deploy.Statics.
func (s *statics) Prune(ctx context.Context) {
	for _, f := range s.folders {
		if err := f.Prune(ctx); err != nil {
			s.report.Report(event.Event{Type: event.Warn, Phase: "sync", Msg: "sync: old static files stay: " + err.Error()})
		}
	}
}

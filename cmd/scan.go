package cmd

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	filesync "godeploy/sync"
)

// scan reads the tree that [sync] from names.
func (c *call) scan(ctx context.Context, report event.Reporter) (*filesync.Source, error) {
	s := c.env.Sync
	from := c.sourceDir()
	rules, err := c.rules()
	if err != nil {
		return nil, err
	}
	began := c.sys.Now()
	src, err := filesync.Scan(ctx, from, filesync.ScanOptions{
		Rules: rules, Symlinks: s.Symlinks, Special: s.Special, OneFileSystem: s.OneFileSystem,
		Cache: c.cacheDir(), Rehash: c.leaf.cmd != nil && c.flags.Bool("rehash"),
	})
	if err != nil {
		return nil, err
	}
	for _, note := range append(src.Notes, deploy.Suspects(src)...) {
		report.Report(event.Event{Type: event.Warn, Phase: "scan", Msg: "scan: " + note})
	}
	c.sayUnmatched(rules, src.Manifest, report)
	text := fmt.Sprintf("scan: %s, %s", plural(src.Manifest.Files(), "file"), deploy.Size(src.Manifest.Bytes()))
	if src.Trusted > 0 {
		text += fmt.Sprintf(", %s read", deploy.Count(src.Hashed))
	}
	report.Report(event.Event{Type: event.Info, Phase: "scan", MS: c.sys.Now().Sub(began).Milliseconds(), Msg: text})
	return src, nil
}

// rules are those of [sync] and of the command line: what is left out.
func (c *call) rules() (*filesync.Rules, error) {
	s := c.env.Sync
	rules, err := filesync.ReadRules(filesync.RuleOptions{
		Dir: c.sourceDir(), Filter: s.Filter, Include: s.Include, Exclude: s.Excludes(), Gitignore: s.Gitignore,
	})
	if err != nil {
		err = fault.New(fault.ConfigValue, "[sync] exclude, include or filter").At(c.file.Origin(c.env.Name, "sync.exclude")).Wrap(err)
	}
	return rules, err
}

// sourceDir is the folder that is sent.
func (c *call) sourceDir() string {
	if from := c.env.Sync.From; filepath.IsAbs(from) {
		return from
	}
	return filepath.Join(c.file.Dir, c.env.Sync.From)
}

// cacheDir is where hashes and manifests are kept between runs, so that what did not change need not be
// read or told again. GODEPLOY_CACHE names another folder, or "off" for none; "" is none.
func (c *call) cacheDir() string {
	switch own := c.sys.Env("GODEPLOY_CACHE"); {
	case own == "off":
		return ""
	case own != "" && filepath.IsAbs(own):
		return own
	case own != "":
		return filepath.Join(c.sys.Dir, own)
	}
	base := userCache(runtime.GOOS, c.sys)
	if base == "" {
		return ""
	}
	return filepath.Join(base, "godeploy")
}

// userCache is os.UserCacheDir for the machine at hand, which in tests is not this one.
func userCache(goos string, sys System) string {
	switch {
	case goos == "windows":
		return sys.Env("LocalAppData")
	case goos == "darwin" && sys.Home != "":
		return filepath.Join(sys.Home, "Library", "Caches")
	case goos != "darwin" && filepath.IsAbs(sys.Env("XDG_CACHE_HOME")):
		return sys.Env("XDG_CACHE_HOME")
	case sys.Home != "":
		return filepath.Join(sys.Home, ".cache")
	}
	return ""
}

// ahead is a scan that runs while the hosts are being connected.
type ahead struct {
	cancel context.CancelFunc
	done   chan struct{} // src and err are there
	src    *filesync.Source
	err    error
}

func (c *call) scanAhead(ctx context.Context, report event.Reporter) *ahead {
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.src, a.err = c.scan(ctx, report)
	}()
	return a
}

// wait gives what the scan came to; the source stays the scan's to close.
func (a *ahead) wait(context.Context) (*filesync.Source, error) {
	<-a.done
	return a.src, a.err
}

// close ends the scan and lets go of the source.
func (a *ahead) close() {
	a.cancel()
	<-a.done
	if a.src != nil {
		_ = a.src.Close() // it was only read
	}
}

package overssh

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"godeploy/deploy"
	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// What a sync promises holds with the helper and without: staged and not switched, the second time
// nothing.
func TestSync(t *testing.T) {
	t.Parallel()
	both(t, "sync", func(t *testing.T, m *machine, h deploy.Host) {
		src := t.TempDir()
		put := func(path, text string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		put(filepath.Join(src, "app.py"), "one")
		now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
		run := func(want deploy.SyncWant) *deploy.SyncResult {
			t.Helper()
			now = now.Add(time.Minute)
			f := &deploy.Fleet{Env: m.env, Hosts: []deploy.Host{h}, Local: hooks.Local{}, Report: event.Discard{}, Parallel: 1,
				Holder: wire.Holder{Who: "ops@laptop"}, Now: func() time.Time { return now }}
			var tree *filesync.Source
			want.Scan = func(ctx context.Context) (_ *filesync.Source, err error) {
				tree, err = filesync.Scan(ctx, src, filesync.ScanOptions{})
				return tree, err
			}
			got, err := f.Sync(t.Context(), want)
			if tree != nil {
				defer tree.Close()
			}
			if err != nil {
				t.Fatalf("%+v: %v", want.Place, err)
			}
			return got
		}
		if dry := run(deploy.SyncWant{DryRun: true}); !dry.Differs() || len(dry.Hosts[0].Changes) != 1 {
			t.Errorf("dry run: %+v", dry)
		}
		first := run(deploy.SyncWant{})
		if text, err := os.ReadFile(filepath.Join(m.path, "releases", first.Release, "app.py")); err != nil || string(text) != "one" || first.Verdict != deploy.Done {
			t.Errorf("first: %q, %v, %+v", text, err, first)
		}
		if again := run(deploy.SyncWant{}); again.Verdict != deploy.Nothing || again.Staged() != first.Release {
			t.Errorf("again: %+v", again)
		}
		put(filepath.Join(src, "app.py"), "two and more")
		second := run(deploy.SyncWant{List: true})
		if got := second.Hosts[0]; second.Verdict != deploy.Done || !got.Listed || len(got.Changes) != 1 || got.Changes[0].Why != wire.WhySize {
			t.Errorf("second: %+v", second)
		}
		if _, err := os.Lstat(filepath.Join(m.path, "current")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("current: %v", err)
		}
		if state, err := h.State(t.Context(), nil); err != nil || len(state.Releases) != 2 || state.Releases[1].Mark != wire.MarkStaged {
			t.Errorf("state: %+v, %v", state, err)
		}
	})
}

// In place nothing is deleted unasked, and the lock is free afterwards.
func TestSyncInPlace(t *testing.T) {
	t.Parallel()
	both(t, "in place", func(t *testing.T, m *machine, h deploy.Host) {
		src := t.TempDir()
		if err := os.WriteFile(filepath.Join(src, "app.py"), []byte("one"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(m.path, 0o755); err != nil {
			t.Fatal(err)
		}
		extra := filepath.Join(m.path, "extra")
		if err := os.WriteFile(extra, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			place  deploy.Placing
			dry    bool
			want   deploy.Verdict
			delete int
			left   bool
		}{
			{deploy.Placing{}, false, deploy.Done, 0, true},
			{deploy.Placing{}, false, deploy.Nothing, 0, true},
			{deploy.Placing{Delete: true}, true, deploy.Done, 1, true},
			{deploy.Placing{Delete: true}, false, deploy.Done, 1, false},
			{deploy.Placing{Delete: true, Verify: "all"}, false, deploy.Nothing, 0, false},
		} {
			tree, err := filesync.Scan(t.Context(), src, filesync.ScanOptions{})
			if err != nil {
				t.Fatal(err)
			}
			f := &deploy.Fleet{Env: m.env, Hosts: []deploy.Host{h}, Local: hooks.Local{}, Report: event.Discard{}, Parallel: 1,
				Holder: wire.Holder{Who: "ops@laptop"}, Now: time.Now}
			got, err := f.Sync(t.Context(), deploy.SyncWant{Place: &step.place, DryRun: step.dry,
				Scan: func(context.Context) (*filesync.Source, error) { return tree, nil }})
			_ = tree.Close() // it was only read
			if err != nil || got.Verdict != step.want || got.Hosts[0].Deleted != step.delete {
				t.Errorf("%+v: %+v, %v", step, got, err)
			}
			if _, err := os.Lstat(extra); (err == nil) != step.left {
				t.Errorf("%+v: extra: %v", step, err)
			}
		}
	})
}

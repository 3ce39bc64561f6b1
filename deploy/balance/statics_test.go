package balance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"godeploy/deploy"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// The files of the last releases stay, those of older ones go, and what no release brought is left alone.
func TestStaticFilesOfTheLastReleasesStay(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a b", "statics")
	same := strings.NewReplacer()
	s := &Statics{Env: &inventory.Env{}, Folder: dir, Keep: 2, Hosts: []deploy.Host{&front{name: "lb1", there: same, back: same}}}
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "css"), 0o755))
	must(s.Prune(ctx)) // nothing was ever listed
	must(os.WriteFile(filepath.Join(dir, "robots.txt"), nil, 0o644))
	bring := func(seq int, paths ...string) {
		t.Helper()
		for _, p := range paths {
			must(os.WriteFile(filepath.Join(dir, p), nil, 0o644))
		}
		must(s.Record(ctx, wire.Release{Seq: seq, ID: fmt.Sprintf("20261123-10410%d-4f2c9e1", seq%10)}, paths))
		must(s.Prune(ctx))
	}
	here := func(want ...string) {
		t.Helper()
		var got []string
		for _, pattern := range []string{"*", "css/*"} {
			found, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is valid
			for _, f := range found {
				if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
					got = append(got, strings.TrimPrefix(f, dir+"/"))
				}
			}
		}
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("there is %q, want %q", got, want)
		}
	}
	bring(8, "app.js", "css/-a one.css", "css/*")
	bring(9, "app.js", "css/two.css")
	here("robots.txt", "app.js", "css/-a one.css", "css/*", "css/two.css")
	bring(10, "app.js", "css/three.css")
	here("robots.txt", "app.js", "css/two.css", "css/three.css")
	bring(11, "app.js", "css/x\ny.css") // cannot be listed: from here on nothing goes
	bring(12, "app.js")
	here("robots.txt", "app.js", "css/two.css", "css/three.css", "css/x\ny.css")
}

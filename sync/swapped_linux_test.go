package filesync

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// flipper swaps folders below a root for links that lead out of it and back, as fast as it can. A name
// that is there under both is swapped in one step.
type flipper struct {
	root, outside string
	flips         int
}

func (f *flipper) run(ctx context.Context) {
	trap := filepath.Join(f.root, "..", "trap")
	for ctx.Err() == nil {
		_ = os.Symlink(f.outside, trap) // may be there from the last turn
		for _, dir := range foldersOf(f.root) {
			full := filepath.Join(f.root, dir)
			if unix.Renameat2(unix.AT_FDCWD, full, unix.AT_FDCWD, trap, unix.RENAME_EXCHANGE) != nil {
				continue
			}
			f.flips++
			_ = unix.Renameat2(unix.AT_FDCWD, full, unix.AT_FDCWD, trap, unix.RENAME_EXCHANGE) // it may be gone by now
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// TestNothingIsWrittenThroughALinkThatIsSwappedIn: somebody who may write in the app's folder swaps folders
// of the stage for links while a release is made, and those of a folder while it is synced in place.
// Whatever comes of the run, nothing outside is touched.
func TestNothingIsWrittenThroughALinkThatIsSwappedIn(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for _, dir := range []string{"a", "a/b", "a/b/c", "d", "d/e"} {
		for _, name := range []string{"1", "2", "3", "4"} {
			files[dir+"/"+name] = noise(uint64(len(files)), 3000)
		}
	}
	long := 1500 * time.Millisecond
	if os.Getenv("GODEPLOY_TEST_FULL") != "" {
		long = 20 * time.Second
	}
	for name, run := range map[string]func(src *Source, fsys FS) error{
		"staged": func(src *Source, fsys FS) error {
			e := transfer(t, src, SendOptions{}, into(fsys, "r1", ""))
			return errors.Join(e.sendErr, e.receiveErr, fsys.RemoveAll("releases"), fsys.RemoveAll(".godeploy"))
		},
		"in place": func(src *Source, fsys FS) error {
			o := placeOptions(fsys)
			o.Delete, o.Limit = true, MaxDelete{N: 100, Percent: true}
			_, err := placeFrom(t.Context(), src, o)
			return errors.Join(err, fsys.RemoveAll("a"), fsys.RemoveAll("d/e"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top, src := t.TempDir(), scanDir(t, put(t, files))
			app, outside := filepath.Join(top, "app"), filepath.Join(top, "outside")
			must(t, errors.Join(os.Mkdir(app, 0o755), os.Mkdir(outside, 0o755)))
			putIn(t, outside, files)
			putIn(t, outside, map[string]string{"mine": "stays"})
			before := append(portrait(t, outside), outward(t, outside))
			ctx, cancel := context.WithTimeout(t.Context(), long)
			defer cancel()
			f, ended := &flipper{root: app, outside: outside}, make(chan struct{})
			go func() { defer close(ended); f.run(ctx) }()
			runs, whole := 0, 0
			for fsys := (noSync{openDir(t, app)}); ctx.Err() == nil; runs++ {
				if run(src, fsys) == nil {
					whole++
				}
			}
			<-ended
			if after := append(portrait(t, outside), outward(t, outside)); !slices.Equal(before, after) {
				t.Errorf("outside was changed:\n%s", difference(before, after))
			}
			t.Logf("%d runs, %d of them whole, against %d swaps", runs, whole, f.flips)
			if f.flips < 20 || runs < 2 {
				t.Error("too little happened")
			}
		})
	}
}

// outward is what a write into a folder itself would change.
func outward(t *testing.T, dir string) string {
	t.Helper()
	info, err := os.Stat(dir)
	must(t, err)
	return info.ModTime().String() + info.Mode().String()
}

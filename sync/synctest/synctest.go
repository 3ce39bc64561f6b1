// Package synctest says in tests what an FS and a Receive over it must hold to. Every way to reach a
// host runs the same suite.
package synctest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	filesync "godeploy/sync"
)

// Run holds an FS to its contract, and to the rows of docs/sync.md, "Odd inputs", that are about a host. open gives a fresh one, rooted at an empty folder, that goes with
// the test; it is called once for each part.
func Run(t *testing.T, open func(t *testing.T) filesync.FS) {
	t.Helper()
	for name, part := range map[string]func(*testing.T, filesync.FS){
		"names": names, "errors": kindsOfErrors, "links are not followed": noFollow, "permissions": permissions,
		"times": times, "rename": rename, "remove": removeAll, "room and durability": room, "files": files,
		"release": release, "parent": parent, "changed in place": changedInPlace,
		"carry": carry, "interrupted": interrupted, "hostile trees": hostileTrees, "hostile content": hostileContent,
		"release that is there": taken, "unchanged": unchanged,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			part(t, open(t))
		})
	}
	for _, row := range oddInputs() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			row.test(t, open(t))
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// noise gives n bytes that do not compress, the same for one seed.
func noise(seed byte, n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return string(b)
}

// write makes a file with its content through the FS.
func write(t *testing.T, fsys filesync.FS, path, content string, perm uint32) {
	t.Helper()
	f, err := fsys.Create(path, perm)
	must(t, err)
	_, err = io.WriteString(f, content)
	must(t, errors.Join(err, f.Sync(), f.Close()))
}

// read gives a file's content through the FS.
func read(t *testing.T, fsys filesync.FS, path string) string {
	t.Helper()
	f, err := fsys.Open(path)
	must(t, err)
	defer f.Close()
	content, err := io.ReadAll(f)
	must(t, err)
	return string(content)
}

// list gives the names in a folder.
func list(t *testing.T, fsys filesync.FS, path string) []string {
	t.Helper()
	infos, err := fsys.ReadDir(path)
	must(t, err)
	var names []string
	for _, info := range infos {
		names = append(names, info.Name)
	}
	return names
}

// source is a folder of this machine to send; a path that ends in "/" is a folder, a content that
// begins with "->" a link.
func source(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for _, path := range slices.Sorted(func(yield func(string) bool) {
		for path := range content {
			if !yield(path) {
				return
			}
		}
	}) {
		full := filepath.Join(dir, path)
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		switch text, link := strings.CutPrefix(content[path], "->"); {
		case strings.HasSuffix(path, "/"):
			must(t, os.MkdirAll(full, 0o755))
		case link:
			must(t, os.Symlink(text, full))
		default:
			must(t, os.WriteFile(full, []byte(content[path]), 0o644))
			must(t, os.Chmod(full, 0o644))
		}
	}
	return dir
}

func scan(t *testing.T, dir string) *filesync.Source {
	t.Helper()
	src, err := filesync.Scan(t.Context(), dir, filesync.ScanOptions{})
	must(t, err)
	t.Cleanup(func() { must(t, src.Close()) })
	return src
}

// receive runs Receive against a peer, who has the other end of an unbuffered pipe.
func receive(t *testing.T, o filesync.ReceiveOptions, peer func(conn net.Conn)) (filesync.Stats, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		peer(near)
		_ = near.Close()
	}()
	stats, err := filesync.Receive(ctx, o, far)
	_ = far.Close()
	<-ended
	return stats, err
}

func options(fsys filesync.FS, id, parent string) filesync.ReceiveOptions {
	return filesync.ReceiveOptions{FS: fsys, ID: id, Parent: parent, UID: -1, GID: -1}
}

// send brings a source in and fails the test when that fails.
func send(t *testing.T, src *filesync.Source, o filesync.ReceiveOptions) filesync.Stats {
	t.Helper()
	var sendErr error
	stats, err := receive(t, o, func(conn net.Conn) {
		_, sendErr = filesync.Send(t.Context(), src, conn, filesync.SendOptions{})
	})
	must(t, errors.Join(err, sendErr))
	compare(t, src, o.FS, "releases/"+o.ID)
	return stats
}

// compare fails the test when a release is not what the source was: kinds, bits, contents, links,
// times to the second, and nothing besides.
func compare(t *testing.T, src *filesync.Source, fsys filesync.FS, release string) {
	t.Helper()
	var got []string
	for todo := []string{""}; len(todo) > 0; {
		dir := todo[0]
		todo = todo[1:]
		infos, err := fsys.ReadDir(strings.TrimSuffix(release+"/"+dir, "/"))
		must(t, err)
		for _, info := range infos {
			path := strings.TrimPrefix(dir+"/"+info.Name, "/")
			got = append(got, describe(t, fsys, release+"/"+path, path, info))
			if info.Kind == filesync.Dir {
				todo = append(todo, path)
			}
		}
	}
	slices.Sort(got)
	want := make([]string, 0, len(src.Manifest.Entries))
	for _, e := range src.Manifest.Entries {
		want = append(want, fmt.Sprintf("%q %d %o %d %s", e.Path, e.Kind, e.Mode, e.Size, e.Link))
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", release, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func describe(t *testing.T, fsys filesync.FS, full, path string, info filesync.Info) string {
	t.Helper()
	var text string
	switch info.Kind {
	case filesync.Link:
		var err error
		text, err = fsys.Readlink(full)
		must(t, err)
		info.Mode, info.Size = 0, 0
	case filesync.Dir:
		info.Size = 0
	}
	return fmt.Sprintf("%q %d %o %d %s", path, info.Kind, info.Mode, info.Size, text)
}

// TempDir gives a folder that goes with the test, with all folders in it that forbid writing: for an
// ordinary user testing's own clean-up fails on those.
func TempDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // what stays closed fails the clean-up itself
			if err == nil && d.IsDir() {
				_ = os.Chmod(path, 0o700)
			}
			return nil
		})
	})
	return dir
}

package filesync

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// put writes files below a new folder: a path ending in "/" is a folder, "->" in front of a content
// makes a link.
func put(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	putIn(t, dir, files)
	return dir
}

func putIn(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for path, content := range files {
		full := filepath.Join(dir, path)
		ok(t, os.MkdirAll(filepath.Dir(full), 0o755))
		switch {
		case path[len(path)-1] == '/':
			ok(t, os.MkdirAll(full, 0o755))
		case len(content) > 2 && content[:2] == "->":
			ok(t, os.Symlink(content[2:], full))
		default:
			ok(t, os.WriteFile(full, []byte(content), 0o644))
		}
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// noise gives n bytes that do not compress, the same for one seed.
func noise(seed uint64, n int) string {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = rng.Read(b)
	return string(b)
}

func scanDir(t *testing.T, dir string) *Source {
	t.Helper()
	src, err := Scan(context.Background(), dir, ScanOptions{})
	ok(t, err)
	t.Cleanup(func() { ok(t, src.Close()) })
	return src
}

func openDir(t *testing.T, dir string) FS {
	t.Helper()
	fsys, err := OpenLocal(dir)
	ok(t, err)
	t.Cleanup(func() { ok(t, fsys.Close()) })
	return fsys
}

// ends is how both ends of a transfer ended.
type ends struct {
	sent, received      Stats
	sendErr, receiveErr error
}

// transfer runs both ends over a pipe without any buffer, as strict a transport as there is.
func transfer(t *testing.T, src *Source, so SendOptions, ro ReceiveOptions) ends {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	return pipe(ctx, src, so, ro)
}

func pipe(ctx context.Context, src *Source, so SendOptions, ro ReceiveOptions) ends {
	a, b := net.Pipe()
	var e ends
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.received, e.receiveErr = Receive(ctx, ro, b)
		_ = b.Close()
	}()
	e.sent, e.sendErr = Send(ctx, src, a, so)
	_ = a.Close()
	<-done
	return e
}

func release(t *testing.T, src *Source, fsys FS, id, parent string) ends {
	t.Helper()
	e := transfer(t, src, SendOptions{}, ReceiveOptions{FS: fsys, ID: id, Parent: parent, UID: -1, GID: -1})
	ok(t, errors.Join(e.sendErr, e.receiveErr))
	return e
}

func TestReleaseFromNothingThenFromParent(t *testing.T) {
	t.Parallel()
	big := noise(1, 3<<20)
	dir := put(t, map[string]string{"a": "one", "d/b": "two", "d/e/": "", "l": "->a", "big": big, "none": "", "twin": "one"})
	app := t.TempDir()
	fsys := openDir(t, app)
	first := release(t, scanDir(t, dir), fsys, "r1", "")
	if first.received.Linked != 0 || first.received.Written != 5 {
		t.Errorf("first: got %+v", first.received)
	}
	ok(t, os.WriteFile(filepath.Join(dir, "a"), []byte("changed"), 0o644))
	ok(t, os.WriteFile(filepath.Join(dir, "big"), []byte(big[:1<<20]+"inserted"+big[1<<20:]), 0o644))
	second := release(t, scanDir(t, dir), fsys, "r2", "r1")
	if second.received.Linked != 3 || second.received.Written != 2 {
		t.Errorf("second: got %+v", second.received)
	}
	if second.sent.Sent > 300<<10 {
		t.Errorf("an insertion into 3 MiB sent %d bytes", second.sent.Sent)
	}
	if second.sent.Linked != second.received.Linked || second.sent.Sent != second.received.Received {
		t.Errorf("the ends disagree: %+v and %+v", second.sent, second.received)
	}
	got, err := os.ReadFile(filepath.Join(app, "releases/r2/big"))
	ok(t, err)
	if string(got) != big[:1<<20]+"inserted"+big[1<<20:] {
		t.Error("big is not what it was at the source")
	}
	third := release(t, scanDir(t, dir), fsys, "r3", "r2")
	if !third.sent.Unchanged || third.received.Linked != 5 || third.sent.Sent > 8<<10 {
		t.Errorf("third: got %+v", third.sent)
	}
}

package synctest

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	filesync "godeploy/sync"
)

// release: all kinds, bits and sizes arrive as they are, under any umask.
func release(t *testing.T, fsys filesync.FS) {
	big := noise(1, 1<<20)
	dir := source(t, map[string]string{"empty": "", "one": "1", "run": "#!", "deep/a/b/c/f": "x", "void/": "", "closed/f": "x", "closed/sub/": "",
		"rel": "->deep/a", "dangling": "->nowhere", "big": big, "same": big, "edge": noise(2, 256<<10), "below": noise(3, 256<<10-1)})
	must(t, os.Chmod(filepath.Join(dir, "run"), os.ModeSetuid|os.ModeSetgid|0o755))
	must(t, os.Chmod(filepath.Join(dir, "one"), 0o606))
	must(t, os.Chmod(filepath.Join(dir, "void"), 0o777))
	must(t, os.Chmod(filepath.Join(dir, "closed"), 0o555))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "closed"), 0o755) }) // so that it can be removed
	src := scan(t, dir)
	stats := send(t, src, options(fsys, "r1", ""))
	if stats.Files != 9 || stats.Written != 9 || stats.Linked != 0 || stats.Bytes != src.Manifest.Bytes() {
		t.Errorf("got %+v", stats)
	}
	if stats.Received > 2<<20 && near(fsys) {
		t.Errorf("two equal files of 1 MiB took %d bytes", stats.Received)
	}
	if read(t, fsys, "releases/r1/big") != big || read(t, fsys, "releases/r1/same") != big {
		t.Error("content is not what was sent")
	}
	stored, err := filesync.ReadManifest(fsys, "r1")
	must(t, err)
	if stored.Root() != src.Manifest.Root() {
		t.Error("the stored manifest is of another tree")
	}
	if got := list(t, fsys, "releases"); !slices.Equal(got, []string{"r1"}) {
		t.Errorf("releases holds %q", got)
	}
}

// parent: what is unchanged is linked, renames and new bits send no content, kinds may change.
func parent(t *testing.T, fsys filesync.FS) {
	big := noise(1, 2<<20)
	dir := source(t, map[string]string{"stay": "1", "bits": "2", "was": noise(4, 5000), "file2dir": "x", "dir2file/f": "y", "link2file": "->stay",
		"file2link": "z", "gone/f": "w", "big": big})
	first := scan(t, dir)
	send(t, first, options(fsys, "r1", ""))
	for _, name := range []string{"file2dir", "dir2file", "link2file", "file2link", "gone"} {
		must(t, os.RemoveAll(filepath.Join(dir, name)))
	}
	must(t, os.Rename(filepath.Join(dir, "was"), filepath.Join(dir, "is")))
	must(t, os.Chmod(filepath.Join(dir, "bits"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "file2dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "file2dir/new"), []byte("n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "dir2file"), []byte("n2"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "link2file"), []byte("n3"), 0o644))
	must(t, os.Symlink("stay", filepath.Join(dir, "file2link")))
	must(t, os.WriteFile(filepath.Join(dir, "big"), []byte(big[:1<<20]+"inserted"+big[1<<20:]), 0o644))
	stats := send(t, scan(t, dir), options(fsys, "r2", "r1"))
	if stats.Received > 256<<10 && near(fsys) {
		t.Errorf("an insertion and some renames took %d bytes", stats.Received)
	}
	if stats.Linked != 2 {
		t.Errorf("linked %d files, want 2", stats.Linked)
	}
	if got := read(t, fsys, "releases/r2/big"); got != big[:1<<20]+"inserted"+big[1<<20:] {
		t.Error("big is not what was sent")
	}
	compare(t, first, fsys, "releases/r1")
	copied := options(fsys, "r3", "r2")
	copied.Links = "copy"
	if stats := send(t, scan(t, dir), copied); stats.Linked != 0 || stats.Received > 8<<10 && near(fsys) {
		t.Errorf("links = copy: %+v", stats)
	}
}

// near reports whether contents on the host are cheaper to have than those that are sent.
func near(fsys filesync.FS) bool {
	_, far := fsys.(filesync.Far)
	return !far
}

// changedInPlace: a file that an app wrote to in its release is sent anew, and so is one of a parent
// that lost files or its manifest.
func changedInPlace(t *testing.T, fsys filesync.FS) {
	dir := source(t, map[string]string{"a": "content", "b": "content b", "c/d": "deep", "big": noise(1, 600_000)})
	src := scan(t, dir)
	send(t, src, options(fsys, "r1", ""))
	info, err := fsys.Lstat("releases/r1/big")
	must(t, err)
	for path, content := range map[string]string{"a": "changed", "big": noise(2, 600_000)} {
		must(t, fsys.RemoveAll("releases/r1/"+path))
		write(t, fsys, "releases/r1/"+path, content, 0o644)
	}
	// Even one that hides it: its chunks are found wrong when they are used.
	must(t, fsys.Chtimes("releases/r1/big", info.MTime))
	must(t, fsys.RemoveAll("releases/r1/c"))
	hidden := options(fsys, "r2", "r1")
	hidden.Links = "copy"
	send(t, src, hidden)
	for path, want := range map[string]string{"a": "content", "c/d": "deep", "big": noise(1, 600_000)} {
		if got := read(t, fsys, "releases/r2/"+path); got != want {
			t.Errorf("%s: not what was sent", path)
		}
	}
	must(t, fsys.RemoveAll(".godeploy/manifests"))
	if stats := send(t, src, options(fsys, "r3", "r2")); stats.Linked != 0 {
		t.Errorf("linked %d files of releases without a manifest", stats.Linked)
	}
	if stats := send(t, src, options(fsys, "r4", "never")); stats.Linked != 4 {
		t.Errorf("linked %d files of another release than the parent, which is not there", stats.Linked)
	}
	compare(t, src, fsys, "releases/r4")
}

func carry(t *testing.T, fsys filesync.FS) {
	dir := source(t, map[string]string{"a": "1", "own/x": "mine"})
	src := scan(t, dir)
	send(t, src, options(fsys, "r1", ""))
	must(t, fsys.Mkdir("releases/r1/.venv", 0o755))
	must(t, fsys.Mkdir("releases/r1/.venv/bin", 0o555))
	must(t, fsys.Chmod("releases/r1/.venv/bin", 0o755))
	write(t, fsys, "releases/r1/.venv/bin/pip", "#!", 0o755)
	must(t, fsys.Symlink("/usr/bin/python3", "releases/r1/.venv/bin/python"))
	write(t, fsys, "releases/r1/own/x.pyc", "stale", 0o644)
	must(t, fsys.Chmod("releases/r1/.venv/bin", 0o555))
	o := options(fsys, "r2", "r1")
	o.Carry = []string{".venv", "own", "none"}
	if _, err := receive(t, o, func(conn net.Conn) { _, _ = filesync.Send(t.Context(), src, conn, filesync.SendOptions{}) }); err != nil {
		t.Fatal(err)
	}
	if got := read(t, fsys, "releases/r2/.venv/bin/pip"); got != "#!" {
		t.Errorf("pip holds %q", got)
	}
	if text, err := fsys.Readlink("releases/r2/.venv/bin/python"); err != nil || text != "/usr/bin/python3" {
		t.Errorf("python is a link to %q (%v)", text, err)
	}
	if info, err := fsys.Lstat("releases/r2/.venv/bin"); err != nil || info.Mode != 0o555 {
		t.Errorf("bin has mode %o (%v)", info.Mode, err)
	}
	if got := list(t, fsys, "releases/r2/own"); !slices.Equal(got, []string{"x"}) {
		t.Errorf("a folder of the tree was carried over: %q", got)
	}
	o.ID, o.Carry = "r3", []string{"../out"}
	if _, err := receive(t, o, func(conn net.Conn) { _, _ = filesync.Send(t.Context(), src, conn, filesync.SendOptions{}) }); err == nil {
		t.Error("a path to carry that leaves the release was taken")
	}
}

// cutter lets so many bytes through and then breaks.
type cutter struct {
	net.Conn
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		n, _ := c.Conn.Write(p[:c.left])
		_ = c.Close()
		return n, io.ErrClosedPipe
	}
	c.left -= len(p)
	return c.Conn.Write(p)
}

// interrupted: wherever the stream breaks, no release is there, and the next try succeeds.
func interrupted(t *testing.T, fsys filesync.FS) {
	dir := source(t, map[string]string{"a": "1", "d/b": noise(5, 100_000), "d/c": noise(6, 100_000), "big": noise(1, 500_000)})
	src := scan(t, dir)
	for _, after := range []int{0, 1, 12, 13, 100, 400, 1000, 70_000, 150_000, 400_000, 690_000} {
		_, err := receive(t, options(fsys, "r1", ""), func(conn net.Conn) {
			_, _ = filesync.Send(t.Context(), src, &cutter{conn, after}, filesync.SendOptions{})
		})
		if err == nil {
			t.Fatalf("a stream cut after %d bytes passed", after)
		}
		onlyPartial(t, fsys, "r1")
	}
	send(t, src, options(fsys, "r1", ""))
	if got := list(t, fsys, "releases"); !slices.Equal(got, []string{"r1"}) {
		t.Errorf("releases holds %q", got)
	}
}

// onlyPartial fails the test when there is more than what a broken transfer may leave.
func onlyPartial(t *testing.T, fsys filesync.FS, id string) {
	t.Helper()
	for _, name := range list(t, fsys, ".") {
		if name != "releases" && name != ".godeploy" {
			t.Errorf("the root holds %q", name)
		}
	}
	if _, err := fsys.Lstat("releases"); err != nil {
		return
	}
	for _, name := range list(t, fsys, "releases") {
		if name != "."+id+".partial" {
			t.Errorf("releases holds %q", name)
		}
	}
}

// speaker is a sender made by hand: frames without compression.
type speaker struct{ conn net.Conn }

func (s speaker) frame(t byte, payload []byte) {
	head := binary.BigEndian.AppendUint32([]byte{t}, uint32(len(payload)))
	_, _ = s.conn.Write(append(head, payload...)) // a receiver may have given up: that is what is tested
}

// speak says hello, tells the tree and goes on with what more does; it reads all answers meanwhile.
func speak(conn net.Conn, m *filesync.Manifest, more func(s speaker)) {
	s := speaker{conn}
	go func() { _, _ = io.Copy(io.Discard, conn) }() // ends with the connection
	s.frame(frameStart, start(0, 0))
	s.frame(frameTree, treeForm(m))
	s.frame(frameTree, nil)
	if more != nil {
		more(s)
	}
	s.frame(frameStop, nil)
}

// The frames of the stream that a test makes by hand.
const (
	frameStart, frameTree, frameAhead, frameBatch = 2, 3, 5, 7
	frameEnd, frameError, frameStop               = 8, 10, 11
)

// start is the payload of Start for a host without a parent.
func start(form, ahead byte) []byte {
	return append(append([]byte("\x89gds\n\x02"), make([]byte, 32)...), form, ahead)
}

// batch is the payload of a Batch of whole units, not compressed.
func batch(contents ...string) []byte {
	var records []byte
	for _, c := range contents {
		records = append(append(records, 0), c...)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(records))), records...)
}

// treeForm is a manifest as the stream has it: a stored one without its magic.
func treeForm(m *filesync.Manifest) []byte {
	var b bytes.Buffer
	_ = m.Encode(&b) // a Buffer takes everything
	return b.Bytes()[6:]
}

// raw makes the bytes of one frame.
func raw(t byte, payload []byte) string {
	return string(binary.BigEndian.AppendUint32([]byte{t}, uint32(len(payload)))) + string(payload)
}

// hostileTrees: a tree that would lead out of the release is refused before anything is written.
func hostileTrees(t *testing.T, fsys filesync.FS) {
	dir := filesync.Entry{Path: "d", Kind: filesync.Dir, Mode: 0o755}
	link := filesync.Entry{Path: "l", Kind: filesync.Link, Link: "/etc"}
	file := func(path string) filesync.Entry {
		return filesync.Entry{Path: path, Kind: filesync.File, Mode: 0o644, Size: 1}
	}
	for name, entries := range map[string][]filesync.Entry{
		"up": {file("../x")}, "up inside": {dir, file("d/../../x")}, "absolute": {file("/tmp/x")}, "dot": {file(".")}, "empty": {file("")},
		"double": {dir, file("d//x")}, "zero": {file("a\x00b")}, "below a link": {link, file("l/passwd")}, "below a file": {file("f"), file("f/x")},
		"twice": {file("f"), file("f")}, "order": {file("g"), file("f")}, "no folder": {file("no/f")}, "long": {file(strings.Repeat("n", 256))},
		"kind": {{Path: "k", Kind: 9}}, "device": {{Path: "k", Kind: filesync.Special}}, "setuid": {{Path: "f", Kind: filesync.Dir, Mode: 0o4755}},
		"size": {{Path: "f", Kind: filesync.File, Size: -1}}, "huge": {{Path: "f", Kind: filesync.File, Size: 1 << 62}}, "no text": {{Path: "l", Kind: filesync.Link}},
		"long text": {{Path: "l", Kind: filesync.Link, Link: strings.Repeat("x", 4096)}}, "dots": {{Path: "..", Kind: filesync.Dir}},
	} {
		_, err := receive(t, options(fsys, "r1", ""), func(conn net.Conn) {
			speak(conn, &filesync.Manifest{Entries: entries}, func(s speaker) { s.frame(frameBatch, batch("x")); s.frame(frameEnd, nil) })
		})
		if err == nil {
			t.Errorf("%s: a hostile tree was taken", name)
		}
		onlyPartial(t, fsys, "r1")
	}
}

// hostileContent: content that is not what the tree says never makes a release.
func hostileContent(t *testing.T, fsys filesync.FS) {
	src := scan(t, source(t, map[string]string{"a": "right", "big": noise(1, 300_000)}))
	chunk := []byte(noise(1, 300_000))[:src.Manifest.Find("big").Chunks[0].Len]
	for name, more := range map[string]func(s speaker){
		"nothing":     nil,
		"end at once": func(s speaker) { s.frame(frameEnd, nil) },
		"wrong":       func(s speaker) { lie(s, src.Manifest, "wrong"); lie(s, src.Manifest, "wrong") },
		"long":        func(s speaker) { lie(s, src.Manifest, strings.Repeat("x", 1<<20)) },
		"too many": func(s speaker) {
			lie(s, src.Manifest, "right")
			s.frame(frameBatch, batch(string(chunk)))
			s.frame(frameEnd, nil)
		},
		"frame type":   func(s speaker) { s.frame(77, []byte("x")) },
		"frame length": func(s speaker) { _, _ = s.conn.Write([]byte{frameBatch, 0xff, 0xff, 0xff, 0xff}) },
		"error":        func(s speaker) { s.frame(frameError, []byte("\x0block-held\x01x\x00")) },
		"bad error":    func(s speaker) { s.frame(frameError, []byte("\xff\xff\xff\xff\x0f")) },
		"tree again":   func(s speaker) { s.frame(frameTree, treeForm(src.Manifest)) },
		"no records":   func(s speaker) { s.frame(frameBatch, []byte("\x00\x00\x00\x00\x00")) },
		"encoding":     func(s speaker) { s.frame(frameBatch, []byte("\x07\x00\x00\x00\x01x")) },
		"more inside":  func(s speaker) { s.frame(frameBatch, []byte("\x00\x00\x00\x00\x09xxx")) },
		"no zstd":      func(s speaker) { s.frame(frameBatch, []byte("\x01\x00\x00\x00\x09xxx")) },
		"patch":        func(s speaker) { s.frame(frameBatch, []byte("\x00\x00\x00\x00\x02\x02x")) },
	} {
		if _, err := receive(t, options(fsys, "r1", ""), func(conn net.Conn) { speak(conn, src.Manifest, more) }); err == nil {
			t.Errorf("%s: hostile content made a release", name)
		}
		onlyPartial(t, fsys, "r1")
	}
	for name, raw := range map[string]string{
		"noise": noise(9, 5000), "version": raw(frameStart, []byte("\x89gds\n\x09")), "old version": raw(frameStart, []byte("\x89gds\n\x01\x00\x00")),
		"form": raw(frameStart, start(9, 0)), "ahead": raw(frameStart, start(0, 7)), "zstd": raw(frameStart, start(0, 0)) + raw(frameTree, []byte(noise(8, 5000))),
		"changes":  raw(frameStart, start(1, 0)) + raw(frameTree, []byte("\x00\x01\x00")) + raw(frameTree, nil),
		"segments": raw(frameStart, start(2, 0)) + raw(frameTree, []byte("\x00\x01\x00")) + raw(frameTree, nil),
		"same":     raw(frameStart, start(3, 0)),
	} {
		_, err := receive(t, options(fsys, "r1", ""), func(conn net.Conn) {
			go func() { _, _ = io.Copy(io.Discard, conn) }() // ends with the connection
			_, _ = conn.Write([]byte(raw))
		})
		if err == nil {
			t.Errorf("%s: made a release", name)
		}
		onlyPartial(t, fsys, "r1")
	}
}

// lie sends one content for every unit of a tree.
func lie(s speaker, m *filesync.Manifest, content string) {
	for i := range m.Entries {
		for range max(1, len(m.Entries[i].Chunks)) {
			s.frame(frameBatch, batch(content))
		}
	}
	s.frame(frameEnd, nil)
}

// taken: a release that is there is never touched.
func taken(t *testing.T, fsys filesync.FS) {
	first := scan(t, source(t, map[string]string{"a": "first"}))
	send(t, first, options(fsys, "r1", ""))
	second := scan(t, source(t, map[string]string{"a": "second"}))
	for _, id := range []string{"r1", "", ".", "..", "a/b", ".hidden", strings.Repeat("x", 300)} {
		_, err := receive(t, options(fsys, id, ""), func(conn net.Conn) {
			_, _ = filesync.Send(t.Context(), second, conn, filesync.SendOptions{})
		})
		if err == nil {
			t.Errorf("id %q was taken", id)
		}
	}
	compare(t, first, fsys, "releases/r1")
}

// unchanged: with SkipUnchanged nothing is made of a tree that is there already, unless what is
// there is no longer whole.
func unchanged(t *testing.T, fsys filesync.FS) {
	src := scan(t, source(t, map[string]string{"a": "1", "d/b": "2", "l": "->a"}))
	send(t, src, options(fsys, "r1", ""))
	o := options(fsys, "r2", "r1")
	o.SkipUnchanged = true
	stats, err := receive(t, o, func(conn net.Conn) { _, _ = filesync.Send(t.Context(), src, conn, filesync.SendOptions{}) })
	must(t, err)
	if got := list(t, fsys, "releases"); !stats.Unchanged || !slices.Equal(got, []string{"r1"}) {
		t.Errorf("got %+v and releases %q", stats, got)
	}
	must(t, fsys.RemoveAll("releases/r1/a"))
	send(t, src, o)
}

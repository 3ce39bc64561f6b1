package filesync

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

func sample() *Manifest {
	return &Manifest{Entries: []Entry{
		{Path: "a", Kind: Dir, Mode: 0o755, MTime: -5},
		{Path: "a/b", Kind: File, Mode: 0o644, Size: 3, MTime: 1 << 60, Hash: Hash{1}},
		{Path: "a/bc", Kind: File, Mode: 0, Hash: sha256.Sum256(nil)},
		{Path: "l\xff\n", Kind: Link, Link: "a/../b"},
	}}
}

func encoded(t testing.TB, m *Manifest) []byte {
	var b bytes.Buffer
	if err := m.Encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecodeGivesWhatEncodeWrote(t *testing.T) {
	t.Parallel()
	big := scanDir(t, put(t, map[string]string{"d/big": noise(1, 1<<20), "d/x": "y"})).Manifest
	for _, m := range []*Manifest{sample(), {}, big} {
		got, err := Decode(bytes.NewReader(encoded(t, m)))
		ok(t, err)
		if len(m.Entries) > 0 && !reflect.DeepEqual(got.Entries, m.Entries) {
			t.Errorf("got %+v, want %+v", got, m)
		}
	}
	whole := encoded(t, sample())
	for n := range whole {
		if _, err := Decode(bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("the first %d of %d bytes passed as a manifest", n, len(whole))
		}
	}
	if _, err := Decode(bytes.NewReader(append(whole, whole[6:]...))); err == nil {
		t.Error("something after the end passed")
	}
}

// TestRootIsPartOfTheFormat: another root for the same tree would make every release look changed.
func TestRootIsPartOfTheFormat(t *testing.T) {
	t.Parallel()
	if got := sample().Root().String(); got != "0a6f6ff89eb64548d3fda133c5ef151b4529513aef1bcfa27e0ccfa535218b40" {
		t.Errorf("got %s", got)
	}
}

func TestABombIsRefusedEarly(t *testing.T) {
	t.Parallel()
	// Two million paths that share all but the end of a long one: small to send, huge to keep.
	var plain bytes.Buffer
	plain.Write([]byte{0x80, 0x89, 0x7a}) // 2,000,000
	plain.Write([]byte{0, 0x80, 0x80, 2}) // nothing shared, 32 KiB of path
	plain.WriteString(strings.Repeat("d/", 16<<10) + "\x01\x00")
	for range 100_000 {
		plain.Write([]byte{0x80, 0x80, 2, 0, 1, 0}) // all shared
	}
	var bomb bytes.Buffer
	bomb.WriteString(manifestMagic)
	z, err := zstd.NewWriter(&bomb)
	ok(t, err)
	_, err = z.Write(plain.Bytes())
	ok(t, errors.Join(err, z.Close()))
	if _, err := Decode(&bomb); !errors.Is(err, errTooLarge) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encoded(f, sample()))
	f.Add(encoded(f, &Manifest{}))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(bytes.NewReader(data))
		if err != nil {
			return
		}
		again, err := Decode(bytes.NewReader(encoded(t, m)))
		if err != nil || again.Root() != m.Root() {
			t.Errorf("a decoded manifest does not survive: %v", err)
		}
	})
}

// FuzzDecodePlain reaches behind the compression.
func FuzzDecodePlain(f *testing.F) {
	var b bytes.Buffer
	ok2 := sample().encode(&b)
	f.Add(b.Bytes(), []byte{1, 0, 0})
	var edited bytes.Buffer
	ok2 = errors.Join(ok2, newGrove(1).change(sample(), 5).tellChanges(&edited, sample(), true))
	f.Add(b.Bytes(), edited.Bytes())
	f.Fuzz(func(t *testing.T, whole, changes []byte) {
		if ok2 != nil {
			t.Fatal(ok2)
		}
		for _, read := range []func() (*Manifest, error){
			func() (*Manifest, error) { return decodeManifest(bytes.NewReader(whole)) },
			func() (*Manifest, error) { return decodeChanges(bytes.NewReader(changes), sample()) },
		} {
			if m, err := read(); err == nil && m.Check() != nil {
				t.Error("an unchecked manifest came through")
			}
		}
	})
}

// readWriter joins a fixed input with an output nobody reads.
type readWriter struct {
	io.Reader
	io.Writer
}

// FuzzReceive: whatever comes, nothing is written outside the stage and no release appears, unless
// it is the one release that was told truly.
func FuzzReceive(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o644); err != nil {
		f.Fatal(err)
	}
	src, err := Scan(context.Background(), dir, ScanOptions{})
	if err != nil {
		f.Fatal(err)
	}
	var stream bytes.Buffer
	w := newFrameWriter(&stream)
	err = errors.Join(w.write(frameStart, append([]byte(streamMagic), make([]byte, len(Hash{})+2)...)),
		w.long(frameTree, src.Manifest.encode), w.write(frameBatch, []byte("\x00\x00\x00\x00\x02\x00x")), w.last(frameEnd, nil), src.Close())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(stream.Bytes())
	f.Fuzz(func(t *testing.T, input []byte) {
		app := t.TempDir()
		fsys, err := OpenLocal(app)
		if err != nil {
			t.Fatal(err)
		}
		defer fsys.Close()
		_, err = Receive(t.Context(), ReceiveOptions{FS: noSync{fsys}, ID: "r1", UID: -1, GID: -1}, readWriter{bytes.NewReader(input), io.Discard})
		names, _ := os.ReadDir(app)
		for _, d := range names {
			if d.Name() != "releases" && d.Name() != ".godeploy" {
				t.Errorf("the root holds %q", d.Name())
			}
		}
		if _, statErr := os.Stat(filepath.Join(app, "releases/r1")); (statErr == nil) != (err == nil) {
			t.Errorf("Receive says %v and the release says %v", err, statErr)
		}
	})
}

func FuzzUnits(f *testing.F) {
	f.Add([]byte{0, 3, 2}, 5)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		size &= 0xffff
		s, err := decodeUnits(bytes.NewReader(data), size)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := s.encode(&b); err != nil {
			t.Fatal(err)
		}
		again, err := decodeUnits(&b, size)
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Errorf("a set of units does not survive: %v", err)
		}
	})
}

func TestDiffIsWhatChanged(t *testing.T) {
	t.Parallel()
	want := sample()
	want.Entries[1].Mode = 0o600
	want.Entries[2] = Entry{Path: "a/bd", Kind: File, Size: 9}
	want.Entries[3].Link = "x"
	want.Entries[0].MTime = 99
	got := Diff(sample(), want)
	expect := []Change{{Meta, "a/b", 3}, {Delete, "a/bc", 0}, {Create, "a/bd", 9}, {Update, "l\xff\n", 0}}
	if !reflect.DeepEqual(got, expect) {
		t.Errorf("got %v, want %v", got, expect)
	}
	if got := Diff(nil, sample()); len(got) != 4 || got[0].Op != Create {
		t.Errorf("from nothing: %v", got)
	}
	if got := Diff(sample(), sample()); got != nil {
		t.Errorf("no difference: %v", got)
	}
}

// TestRandomTreesArriveAsRsyncBringsThem compares releases with what rsync -a makes of the same trees.
func TestRandomTreesArriveAsRsyncBringsThem(t *testing.T) {
	t.Parallel()
	need(t, "rsync")
	rapid.Check(t, func(rt *rapid.T) {
		base, err := os.MkdirTemp(t.TempDir(), "tree")
		ok(t, err)
		dir, app := filepath.Join(base, "src"), filepath.Join(base, "app")
		ok(t, errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(app, 0o755), os.WriteFile(filepath.Join(dir, "one"), nil, 0o644)))
		fsys, err := OpenLocal(app)
		ok(t, err)
		defer fsys.Close()
		parent, rounds := "", rapid.IntRange(1, 2).Draw(rt, "rounds")
		for _, id := range []string{"r1", "r2"}[:rounds] {
			grow(rt, dir)
			src, err := Scan(t.Context(), dir, ScanOptions{})
			ok(t, err)
			release(t, src, noSync{fsys}, id, parent)
			ok(t, src.Close())
			parent = id
			out, err := exec.CommandContext(t.Context(), "rsync", "-anci", "--no-times", "--no-owner", "--no-group", "--delete", dir+"/", filepath.Join(app, "releases", id)+"/").CombinedOutput()
			ok(t, err)
			if text := strings.ReplaceAll(string(out), ".d..t...... ./\n", ""); text != "" {
				rt.Fatalf("%s differs from the source as rsync sees it:\n%s", id, text)
			}
		}
	})
}

// noSync leaves durability out, which costs seconds on a busy disk and shows nothing here.
type noSync struct{ FS }

func (noSync) Sync() error          { return nil }
func (noSync) SyncDir(string) error { return nil }

func (n noSync) Create(path string, perm uint32) (FileWriter, error) {
	f, err := n.FS.Create(path, perm)
	return noSyncFile{f}, err
}

type noSyncFile struct{ FileWriter }

func (noSyncFile) Sync() error { return nil }

// grow changes a tree at random.
func grow(rt *rapid.T, dir string) {
	names := rapid.SampledFrom([]string{"a", "b", "c d", "e\nf", "-x", "\xfe", "z"})
	for range rapid.IntRange(1, 12).Draw(rt, "steps") {
		full := filepath.Join(append([]string{dir}, rapid.SliceOfN(names, 1, 4).Draw(rt, "path")...)...)
		if os.MkdirAll(filepath.Dir(full), 0o755) != nil {
			continue // a file stands in the way
		}
		switch rapid.IntRange(0, 5).Draw(rt, "what") {
		case 0:
			_ = os.Mkdir(full, 0o755)
		case 1:
			_ = os.Symlink("a", full)
		case 2:
			_ = os.RemoveAll(full)
		case 3:
			mode := os.FileMode(rapid.SampledFrom([]int{0o755, 0o600, 0o777, 0o555}).Draw(rt, "mode"))
			if info, err := os.Stat(full); err == nil && info.IsDir() && os.Geteuid() != 0 {
				mode |= 0o700 // only root can read, or remove, what is in a closed folder
			}
			_ = os.Chmod(full, mode)
		default:
			size := rapid.SampledFrom([]int{0, 1, 1000, 262_143, 262_144, 300_000}).Draw(rt, "size")
			_ = os.WriteFile(full, []byte(noise(uint64(size%7), size)), 0o644)
		}
	}
}

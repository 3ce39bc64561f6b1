package filesync

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func tree(paths ...string) *Manifest {
	slices.Sort(paths)
	m := &Manifest{}
	for _, path := range paths {
		m.Entries = append(m.Entries, Entry{Path: path, Kind: Dir})
	}
	return m
}

func TestCollisionsNameBothPaths(t *testing.T) {
	t.Parallel()
	const nfc, nfd = "caf\u00e9", "cafe\u0301"
	m := tree("A", "A/x", "a", "a/x", "d", "d/"+nfc, "d/"+nfd, "d/CAF\u00c9", "k", "\u212a", "\xff", "\xfe", "\ufffd", "Ae", "s", "\u017f", "\uac01", "\u1100\u1161\u11a8")
	for _, c := range []struct {
		fold Fold
		want string
	}{
		{Fold{}, ""},
		{Fold{Case: true}, "A=a d/CAF\u00c9=d/caf\u00e9 k=\u212a s=\u017f"},
		{Fold{Form: true}, "d/cafe\u0301=d/caf\u00e9 \u1100\u1161\u11a8=\uac01"},
		{Fold{Case: true, Form: true}, "A=a d/CAF\u00c9=d/cafe\u0301 d/CAF\u00c9=d/caf\u00e9 k=\u212a s=\u017f \u1100\u1161\u11a8=\uac01"},
	} {
		var got []string
		for _, pair := range m.Collisions(c.fold) {
			got = append(got, pair[0]+"="+pair[1])
		}
		slices.Sort(got)
		if want := strings.Fields(c.want); !slices.Equal(got, want) {
			t.Errorf("%+v: got %q, want %q", c.fold, got, want)
		}
	}
}

func TestCollisionsAreBounded(t *testing.T) {
	t.Parallel()
	var paths []string
	for i := range 1 << 10 { // every spelling of ten letters
		name := []byte("abcdefghij")
		for bit := range name {
			name[bit] -= byte(i>>bit&1) * 32
		}
		paths = append(paths, string(name))
	}
	if got := tree(paths...).Collisions(Fold{Case: true}); len(got) != mostCollisions {
		t.Errorf("got %d pairs", len(got))
	}
}

// TestDecompositionsAreUnicodes asks Python, which has the tables of Unicode, about every character
// that all versions have.
func TestDecompositionsAreUnicodes(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatal("python3 is not there and GODEPLOY_TEST_MUST_RUN is set")
		}
		t.Skip("python3 is not there")
	}
	const ask = `import unicodedata, sys
for c in range(0x110000):
    if unicodedata.ucd_3_2_0.category(chr(c)) not in ("Cs", "Cn"):
        n = unicodedata.normalize("NFD", chr(c))
        if n != chr(c): sys.stdout.buffer.write((chr(c) + n + "\n").encode())`
	out, err := exec.CommandContext(t.Context(), python, "-c", ask).Output()
	ok(t, err)
	f := newSpelling(Fold{Form: true})
	lines := strings.Fields(string(out))
	if len(lines) < 13_000 {
		t.Fatalf("python knows %d characters only", len(lines))
	}
	for _, line := range lines {
		r := []rune(line)[0]
		if got := f.decomposed(r); string(r)+got != line {
			t.Errorf("%U: got %+q, want %+q", r, got, line)
		}
	}
}

func TestProbeFoldSaysWhatThisFolderDoes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fsys := openDir(t, dir)
	want := Fold{}
	ok(t, os.WriteFile(dir+"/lower", nil, 0o600))
	if _, err := os.Lstat(dir + "/LOWER"); err == nil {
		want.Case = true
	}
	ok(t, fsys.Mkdir("d", 0o755))
	for range 2 {
		got, err := ProbeFold(fsys, "d")
		ok(t, err)
		if got.Case != want.Case {
			t.Errorf("got %+v, want %+v", got, want)
		}
		putIn(t, dir, map[string]string{"d/.godeploy-probe-\u00e9": "left by a run that was killed"})
	}
	if _, err := ProbeFold(fsys, "none"); err == nil {
		t.Error("a folder that is not there was probed")
	}
}

// folding is a file system that takes A and a for one.
type folding struct{ FS }

func (f folding) Lstat(path string) (Info, error) {
	if info, err := f.FS.Lstat(path); err == nil {
		return info, nil
	}
	dir, name := split(path)
	infos, err := f.FS.ReadDir(dir)
	for _, in := range infos {
		if strings.EqualFold(in.Name, name) {
			return in, err
		}
	}
	return f.FS.Lstat(path)
}

func TestNamesThatAreOneOnTheHostAreRefused(t *testing.T) {
	t.Parallel()
	src := scanDir(t, put(t, map[string]string{"d/Readme": "1", "d/README": "2", "x": "3"}))
	app := t.TempDir()
	e := transfer(t, src, SendOptions{}, into(folding{openDir(t, app)}, "r1", ""))
	if e.sendErr == nil || !strings.Contains(e.sendErr.Error(), "d/README and d/Readme") {
		t.Errorf("got %v", e.sendErr)
	}
	if left, err := os.ReadDir(filepath.Join(app, "releases")); err != nil || len(left) > 0 {
		t.Errorf("releases holds %v: %v", left, err)
	}
	target := folding{openDir(t, t.TempDir())}
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := Place(t.Context(), PlaceOptions{FS: target, UID: -1, GID: -1}, far)
		done <- errors.Join(err, far.Close())
	}()
	if _, err := Send(t.Context(), src, near, SendOptions{Times: true}); err == nil || <-done == nil {
		t.Error("two names that are one came into a folder")
	}
}

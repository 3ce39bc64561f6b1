package filesync

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCapabilitiesAreNamed, also by a scan that does not read the file again.
func TestCapabilitiesAreNamed(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"a": "x", "bin/server": "#!", "l": "->a"})
	ok(t, unix.Chmod(filepath.Join(dir, "bin/server"), 0o755))
	// CAP_NET_BIND_SERVICE, permitted, as version 2 of the attribute has it.
	bind := []byte{0, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	var want []string
	if err := unix.Setxattr(filepath.Join(dir, "bin/server"), "security.capability", bind, 0); err == nil {
		want = []string{"bin/server has capabilities, which are not sent"}
	} else {
		t.Logf("capabilities cannot be set here (%v): nothing is to be named", err)
	}
	o := ScanOptions{Cache: t.TempDir()}
	for round, hashed := range []int{2, 0, 0} {
		src := scanLater(t, dir, o)
		if src.Hashed != hashed || !slices.Equal(src.Notes, want) {
			t.Errorf("scan %d: %d hashed, notes %q, want %q", round, src.Hashed, src.Notes, want)
		}
	}
}

func TestNamesInAFolderAreCheckedAsTheyCome(t *testing.T) {
	t.Parallel()
	record := func(size byte, name string) string {
		return string(make([]byte, 16)) + string([]byte{size, 0, 8}) + name
	}
	for name, c := range map[string]struct {
		in   string
		want []string
		bad  bool
	}{
		"none":         {"", nil, false},
		"dots":         {record(24, ".\x00\x00\x00\x00") + record(24, "..\x00\x00\x00"), nil, false},
		"two":          {record(24, "abc\x00x") + record(24, "\xff\n\x00\x00\x00"), []string{"abc", "abc\xff\n"}, false},
		"not ended":    {record(24, "abcde"), []string{"abcde"}, false},
		"empty":        {record(24, "\x00abcd"), nil, true},
		"slash":        {record(24, "a/b\x00\x00"), nil, true},
		"short":        {"abc", nil, true},
		"no length":    {record(0, "abc\x00\x00"), nil, true},
		"too long":     {record(200, "abc\x00\x00"), nil, true},
		"less than is": {record(18, "abc\x00\x00"), nil, true},
	} {
		var names strings.Builder
		ends, err := takeNames([]byte(c.in), &names, nil)
		var got []string
		for _, end := range ends {
			got = append(got, names.String()[:end])
		}
		if (err != nil) != c.bad || !c.bad && !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q (%v), want %q", name, got, err, c.want)
		}
	}
}

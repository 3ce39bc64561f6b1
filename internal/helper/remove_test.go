package helper

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"testing"

	"godeploy/internal/fault"
)

func TestRemoveKeepsCurrentAndWhatIsInUse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b, c := s.put(t, 1), s.put(t, 2), s.put(t, 3)
	s.Physical = "/mnt/disk/shop"
	s.WorkingDirs = func(context.Context) ([]string, error) { return []string{"/mnt/disk/shop/releases/" + b}, nil }
	if _, err := s.Switch(t.Context(), c, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), []string{a, c}, false); !fault.Is(err, fault.LayoutRefused) {
		t.Errorf("current among them: got %v", err)
	}
	if names, _ := s.names("releases"); !slices.Equal(names, []string{a, b, c}) {
		t.Errorf("a refused Remove removed: left %v", names)
	}
	kept, err := s.Remove(t.Context(), []string{a, b}, false)
	if err != nil || !slices.Equal(kept, []string{b}) {
		t.Errorf("kept %v, %v; want %s", kept, err, b)
	}
	if names, _ := s.names("releases"); !slices.Equal(names, []string{b, c}) {
		t.Errorf("left %v", names)
	}
	if _, err := s.record(a); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the record of a removed release: %v", err)
	}
	if _, err := s.Remove(t.Context(), []string{a}, false); err != nil {
		t.Errorf("removing again: %v", err)
	}
}

// Of what nobody needs, one tree may stay for the next release, and goes when room is needed.
func TestRemoveRetiresOneTree(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b, c, d := s.put(t, 1), s.put(t, 2), s.put(t, 3), s.put(t, 4)
	left := func(ids []string, retire bool, want ...string) {
		t.Helper()
		if _, err := s.Remove(t.Context(), ids, retire); err != nil {
			t.Fatal(err)
		}
		if names, _ := s.names("releases"); !slices.Equal(names, want) {
			t.Errorf("left %v, want %v", names, want)
		}
	}
	left([]string{a, b}, true, goneMark+b, c, d)
	if _, err := s.record(b); !errors.Is(err, fs.ErrNotExist) || s.has(treesDir+"/"+b) {
		t.Errorf("the record of a retired release: %v", err)
	}
	left([]string{c}, true, goneMark+c, d)
	left(nil, false, d)
}

package helper

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// secret stages the n-th release with a file of secrets.
func (s *Site) secret(t *testing.T, n int, content string) error {
	t.Helper()
	_, err := s.stage(t, n, map[string]string{"app.py": "v", "conf/.env": "from the tree"}, func(r *wire.StageRequest) {
		r.Release.Secrets = "hash"
		r.Env = &wire.EnvFile{Path: "conf/.env", Content: []byte(content)}
	})
	return err
}

func TestSecretsComeWithTheirReleaseAndGoWithIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n, content := range []string{"A='one'\n", "A='two'\n"} {
		if err := s.secret(t, n+1, content); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(s.Path, "releases", id(1), "conf/.env")
	if target, err := os.Readlink(link); err != nil || target != "../../../.godeploy/env/"+id(1) {
		t.Errorf("the release links to %q, %v", target, err)
	}
	if got, err := os.ReadFile(link); err != nil || string(got) != "A='one'\n" {
		t.Errorf("got %q, %v, want the secrets of the release", got, err)
	}
	for _, c := range []struct {
		path string
		mode os.FileMode
	}{{".godeploy/env", 0o711}, {".godeploy/env/" + id(1), 0o600}} {
		if info, err := os.Stat(filepath.Join(s.Path, c.path)); err != nil || info.Mode().Perm() != c.mode {
			t.Errorf("%s: got %v, %v, want mode %o", c.path, info, err, c.mode)
		}
	}
	if record, err := os.ReadFile(filepath.Join(s.Path, recordPath(id(1)))); err != nil || strings.Contains(string(record), "one") {
		t.Errorf("the record is %q, %v, want no secret in it", record, err)
	}
	if _, err := s.Remove(t.Context(), []string{id(1)}, false); err != nil {
		t.Fatal(err)
	}
	if names, _ := s.names(envDir); !slices.Equal(names, []string{id(2)}) {
		t.Errorf("secrets left: %v, want those of the second release", names)
	}
}

func TestSweepTakesSecretsWithoutARelease(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := s.secret(t, 1, "A=x\n"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{id(2), id(1) + ".new", id(3) + ".new", "notes.txt"} {
		write(t, filepath.Join(s.Path, envDir, name), "A=left\n")
	}
	if err := s.Prepare(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if names, _ := s.names(envDir); !slices.Equal(names, []string{id(1), "notes.txt"}) {
		t.Errorf("left: %v", names)
	}
}

func TestSecretsThatFailLeaveNothingAndSayNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(s.Path, envDir)); err != nil {
		t.Fatal(err)
	}
	err := s.secret(t, 1, "A=hunter2\n")
	if !fault.Is(err, fault.LayoutRefused) || strings.Contains(fmt.Sprintf("%+v", err), "hunter2") {
		t.Errorf("a link for the folder: got %v", err)
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("the link was followed: %v", left)
	}
	if err := os.Remove(filepath.Join(s.Path, envDir)); err != nil {
		t.Fatal(err)
	}
	_, err = s.stage(t, 2, map[string]string{"conf": "a file where a folder must be"}, func(r *wire.StageRequest) {
		r.Env = &wire.EnvFile{Path: "conf/.env", Content: []byte("A=hunter2\n")}
	})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a file in the way of the link: got %v", err)
	}
	for _, dir := range []string{"releases", recordsDir, envDir} {
		if names, _ := s.names(dir); len(names) > 0 {
			t.Errorf("%s: left %v", dir, names)
		}
	}
}

func TestFolderOfSecretsIsClosedAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := os.Mkdir(filepath.Join(s.Path, envDir), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := s.secret(t, 1, "A=x\n"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(s.Path, envDir)); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("got %v, %v, want 0711", info.Mode(), err)
	}
}

func TestSwitchRefusesAReleaseWhoseSecretsAreGone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := s.secret(t, 1, "A=x\n"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.Path, envPath(id(1)))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Switch(t.Context(), id(1), ""); !fault.Is(err, fault.LayoutRefused) || !strings.Contains(err.Error(), "secrets") {
		t.Errorf("got %v, want a refusal", err)
	}
	if s.has(currentLink) {
		t.Error("current was made")
	}
}

func TestAnnotateAddsToTheRecord(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(t, 1)
	once := &wire.OnceRun{Host: "app1", By: "ops@laptop", Ended: true}
	if err := s.Annotate(t.Context(), id(1), wire.Note{Once: once}); err != nil {
		t.Fatal(err)
	}
	if err := s.Annotate(t.Context(), id(1), wire.Note{Heads: &[]string{"shop 0002"}}); err != nil {
		t.Fatal(err)
	}
	state, err := s.State(t.Context(), nil)
	if err != nil || len(state.Releases) != 1 {
		t.Fatalf("got %+v, %v", state, err)
	}
	if r := state.Releases[0]; !r.Once.Done() || r.Once.Host != "app1" || r.Heads == nil || !slices.Equal(*r.Heads, []string{"shop 0002"}) || r.Mark != wire.MarkStaged {
		t.Errorf("got %+v", r)
	}
	if err := s.Annotate(t.Context(), id(2), wire.Note{}); !fault.Is(err, fault.ReleaseUnknown) {
		t.Errorf("an unknown release: got %v", err)
	}
}

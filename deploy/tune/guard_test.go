package tune

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// guarded starts the guard on this machine with two files, of which one is there, changes both, and gives
// the guard's folder. It touches no setting and no unit, so it needs no root.
func guarded(t *testing.T, seconds string) (login, folder, had, new string) {
	t.Helper()
	dir := t.TempDir()
	login, had, new = filepath.Join(dir, "login"), filepath.Join(dir, "had"), filepath.Join(dir, "new")
	if err := os.Mkdir(login, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(had, "old\n")
	out, err := exec.Command("/bin/sh", "-c", guardScript, "guard", login, seconds, "--", had, new).Output()
	if err != nil {
		t.Fatalf("the guard does not start: %v", err)
	}
	folder = strings.TrimSpace(string(out))
	t.Cleanup(func() { // its last act is to take its folder away
		until(t, "the guard's folder is gone", func() bool { _, err := os.Stat(folder); return os.IsNotExist(err) })
	})
	write(had, "changed\n")
	write(new, "changed\n")
	return login, folder, had, new
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("not so after 90 s: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func content(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return "none"
	}
	return string(text)
}

func TestTheGuardTakesBackWhatNobodyConfirms(t *testing.T) {
	t.Parallel()
	_, _, had, new := guarded(t, "1") // the connection is gone: nobody tells it anything
	until(t, "both files are as they were", func() bool { return content(had) == "old\n" && content(new) == "none" })
}

func TestTheGuardTakesBackWhenToldTo(t *testing.T) {
	t.Parallel()
	login, _, had, new := guarded(t, "3")
	if err := os.WriteFile(filepath.Join(login, "undo"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "both files are as they were", func() bool { return content(had) == "old\n" && content(new) == "none" })
}

func TestTheGuardKeepsWhatIsConfirmed(t *testing.T) {
	t.Parallel()
	login, folder, had, new := guarded(t, "5")
	if err := os.WriteFile(filepath.Join(login, "confirm"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the guard has said so", func() bool { return content(filepath.Join(folder, "done")) == "kept\n" })
	if content(had) != "changed\n" || content(new) != "changed\n" {
		t.Errorf("the files are %q and %q", content(had), content(new))
	}
}

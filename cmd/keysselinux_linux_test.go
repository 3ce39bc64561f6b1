package cmd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// AK24: on a host that says it has SELinux the file gets the label of its policy; a restorecon that
// fails does not hinder a key that lets in. The host is the lab with a file where SELinux's would be, and a
// restorecon that notes what it is asked for and fails: this needs no kernel with SELinux.
func TestPushRestoresTheLabel(t *testing.T) {
	t.Parallel()
	for _, helper := range []bool{true, false} {
		bin := t.TempDir()
		l := newKeysLab(t, helper, "SetEnv PATH="+bin+":/usr/bin:/bin")
		notes := filepath.Join(bin, "notes")
		l.must(t, os.WriteFile(notes, nil, 0o666))
		l.must(t, os.Chmod(notes, 0o666)) // whatever the umask
		l.must(t, os.Chmod(filepath.Dir(bin), 0o755))
		l.must(t, os.Chmod(bin, 0o755))
		l.must(t, os.WriteFile(filepath.Join(bin, "restorecon"), []byte("#!/bin/sh\necho \"$@\" >>"+notes+"\nexit 1\n"), 0o755))
		push := func(want string) {
			t.Helper()
			l.must(t, os.Truncate(notes, 0))
			code, said := l.keysRun("push", "prod", "--key", l.key)
			got, err := os.ReadFile(notes)
			if code != 0 || err != nil || strings.TrimSpace(string(got)) != want || !strings.Contains(l.content(t), l.blob(l.key)) {
				t.Errorf("helper %v: got exit %d, %v, restorecon for %q, want %q\n%s", helper, code, err, got, want, said)
			}
			l.lets(t, l.key, true)
		}
		push("")
		l.reset(t)
		l.inside(t, "mount", "-t", "tmpfs", "tmpfs", "/sys/fs")
		l.inside(t, "mkdir", "/sys/fs/selinux")
		l.must(t, os.WriteFile(filepath.Join("/proc", strconv.Itoa(l.pid), "root/sys/fs/selinux/enforce"), []byte("1"), 0o644))
		push("-F " + l.file())
		l.lets(t, l.old, true)
	}
}

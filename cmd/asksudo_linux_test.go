package cmd

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// sudoLab is a lab with sudo, a terminal at which somebody types a password, and a /usr/local/lib of its own.
type sudoLab struct {
	*keysLab
	asked   atomic.Int32
	answer  string
	counted int
}

func newSudoLab(t *testing.T) *sudoLab {
	t.Helper()
	l := &sudoLab{keysLab: newKeysLab(t, true), answer: alicePassword}
	l.OpenTTY = func() (TTY, error) { return answeringTTY{l.answer, &l.asked}, nil }
	l.rules(t, "")
	l.inside(t, "mount", "--bind", filepath.Join(l.dir, "sudoers"), "/etc/sudoers")
	l.put(t, "count", "#!/bin/sh\nprintf x >>"+filepath.Join(l.dir, "tries")+"\n")
	l.must(t, os.Chmod(filepath.Join(l.dir, "count"), 0o755))
	l.put(t, "tries", "")
	l.must(t, os.Chmod(filepath.Join(l.dir, "tries"), 0o666)) // the script runs as who calls sudo
	// A sudo that asks again and is closed instead of answered has refused no password.
	l.put(t, "pam", "auth [success=2 conv_err=1 authtok_err=1 default=ignore] pam_unix.so\nauth optional pam_exec.so quiet "+filepath.Join(l.dir, "count")+
		"\nauth requisite pam_deny.so\nauth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n")
	l.inside(t, "mount", "--bind", filepath.Join(l.dir, "pam"), "/etc/pam.d/sudo")
	l.inside(t, "mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/usr/local/lib")
	l.inside(t, "mount", "-t", "tmpfs", "-o", "mode=0711", "tmpfs", "/run/sudo")
	text, err := os.ReadFile(filepath.Join(l.Dir, "godeploy.toml"))
	l.must(t, err)
	app1 := strings.TrimSpace(string(text)[strings.LastIndex(string(text), "app1 ="):])
	app2 := strings.Replace(strings.Replace(app1, "app1", "app2", 1), " }", `, user = "carol" }`, 1)
	l.write(t, "godeploy.toml", string(text)+app2+"\n")
	carol := filepath.Join(l.dir, "carol", ".ssh")
	l.must(t, os.MkdirAll(carol, 0o700))
	l.must(t, os.WriteFile(filepath.Join(carol, "authorized_keys"), []byte(l.public(l.old)), 0o600))
	for _, p := range []string{carol, filepath.Join(carol, "authorized_keys")} {
		l.must(t, os.Chown(p, carolID, carolID))
	}
	return l
}

// rules writes the sudoers file in place.
func (l *sudoLab) rules(t *testing.T, text string) {
	t.Helper()
	head := "Defaults env_reset, secure_path=\"/usr/sbin:/usr/bin:/sbin:/bin\", use_pty, lecture=never, timestamp_timeout=0, loglinelen=0, logfile=" +
		filepath.Join(l.dir, "sudo.log") + "\n"
	l.put(t, "sudoers", head+text)
	l.must(t, os.Chmod(filepath.Join(l.dir, "sudoers"), 0o644))
}

// status runs a command that connects the hosts, with the code that findings have.
func (l *sudoLab) status(more ...string) (int, string) {
	l.out.reset()
	l.err.reset()
	l.asked.Store(0)
	code := l.run(append([]string{"status", "prod", "--ask-sudo"}, more...)...)
	return code, l.out.String() + l.err.String()
}

// started is how many helpers sudo has started, be it by way of the shell that installs them, since it was last asked.
func (l *sudoLab) started() int {
	n := -l.counted
	for line := range strings.Lines(l.log()) {
		if strings.Contains(line, "USER=root ; COMMAND=") && !strings.Contains(line, "incorrect password") {
			n++
		}
	}
	l.counted += n
	return n
}

func (l *sudoLab) log() string {
	b, _ := os.ReadFile(filepath.Join(l.dir, "sudo.log")) // there may have been no sudo
	return string(b)
}

// inRootDir is the folder of the root helper, as seen from outside.
func (l *sudoLab) inRootDir() string {
	return filepath.Join("/proc", strconv.Itoa(l.pid), "root/usr/local/lib/godeploy")
}

var helperName = regexp.MustCompile(`^helper-[0-9a-f]{64}$`)

// The password is asked for once, is taken by every host, and is nowhere to be seen; the helper that it starts is
// root's alone, so that the narrow rule that doctor prints is enough from then on.
func TestAskSudo(t *testing.T) {
	t.Parallel()
	l := newSudoLab(t)
	l.rules(t, "alice ALL=(ALL) ALL\ncarol ALL=(ALL) ALL\n")
	seen := l.watchProcesses(t)
	code, said := l.status()
	if code != 0 || l.started() != 2 || l.asked.Load() != 1 {
		t.Fatalf("got exit %d after %d questions\n%s\n%s", code, l.asked.Load(), said, l.log())
	}
	entries, err := os.ReadDir(l.inRootDir())
	if err != nil || len(entries) != 1 || !helperName.MatchString(entries[0].Name()) {
		t.Fatalf("in the folder: %v, %v", entries, err)
	}
	for _, p := range []string{"", entries[0].Name()} {
		info, err := os.Stat(filepath.Join(l.inRootDir(), p))
		if err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%q: mode %v, %v", p, info.Mode(), err)
		}
	}
	l.out.reset()
	if code := l.run("doctor", "prod", "--sudoers", "--ask-sudo"); code != 0 || strings.Count(l.out.String(), " helper\n") != 2 {
		t.Fatalf("doctor: got exit %d\n%s", code, l.out.String())
	}
	l.rules(t, l.out.String())
	if code, said = l.status(); code != 0 || l.started() != 2 || l.asked.Load() != 1 {
		t.Errorf("by the narrow rule: got exit %d after %d questions\n%s\n%s", code, l.asked.Load(), said, l.log())
	}
	l.rules(t, "alice ALL=(ALL) NOPASSWD: ALL\ncarol ALL=(ALL) ALL\n")
	if code, said = l.status(); code != 0 || l.started() != 2 {
		t.Errorf("where one host wants no password: got exit %d\n%s", code, said)
	}
	if strings.Contains(said+l.log()+seen(), alicePassword) {
		t.Error("the password is told, or was an argument or in an environment")
	}
}

// watchProcesses collects arguments and environments of every process until its result is called.
func (l *sudoLab) watchProcesses(t *testing.T) func() string {
	var all strings.Builder
	var work sync.WaitGroup
	var over atomic.Bool
	once := sync.OnceFunc(func() {
		over.Store(true)
		work.Wait()
	})
	work.Go(func() {
		known := map[string]bool{}
		for !over.Load() {
			found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, file := range found {
				args, _ := os.ReadFile(file)                                          // it may have ended
				env, _ := os.ReadFile(strings.Replace(file, "cmdline", "environ", 1)) // the same
				if text := string(args) + "\n" + string(env); !known[text] {
					known[text] = true
					all.WriteString(text)
				}
			}
		}
	})
	t.Cleanup(once)
	return func() string {
		once()
		if !strings.Contains(all.String(), "godeploy-sudo-password") {
			t.Error("sudo itself was not seen among the processes")
		}
		return all.String()
	}
}

// A wrong password is tried once, on one host, and no other host hears of it.
func TestAskSudoTriesAWrongPasswordOnce(t *testing.T) {
	t.Parallel()
	l := newSudoLab(t)
	l.rules(t, "alice ALL=(ALL) ALL\ncarol ALL=(ALL) ALL\n")
	l.answer = "wrong horse 41"
	code, said := l.status()
	if code == 0 || !strings.Contains(said, "sudo does not take the password") || !strings.Contains(said, "was not tried") || l.asked.Load() != 1 {
		t.Errorf("got exit %d after %d questions\n%s", code, l.asked.Load(), said)
	}
	if tries, err := os.ReadFile(filepath.Join(l.dir, "tries")); err != nil || len(tries) != 1 || l.started() != 0 {
		t.Errorf("PAM has refused %d passwords, %v; sudo's log:\n%s", len(tries), err, l.log())
	}
	if strings.Contains(said+l.log(), l.answer) {
		t.Error("the password is told")
	}
	l.answer = ""
	if code, said = l.status(); code == 0 || !strings.Contains(said, "no sudo password was given") {
		t.Errorf("no answer: got exit %d\n%s", code, said)
	}
}

// What somebody else than root could have put in the helper's place is not started, and what sudo says against it
// is told.
func TestAskSudoRefuses(t *testing.T) {
	t.Parallel()
	l := newSudoLab(t)
	only := []string{"-l", "app1"}
	code, said := l.status(only...)
	if code == 0 || !strings.Contains(said, "is not in the sudoers file") {
		t.Errorf("no rule: got exit %d\n%s", code, said)
	}
	l.rules(t, "alice ALL=(ALL) ALL\n")
	if code, said = l.status(only...); code != 0 {
		t.Fatalf("with a rule: got exit %d\n%s", code, said)
	}
	dir := l.inRootDir()
	entries, err := os.ReadDir(dir)
	l.must(t, err)
	helper := filepath.Join(dir, entries[0].Name())
	content, err := os.ReadFile(helper)
	l.must(t, err)
	for name, spoil := range map[string][2]func() error{
		"the folder is everybody's": {func() error { return os.Chmod(dir, 0o777) }, func() error { return os.Chmod(dir, 0o755) }},
		"the folder is alice's":     {func() error { return os.Chown(dir, aliceID, 0) }, func() error { return os.Chown(dir, 0, 0) }},
		"the file is the group's":   {func() error { return os.Chmod(helper, 0o775) }, func() error { return os.Chmod(helper, 0o755) }},
		"the file is alice's":       {func() error { return os.Chown(helper, aliceID, 0) }, func() error { return os.Chown(helper, 0, 0) }},
		"another content":           {func() error { return replaceFile(helper, "#!/bin/sh\necho pwned\n") }, func() error { return replaceFile(helper, string(content)) }},
		"the way is everybody's":    {func() error { return os.Chmod(filepath.Dir(dir), 0o777) }, func() error { return os.Chmod(filepath.Dir(dir), 0o755) }},
		"the file is a link":        {func() error { return os.Rename(helper, helper+"x") }, func() error { return os.Rename(helper+"x", helper) }},
	} {
		l.must(t, spoil[0]())
		if name == "the file is a link" {
			l.must(t, os.Symlink(filepath.Base(helper)+"x", helper))
		}
		before := strings.Count(l.log(), "COMMAND=")
		if code, said := l.status(only...); code == 0 || strings.Contains(said, "pwned") || strings.Count(l.log(), "COMMAND=") != before {
			t.Errorf("%s: got exit %d\n%s", name, code, said)
		}
		if name == "the file is a link" {
			l.must(t, os.Remove(helper))
		}
		l.must(t, spoil[1]())
	}
	if code, said = l.status(only...); code != 0 {
		t.Errorf("mended: got exit %d\n%s", code, said)
	}
	if code = l.run("keys", "list", "prod", "--ask-sudo"); code != exitUsage {
		t.Errorf("keys with --ask-sudo: got exit %d", code)
	}
}

// replaceFile puts another program in the place of one that may still be running, which cannot be written to.
func replaceFile(path, content string) error {
	if err := os.WriteFile(path+".new", []byte(content), 0o755); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

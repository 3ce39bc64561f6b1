package cmd

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// AK20: with no room left, or no inodes, the original stays whole and nothing is left beside it.
func TestPushWithoutRoomLeavesTheOriginal(t *testing.T) {
	t.Parallel()
	for _, helper := range []bool{true, false} {
		l := newKeysLab(t, helper)
		dir := filepath.Dir(l.file())
		inside := filepath.Join("/proc", strconv.Itoa(l.pid), "root", l.file()) // the lab's own mounts
		for name, size := range map[string]string{"room": "size=8k,nr_inodes=100", "inodes": "size=1m,nr_inodes=3"} {
			l.inside(t, "mount", "-t", "tmpfs", "-o", size+",mode=0700,uid="+strconv.Itoa(aliceID), "tmpfs", dir)
			content := l.public(l.old) + "#" + strings.Repeat("x", 4000-len(l.public(l.old))) + "\n"
			l.must(t, os.WriteFile(inside, []byte(content), 0o600))
			l.must(t, os.Chown(inside, aliceID, aliceID))
			lock := filepath.Join(filepath.Dir(inside), ".authorized_keys.godeploy-lock")
			l.must(t, os.WriteFile(lock, nil, 0o600))
			l.must(t, os.Chown(lock, aliceID, aliceID))
			code, said := l.keysRun("push", "prod", "--key", l.key)
			got, err := os.ReadFile(inside)
			if code == 0 || !strings.Contains(said, "disk-full") || err != nil || string(got) != content {
				t.Errorf("no %s: got exit %d, %v, the file has %d bytes, want %d\n%s", name, code, err, len(got), len(content), said)
			}
			left, _ := filepath.Glob(filepath.Join(filepath.Dir(inside), ".godeploy-*"))
			if len(left) > 0 {
				t.Errorf("no %s: left behind %q", name, left)
			}
			l.inside(t, "umount", dir)
		}
	}
}

// AK22: what a revocation does with a key that is not there, is ours, or stands in the second file only.
func TestRevoke(t *testing.T) {
	t.Parallel()
	l := newKeysLab(t, true)
	old, other := l.public(l.old), l.public(l.key)
	revoke := func(word string, code int, says string, more ...string) {
		t.Helper()
		got, said := l.keysRun(append([]string{"revoke", "prod", word, "--confirm", "prod"}, more...)...)
		if got != code || !strings.Contains(said, says) {
			t.Errorf("revoke %s: got exit %d, want %d and %q in\n%s", word, got, code, says, said)
		}
	}
	revoke(l.key+".pub", 0, "was not there")
	revoke("SHA256:nobody", 0, "nothing to do")
	revoke("old@lab", exitUsage, "lockout-refused")
	if l.content(t) != old {
		t.Errorf("the file is %q", l.content(t))
	}
	second := l.file() + "2"
	l.must(t, os.WriteFile(second, []byte(other), 0o600))
	l.must(t, os.Chown(second, aliceID, aliceID))
	l.lets(t, l.key, true)
	revoke("new@lab", 0, "authorized_keys2")
	l.lets(t, l.key, false)
	l.keys(t, old+"# kept\n"+other+`from="10.0.0.0/8" `+other)
	revoke("new@lab", 0, "2 lines removed")
	if got := l.content(t); got != old+"# kept\n" {
		t.Errorf("the file is %q", got)
	}
	revoke("old@lab", 0, "1 line removed", "--lock-out-ok")
	l.lets(t, l.old, false)
}

// AK23: an account whose password is locked takes no key where UsePAM is no, and the error says so. Root edits
// the account's file with the account's own rights.
func TestPushAsRoot(t *testing.T) {
	t.Parallel()
	l := newKeysLab(t, true)
	l.must(t, os.MkdirAll(filepath.Join(l.dir, "root", ".ssh"), 0o700))
	l.must(t, os.WriteFile(filepath.Join(l.dir, "root", ".ssh", "authorized_keys"), []byte(l.public(l.old)), 0o600))
	code, said := l.keysRun("push", "prod", "--key", l.key, "--as-root", "--user", "bob")
	if code != exitWholeOnOld || !strings.Contains(said, "the account is locked") {
		t.Errorf("a locked account: got exit %d\n%s", code, said)
	}
	left, _ := os.ReadFile(filepath.Join(l.dir, "bob", ".ssh", "authorized_keys"))
	if len(left) > 0 {
		t.Errorf("the unproven key stayed: %q", left)
	}
	if code, said = l.keysRun("push", "prod", "--key", l.key, "--as-root"); code != 0 || l.content(t) != l.public(l.old)+added(l) {
		t.Errorf("alice: got exit %d, %q\n%s", code, l.content(t), said)
	}
	secret := filepath.Join(l.dir, "secret")
	l.must(t, os.WriteFile(secret, []byte(l.public(l.old)), 0o600)) // root's
	l.must(t, os.Remove(l.file()))
	l.must(t, os.Symlink(secret, l.file()))
	code, said = l.keysRun("push", "prod", "--key", l.key, "--as-root")
	if got, _ := os.ReadFile(secret); code != exitWholeOnOld || string(got) != l.public(l.old) {
		t.Errorf("root follows alice's link: exit %d, %q\n%s", code, got, said)
	}
}

// A fleet behind a jump host on which no key lets in yet: one password for all of it, the jump host first, and
// the proof of the host behind goes through it with the new key alone.
func TestPushThroughAJumpHost(t *testing.T) {
	t.Parallel()
	l := newKeysLab(t, true)
	l.must(t, os.RemoveAll(filepath.Dir(l.file())))
	text := l.toml(true)
	at := strings.Index(text, "app1 = ")
	app := strings.TrimSpace(text[at:])
	l.write(t, "godeploy.toml", text[:at]+strings.Replace(app, "app1 =", "gate =", 1)+"\n"+
		strings.Replace(app, " }", `, user = "carol", jump = "gate" }`, 1)+"\n")
	code, said := l.keysRun("push", "prod", "--key", l.key, "--password-stdin", "-l", "app1")
	port := strconv.Itoa(l.port)
	if want := `restrict,pty,port-forwarding,permitopen="127.0.0.1:` + port + `" ` + l.public(l.key); code != 0 || l.content(t) != want {
		t.Fatalf("got exit %d, the jump host has %q, want %q\n%s", code, l.content(t), want, said)
	}
	if strings.Contains(said, alicePassword) {
		t.Errorf("the password is told:\n%s", said)
	}
	if err := l.ssh(l.key, "alice", "-W", "127.0.0.1:"+port); err != nil && strings.Contains(err.Error(), "forwarding failed") {
		t.Errorf("the jump host does not forward: %v", err)
	}
	if err := l.ssh(l.key, "alice", "-W", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "forwarding failed") {
		t.Errorf("the jump host forwards elsewhere: %v", err)
	}
}

// The key of a fleet is replaced by a new one: the same path, another key, and the old one lets in no more.
func TestRotate(t *testing.T) {
	t.Parallel()
	l := newKeysLab(t, true)
	before := l.blob(l.old)
	code, said := l.keysRun("rotate", "prod", "--no-passphrase")
	if code != 0 || !strings.Contains(said, "lets in nowhere") {
		t.Fatalf("got exit %d\n%s", code, said)
	}
	if l.blob(l.old) == before || l.content(t) != restricted+l.public(l.old) {
		t.Errorf("the file is %q, the key %q", l.content(t), l.public(l.old))
	}
	l.lets(t, l.old, true)
	l.lets(t, l.old+".old", false)
	if left, err := os.Stat(filepath.Join(l.Dir, ".godeploy", "rotate-prod.json")); err == nil {
		t.Errorf("left behind: %s", left.Name())
	}
}

// A server's own key is made once, for the account that asks, and shown from then on.
func TestGenerateOnServer(t *testing.T) {
	t.Parallel()
	for _, helper := range []bool{true, false} {
		l := newKeysLab(t, helper)
		code, first := l.keysRun("generate", "--on-server", "prod", "--name", "deploy_key")
		public, err := os.ReadFile(filepath.Join(l.home, ".ssh", "deploy_key.pub"))
		if code != 0 || err != nil || !strings.Contains(first, strings.TrimSpace(string(public))) || !strings.Contains(string(public), "alice@app1") {
			t.Fatalf("got exit %d, %v\n%s", code, err, first)
		}
		info, err := os.Stat(filepath.Join(l.home, ".ssh", "deploy_key"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the private half: %v, %v", info.Mode(), err)
		}
		if code, again := l.keysRun("generate", "--on-server", "prod", "--name", "deploy_key"); code != 0 || again != first {
			t.Errorf("got exit %d\n%s\nwant\n%s", code, again, first)
		}
		if code, said := l.keysRun("generate", "--on-server", "prod", "--name", "../x"); code != exitUsage {
			t.Errorf("a path for a name: got exit %d\n%s", code, said)
		}
	}
}

// answeringTTY gives one answer to every question and counts them.
type answeringTTY struct {
	answer string
	asked  *atomic.Int32
}

func (answeringTTY) Read([]byte) (int, error)    { return 0, io.EOF }
func (answeringTTY) Write(p []byte) (int, error) { return len(p), nil }
func (answeringTTY) Close() error                { return nil }
func (answeringTTY) Restore()                    {}

func (a answeringTTY) ReadPassword() ([]byte, error) {
	a.asked.Add(1)
	return []byte(a.answer), nil
}

// A key with a passphrase: made with two questions, proven with one, and neither passphrase nor password is told.
func TestGenerateAndPushWithAPassphrase(t *testing.T) {
	t.Parallel()
	l := newKeysLab(t, true)
	var asked atomic.Int32
	const passphrase = "open sesame 7"
	l.OpenTTY = func() (TTY, error) { return answeringTTY{passphrase, &asked}, nil }
	l.must(t, os.RemoveAll(filepath.Dir(l.file())))
	code, made := l.keysRun("generate", "--name", "mine", "--comment", "me@here")
	path := filepath.Join(l.Home, ".ssh", "mine")
	if code != 0 || asked.Load() != 2 || !strings.Contains(made, strings.TrimSpace(l.public(path))) {
		t.Fatalf("got exit %d after %d questions\n%s", code, asked.Load(), made)
	}
	asked.Store(0)
	code, said := l.keysRun("push", "prod", "--key", path+".pub", "--password-stdin")
	if code != 0 || asked.Load() != 1 || l.content(t) != restricted+l.public(path) {
		t.Errorf("got exit %d after %d questions, the file is %q\n%s", code, asked.Load(), l.content(t), said)
	}
	log, _ := filepath.Glob(filepath.Join(l.Dir, ".godeploy", "runs", "*"))
	for _, file := range append(log, path) {
		b, err := os.ReadFile(file)
		if err != nil || strings.Contains(string(b), passphrase) || strings.Contains(string(b), alicePassword) {
			t.Errorf("%s tells a secret, or cannot be read: %v", file, err)
		}
	}
	if len(log) == 0 || strings.Contains(said+made, passphrase) || strings.Contains(said, alicePassword) {
		t.Errorf("%d logs; it says\n%s", len(log), said)
	}
}

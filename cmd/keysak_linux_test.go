package cmd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// fileState is one state of authorized_keys, what a push to it comes to, and what it must leave.
type fileState struct {
	name    string
	content func(l *keysLab) string
	prepare func(t *testing.T, l *keysLab) // after content, where content alone is not the state
	args    []string                       // more words for push
	code    int
	want    func(l *keysLab) string // "same" + what is added; nil: the content is not looked at
	says    string                  // in what is printed
	lets    bool                    // the pushed key lets in afterwards, by OpenSSH's own client
	after   func(t *testing.T, l *keysLab)
}

const restricted = "restrict,pty "

func added(l *keysLab) string { return restricted + l.public(l.key) }

// contentStates are AK1 to AK11 and AK25: what may stand in the file.
func contentStates() []fileState {
	old := func(l *keysLab) string { return l.public(l.old) }
	bare := func(l *keysLab) string { return strings.TrimSuffix(l.public(l.old), "\n") }
	keep := func(content func(*keysLab) string) func(*keysLab) string {
		return func(l *keysLab) string {
			text := content(l)
			if !strings.HasSuffix(text, "\n") {
				text += "\n"
			}
			return text + added(l)
		}
	}
	with := func(name, says string, content func(*keysLab) string) fileState {
		return fileState{name: name, content: content, want: keep(content), says: says, lets: true}
	}
	return []fileState{
		with("AK1 no trailing newline", "and it lets in", bare),
		with("AK2 two keys and no trailing newline", "and it lets in", func(l *keysLab) string { return "# first\n" + old(l) + bare(l) }),
		with("AK3 CRLF", "and it lets in", func(l *keysLab) string { return "# dos\r\n" + bare(l) + "\r\n" }),
		with("AK4 byte order mark", "byte order mark", func(l *keysLab) string { return "\xef\xbb\xbf" + l.public(l.key) + old(l) }),
		{name: "AK5 leading blanks", content: func(l *keysLab) string { return old(l) + " \t " + l.public(l.key) }, says: "options are new", lets: true,
			want: func(l *keysLab) string { return old(l) + " \t " + restricted + l.public(l.key) }},
		with("AK6 unknown option", `does not know its option "fly"`, func(l *keysLab) string { return "fly " + l.public(l.key) + old(l) }),
		{name: "AK7 twice, restricted first", content: func(l *keysLab) string { return old(l) + added(l) + l.public(l.key) }, says: "the first", lets: true,
			want: func(l *keysLab) string { return old(l) + added(l) + l.public(l.key) }},
		{name: "AK7 twice, free first", content: func(l *keysLab) string { return old(l) + l.public(l.key) + added(l) }, says: "the first", lets: true,
			want: func(l *keysLab) string { return old(l) + added(l) + added(l) }},
		{name: "AK8 restrict by default", content: old, want: keep(old), says: "1 key added", lets: true, after: func(t *testing.T, l *keysLab) {
			if err := l.ssh(l.key, "alice", "-W", "127.0.0.1:"+strconv.Itoa(l.port)); err == nil || !strings.Contains(err.Error(), "forwarding failed") {
				t.Errorf("a new key forwards connections: %v", err)
			}
		}},
		{name: "AK9 from another address", content: old, args: []string{"--from", "203.0.113.9"}, code: exitWholeOnOld, want: old, says: "the file is as it was"},
		{name: "AK9 expired", content: func(l *keysLab) string { return old(l) + `expiry-time="20200101Z",command="x" ` + l.public(l.key) }, code: exitWholeOnOld,
			want: func(l *keysLab) string { return old(l) + `expiry-time="20200101Z",command="x" ` + l.public(l.key) }, says: "nothing was changed"},
		with("AK10 long lines and junk", "and it lets in", func(l *keysLab) string {
			return "garbage\n#" + strings.Repeat("c", 9<<10) + "\n" + strings.Repeat("j", 200<<10) + "\n" + old(l)
		}),
		with("AK11 comment that is not UTF-8", "and it lets in", func(l *keysLab) string { return bare(l) + " M\xfcller\n" }),
		with("AK25 what is not touched", "and it lets in", func(l *keysLab) string {
			const sk = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABHNzaDo= token\n"
			const mldsa = "ssh-mldsa44-ed25519 AAAAE3NzaC1tbGRzYTQ0LWVkMjU1MTkAAAAEAAAAAA== tomorrow\n"
			return "cert-authority " + l.public(l.hostKey) + sk + mldsa + "# " + l.public(l.key) + "#" + l.public(l.key) + old(l)
		}),
	}
}

// placeStates are AK12 to AK19: what the file and its folders are.
func placeStates() []fileState {
	old := func(l *keysLab) string { return l.public(l.old) }
	stays := func(mode os.FileMode) func(*testing.T, *keysLab) {
		return func(t *testing.T, l *keysLab) {
			if info, err := os.Stat(l.file()); err != nil || info.Mode().Perm() != mode {
				t.Errorf("got mode %v, %v, want %o", info.Mode(), err, mode)
			}
		}
	}
	modes := func(home, ssh, file os.FileMode) func(*testing.T, *keysLab) {
		return func(t *testing.T, l *keysLab) {
			l.must(t, os.Chmod(l.home, home))
			l.must(t, os.Chmod(filepath.Dir(l.file()), ssh))
			l.must(t, os.Chmod(l.file(), file))
		}
	}
	instead := func(make func(t *testing.T, l *keysLab)) func(*testing.T, *keysLab) {
		return func(t *testing.T, l *keysLab) {
			l.must(t, os.RemoveAll(l.file()))
			make(t, l)
		}
	}
	both := func(l *keysLab) string { return old(l) + added(l) }
	return []fileState{
		{name: "AK12 home and .ssh of everybody", content: old, prepare: modes(0o777, 0o777, 0o600), args: []string{"--password-stdin"}, code: exitWholeOnOld,
			want: old, says: "can be written by everybody"},
		{name: "AK13 file 0604", content: old, prepare: modes(0o755, 0o700, 0o604), want: both, says: "can be read by everybody", lets: true, after: stays(0o604)},
		{name: "AK14 link within the home", content: old, prepare: instead(func(t *testing.T, l *keysLab) {
			real := filepath.Join(l.home, "real")
			l.must(t, os.WriteFile(real, []byte(old(l)), 0o600))
			l.must(t, os.Chown(real, aliceID, aliceID))
			l.must(t, os.Symlink("../real", l.file()))
		}), want: both, says: "and it lets in", lets: true, after: func(t *testing.T, l *keysLab) {
			if to, err := os.Readlink(l.file()); to != "../real" {
				t.Errorf("the link is %q, %v", to, err)
			}
		}},
		{name: "AK15 link out of the home", content: old, args: []string{"--password-stdin"}, prepare: instead(func(t *testing.T, l *keysLab) {
			open := filepath.Join(l.dir, "open")
			l.must(t, os.MkdirAll(open, 0o777))
			l.must(t, os.Chmod(open, 0o777))
			l.must(t, os.WriteFile(filepath.Join(open, "keys"), []byte(old(l)), 0o644))
			l.must(t, os.Symlink(filepath.Join(open, "keys"), l.file()))
		}), code: exitWholeOnOld, want: old, says: "can be written by everybody"},
		{name: "AK16 FIFO", content: old, args: []string{"--password-stdin"}, prepare: instead(func(t *testing.T, l *keysLab) {
			l.must(t, syscall.Mkfifo(l.file(), 0o600))
		}), code: exitWholeOnOld, says: "is a FIFO"},
		{name: "AK16 folder", content: old, args: []string{"--password-stdin"}, prepare: instead(func(t *testing.T, l *keysLab) {
			l.must(t, os.Mkdir(l.file(), 0o700))
		}), code: exitWholeOnOld, says: "is a folder"},
		{name: "AK17 root's, readable", content: old, prepare: func(t *testing.T, l *keysLab) {
			l.must(t, os.Chown(l.file(), 0, 0))
			l.must(t, os.Chmod(l.file(), 0o644))
		}, code: exitWholeOnOld, want: old, says: "belongs to another account"},
		{name: "AK17 root's, hidden", content: old, args: []string{"--password-stdin"}, prepare: func(t *testing.T, l *keysLab) {
			l.must(t, os.Chown(l.file(), 0, 0))
		}, code: exitWholeOnOld, want: old, says: "belongs to another account"},
		{name: "AK18 immutable", content: old, prepare: func(t *testing.T, l *keysLab) {
			l.output(t, "chattr", "+i", l.file())
			t.Cleanup(func() { l.output(t, "chattr", "-i", l.file()) })
		}, code: exitWholeOnOld, want: old, says: "not permitted", after: func(t *testing.T, l *keysLab) { l.output(t, "chattr", "-i", l.file()) }},
		{name: "AK19 no .ssh", content: old, args: []string{"--password-stdin"}, prepare: func(t *testing.T, l *keysLab) {
			l.must(t, os.RemoveAll(filepath.Dir(l.file())))
		}, want: added, says: "1 key added", lets: true, after: func(t *testing.T, l *keysLab) {
			stays(0o600)(t, l)
			if info, err := os.Stat(filepath.Dir(l.file())); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf(".ssh is %v, %v", info.Mode(), err)
			}
		}},
		{name: "AK19 read-only home", content: old, args: []string{"--password-stdin"}, prepare: func(t *testing.T, l *keysLab) {
			l.must(t, os.RemoveAll(filepath.Dir(l.file())))
			l.must(t, os.Chown(l.home, 0, 0))
			t.Cleanup(func() { l.must(t, os.Chown(l.home, aliceID, aliceID)) })
		}, code: exitWholeOnOld, says: "ermission denied", after: func(t *testing.T, l *keysLab) { l.must(t, os.Chown(l.home, aliceID, aliceID)) }},
	}
}

// Every state of the file that sshd has a view on, by both ways to edit it: what godeploy leaves is what is
// wanted, byte for byte, and OpenSSH's own client says who gets in.
func TestPushToEveryStateOfTheFile(t *testing.T) {
	t.Parallel()
	for way, helper := range map[string]bool{"helper": true, "shell": false} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			l := newKeysLab(t, helper)
			for _, s := range append(contentStates(), placeStates()...) {
				t.Run(s.name, func(t *testing.T) { s.check(t, l) })
			}
		})
	}
}

func (s fileState) check(t *testing.T, l *keysLab) {
	l.reset(t)
	l.keys(t, s.content(l))
	if s.prepare != nil {
		s.prepare(t, l)
	}
	code, said := l.keysRun(append([]string{"push", "prod", "--key", l.key}, s.args...)...)
	if code != s.code || !strings.Contains(said, s.says) {
		t.Errorf("got exit %d, want %d and %q in\n%s", code, s.code, s.says, said)
	}
	if s.want != nil {
		if got, want := l.content(t), s.want(l); got != want {
			t.Errorf("got  %.400q\nwant %.400q", got, want)
		}
	}
	if s.lets || s.code != 0 && s.says != "is a FIFO" {
		l.lets(t, l.key, s.lets)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(l.file()), ".godeploy-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if s.after != nil {
		s.after(t, l)
	}
}

package sshx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"godeploy/internal/fault"
	"godeploy/internal/sshtest"
)

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// newHostKey makes a host key of nobody.
func newHostKey(t testing.TB) HostKey {
	t.Helper()
	return HostKey{newKey(t).pub}
}

func TestAliasDecidesBeforeTheAddress(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{})
	right, wrong := HostKey{server.HostKeys()[0]}, newHostKey(t)
	to := targetOf(server, "app1")
	to.HostKey = ""
	byAddress := KnownName(to.Address, to.Port) + " "
	cases := []struct {
		name, text string
		want       fault.Code
	}{
		{"alias right", "prod/app1 " + right.String(), ""},
		{"alias in capitals", "PROD/App1 " + right.String(), ""},
		{"alias wrong", "prod/app1 " + wrong.String(), fault.SSHHostKeyChanged},
		{"alias wrong, address right", "prod/app1 " + wrong.String() + "\n" + byAddress + right.String(), fault.SSHHostKeyChanged},
		{"alias right, address wrong", "prod/app1 " + right.String() + "\n" + byAddress + wrong.String(), ""},
		{"alias of another environment", "staging/app1 " + right.String(), fault.SSHHostKeyUnknown},
		{"address alone", byAddress + right.String(), ""},
	}
	for _, c := range cases {
		file := filepath.Join(t.TempDir(), "known_hosts")
		writeFile(t, file, c.text+"\n")
		p := pool(t, key, func(o *Options) { o.KnownHosts = []string{file + ".missing", file} })
		got, err := p.Dial(context.Background(), to)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v %q", c.name, err, facts(err))
				continue
			}
			_ = got.Close()
			continue
		}
		tries := server.Stats().AuthTries
		e := wantCode(t, err, c.want)
		if !slices.Equal(e.Next, []string{"godeploy keys trust prod -l app1"}) {
			t.Errorf("%s: try %q", c.name, e.Next)
		}
		if text := strings.Join(e.Facts, "\n"); !strings.Contains(text, "got:  ssh-ed25519 "+right.Fingerprint()) ||
			(c.want == fault.SSHHostKeyChanged && !strings.Contains(text, "had:  ssh-ed25519 "+wrong.Fingerprint()+"   "+file+":1")) {
			t.Errorf("%s: facts %q", c.name, e.Facts)
		}
		if server.Stats().AuthTries != tries {
			t.Errorf("%s: a key was offered to a host that is not trusted", c.name)
		}
	}
}

func TestPinFindsItsKeyAmongTheHostsTypes(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := startSSHD(t, key, nil)
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		public, err := ParseHostKey(server.public(t, kind))
		if err != nil {
			t.Fatal(err)
		}
		to := server.target()
		to.HostKey = public.Fingerprint()
		connect(t, pool(t, key, nil), to)
	}
	to := server.target()
	to.HostKey = newHostKey(t).Fingerprint()
	e := wantCode(t, dialError(t, pool(t, key, nil), to), fault.SSHHostKeyChanged)
	if !strings.Contains(strings.Join(e.Facts, "\n"), "had:  pinned "+to.HostKey) {
		t.Errorf("facts %q", e.Facts)
	}
}

func TestSkippedLinesAreNamed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "known_hosts")
	good := newHostKey(t)
	writeFile(t, file, "app1 "+good.String()+"\ngarbage\n@what x y z\n"+strings.Repeat("x", maxKnownLine+10)+"\napp2 "+good.String()+"\n")
	known := ReadKnownHosts(file, file+".none", t.TempDir())
	skipped := strings.Join(known.Skipped(), "\n")
	for _, want := range []string{file + ":2: ", file + ":3: ", file + ":4: line is longer"} {
		if !strings.Contains(skipped, want) {
			t.Errorf("skipped lines %q lack %q", skipped, want)
		}
	}
	if len(known.Skipped()) != 4 { // the folder that is no file is the fourth
		t.Errorf("skipped %q", skipped)
	}
	found := known.Lookup("APP2")
	if len(found) != 1 || found[0].Line != 5 || found[0].Fingerprint() != good.Fingerprint() {
		t.Errorf("found %+v", found)
	}
}

func TestWildcard(t *testing.T) {
	t.Parallel()
	cases := []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "a.b", true}, {"a*c", "abc", true}, {"a*c", "abcd", false},
		{"?", "", false}, {"?", "a", true}, {"*?", "a", true}, {"a**b", "ab", true}, {"*.b", "a.a.b", true}, {"a", "ab", false},
		{"*a*a*a*a*a*a*a*a*b", strings.Repeat("a", 5000), false},
	}
	for _, c := range cases {
		if got := wildcard(c.pattern, c.text); got != c.want {
			t.Errorf("wildcard(%q, %q) = %v", c.pattern, c.text, got)
		}
	}
}

func TestAppendKnownHostsKeepsTheFileSortedAndTheRest(t *testing.T) {
	t.Parallel()
	a, b := newHostKey(t), newHostKey(t)
	file := filepath.Join(t.TempDir(), ".godeploy", "known_hosts")
	for _, alias := range []string{"prod/ngx1", "prod/app2", "prod/app1", "prod/app2"} {
		if err := AppendKnownHosts(file, alias, []HostKey{a}); err != nil {
			t.Fatal(err)
		}
	}
	want := knownHeader + "prod/app1 " + a.String() + "\nprod/app2 " + a.String() + "\nprod/ngx1 " + a.String() + "\n"
	if got := readFile(t, file); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := AppendKnownHosts(file, "prod/app1", []HostKey{a}); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(file); err != nil || !os.SameFile(before, after) {
		t.Errorf("a file that says it already was written again: %v", err)
	}
	if err := AppendKnownHosts(file, "prod/app1", []HostKey{b, b}); err != nil {
		t.Fatal(err)
	}
	if got := ReadKnownHosts(file).Lookup("prod/app1"); len(got) != 2 {
		t.Errorf("got %d lines for app1, want both keys once", len(got))
	}
	if err := ReplaceKnownHosts(file, "prod/app1", []HostKey{b}); err != nil {
		t.Fatal(err)
	}
	if got := ReadKnownHosts(file).Lookup("prod/app1"); len(got) != 1 || got[0].Fingerprint() != b.Fingerprint() {
		t.Errorf("after replacing: %+v", got)
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the folder: %v, %v", entries, err)
	}
}

func TestAppendKnownHostsLeavesForeignLinesAlone(t *testing.T) {
	t.Parallel()
	a, b := newHostKey(t), newHostKey(t)
	dir := t.TempDir()
	file, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	text := "# Our hosts.\n# Ask Ann.\n\n# the old one\nprod/app9 " + a.String() + " since 2019\n" +
		"prod/app1,prod/app2 " + a.String() + "\n@revoked * " + b.String() + "\n# the end\n"
	writeFile(t, file, text)
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if err := ReplaceKnownHosts(link, "prod/app1", []HostKey{b}); err != nil {
		t.Fatal(err)
	}
	want := "# Our hosts.\n# Ask Ann.\n\n@revoked * " + b.String() + "\nprod/app1 " + b.String() + "\nprod/app1,prod/app2 " + a.String() +
		"\n# the old one\nprod/app9 " + a.String() + " since 2019\n# the end\n"
	if got := readFile(t, file); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	about, err := os.Lstat(link)
	if err != nil || about.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
	if about, err = os.Stat(file); err != nil || (about.Mode().Perm() != 0o600 && runtime.GOOS != "windows") {
		t.Errorf("permissions changed: %v %v", about.Mode(), err)
	}
}

func TestAppendKnownHostsRefusesNamesThatMeanSomethingElse(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "known_hosts")
	for _, alias := range []string{"", "a b", "a\nb", "*", "!a", "a,b", "|1|", "@revoked", "#x"} {
		if err := AppendKnownHosts(file, alias, []HostKey{newHostKey(t)}); err == nil {
			t.Errorf("alias %q was written", alias)
		}
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestFetchedHostKeysAreAllThereAndCanBeTrusted(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server, gate := startSSHD(t, key, nil), serve(t, key, sshtest.Options{})
	file := filepath.Join(t.TempDir(), "known_hosts")
	to := server.target()
	to.Alias, to.Jumps = "prod/app1", [][]Target{{targetOf(gate, "gate")}}
	p := pool(t, key, func(o *Options) { o.KnownHosts = []string{file} })
	keys, err := p.FetchHostKeys(context.Background(), to)
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, k := range keys {
		got = append(got, k.String())
	}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		want = append(want, server.public(t, kind))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	if log := readFile(t, server.log); strings.Contains(log, "Accepted") || strings.Contains(log, "Failed") {
		t.Errorf("a login was tried:\n%s", log)
	}
	if err := AppendKnownHosts(file, to.Alias, keys); err != nil {
		t.Fatal(err)
	}
	connect(t, p, to)
}

func TestFetchingHostKeysNeedsATrustedJumpHost(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server, gate := serve(t, key, sshtest.Options{}), serve(t, key, sshtest.Options{})
	to, by := targetOf(server, "app1"), targetOf(gate, "gate")
	by.HostKey = ""
	to.Jumps = [][]Target{{by}}
	_, err := pool(t, key, nil).FetchHostKeys(context.Background(), to)
	if e := wantCode(t, err, fault.SSHHostKeyUnknown); e.Hosts[0] != "gate" {
		t.Errorf("hosts %q", e.Hosts)
	}
	if server.Stats().Conns != 0 {
		t.Error("the host was asked through a jump host that is not trusted")
	}
}

func FuzzReadKnownHosts(f *testing.F) {
	f.Add("prod/app1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0yZ3h3S3Bqd2N0c2d3d3d3d3d3d3d3d3d3d3d3\n", "prod/app1")
	f.Add("@cert-authority *.x ssh-rsa AAAA\n@revoked\n|1|a|b ssh-rsa x\n!a,* b c", "a.x")
	f.Add("\x00\t \r\n#\n[::1]:22", "[::1]:22")
	f.Fuzz(func(t *testing.T, text, name string) {
		known := new(KnownHosts)
		if err := known.read(strings.NewReader(text), "f"); err != nil {
			t.Fatalf("an error from memory: %v", err)
		}
		for _, line := range known.Lookup(name) {
			if line.Line < 1 || line.Line > strings.Count(text, "\n")+1 {
				t.Errorf("line %d of %q", line.Line, text)
			}
			_ = fmt.Sprint(line.Type(), line.Fingerprint())
		}
		once := mergeKnownHosts([]byte(text), "prod/app1", nil, false)
		if twice := mergeKnownHosts(once, "prod/app1", nil, false); string(twice) != string(once) {
			t.Errorf("writing twice differs: %q, %q", once, twice)
		}
		again := new(KnownHosts)
		if err := again.read(strings.NewReader(string(once)), "f"); err != nil || len(again.entries) != len(known.entries) {
			t.Errorf("%d host lines became %d: %v", len(known.entries), len(again.entries), err)
		}
	})
}

// An entry written in capitals counts for ssh(1), by a plain name and by a pattern; ssh-keygen -F looks as it does.
func TestUpperCaseEntriesCount(t *testing.T) {
	t.Parallel()
	tool(t, "ssh-keygen")
	key := newHostKey(t).String()
	for _, names := range []string{"APP1.Example.COM", "x,APP1.EXAMPLE.com", "*.EXAMPLE.com", "!APP1.example.com,*"} {
		file := filepath.Join(t.TempDir(), "known_hosts")
		writeFile(t, file, names+" "+key+"\n")
		ssh := exec.Command("ssh-keygen", "-F", "app1.example.com", "-f", file).Run() == nil
		for _, asked := range []string{"app1.example.com", "App1.Example.com"} {
			if got := len(ReadKnownHosts(file).Lookup(asked)) == 1; got != ssh {
				t.Errorf("%s for %s: got %v, ssh %v", names, asked, got, ssh)
			}
		}
	}
}

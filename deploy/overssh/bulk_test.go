package overssh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"godeploy/internal/sshtest"
	"godeploy/inventory"
	"godeploy/sshx"
	filesync "godeploy/sync"
)

// program finds a program or, where it is missing, skips the test, or fails it in a full run.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
	return ""
}

// openSSH is a real sshd on loopback that lets one key in.
type openSSH struct {
	dir  string
	port int
	host string // the host key's fingerprint
}

// startOpenSSH starts one with these lines of configuration besides; it goes with the test.
func startOpenSSH(t testing.TB, lines ...string) *openSSH {
	t.Helper()
	binary := program(t, "/usr/sbin/sshd")
	dir, err := os.MkdirTemp("", "overssh") // not below a folder that is closed to the login user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &openSSH{dir: dir, port: sshtest.FreePort(t, "127.0.0.1")}
	s.host = ssh.FingerprintSHA256(newKeyFile(t, dir+"/host"))
	client := newKeyFile(t, dir+"/id")
	config := append([]string{"Port " + strconv.Itoa(s.port), "ListenAddress 127.0.0.1", "UsePAM no", "StrictModes no", "PidFile none",
		"MaxSessions 64", "AuthorizedKeysFile " + dir + "/authorized", "Subsystem sftp internal-sftp", "HostKey " + dir + "/host"}, lines...)
	for name, text := range map[string]string{"config": strings.Join(config, "\n") + "\n", "authorized": string(ssh.MarshalAuthorizedKey(client))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_ = os.MkdirAll("/run/sshd", 0o755) // only root needs it
	cmd := exec.Command(binary, "-D", "-E", dir+"/log", "-f", dir+"/config")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	listens(t, s.port)
	return s
}

// listens waits until a port of loopback is listened on.
func listens(t testing.TB, port int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(10 * time.Second); ; {
		if conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("sshd does not listen")
		}
	}
}

func newKeyFile(t testing.TB, path string) ssh.PublicKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer.PublicKey()
}

// login connects as a user of this machine.
func (s *openSSH) login(t testing.TB, user string) *sshx.Conn {
	t.Helper()
	pool := sshx.NewPool(sshx.Options{Keys: []string{s.dir + "/id"}})
	t.Cleanup(func() { _ = pool.Close() })
	conn, err := pool.Dial(context.Background(), sshx.Target{Name: "web1", Address: "127.0.0.1", Port: s.port, User: user, HostKey: s.host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// me is who runs the tests.
func me(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("id", "-un").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// unaided is a host without the helper, whose app lies at path.
func unaided(t testing.TB, conn *sshx.Conn, path string) *plain {
	t.Helper()
	env := &inventory.Env{}
	env.App.Name, env.App.Path = "shop", path
	h, err := newPlain(context.Background(), env, inventory.Host{Name: "web1"}, conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h.(*plain)
}

// userland gives sshd the PATH of a host with other programs than this one: all of busybox's, or bsdtar
// in place of tar.
func userland(t testing.TB, kind string) []string {
	t.Helper()
	if kind == "gnu" {
		return nil
	}
	dir, err := os.MkdirTemp("", "bin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	links, rest := map[string]string{"tar": "bsdtar"}, ":/usr/bin:/bin"
	if kind == "busybox" {
		list, err := exec.Command(program(t, "busybox"), "--list").Output()
		if err != nil {
			t.Fatal(err)
		}
		links, rest = map[string]string{}, ""
		for _, name := range strings.Fields(string(list)) {
			links[name] = "busybox"
		}
	}
	for name, of := range links {
		if err := os.Symlink(program(t, of), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"SetEnv PATH=" + dir + rest}
}

// shell gives the file tree of a host with that userland, rooted at a new folder.
func shell(t testing.TB, kind string) shellFS {
	t.Helper()
	root := t.TempDir()
	h := unaided(t, startOpenSSH(t, userland(t, kind)...).login(t, me(t)), root)
	if h.tools.tar != kind {
		t.Fatalf("found the tools %+v, want tar of %s", h.tools, kind)
	}
	return h.tree(newSFTPFS(h.client, root), true).(shellFS)
}

func kinds() []string { return []string{"gnu", "busybox", "bsd"} }

// odd are names that some program or other would stumble over.
func odd() []string {
	return []string{"new\nline", "\nlead", "tab\t", "ret\r", "esc\x1b[31m", " lead", "trail ", "-n", "--", "-rf", "--checkpoint=1", "\xff\xfe", "cafe\u0301",
		"caf\u00e9", "A", "a", strings.Repeat("n", 255), `back\slash`, `a\nb`, "$HOME", "`id`", "*", "...", "a:b", "@x", "./PaxHeaders"[2:], "q'q", `"`}
}

func TestBulkMakesWhatItIsTold(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			fsys := shell(t, kind)
			if err := os.WriteFile(filepath.Join(fsys.root, "old"), []byte("old"), 0o604); err != nil {
				t.Fatal(err)
			}
			makeOdd(t, fsys)
			checkOdd(t, fsys, func(when int64) bool { return kind == "gnu" || kind == "bsd" && when >= 0 })
		})
	}
}

const (
	someTime  = 1_700_000_000_123_456_789
	otherTime = -1_500_000_000 // before 1970
)

func makeOdd(t *testing.T, fsys shellFS) {
	t.Helper()
	w, err := fsys.bulk(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	deep := strings.Repeat("deep/", 80) + "er"
	file := func(p string, perm uint32, mtime int64, text string) error {
		if err := w.begin(p, perm, mtime, int64(len(text))); err != nil {
			return err
		}
		_, err := w.tar.Write([]byte(text))
		return err
	}
	errs := []error{w.Mkdir("d", 0o700, 0), w.Mkdir("d/closed", 0o755, 0)}
	for i, name := range odd() {
		text := "content of " + name
		errs = append(errs, file("d/"+name, 0o640, someTime+int64(i)*1_000_000_000, text))
	}
	for i := range strings.Count(deep, "/") {
		errs = append(errs, w.Mkdir(strings.Repeat("deep/", i)+"deep", 0o777, 0))
	}
	errs = append(errs, file(deep, 0o400, otherTime, "deep"), file("d/closed/empty", 0o666, someTime, ""),
		w.Link("old", "d/linked"), w.Link(deep, "d/deep-linked"), w.Symlink("../../etc", "d/link", someTime), w.Symlink(strings.Repeat("x/", 700), "d/long", 0),
		w.Mkdir("d/closed", 0o555, someTime), w.Mkdir("d", 0o751, someTime))
	if err := errors.Join(append(errs, w.Close())...); err != nil {
		t.Fatal(err)
	}
}

// checkOdd looks with its own eyes. fine says which times are kept with their nanoseconds.
func checkOdd(t *testing.T, fsys shellFS, fine func(when int64) bool) {
	t.Helper()
	deep := strings.Repeat("deep/", 80) + "er"
	want := map[string]string{"d": "drwxr-x--x", "d/closed": "dr-xr-xr-x", "d/closed/empty": "-rw-rw-rw-", "d/link": "->../../etc",
		"d/long": "->" + strings.Repeat("x/", 700), "d/linked": "-rw----r--old", deep: "-r--------deep", "d/deep-linked": "-r--------deep"}
	when := map[string]int64{"d": someTime, "d/closed": someTime, "d/closed/empty": someTime, deep: otherTime}
	for i, name := range odd() {
		want["d/"+name] = "-rw-r-----content of " + name
		when["d/"+name] = someTime + int64(i)*1_000_000_000
	}
	for name, text := range want {
		at := filepath.Join(fsys.root, name)
		info, err := os.Lstat(at)
		if err != nil {
			t.Error(err)
			continue
		}
		got := info.Mode().String()
		switch {
		case info.Mode()&os.ModeSymlink != 0:
			to, _ := os.Readlink(at)
			got = "->" + to
		case info.Mode().IsRegular():
			content, _ := os.ReadFile(at)
			got += string(content)
		}
		if got != text {
			t.Errorf("%q: got %q, want %q", name, got, text)
		}
		w, timed := when[name]
		if timed && !fine(w) {
			w = time.Unix(0, w).Unix() * 1_000_000_000
		}
		if timed && info.ModTime().UnixNano() != w {
			t.Errorf("%q: got time %d, want %d", name, info.ModTime().UnixNano(), w)
		}
	}
	var old, linked os.FileInfo
	old, _ = os.Stat(fsys.root + "/old")
	linked, _ = os.Stat(fsys.root + "/d/linked")
	if !os.SameFile(old, linked) {
		t.Error("the linked file is another one")
	}
	if entries, err := os.ReadDir(fsys.root + "/d"); err != nil || len(entries) != len(odd())+5 {
		t.Errorf("d holds %d names (%v), want %d", len(entries), err, len(odd())+5)
	}
}

func TestHostHashesItsOwnFiles(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			fsys := shell(t, kind)
			names := append(odd(), "plain")
			for _, name := range names {
				if err := os.WriteFile(filepath.Join(fsys.root, name), []byte("content of "+name), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink("plain", fsys.root+"/link\n"); err != nil {
				t.Fatal(err)
			}
			tools := [][]string{fsys.tools.sum}
			if kind == "gnu" {
				tools = append(tools, []string{"shasum", "-a", "256"}, []string{"openssl", "dgst", "-sha256", "-r"})
			}
			for _, tool := range tools {
				program(t, tool[0])
				fsys.tools.sum = tool
				checkSums(t, fsys, names)
			}
		})
	}
}

func checkSums(t *testing.T, fsys shellFS, names []string) {
	t.Helper()
	asked := append([]string{"none", "none\n", "link\n"}, names...)
	sums, err := fsys.Sums(t.Context(), asked)
	if err != nil || len(sums) != len(asked) {
		t.Fatalf("%v: got %d sums, %v", fsys.tools.sum, len(sums), err)
	}
	for i, name := range asked {
		content, err := os.ReadFile(filepath.Join(fsys.root, name))
		if want := hashOf(content); i >= 3 && (err != nil || sums[i].String() != want) {
			t.Errorf("%v: %q: got %s, want %s (%v)", fsys.tools.sum, name, sums[i], want, err)
		}
		if i < 3 && !sums[i].IsZero() {
			t.Errorf("%v: %q, which is no file: got %s", fsys.tools.sum, name, sums[i])
		}
	}
	if sums, err := fsys.Sums(t.Context(), nil); err != nil || len(sums) != 0 {
		t.Errorf("no files: got %v, %v", sums, err)
	}
}

func TestHashLinesOfAHostileHostAreHarmless(t *testing.T) {
	t.Parallel()
	line := strings.Repeat("ab", 32)
	for _, text := range []string{"", "x", line, line + " ", line + "  other", line + "xx./a", strings.Repeat("zz", 32) + "  ./a", "\\" + line + "  ./a"} {
		sums := make([]filesync.Hash, 1)
		takeSum([]byte(text), map[string]int{"./a": 0}, sums)
		if !sums[0].IsZero() {
			t.Errorf("%q gave the sum %s", text, sums[0])
		}
	}
	r := records{end: '\n', each: func([]byte) error { return nil }}
	for range 200 {
		if n, err := r.Write(bytes.Repeat([]byte("x"), 1000)); n != 1000 || err != nil {
			t.Fatal(n, err)
		}
	}
	if !errors.Is(r.bad, errTooLong) || len(r.part) > maxRecord+1000 {
		t.Errorf("a line without an end was kept: %v, %d bytes", r.bad, len(r.part))
	}
	for _, text := range []string{"", "f", "f 644 1 1.0 1.0 0 0 0 0", "f 644 1 1.0 1.0 0 0 0 0 ../x", "f 644 1 1.0 1.0 0 0 0 0 /x", "f 9 1 1.0 1.0 0 0 0 0 x",
		"f 644 -1 1.0 1.0 0 0 0 0 x", "f 644 1 now 1.0 0 0 0 0 x", "f 644 1 1.0 1.-5 0 0 0 0 x"} {
		if in, err := parseFound(text); err == nil {
			t.Errorf("%q was read as %+v", text, in)
		}
	}
}

func TestToolsAreReadFromOneLine(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"tools: tar=gnu zstd gzip sha256sum shasum openssl xargs cp rm find": "{true gnu [zstd -dcq] [sha256sum] true true}",
		"tools: tar=busybox gzip openssl xargs cp rm":                        "{true busybox [gzip -dc] [openssl dgst -sha256 -r] false true}",
		"tools: sha256sum cp": "{true  [] [] false false}",
		"tools:":              "{true  [] [] false false}",
	} {
		if got, ok := parseTools(line); !ok || fmt.Sprint(got) != want {
			t.Errorf("%q: got %v, want %s", line, got, want)
		}
	}
	for _, line := range []string{"", "This account is currently not available.", "tools"} {
		if got, ok := parseTools(line); ok || got.shell {
			t.Errorf("%q was taken for %v", line, got)
		}
	}
}

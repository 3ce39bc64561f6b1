package access

import (
	"crypto/rand"
	"crypto/rsa"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"godeploy/internal/fault"
)

func TestParseKeyRefuses(t *testing.T) {
	t.Parallel()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatal(err)
		}
		t.Skipf("this Go makes no such key: %v", err)
	}
	pub, err := ssh.NewPublicKey(&weak.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	k, err := Generate(filepath.Join(t.TempDir(), "k"), GenerateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for want, text := range map[string]string{
		"is a private key":     "-----BEGIN OPENSSH PRIVATE KEY-----\n",
		"no public key":        "hello",
		"2 keys":               k.Public() + "\n" + k.Public(),
		"options in front":     "restrict " + k.Public(),
		"is a DSA key":         textOf("ssh-dss"),
		"less than 2048 bits":  string(ssh.MarshalAuthorizedKey(pub)),
		"is a certificate":     textOf("ssh-ed25519-cert-v01@openssh.com"),
		"cannot check":         textOf("ssh-nobody-knows"),
		"no public key at all": "ssh-ed25519 AAAA",
	} {
		_, err := ParseKey([]byte(text), "x.pub")
		if !fault.Is(err, fault.KeyRefused) || !strings.Contains(err.Error(), strings.TrimSuffix(want, " at all")) {
			t.Errorf("%.40q: got %v, want %s", text, err, want)
		}
	}
	if got, err := ParseKey([]byte(k.Public()+" me\r\n"), "x.pub"); err != nil || !got.Same(k) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func textOf(kind string) string { return text(aKey(kind, "x")) }

func TestGenerate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ssh")
	path := filepath.Join(dir, "id")
	k, err := Generate(path, GenerateOptions{Comment: "me@here\nx", Passphrase: []byte("open sesame")})
	if err != nil {
		t.Fatal(err)
	}
	if k.Comment != "me@herex" {
		t.Errorf("got comment %q", k.Comment)
	}
	for p, want := range map[string]os.FileMode{dir: 0o700, path: 0o600, path + ".pub": 0o644} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v, want %o", p, info.Mode(), err, want)
		}
	}
	if _, err := Generate(path, GenerateOptions{}); !fault.Is(err, fault.KeyRefused) {
		t.Errorf("a pair that is there: got %v", err)
	}
	private, err := os.ReadFile(path)
	if err != nil || !Opens(private, []byte("open sesame")) || Opens(private, []byte("x")) {
		t.Errorf("the passphrase does not open it: %v", err)
	}
	if out, err := exec.Command("ssh-keygen", "-y", "-P", "open sesame", "-f", path).Output(); err == nil && !strings.HasPrefix(k.Public(), strings.Join(strings.Fields(string(out))[:2], " ")) {
		t.Errorf("ssh-keygen reads %q, want %q", out, k.Public())
	}
	again, err := Generate(path, GenerateOptions{Force: true})
	if err != nil || again.Same(k) {
		t.Errorf("with force: %v", err)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

package cmd

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"godeploy/internal/sshtest"
)

// vault is a project with secrets and one server for it, in this process.
type vault struct {
	*machine
	home   string
	values []string // the secrets
	vars   map[string]string
	file   string // what the secrets' command prints
	raw    string // the values, one a line
}

// newVault makes secrets of all kinds of signs, as the seed says.
func newVault(t *testing.T, seed uint64, more string) *vault {
	t.Helper()
	v := &vault{machine: newMachine(t), home: t.TempDir(), vars: map[string]string{}}
	v.Now = time.Now
	v.Environ = []string{"PATH=" + os.Getenv("PATH")}
	random := rand.New(rand.NewPCG(seed, 1))
	for i, alphabet := range []string{"abcdefghij0123456789", `a"b'c\d$e f&g<h>` + "`i", "é€😀ñü-Z9", "QWERTZ:/@%+=?#-"} {
		runes := []rune(alphabet)
		text := fmt.Sprintf("%c%c", 'k'+rune(i), 'z'-rune(i)) // no blank at either end, and no two alike
		for range 4 + random.IntN(30) {
			text += string(runes[random.IntN(len(runes))])
		}
		text += "7q"
		v.values = append(v.values, text)
		v.vars[fmt.Sprintf("S_%c", 'A'+i)] = text
	}
	v.file, v.raw = filepath.Join(t.TempDir(), "secrets.json"), filepath.Join(t.TempDir(), "raw")
	text, err := json.Marshal(v.vars)
	if err != nil {
		t.Fatal(err)
	}
	save(t, v.file, string(text))
	save(t, v.raw, strings.Join(v.values, "\n")+"\n")
	v.project(t, more)
	return v
}

func save(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// project starts the server and writes godeploy.toml and the hook's script.
func (v *vault) project(t *testing.T, more string) {
	t.Helper()
	keyFile := filepath.Join(t.TempDir(), "id")
	key, err := sshtest.NewKeyFile(keyFile, "test")
	if err != nil {
		t.Fatal(err)
	}
	o := sshtest.Options{Home: v.home, SFTPServer: sftpServer(t)}
	o.Authorized = append(o.Authorized, key.PublicKey())
	server, err := sshtest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(); server.Kill() })
	app := filepath.Join(v.home, "shop")
	if err := os.Mkdir(app, 0o755); err != nil { // the lock lies in it
		t.Fatal(err)
	}
	v.write(t, "src/leak.sh", leakScript)
	v.write(t, "godeploy.toml", fmt.Sprintf(`version = 1
[app]
name = "shop"
path = %q
[sync]
from = "src"
[process]
server = "custom"
manager = "command"
check = "RAW=%s sh leak.sh check"
[secrets]
command = "cat %s"
[hooks]
release = "RAW=%s sh leak.sh"
restart = "true"
%s
[health]
settle = "0s"
[env.test.ssh]
user = "ops"
keys = [%q]
port = %d
[env.test.hosts]
web1 = { role = "app", address = "127.0.0.1", host_key = %q }
`, app, v.raw, v.file, v.raw, more, keyFile, server.Port(), server.Fingerprint()))
}

// sftpServer is OpenSSH's: it keeps the texts of links as they are.
func sftpServer(t *testing.T) string {
	t.Helper()
	const path = "/usr/lib/openssh/sftp-server"
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatal(err)
		}
		t.Skip("OpenSSH's sftp-server is not installed")
	}
	return path
}

// leakScript prints every secret in every way a hook may, and tells when one stands in an argument of a
// program on this machine.
const leakScript = `set -a; . "$GODEPLOY_SECRETS"; set +a
cat .env.secrets
env | grep ^S_
for v in "$S_A" "$S_B" "$S_C" "$S_D"; do
	echo "plain <$v>"
	printf %s "$v" | base64 -w0; echo
	printf 'user:%s' "$v" | base64 -w0; echo
	printf 'no end %s' "$v" >&2; echo >&2
done
cat "$RAW"
if grep -aqFf "$RAW" /proc/[0-9]*/cmdline 2>/dev/null; then echo FOUND IN AN ARGUMENT; fi
set -x
: "$S_A" "$S_D"
set +x
for v in "$S_A" "$S_B" "$S_C" "$S_D"; do
	printf '%0290d%s and more\n' 0 "$v" # an error shows the last four lines, 300 bytes of each
done
[ ! -e fails ] || [ "$1" != check ] || exit 3
`

// told is everything that the run has said or written here, and on the server but for the secrets' own
// folder.
func (v *vault) told(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"stdout": v.out.String(), "stderr": v.err.String()}
	for _, root := range []string{filepath.Join(v.Dir, ".godeploy"), filepath.Join(v.Dir, "log"), filepath.Join(v.home, "shop")} {
		if _, err := os.Stat(root); err != nil {
			continue // this run has written none
		}
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() || strings.Contains(path, "/.godeploy/env/") {
				return err
			}
			b, err := os.ReadFile(path)
			all[path] = string(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// looksLike gives what a value would look like in an output that did not hide it.
func looksLike(value string) []string {
	inJSON, _ := json.Marshal(value) // every string has a form in JSON
	begin := value
	if !strings.Contains(value, `\`) { // an echo may end at one
		begin = string([]byte(value)[:min(len(value), 10)]) // where an error was cut
	}
	return []string{value, begin, string(inJSON[1 : len(inJSON)-1]), url.QueryEscape(value), strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(value)), "=")}
}

// silent fails when a secret stands anywhere.
func (v *vault) silent(t *testing.T) {
	t.Helper()
	for where, text := range v.told(t) {
		for _, value := range v.values {
			for _, form := range looksLike(value) {
				if strings.Contains(text, form) {
					t.Errorf("%s holds %q", where, form)
				}
			}
		}
		if strings.Contains(text, "FOUND IN AN ARGUMENT") && !strings.HasSuffix(where, "leak.sh") {
			t.Errorf("%s: a secret stood in an argument", where)
		}
	}
}

// Whatever mode the output has, whether the run comes out or fails, with the helper and without: no
// secret is in what it prints, in the run file, in --log, in the records on the server.
func TestNoSecretIsEverTold(t *testing.T) {
	t.Parallel()
	for i, mode := range []string{"plain", "json", "github", "gitlab", "tty"} {
		for _, fails := range []bool{false, true} {
			helper := (i+len(mode))%2 == 0 != fails
			t.Run(fmt.Sprintf("%s fails=%v helper=%v", mode, fails, helper), func(t *testing.T) {
				t.Parallel()
				v := newVault(t, uint64(i), "")
				if fails {
					v.write(t, "src/fails", "")
				}
				if !helper {
					v.write(t, "godeploy.toml", strings.Replace(v.config(t), "[env.test.ssh]", "[env.test.ssh]\nhelper = false", 1))
				}
				want := map[bool]int{false: exitDone, true: exitWholeOnOld}[fails]
				args := []string{"release", "test", "-o", mode, "-v", "-v", "--log", "log", "--message", "with " + v.values[0]}
				if code := v.run(args...); code != want {
					t.Fatalf("exit %d, want %d: %s", code, want, v.err.String())
				}
				v.silent(t)
				if out := v.out.String() + v.err.String(); !strings.Contains(out, "S_A=***") || !strings.Contains(out, "plain <***>") {
					t.Errorf("the hook's output is not there: %s", out)
				}
				if !fails {
					v.onServer(t)
				}
			})
		}
	}
}

func (v *vault) config(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(v.Dir, "godeploy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// onServer sees that the release has its secrets, for its owner alone.
func (v *vault) onServer(t *testing.T) {
	t.Helper()
	path := filepath.Join(v.home, "shop/current/.env.secrets")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want a file of mode 0600", info, err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "S_A="+v.vars["S_A"]) {
		t.Errorf("the release has %q, %v", text, err)
	}
}

func TestSecretsCommandThatFailsTellsNothingOfThem(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"plain", "json", "github"} {
		v := newVault(t, 99, "")
		v.write(t, "godeploy.toml", strings.Replace(v.config(t), `command = "cat `+v.file+`"`, `command = "cat `+v.raw+`; cat `+v.raw+` >&2; exit 7"`, 1))
		if code := v.run("release", "test", "-o", mode, "-v", "-v", "--log", "log"); code != exitWholeOnOld {
			t.Errorf("%s: exit %d: %s", mode, code, v.err.String())
		}
		v.silent(t)
		if out := v.out.String() + v.err.String(); !strings.Contains(out, "secrets-failed") || !strings.Contains(out, "***") {
			t.Errorf("%s: the error is not there: %s", mode, out)
		}
	}
}

// A rollback does not run the command. It brings the secrets back that the release had, and hides them.
func TestRollbackBringsSecretsBackAndHidesThem(t *testing.T) {
	t.Parallel()
	v := newVault(t, 7, `after = "cat .env.secrets; cat .env.secrets >&2"`)
	if code := v.run("release", "test"); code != exitDone {
		t.Fatalf("exit %d: %s", code, v.err.String())
	}
	save(t, v.file, `{"S_A": "another 88", "S_B": "x", "S_C": "", "S_D": "further 77"}`)
	v.write(t, "src/new", "")
	if code := v.run("release", "test"); code != exitDone {
		t.Fatalf("exit %d: %s", code, v.err.String())
	}
	if err := os.Remove(v.file); err != nil {
		t.Fatal(err)
	}
	if code := v.run("rollback", "test", "-o", "plain", "-v", "-v"); code != exitDone {
		t.Fatalf("exit %d: %s", code, v.err.String())
	}
	v.onServer(t)
	v.values = append(v.values, "another 88", "further 77")
	v.silent(t)
}

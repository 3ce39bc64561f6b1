package sshx

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"godeploy/internal/fault"
)

// matrix makes known_hosts files for one sshd and says what godeploy must make of each: "" is to
// accept, else the fault's code. ssh(1) is asked about the same file.
type matrix struct {
	t      *testing.T
	server *sshd
	key    clientKey
	// keys of the server by type, and keys of nobody
	has, alien map[string]string
}

func newMatrix(t *testing.T, config func(*sshd) []string) *matrix {
	key := newKey(t)
	m := &matrix{t: t, key: key, server: startSSHD(t, key, config), has: map[string]string{}, alien: map[string]string{}}
	other := &sshd{dir: t.TempDir()}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		other.makeHostKey(t, kind)
		m.has[kind], m.alien[kind] = m.server.public(t, kind), other.public(t, kind)
	}
	return m
}

// oracle asks ssh(1).
func (m *matrix) oracle(file string) (accepts bool, output string) {
	out, err := exec.Command(tool(m.t, "ssh"), "-F", "none", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile="+file,
		"-o", "GlobalKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "CheckHostIP=no",
		"-i", m.key.path, "-p", strconv.Itoa(m.server.port), me()+"@127.0.0.1", "true").CombinedOutput()
	return err == nil, string(out)
}

// check compares the verdicts on one file. ssh(1) may accept what we refuse only where stricter says
// that this is meant.
func (m *matrix) check(name, text string, want fault.Code, stricter bool) {
	m.t.Run(name, func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "known_hosts")
		if text != "missing" {
			writeFile(t, file, text)
		}
		accepts, said := m.oracle(file)
		c, err := pool(t, m.key, func(o *Options) { o.KnownHosts = []string{file} }).Dial(context.Background(), m.server.target())
		if err == nil {
			_ = c.Close()
		}
		if want == "" && err != nil {
			t.Errorf("refused: %v %q", err, facts(err))
		}
		if want != "" {
			wantCode(t, err, want)
		}
		if accepts != (err == nil) && !(stricter && accepts) {
			t.Errorf("ssh accepts: %v, godeploy accepts: %v; ssh says %s", accepts, err == nil, said)
		}
	})
}

func TestHostKeyVerdictsAgreeWithOpenSSH(t *testing.T) {
	t.Parallel()
	m := newMatrix(t, nil)
	const unknown, changed = fault.SSHHostKeyUnknown, fault.SSHHostKeyChanged
	at := fmt.Sprintf("[127.0.0.1]:%d ", m.server.port)
	hashed := func(line string) string {
		file := m.server.write(t, "hash", line)
		run(t, "ssh-keygen", "-H", "-f", file)
		return run(t, "cat", file)
	}
	ed, ec, rsa := m.has["ed25519"], m.has["ecdsa"], m.has["rsa"]
	badEd, badEc := m.alien["ed25519"], m.alien["ecdsa"]
	unheard := "ssh-newtype AAAAC25ldw==\n"
	cases := []struct {
		name, text string
		want       fault.Code
	}{
		{"missing file", "missing", unknown},
		{"empty file", "", unknown},
		{"comments and blank lines", "# hello\n\n  \n" + at + ed + " comment here\n", ""},
		{"known ed25519 only", at + ed, ""},
		{"known ecdsa only", at + ec, ""},
		{"known rsa only", at + rsa, ""},
		{"all three", at + ed + "\n" + at + ec + "\n" + at + rsa, ""},
		{"another host", "[127.0.0.2]:22 " + ed, unknown},
		{"another port", "[127.0.0.1]:1 " + ed, unknown},
		{"changed", at + badEd, changed},
		{"changed type, other known right", at + badEd + "\n" + at + ec, changed},
		{"right and wrong of one type", at + badEd + "\n" + at + ed, ""},
		{"wrong of two types", at + badEd + "\n" + at + badEc, changed},
		{"unheard type before", at + unheard + at + ed, ""},
		{"unheard type after", at + ed + "\n" + at + unheard, ""},
		{"unheard type only", at + unheard, unknown},
		{"garbage line before", "garbage\n" + at + ed, ""},
		{"binary before", "\x00\x01\xff\xfe\n" + at + ed, ""},
		{"no final newline", at + ed, ""},
		{"CRLF", at + ed + "\r\n", ""},
		{"tabs", "\t" + strings.ReplaceAll(at+ed, " ", "\t") + "\n", ""},
		{"70 kB line before", strings.Repeat("x", 70_000) + "\n" + at + ed, ""},
		{"hashed", hashed(at + ed + "\n"), ""},
		{"hashed changed", hashed(at + badEd + "\n"), changed},
		{"hash broken", "|1|!!!|xx " + ed + "\n" + at + ed, ""},
		{"several names", "gate,10.0.0.1," + at + ed, ""},
		{"pattern", "*.0.0.1]:* " + ed, ""},
		{"question marks", "[127.0.0.?]:* " + ed, ""},
		{"negated port, bare name matches", "!" + strings.TrimSpace(at) + ",* " + ed, ""},
		{"negated", "!*127.0.0.1*,* " + ed, unknown},
		{"negated other", "!10.0.0.1,* " + ed, ""},
		{"star", "* " + ed, ""},
		{"bare address, right", "127.0.0.1 " + ed, ""},
		{"bare address, wrong", "127.0.0.1 " + badEd, unknown},
		{"bare pattern, right", "127.* " + ed, ""},
		{"bare right, port wrong", "127.0.0.1 " + ed + "\n" + at + badEd, changed},
		{"port right, bare wrong", "127.0.0.1 " + badEd + "\n" + at + ed, ""},
		{"revoked", at + ed + "\n@revoked " + at + ed, changed},
		{"revoked by star", at + ed + "\n@revoked * " + ed, changed},
		{"only another type revoked", at + ed + "\n@revoked * " + rsa, ""},
		{"authority that did not sign", "@cert-authority * " + badEd, unknown},
		{"authority and plain", "@cert-authority * " + badEd + "\n" + at + ed, ""},
		{"key as authority", "@cert-authority * " + ed, unknown},
		{"unknown marker", "@what " + at + ed, unknown},
		{"two markers", "@cert-authority @revoked " + at + ed + "\n" + at + ed, ""},
		{"type does not match the blob", at + "ssh-rsa " + strings.Fields(ed)[1], unknown},
		{"cut base64", at + ed[:40], unknown},
		{"name without key", strings.TrimSpace(at) + "\n" + at + ed, ""},
	}
	for _, c := range cases {
		m.check(c.name, c.text, c.want, false)
	}
	m.check("revoked for another host", at+ed+"\n@revoked [10.9.9.9]:1 "+ed, changed, true)
}

// knownSeeds is how many generated files CI looks at; GODEPLOY_SSH_SWEEP names another number.
const knownSeeds = 40

func TestGeneratedKnownHostsAgreeWithOpenSSH(t *testing.T) {
	t.Parallel()
	m := newMatrix(t, nil)
	for seed := range sweep(t, knownSeeds) {
		random := rand.New(rand.NewPCG(13, uint64(seed)))
		text := m.generated(random)
		file := filepath.Join(t.TempDir(), "known_hosts")
		writeFile(t, file, text)
		accepts, said := m.oracle(file)
		c, err := pool(t, m.key, func(o *Options) { o.KnownHosts = []string{file} }).Dial(context.Background(), m.server.target())
		if err == nil {
			_ = c.Close()
		}
		if accepts != (err == nil) {
			t.Fatalf("seed %d: ssh accepts: %v, godeploy: %v\n%s\nssh says %s", seed, accepts, err, text, said)
		}
	}
}

// generated writes a file of a few lines, right ones and wrong ones, in the ways there are to write them.
func (m *matrix) generated(random *rand.Rand) string {
	at := fmt.Sprintf("[127.0.0.1]:%d", m.server.port)
	var b strings.Builder
	for range 1 + random.IntN(5) {
		name := pick(random, at, at, at, "127.0.0.1", "[127.0.0.1]:*", "*", "10.0.0.1,"+at, "!"+at+",*", "[10.0.0.1]:22", "other")
		keys := m.has
		if random.IntN(3) == 0 {
			keys = m.alien
		}
		line := name + pick(random, " ", "\t", "  ") + keys[pick(random, "ed25519", "ecdsa", "rsa")]
		switch random.IntN(12) {
		case 0:
			line = "@cert-authority " + line
		case 1:
			line = "@revoked " + at + " " + m.alien["ed25519"]
		case 2:
			line += " a comment"
		case 3:
			line = pick(random, "# "+line, "garbage", "", at+" ssh-newtype AAAAC25ldw==", "@what "+line, line[:len(line)-7])
		case 4:
			line = " \t" + line
		}
		b.WriteString(line + pick(random, "\n", "\n", "\r\n"))
	}
	return strings.TrimRight(b.String(), pick(random, "\n", "x"))
}

func TestHostCertificateVerdictsAgreeWithOpenSSH(t *testing.T) {
	t.Parallel()
	const unknown, changed = fault.SSHHostKeyUnknown, fault.SSHHostKeyChanged
	cases := []struct {
		name string
		sign []string
		want fault.Code
	}{
		{"valid", []string{"-h", "-n", "127.0.0.1"}, ""},
		{"no principals", []string{"-h"}, ""},
		{"wrong principal", []string{"-h", "-n", "elsewhere"}, unknown},
		{"expired", []string{"-h", "-n", "127.0.0.1", "-V", "20010101:20020101"}, unknown},
		{"not yet", []string{"-h", "-n", "127.0.0.1", "-V", "21010101:21020101"}, unknown},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ca := filepath.Join(t.TempDir(), "ca")
			run(t, tool(t, "ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", ca)
			m := newMatrix(t, func(s *sshd) []string {
				run(t, "ssh-keygen", append([]string{"-q", "-s", ca, "-I", "host"}, append(c.sign, s.hostKey("ed25519")+".pub")...)...)
				return []string{"HostCertificate " + s.hostKey("ed25519") + "-cert.pub"}
			})
			authority := strings.TrimSpace(run(t, "cat", ca+".pub"))
			at := fmt.Sprintf("[127.0.0.1]:%d ", m.server.port)
			m.check("by port", "@cert-authority "+at+authority, c.want, false)
			m.check("by star", "@cert-authority * "+authority, c.want, false)
			m.check("other host", "@cert-authority 10.0.0.1 "+authority, unknown, false)
			m.check("authority revoked", "@cert-authority * "+authority+"\n@revoked * "+authority, changed, false)
			m.check("key revoked", "@cert-authority * "+authority+"\n@revoked * "+m.has["ed25519"], changed, false)
			m.check("plain key known", at+m.has["ed25519"], "", false)
			m.check("plain key of another type known, authority not", at+m.has["rsa"], "", false)
			m.check("plain key wrong, authority right", "@cert-authority * "+authority+"\n"+at+m.alien["ed25519"], c.want, false)
		})
	}
}

package sshx

import (
	"context"
	"math/rand/v2"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"godeploy/internal/fault"
	"godeploy/internal/sshtest"
)

// configFrom reads a file in place of the user's and the system's, through ssh(1).
func configFrom(t testing.TB, file string) *UserConfig {
	t.Helper()
	c := readerFrom(t, file)
	c.program = []string{tool(t, "ssh"), "-F", file}
	return c
}

// readerFrom is the same without ssh(1).
func readerFrom(t testing.TB, file string) *UserConfig {
	t.Helper()
	home := "/"
	if who, err := user.Current(); err == nil {
		home = who.HomeDir
	}
	return (&UserConfig{home: home, user: me(), getenv: os.Getenv, files: []string{file}}).ready()
}

// saying writes a configuration and reads it both ways; what both make of a host must be the same.
type saying struct {
	t              testing.TB
	asked, reading *UserConfig
}

func say(t testing.TB, text string) saying {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	writeFile(t, file, text)
	return saying{t, configFrom(t, file), readerFrom(t, file)}
}

func (s saying) of(host string, port int, user string) (settings, error) {
	s.t.Helper()
	asked, err := s.asked.ask(context.Background(), host, port, user)
	read, readErr := s.reading.ask(context.Background(), host, port, user)
	if (err == nil) != (readErr == nil) {
		s.t.Errorf("%s: ssh says %v %q, the reader says %v %q", host, err, facts(err), readErr, facts(readErr))
		return asked, err
	}
	asked.controlPath, read.controlPath = "", "" // the reader is for machines without ssh, which has no masters there
	if err == nil && !reflect.DeepEqual(asked, read) {
		s.t.Errorf("%s:\nssh:    %+v\nreader: %+v", host, asked, read)
	}
	return asked, err
}

func TestConfigSaysWhatSSHSays(t *testing.T) {
	t.Parallel()
	tool(t, "ssh")
	for _, c := range append(configCases(), valueCases()...) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			said := say(t, c.text)
			for _, host := range []string{"a", "web1.example.com", "10.0.0.1", "Mixed.Case"} {
				_, _ = said.of(host, 0, "")
				_, _ = said.of(host, 2200, "deploy")
			}
		})
	}
}

// configSeeds is how many generated files CI looks at; GODEPLOY_SSH_SWEEP names another number.
const configSeeds = 150

// sweep is how many generated cases to look at.
func sweep(t testing.TB, usual int) int {
	t.Helper()
	text := os.Getenv("GODEPLOY_SSH_SWEEP")
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestGeneratedConfigsSayWhatSSHSays(t *testing.T) {
	t.Parallel()
	tool(t, "ssh")
	for seed := range sweep(t, configSeeds) {
		random := rand.New(rand.NewPCG(7, uint64(seed)))
		text := generatedConfig(random)
		said := say(t, text)
		_, _ = said.of(pick(random, "a", "web1.example.com", "10.0.0.1", "Mixed.Case"), 0, "")
		_, _ = said.of(pick(random, "a", "b", "web2.example.com"), 2200, "deploy")
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, text)
		}
	}
}

func pick(random *rand.Rand, from ...string) string { return from[random.IntN(len(from))] }

// generatedConfig writes a file as people do: mostly right, in all the ways there are to write it.
func generatedConfig(random *rand.Rand) string {
	lines := []string{
		"Host a", "Host *", "Host web* !web2*", "Host \"a\" b", "Host *.example.com", "Host 10.0.0.?", "Host !a *", "Host mixed.case",
		"Match all", "Match host a,web*", "Match user deploy", "Match originalhost a", "Match final", "Match final host *.com",
		"Match !host a", "Match localuser " + me() + " host b", "Match user !deploy,*", "Match host \"10.*\" user deploy",
		"Port 22", "Port 2222", "User deploy", "User 'q r'", "HostName %h.corp", "HostName 10.9.8.7", "HostName Web1.Example.COM",
		"IdentityFile ~/.ssh/id_a", "IdentityFile %d/%r@%h:%p", "IdentityFile none", "IdentityFile \"~/a b\"", "IdentitiesOnly yes",
		"IdentitiesOnly no", "CertificateFile ~/.ssh/c-%h", "IdentityAgent none", "IdentityAgent ~/agent.%r", "IdentityAgent SSH_AUTH_SOCK",
		"ProxyJump gate", "ProxyJump u@gate:2222,inner", "ProxyJump none", "ProxyCommand nc -X 5 %h %p", "ProxyCommand none",
		"HostKeyAlias alias1", "HostKeyAlias alias2", "UserKnownHostsFile ~/k1 ~/k2", "UserKnownHostsFile /dev/null", "GlobalKnownHostsFile /x/y",
		"ConnectTimeout 5", "ConnectTimeout 2m", "ServerAliveInterval 15", "ServerAliveInterval 1m5s", "ServerAliveCountMax 2", "AddressFamily inet",
		"AddressFamily any", "RevokedHostKeys /etc/ssh/revoked", "KexAlgorithms +diffie-hellman-group14-sha1", "Ciphers aes256-ctr,aes128-cbc",
		"HostKeyAlgorithms +ssh-rsa", "MACs ^hmac-sha1-96", "ForwardAgent yes", "LogLevel QUIET", "# a comment", "", "SendEnv LANG",
	}
	if random.IntN(10) == 0 {
		lines = append(lines, "Port x", "User", "Match", "IdentityFile \"open", "ConnectTimeout -1", "User a b")
	}
	var b strings.Builder
	for range 3 + random.IntN(25) {
		line := lines[random.IntN(len(lines))]
		switch random.IntN(8) {
		case 0:
			line = strings.Replace(line, " ", "=", 1)
		case 1:
			line = "  " + strings.Replace(line, " ", " = ", 1)
		case 2:
			line = "\t" + strings.Replace(line, " ", "\t", 1) + "  "
		case 3:
			key, rest, _ := strings.Cut(line, " ")
			line = strings.ToUpper(key) + " " + rest
		case 4:
			if !strings.Contains(line, "Proxy") {
				line += " # why not"
			}
		}
		b.WriteString(line + pick(random, "\n", "\n", "\n", "\r\n", "\n\n"))
	}
	return b.String()
}

// configCase is one file; ssh(1) says what is right.
type configCase struct{ name, text string }

func configCases() []configCase {
	return []configCase{
		{"empty", ""},
		{"comments", "# one\n\n   # two\nHost * # three\n Port 3 # four\n"},
		{"first value stays", "Host a\n Port 1\nHost *\n Port 2\n"},
		{"user file without Host", "User x\nHost a\n User y\n"},
		{"equals signs", "Host=a\nPort=5\nUser = bob\nIdentityFile= ~/k\nProxyCommand = nc %h %p\n"},
		{"keywords in any case", "hOsT a\nPORT 7\nuser bob\n"},
		{"tabs", "Host\ta\tb\n\tPort\t9\n"},
		{"CRLF", "Host a\r\n Port 9\r\n"},
		{"no final newline", "Host a\n Port 9"},
		{"form feed at the end", "Host a\n Port 9\f\n"},
		{"quoted keyword and values", "\"Host\" \"a\" \"web*\"\n \"User\" \"x y\"\n"},
		{"single quotes", "Host 'a'\n User 'b c'\n"},
		{"escapes", "Host a\n User b\\ c\n IdentityFile \"~/x\\\"y\"\n CertificateFile ~/q\\\\r\n"},
		{"other backslashes stay", "Host a\n User DOM\\joe\n"},
		{"quote that is not closed", "Host a\n User \"b\n"},
		{"hash within a word", "Host a\n User b#c\n"},
		{"two values", "Host a\n User b c\n"},
		{"no value", "Host a\n User\n"},
		{"empty value", "Host a\n User \"\"\n"},
		{"Host without a pattern", "Host\n Port 5\n"},
		{"several patterns", "Host b c *.example.com\n Port 4\n"},
		{"negated first", "Host !a *\n Port 4\n"},
		{"negated last", "Host * !a\n Port 4\n"},
		{"negated alone", "Host !a\n Port 4\n"},
		{"question marks", "Host ?\n Port 4\nHost 10.0.0.?\n Port 6\n"},
		{"pattern in capitals", "Host MIXED.CASE\n Port 4\nHost Mixed.*\n Port 5\nHost mixed.case\n Port 6\n"},
		{"commas are no separators of Host", "Host a,b\n Port 4\n"},
		{"Match all", "Match all\n Port 4\n"},
		{"Match host", "Match host a,web*\n Port 4\n"},
		{"Match host negated", "Match host *,!a\n Port 4\nMatch !host a\n User q\n"},
		{"Match host after HostName", "Host a\n HostName %h.example.com\nMatch host a.example.com\n Port 4\nMatch host a\n Port 5\n"},
		{"Match host in capitals", "Match host MIXED.case\n Port 4\n"},
		{"Match originalhost", "Host a\n HostName b\nMatch originalhost a\n Port 4\nMatch originalhost b\n Port 5\n"},
		{"Match user", "Match user deploy\n Port 4\n IdentityFile ~/d\n"},
		{"Match user after User", "Host a\n User deploy\nMatch user deploy\n Port 4\n"},
		{"Match localuser", "Match localuser " + me() + "\n Port 4\nMatch localuser nobody9\n Port 5\n"},
		{"Match of several", "Match host a user deploy\n Port 4\nMatch user deploy host \"web1*\"\n Port 5\n"},
		{"Match final", "Match final\n Port 4\nHost a\n Port 5\n"},
		{"Match final all", "Match final all\n Port 4\n IdentityFile ~/f\nHost a\n Port 5\n IdentityFile ~/g\n"},
		{"Match final host", "Host a\n HostName B.c\nMatch final host b.c\n User z\n"},
		{"Host after a second pass", "Host a\n HostName b\nHost b\n User z\nMatch final\n Port 4\n"},
		{"Match canonical", "Match canonical\n Port 4\nMatch !canonical\n User q\n"},
		{"Match negated final", "Match !final\n Port 4\nMatch final\n Port 5\n"},
		{"Match without criteria", "Match\n Port 4\n"},
		{"Match without a pattern", "Match host\n Port 4\n"},
		{"Match all and more", "Match all host a\n Port 4\n"},
		{"Match with a comment", "Match host a # b\n Port 4\n"},
		{"HostName", "Host a\n HostName 10.1.2.3\n"},
		{"HostName with tokens", "Host *\n HostName %h.corp%%x\n"},
		{"HostName in capitals", "Host a\n HostName WWW.Example.COM\n"},
		{"HostName with an unknown token", "Host a\n HostName %r\n"},
		{"Port names", "Host a\n Port ssh\n"},
		{"Port zero", "Host a\n Port 0\n"},
		{"Port too large", "Host a\n Port 65536\n"},
		{"Port with a zero before", "Host a\n Port 0022\n"},
		{"wrong in a block for others", "Host nobody\n Port x\n"},
	}
}

// valueCases are files about single keywords.
func valueCases() []configCase {
	return []configCase{
		{"IdentityFiles add up", "Host a\n IdentityFile ~/one\nHost *\n IdentityFile ~/two\n IdentityFile ~/one\n"},
		{"IdentityFile none", "Host a\n IdentityFile none\n"},
		{"IdentityFile and none", "Host a\n IdentityFile ~/x\n IdentityFile none\n"},
		{"IdentityFile with tokens", "Host *\n IdentityFile ~/%h_%r_%p_%u_%n_%i_%%\n IdentityFile %d/.ssh/k\n"},
		{"IdentityFile with blanks", "Host *\n IdentityFile \"~/my keys/a b\"\n"},
		{"IdentityFile with the environment", "Host *\n IdentityFile ${HOME}/k\n"},
		{"CertificateFile", "Host *\n CertificateFile ~/c-%r\n CertificateFile ~/d\n CertificateFile ~/c-%r\n"},
		{"IdentitiesOnly", "Host a\n IdentitiesOnly yes\nHost web*\n IdentitiesOnly TRUE\nHost *\n IdentitiesOnly no\n"},
		{"IdentitiesOnly wrong", "IdentitiesOnly maybe\n"},
		{"IdentityAgent", "Host a\n IdentityAgent none\nHost web*\n IdentityAgent ~/.agent/%h\nHost *\n IdentityAgent SSH_AUTH_SOCK\n"},
		{"IdentityAgent from the environment", "Host a\n IdentityAgent $HOME\nHost *\n IdentityAgent $NOT_THERE_9\n"},
		{"ProxyJump", "Host a\n ProxyJump gate\n"},
		{"ProxyJump chain", "Host a\n ProxyJump u@gate:2222,[::1]:33,last\n"},
		{"ProxyJump none", "Host a\n ProxyJump none\nHost *\n ProxyJump gate\n"},
		{"ProxyJump wrong", "Host a\n ProxyJump gate,\n"},
		{"ProxyJump with a wrong port", "Host a\n ProxyJump gate:0\n"},
		{"ProxyCommand", "Host *\n ProxyCommand nc -x proxy:1080 %h %p # %r \"%n\"\n"},
		{"ProxyCommand none", "Host a\n ProxyCommand none\nHost *\n ProxyCommand nc %h %p\n"},
		{"ProxyCommand before ProxyJump", "Host *\n ProxyCommand nc %h %p\n ProxyJump gate\n"},
		{"ProxyJump before ProxyCommand", "Host *\n ProxyJump gate\n ProxyCommand nc %h %p\n"},
		{"ProxyJump none before ProxyCommand", "Host *\n ProxyJump none\n ProxyCommand nc %h %p\n"},
		{"HostKeyAlias", "Host a\n HostKeyAlias fleet\n"},
		{"UserKnownHostsFile", "Host a\n UserKnownHostsFile ~/k1 /tmp/k2\nHost *\n UserKnownHostsFile %d/k3_%h\n"},
		{"UserKnownHostsFile with blanks", "UserKnownHostsFile \"~/my hosts/k\" ~/l\n"},
		{"UserKnownHostsFile none", "UserKnownHostsFile none\nGlobalKnownHostsFile none\n"},
		{"GlobalKnownHostsFile", "GlobalKnownHostsFile /x/g1 /x/g2\n"},
		{"RevokedHostKeys", "RevokedHostKeys ~/revoked\n"},
		{"ConnectTimeout", "Host a\n ConnectTimeout 5\nHost web*\n ConnectTimeout 1m30s\nHost *\n ConnectTimeout none\n"},
		{"ConnectTimeout wrong", "ConnectTimeout soon\n"},
		{"ConnectTimeout odd", "Host a\n ConnectTimeout 1h2\nHost *\n ConnectTimeout 1w2d\n"},
		{"ServerAlive", "Host *\n ServerAliveInterval 15\n ServerAliveCountMax 4\n"},
		{"ServerAlive in minutes", "ServerAliveInterval 2m\n"},
		{"ServerAliveCountMax wrong", "ServerAliveCountMax many\n"},
		{"AddressFamily", "Host a\n AddressFamily inet\nHost *\n AddressFamily INET6\n"},
		{"AddressFamily wrong", "AddressFamily ipx\n"},
		{"outdated, added", "Host a\n KexAlgorithms +diffie-hellman-group14-sha1\n HostKeyAlgorithms +ssh-rsa\n PubkeyAcceptedAlgorithms +ssh-rsa\n"},
		{"outdated, first", "Host a\n KexAlgorithms ^diffie-hellman-group14-sha1\n Ciphers aes128-cbc,aes128-ctr\n MACs hmac-sha1-96\n"},
		{"outdated, taken away", "Host a\n KexAlgorithms -diffie-hellman-group14-sha1\n HostKeyAlgorithms -ssh-rsa\n"},
		{"other keywords", "Host *\n ForwardAgent yes\n SendEnv LANG LC_*\n LogLevel ERROR\n LocalForward 8080 localhost:80\n"},
		{"Include of nothing", "Include /nonexistent/*\nHost a\n Port 4\n"},
	}
}

func TestConfigIncludesFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, dir+"/one.conf", "Port 41\nHost a\n User one\nHost *\n IdentityFile ~/from-one\n")
	writeFile(t, dir+"/two.conf", "Host a\n ConnectTimeout 9\n Include "+dir+"/three.inc\n")
	writeFile(t, dir+"/three.inc", "ServerAliveInterval 7\nHost *\n HostKeyAlias three\n")
	writeFile(t, dir+"/round.inc", "Include "+dir+"/round.inc\n")
	for _, text := range []string{
		"Include " + dir + "/*.conf\n",
		"Host a\n Include " + dir + "/one.conf\n Port 5\n",
		"Host nobody\n Include " + dir + "/one.conf\nHost *\n Port 5\n",
		"Include " + dir + "/two.conf " + dir + "/one.conf\nPort 5\n",
		"Include " + dir + "/round.inc\n",
		"Match host a\n Include \"" + dir + "/t*.conf\"\nMatch all\n Port 6\n",
		"Include\n",
	} {
		said := say(t, text)
		for _, host := range []string{"a", "b"} {
			_, _ = said.of(host, 0, "")
		}
	}
}

// What ssh cannot use is not dialled with half of it: the error is ssh's own.
func TestConfigThatSSHRefusesIsAFault(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config")
	writeFile(t, file, "Host app1\n Port twenty\n")
	server := serve(t, newKey(t), sshtest.Options{})
	for name, config := range map[string]*UserConfig{"ssh": configFrom(t, file), "reader": readerFrom(t, file)} {
		p := pool(t, newKey(t), func(o *Options) { o.Config = config })
		to := targetOf(server, "app1")
		to.Port = 0
		e := wantCode(t, dialError(t, p, to), fault.SSHRefused)
		if text := strings.Join(e.Facts, "\n"); !strings.Contains(text, ":2") && !strings.Contains(text, "line 2") {
			t.Errorf("%s: facts %q do not name the line", name, e.Facts)
		}
	}
	if n := server.Stats().Conns; n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestConfigThatDoesNotMatterIsNotAskedFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, dir+"/inc", "Host x\n ProxyJump y\n")
	for text, want := range map[string]bool{
		"": false, "# Port 5\nHost *\n SendEnv LANG\n": false, "Host b\n port=5\n": true, "Include " + dir + "/inc\n": true,
		"Include " + dir + "/none\n": false, "Host \"a\n": true,
	} {
		file := filepath.Join(t.TempDir(), "config")
		writeFile(t, file, text)
		c := readerFrom(t, file)
		c.program = []string{"/nonexistent/ssh"}
		if got := c.speaks(); got != want {
			t.Errorf("%q: matters: %v, want %v", text, got, want)
		}
	}
}

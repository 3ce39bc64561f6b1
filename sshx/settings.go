package sshx

import (
	"context"
	"crypto/sha1" // names a host in a path, as ssh(1) does; not a matter of trust
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// settings are what ssh_config says of one host, with tokens replaced. The zero value of a field is what
// ssh(1) does when nothing is said, as far as godeploy does the same.
type settings struct {
	hostName string
	port     int    // 0: nobody named one
	user     string // "": nobody named one
	family   string // "4", "6" or ""

	keys     []string // IdentityFile; only when keysSaid
	keysSaid bool
	certs    []string // CertificateFile
	keysOnly bool     // IdentitiesOnly
	agent    string   // path of a socket, "none", or "" for the usual one

	jump    []string // ProxyJump, outermost first
	command string   // ProxyCommand, ready for the shell

	keyAlias string   // HostKeyAlias
	known    []string // UserKnownHostsFile and GlobalKnownHostsFile
	revoked  string   // RevokedHostKeys

	connectTime time.Duration // ConnectTimeout
	alive       time.Duration // ServerAliveInterval
	aliveCount  int           // ServerAliveCountMax
	controlPath string

	old []string // outdated algorithms that the configuration asks for
}

// settings makes them of the values for the host called name.
func (c *UserConfig) settings(name string, v values) (settings, error) {
	s := settings{hostName: name, user: v.first("user"), keyAlias: v.first("hostkeyalias"), keysOnly: v.first("identitiesonly") == "yes"}
	if host := v.first("hostname"); host != "" {
		s.hostName = host
	}
	s.port, _ = strconv.Atoi(v.first("port")) // ssh -G prints a number or fails
	s.family = map[string]string{"inet": "4", "inet6": "6"}[v.first("addressfamily")]
	s.connectTime, s.alive = seconds(v.first("connecttimeout")), seconds(v.first("serveraliveinterval"))
	s.aliveCount, _ = strconv.Atoi(v.first("serveralivecountmax")) // likewise
	if path := v.first("controlpath"); filepath.IsAbs(path) {
		s.controlPath = path
	}
	if jump := v.first("proxyjump"); jump != "" {
		s.jump = strings.Split(jump, ",")
	}
	s.known = append(paths(v.first("userknownhostsfile")), paths(v.first("globalknownhostsfile"))...)
	s.old = outdatedIn(v)
	if v.first("proxyusefdpass") == "yes" && v.first("proxycommand") != "" {
		return s, fmt.Errorf("ProxyUseFdpass is not supported")
	}
	return s, c.expandAll(&s, name, v)
}

// expandAll replaces the tokens where ssh -G leaves them.
func (c *UserConfig) expandAll(s *settings, name string, v values) (err error) {
	tokens := c.tokens(name, s)
	expand := func(text string) string {
		done, bad := tokens.path(text)
		if err == nil {
			err = bad
		}
		return done
	}
	files := v["identityfile"]
	s.keysSaid = len(files) > 0 && !builtIn(files)
	for _, path := range files {
		if s.keysSaid && !strings.EqualFold(path, "none") {
			s.keys = append(s.keys, expand(path))
		}
	}
	for _, path := range v["certificatefile"] {
		if !strings.EqualFold(path, "none") {
			s.certs = append(s.certs, expand(path))
		}
	}
	if path := v.first("revokedhostkeys"); path != "" {
		s.revoked = expand(path)
	}
	s.keyAlias = expand(s.keyAlias)
	s.agent = c.agent(v, expand)
	if command := v.first("proxycommand"); command != "" && err == nil && len(s.jump) == 0 {
		s.command, err = tokens.replace(command)
	}
	return err
}

// agent reads IdentityAgent.
func (c *UserConfig) agent(v values, expand func(string) string) string {
	said := v["identityagent"]
	switch {
	case len(said) == 0 || said[0] == "SSH_AUTH_SOCK":
		return ""
	case strings.EqualFold(said[0], "none"):
		return "none"
	case strings.HasPrefix(said[0], "$") && !strings.HasPrefix(said[0], "${"):
		if path := c.getenv(said[0][1:]); path != "" {
			return path
		}
		return "none"
	}
	return expand(said[0])
}

// builtIn reports whether key files are those that ssh(1) tries when none are named.
func builtIn(files []string) bool {
	for _, usual := range []string{"~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519"} {
		if !slices.Contains(files, usual) {
			return false
		}
	}
	return !slices.ContainsFunc(files, func(f string) bool { return !strings.HasPrefix(f, "~/.ssh/id_") })
}

// seconds reads a number of seconds.
func seconds(text string) time.Duration {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// paths parts the files that ssh -G prints on one line: each begins with a slash or a tilde, and may hold
// blanks.
func paths(line string) []string {
	var all []string
	for word := range strings.SplitSeq(line, " ") {
		whole := strings.HasPrefix(word, "/") || strings.HasPrefix(word, "~") || filepath.IsAbs(word)
		if len(all) > 0 && !whole {
			all[len(all)-1] += " " + word
		} else if word != "" {
			all = append(all, word)
		}
	}
	return all
}

// tokens are what stands for %h and its like.
type tokens struct {
	home   string
	getenv func(string) string
	of     map[byte]string
}

func (c *UserConfig) tokens(name string, s *settings) tokens {
	local, _ := os.Hostname() // none: the token is empty
	user, port := s.user, strconv.Itoa(s.port)
	if user == "" {
		user = c.user
	}
	if s.port == 0 {
		port = "22"
	}
	short, _, _ := strings.Cut(local, ".")
	keyAlias := s.keyAlias
	if keyAlias == "" {
		keyAlias = s.hostName
	}
	sum := sha1.Sum([]byte(local + s.hostName + port + user))
	return tokens{home: c.home, getenv: c.getenv, of: map[byte]string{
		'%': "%", 'h': s.hostName, 'n': name, 'p': port, 'r': user, 'u': c.user, 'd': c.home, 'k': keyAlias,
		'l': local, 'L': short, 'i': strconv.Itoa(os.Getuid()), 'j': strings.Join(s.jump, ","), 'C': hex.EncodeToString(sum[:]),
	}}
}

// replace puts the tokens in.
func (t tokens) replace(text string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		i++
		if i == len(text) {
			return "", fmt.Errorf("%q ends with a single %%", clip(text, 100))
		}
		value, ok := t.of[text[i]]
		if !ok {
			return "", fmt.Errorf("%q holds %%%c, which is not known", clip(text, 100), text[i])
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// path replaces a leading tilde, tokens and ${NAME}.
func (t tokens) path(text string) (string, error) {
	text, err := t.environment(text)
	if err != nil {
		return "", err
	}
	if rest, ok := strings.CutPrefix(text, "~/"); ok && t.home != "" {
		text = strings.ReplaceAll(t.home, "%", "%%") + "/" + rest
	}
	return t.replace(text)
}

// environment replaces ${NAME}; what is not set is an error, as in ssh(1).
func (t tokens) environment(text string) (string, error) {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(text, "${")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		name, rest, ok := strings.Cut(after, "}")
		value := t.getenv(name)
		if !ok || value == "" {
			return "", fmt.Errorf("${%s} is not set", clip(name, 60))
		}
		b.WriteString(strings.ReplaceAll(value, "%", "%%"))
		text = rest
	}
}

// outdatedIn lists the outdated algorithms that the values name.
func outdatedIn(v values) []string {
	var found []string
	bad := ssh.InsecureAlgorithms()
	for key, known := range map[string][]string{"kexalgorithms": bad.KeyExchanges, "ciphers": bad.Ciphers, "macs": bad.MACs,
		"hostkeyalgorithms": bad.HostKeys, "pubkeyacceptedalgorithms": {ssh.KeyAlgoRSA}, "pubkeyacceptedkeytypes": {ssh.KeyAlgoRSA}} {
		for name := range strings.SplitSeq(v.first(key), ",") {
			if slices.Contains(known, name) {
				found = append(found, key+" "+name)
			}
		}
	}
	slices.Sort(found)
	return found
}

// chosen leaves of outdated algorithms those that somebody has chosen: an old ssh(1) names some by itself.
func (c *UserConfig) chosen(ctx context.Context, host string, old []string) []string {
	if len(c.program) == 0 {
		return old
	}
	bare := &UserConfig{home: c.home, user: c.user, getenv: c.getenv, program: []string{c.program[0], "-F", "none"}}
	said, err := bare.run(ctx, host, 0, "")
	if err != nil {
		return nil
	}
	by := outdatedIn(said)
	return slices.DeleteFunc(old, func(name string) bool { return slices.Contains(by, name) })
}

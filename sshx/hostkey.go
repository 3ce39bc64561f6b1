package sshx

import (
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// HostKey is the public half of a host's key. It is immutable; the zero HostKey is no key.
type HostKey struct{ key ssh.PublicKey }

// Type is the key's format as known_hosts spells it: "ssh-ed25519".
func (k HostKey) Type() string { return k.key.Type() }

// Fingerprint is "SHA256:" and the unpadded base64 of the key's hash, as ssh-keygen -l prints it.
func (k HostKey) Fingerprint() string { return ssh.FingerprintSHA256(k.key) }

// String is the key as known_hosts writes it: type, space, base64.
func (k HostKey) String() string {
	return k.key.Type() + " " + base64.StdEncoding.EncodeToString(k.key.Marshal())
}

// ParseHostKey reads "ssh-ed25519 AAAA…", with or without a comment behind it. Certificates and key
// types that x/crypto does not know are errors.
func ParseHostKey(text string) (HostKey, error) {
	kind, rest := word(text)
	blob, _ := word(rest)
	raw, err := base64.StdEncoding.DecodeString(blob)
	if err != nil || blob == "" {
		return HostKey{}, fmt.Errorf("%q is not a public key", clip(text, 40))
	}
	key, err := ssh.ParsePublicKey(raw)
	if err != nil {
		return HostKey{}, fmt.Errorf("public key %q: %w", clip(text, 40), err)
	}
	if _, isCert := key.(*ssh.Certificate); isCert || key.Type() != kind {
		return HostKey{}, fmt.Errorf("public key is of type %s, not %q", key.Type(), clip(kind, 40))
	}
	return HostKey{key}, nil
}

// word cuts the first word off a line whose words are parted by blanks and tabs.
func word(line string) (first, rest string) {
	line = strings.TrimLeft(line, " \t")
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		return line[:i], strings.TrimLeft(line[i:], " \t")
	}
	return line, ""
}

// clip shortens text for a message.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return text[:n] + "…"
}

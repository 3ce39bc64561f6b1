package access

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"golang.org/x/crypto/ssh"

	"godeploy/internal/fault"
)

// Key is a public key that may log in.
type Key struct {
	Type    string // ssh-ed25519, …
	Blob    []byte // in SSH's wire format; two keys are the same when their blobs are
	Comment string // whose it is, for people
}

// minRSA: sshd itself still takes 1024 bits by default, which those who can pay for it can break.
const minRSA = 2048

// ParseKey reads the one public key of a PATH.pub file or of an entry of [[people]]; name is what messages
// call it. Options in front of the key are refused: what a key may do is said by godeploy. So are types of
// key that nobody should be let in with, each with its reason. The error is a fault of code key-refused.
func ParseKey(text []byte, name string) (Key, error) {
	refuse := func(format string, args ...any) *fault.Error {
		return fault.New(fault.KeyRefused, name+" "+format, args...)
	}
	if bytes.Contains(text, []byte("PRIVATE KEY")) {
		return Key{}, refuse("is a private key").Hint("name the file with .pub at its end: only the public half goes to servers")
	}
	var found []line
	for _, l := range readSheet(text) {
		if l.blob != nil && l.dead == "" {
			found = append(found, l)
		}
	}
	switch {
	case len(found) == 0:
		return Key{}, refuse("is no public key").Hint("a line such as: ssh-ed25519 AAAA… comment")
	case len(found) > 1:
		return Key{}, refuse("has %d keys, and one was expected", len(found))
	case found[0].options != "":
		return Key{}, refuse("has options in front of its key: %s", quoted(found[0].options)).
			Hint("the options are set by keys push: see --from and --expires")
	}
	k := Key{Type: found[0].kind, Blob: found[0].blob, Comment: oneWord(found[0].comment)}
	if why, hint := k.refusal(); why != "" {
		return Key{}, refuse("%s", why).Hint("%s", hint)
	}
	return k, nil
}

// refusal says why a key of this type does not get in; "" when it does.
func (k Key) refusal() (why, hint string) {
	const instead = "make one with: godeploy keys generate"
	switch {
	case strings.Contains(k.Type, "-cert-v"):
		return "is a certificate, not a key", "sshd takes certificates by TrustedUserCAKeys; push the key it was made from"
	case k.Type == "ssh-dss":
		return "is a DSA key, which sshd has not taken since 2015", instead
	}
	pub, err := ssh.ParsePublicKey(k.Blob)
	if err != nil {
		return "is of type " + quoted(k.Type) + ", which this godeploy cannot check", instead
	}
	if own, ok := pub.(ssh.CryptoPublicKey); ok {
		if bits := rsaBits(own.CryptoPublicKey()); bits > 0 && bits < minRSA {
			return "is an RSA key of less than 2048 bits, which can be broken", instead
		}
	}
	return "", ""
}

// Fingerprint is the key's SHA-256 as ssh-keygen prints it.
func (k Key) Fingerprint() string {
	sum := sha256.Sum256(k.Blob)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// Public is the key as it stands in a PATH.pub file, without a line's end.
func (k Key) Public() string {
	text := k.Type + " " + base64.StdEncoding.EncodeToString(k.Blob)
	if c := oneWord(k.Comment); c != "" {
		text += " " + c
	}
	return text
}

// Same reports whether two keys are one.
func (k Key) Same(other Key) bool { return bytes.Equal(k.Blob, other.Blob) }

func (k Key) line(options string) string { return options + " " + k.Public() + "\n" }

// oneWord makes a comment fit for a line: no control characters, no blanks at its ends, at most 200 bytes.
func oneWord(comment string) string {
	comment = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, comment)
	return strings.TrimSpace(strings.ToValidUTF8(comment[:min(len(comment), 200)], ""))
}

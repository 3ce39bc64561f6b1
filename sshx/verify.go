package sshx

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"godeploy/internal/fault"
)

// verdict is what is known of a key that a host has shown.
type verdict int

const (
	unknown verdict = iota
	trusted
	changed
)

// verify decides about the key that the target has shown: nil, or a fault that says why not. In this
// order: a revoked key is refused, a pinned fingerprint decides alone, then the alias, then the
// address, then the address without its port.
func (k *KnownHosts) verify(t Target, via string, shown ssh.PublicKey) error {
	cert, _ := shown.(*ssh.Certificate)
	key := HostKey{shown}
	if cert != nil {
		key = HostKey{cert.Key}
	}
	if line, bad := k.revokedFor(key, cert); bad {
		return revokedFault(t, via, line)
	}
	if err := revokedByFile(t, via, key, cert); err != nil {
		return err
	}
	if t.HostKey != "" {
		if t.HostKey == key.Fingerprint() {
			return nil
		}
		return changedFault(t, via, "pinned "+t.HostKey, key)
	}
	for _, name := range t.knownNames() {
		lines := k.Lookup(name)
		if cert != nil && signedBy(lines, cert) {
			return checkCert(t, via, cert)
		}
		switch had, is := judge(lines, key); is {
		case trusted:
			return nil
		case changed:
			return changedFault(t, via, had.describe(), key)
		}
	}
	return k.withoutPort(t, via, key, cert)
}

// withoutPort is the last resort for another port than 22: the line of the bare address may say yes,
// but not no.
func (k *KnownHosts) withoutPort(t Target, via string, key HostKey, cert *ssh.Certificate) error {
	if t.port() != 22 && t.conf.keyAlias == "" {
		lines := k.Lookup(t.Address)
		if cert != nil && signedBy(lines, cert) {
			return checkCert(t, via, cert)
		}
		if _, is := judge(lines, key); is == trusted {
			return nil
		}
	}
	return unknownFault(t, via, key)
}

// revokedFor looks for the key, or the authority that signed it, among the revoked.
func (k *KnownHosts) revokedFor(key HostKey, cert *ssh.Certificate) (KnownKey, bool) {
	if line, bad := k.revoked(key); bad || cert == nil {
		return line, bad
	}
	return k.revoked(HostKey{cert.SignatureKey})
}

// revokedByFile looks into the RevokedHostKeys file of ssh_config. As in ssh(1), one that cannot be read
// revokes every key.
func revokedByFile(t Target, via string, key HostKey, cert *ssh.Certificate) error {
	path := t.conf.revoked
	if path == "" {
		return nil
	}
	text, err := readSmall(path)
	if err == nil && text == nil {
		err = fs.ErrNotExist
	}
	if err == nil && bytes.HasPrefix(text, []byte("SSHKRL\n")) {
		err = errors.New("it is a KRL, and only lists of public keys can be read")
	}
	if err != nil {
		return fault.New(fault.SSHHostKeyChanged, "%s may have a revoked host key: RevokedHostKeys of ssh_config cannot be read", t.place(via)).
			On(t.Name).Fact("%s: %v", path, err).Hint("write the keys into a text file, one a line, or as @revoked lines into known_hosts")
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		bad, err := ParseHostKey(strings.TrimSpace(line))
		if err == nil && (same(bad, key) || cert != nil && same(bad, HostKey{cert.SignatureKey})) {
			return revokedFault(t, via, KnownKey{HostKey: bad, File: path, Line: number})
		}
	}
	return nil
}

// judge compares a plain key with the plain keys known. Any other key known makes it a changed one,
// whatever its type: the algorithms were ordered so that the host shows the known type if it can.
func judge(lines []KnownKey, key HostKey) (had KnownKey, is verdict) {
	for _, line := range lines {
		if line.Authority || line.Revoked {
			continue
		}
		if same(line.HostKey, key) {
			return line, trusted
		}
		if is == unknown || line.Type() == key.Type() {
			had, is = line, changed
		}
	}
	return had, is
}

// signedBy reports whether one of the lines is the authority of the certificate.
func signedBy(lines []KnownKey, cert *ssh.Certificate) bool {
	return slices.ContainsFunc(lines, func(line KnownKey) bool {
		return line.Authority && same(line.HostKey, HostKey{cert.SignatureKey})
	})
}

// checkCert checks what a known authority has signed: kind, signature, time, and that it names the
// target by its alias or address. A certificate that names nobody is good for all, as in ssh(1).
func checkCert(t Target, via string, cert *ssh.Certificate) error {
	err := errors.New("is not a host certificate")
	if cert.CertType == ssh.HostCert {
		err = checkPrincipals(t, cert)
	}
	if err == nil && !slices.Contains(ssh.SupportedAlgorithms().PublicKeyAuths, cert.Signature.Format) {
		err = errors.New("is signed with the outdated algorithm " + cert.Signature.Format)
	}
	if err == nil {
		return nil
	}
	return fault.New(fault.SSHHostKeyUnknown, "%s shows a host certificate that is not valid", t.place(via)).
		On(t.Name).Fact("got:  %s %s", cert.Type(), ssh.FingerprintSHA256(cert.Key)).
		Fact("certificate: %s", strings.TrimPrefix(err.Error(), "ssh: ")).
		Hint("its authority is known, so the certificate has to be renewed or must name %s", t.Address).Wrap(err)
}

// checkPrincipals lets x/crypto check the certificate for one of the target's names.
func checkPrincipals(t Target, cert *ssh.Certificate) error {
	var checker ssh.CertChecker
	name := t.Address
	if t.conf.keyAlias != "" {
		name = t.conf.keyAlias
	}
	err := checker.CheckCert(strings.ToLower(name), cert)
	if err != nil && t.Alias != "" && checker.CheckCert(strings.ToLower(t.Alias), cert) == nil {
		return nil
	}
	return err
}

// algorithms gives the host key algorithms to offer, those of known keys first, so that a host with
// several keys shows one that can be compared. Certificates are asked for only where an authority
// is known; the other types still follow, because a changed key must be seen, not hidden.
func (k *KnownHosts) algorithms(t Target, tried []string) []string {
	var first, certs, rest []string
	types := k.knownTypes(t)
	authority := types["@"]
	for _, algorithm := range inOrder(able(t.conf).HostKeys) {
		switch kind := keyType(algorithm); {
		case slices.Contains(tried, kind):
		case isCertAlgorithm(algorithm):
			if authority {
				certs = append(certs, algorithm)
			}
		case types[kind]:
			first = append(first, algorithm)
		default:
			rest = append(rest, algorithm)
		}
	}
	return slices.Concat(certs, first, rest)
}

// inOrder sorts algorithms as ssh(1) prefers them: ed25519, ecdsa, rsa, then the rest. Of several
// known keys both then look at the same one, and agree on whether it has changed.
func inOrder(algorithms []string) []string {
	rank := func(algorithm string) int {
		for i, prefix := range []string{"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-", "rsa-sha2-512", "rsa-"} {
			if strings.HasPrefix(algorithm, prefix) {
				return i
			}
		}
		return 9
	}
	slices.SortStableFunc(algorithms, func(a, b string) int { return rank(a) - rank(b) })
	return algorithms
}

// knownTypes is the set of key types known for the target; "@" stands for an authority.
func (k *KnownHosts) knownTypes(t Target) map[string]bool {
	types := make(map[string]bool)
	if t.HostKey != "" {
		return types
	}
	names := t.knownNames()
	if t.conf.keyAlias == "" {
		names = append(names, t.Address)
	}
	for _, name := range names {
		plain := false
		for _, line := range k.Lookup(name) {
			if line.Authority {
				types["@"] = true
			} else if !line.Revoked {
				types[line.Type()], plain = true, true
			}
		}
		if plain { // this name decides; types known under the next would only mislead
			break
		}
	}
	return types
}

// keyType is the type of the keys that an algorithm signs with: RSA has one type and two algorithms.
func keyType(algorithm string) string {
	if algorithm == ssh.KeyAlgoRSASHA256 || algorithm == ssh.KeyAlgoRSASHA512 {
		return ssh.KeyAlgoRSA
	}
	return algorithm
}

func isCertAlgorithm(algorithm string) bool {
	return strings.Contains(algorithm, "-cert-v0")
}

// describe is the line as a fact: "ssh-ed25519 SHA256:…   FILE:LINE".
func (k KnownKey) describe() string {
	return k.Type() + " " + k.Fingerprint() + "   " + k.at()
}

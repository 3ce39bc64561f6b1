package sshx

import (
	"runtime"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/cpu"
)

// able gives the algorithms for a target: the current ones, a post-quantum key exchange first, and behind
// them the outdated ones that ssh_config asks for.
func able(conf settings) ssh.Algorithms {
	all := ssh.SupportedAlgorithms()
	if !fastAES() {
		all.Ciphers = chachaFirst(all.Ciphers)
	}
	bad := ssh.InsecureAlgorithms()
	add := func(list, outdated []string, keys ...string) []string {
		for _, name := range outdated {
			if conf.allows(name, keys...) {
				list = append(list, name)
			}
		}
		return list
	}
	all.KeyExchanges = add(all.KeyExchanges, bad.KeyExchanges, "kexalgorithms")
	all.Ciphers = add(all.Ciphers, bad.Ciphers, "ciphers")
	all.MACs = add(all.MACs, bad.MACs, "macs")
	all.HostKeys = add(all.HostKeys, bad.HostKeys, "hostkeyalgorithms")
	return all
}

// allows reports whether one of the keywords asks for an outdated algorithm.
func (s settings) allows(name string, keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return slices.Contains(s.old, key+" "+name) })
}

// chachaFirst puts ChaCha20 before AES: without hardware for it AES is several times slower.
func chachaFirst(ciphers []string) []string {
	return slices.Concat([]string{ssh.CipherChaCha20Poly1305},
		slices.DeleteFunc(slices.Clone(ciphers), func(c string) bool { return c == ssh.CipherChaCha20Poly1305 }))
}

// fastAES reports whether this machine has instructions for AES-GCM that Go makes use of.
func fastAES() bool {
	switch runtime.GOARCH {
	case "amd64":
		return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ && cpu.X86.HasSSE41 && cpu.X86.HasSSSE3
	case "arm64":
		return cpu.ARM64.HasAES && cpu.ARM64.HasPMULL || runtime.GOOS == "darwin"
	case "s390x":
		return cpu.S390X.HasAES && cpu.S390X.HasAESCTR && (cpu.S390X.HasGHASH || cpu.S390X.HasAESGCM)
	case "ppc64", "ppc64le":
		return true
	}
	return false
}

// keywordFor is the keyword of ssh_config for what a negotiation was about, and the outdated algorithms
// of the host's that it could be allowed.
func keywordFor(mismatch *ssh.AlgorithmNegotiationError) (keyword string, could []string) {
	bad := ssh.InsecureAlgorithms()
	var known []string
	switch what := mismatch.What; {
	case strings.Contains(what, "key exchange"):
		keyword, known = "KexAlgorithms", bad.KeyExchanges
	case strings.Contains(what, "host key"):
		keyword, known = "HostKeyAlgorithms", bad.HostKeys
	case strings.Contains(what, "cipher"):
		keyword, known = "Ciphers", bad.Ciphers
	case strings.Contains(what, "MAC"):
		keyword, known = "MACs", bad.MACs
	}
	for _, name := range mismatch.RequestedAlgorithms {
		if slices.Contains(known, name) {
			could = append(could, name)
		}
	}
	return keyword, could
}

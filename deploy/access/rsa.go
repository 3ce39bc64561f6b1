package access

import (
	"crypto"
	"crypto/rsa"
)

// rsaBits is the size of an RSA key; 0 for any other.
func rsaBits(key crypto.PublicKey) int {
	if own, ok := key.(*rsa.PublicKey); ok {
		return own.N.BitLen()
	}
	return 0
}

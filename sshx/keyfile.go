package sshx

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/crypto/ssh"

	"godeploy/internal/fault"
)

const (
	maxKeyFile = 1 << 20
	askTimes   = 3 // wrong answers to a passphrase, as in ssh(1)
)

// keyFile is a private key on disk. It stays locked until a server has accepted its public half.
type keyFile struct {
	path string
	pub  ssh.PublicKey    // nil when only the passphrase could tell
	cert *ssh.Certificate // of PATH-cert.pub, or nil
	pem  []byte           // nil when only the public half is there, for the agent

	turn   chan struct{} // capacity 1: held by the one who asks and opens
	signer ssh.Signer    // guarded by turn
	err    error         // guarded by turn: why it cannot be opened, for good
}

// loadKey reads one key file and what stands beside it.
func loadKey(path string) (*keyFile, error) {
	key := &keyFile{path: path, turn: make(chan struct{}, 1)}
	key.pub = readPublic(path + ".pub")
	key.cert, _ = readPublic(path + "-cert.pub").(*ssh.Certificate)
	pem, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) && key.pub != nil {
		return key, nil
	}
	if err != nil {
		return nil, err
	}
	key.pem = pem
	return key, key.parse()
}

// parse opens a key without a passphrase, or learns its public half.
func (k *keyFile) parse() error {
	signer, err := ssh.ParsePrivateKey(k.pem)
	var locked *ssh.PassphraseMissingError
	switch {
	case err == nil:
		k.signer, k.pub = signer, signer.PublicKey()
	case errors.As(err, &locked):
		if locked.PublicKey != nil {
			k.pub = locked.PublicKey
		}
	case k.pub != nil && strings.HasPrefix(k.pub.Type(), "sk-"):
		k.pem = nil // its secret is in a piece of hardware, which the agent speaks to
	default:
		return fault.New(fault.SSHAuth, "key file %s cannot be read as a private key", k.path).Wrap(err)
	}
	if k.cert != nil && (k.pub == nil || !same(HostKey{k.cert.Key}, HostKey{k.pub})) {
		k.cert = nil
	}
	return nil
}

// readPrivate reads a private key file, and refuses one that others may read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.SSHAuth, "key file %s cannot be opened", path).Wrap(err)
	}
	defer f.Close()
	if about, err := f.Stat(); err != nil || !about.Mode().IsRegular() {
		return nil, fault.New(fault.SSHAuth, "key file %s is not a regular file", path)
	} else if mode := about.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fault.New(fault.SSHAuth, "key file %s may be used by others (mode %04o)", path, mode).
			Hint("a private key belongs to one user alone").Try("chmod 600 %s", filepath.ToSlash(path))
	}
	pem, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fault.New(fault.SSHAuth, "key file %s cannot be read", path).Wrap(err)
	}
	return pem, nil
}

// readPublic reads an authorized_keys line; nil when there is none.
func readPublic(path string) ssh.PublicKey {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil
	}
	return key
}

type passphraseFunc func(ctx context.Context, keyPath string) ([]byte, error)

// open gives the signer, asking for the passphrase if nobody has yet. Callers wait for one another,
// so that a key shared by many hosts is asked for once; an answer that does not open the key three
// times is final, while a cancelled caller leaves the question to the next.
func (k *keyFile) open(ctx context.Context, ask passphraseFunc) (ssh.Signer, error) {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if k.signer != nil || k.err != nil {
		return k.signer, k.err
	}
	signer, err := k.unlock(ctx, ask)
	if err != nil && ctx.Err() == nil {
		k.err = err
	}
	k.signer = signer
	return signer, err
}

// unlock asks up to three times.
func (k *keyFile) unlock(ctx context.Context, ask passphraseFunc) (ssh.Signer, error) {
	if ask == nil {
		return nil, fmt.Errorf("key %s is encrypted and there is nobody to ask for its passphrase", k.path)
	}
	for range askTimes {
		secret, err := ask(ctx, k.path)
		if err != nil {
			return nil, fmt.Errorf("passphrase of %s: %w", k.path, err)
		}
		signer, err := ssh.ParsePrivateKeyWithPassphrase(k.pem, secret)
		clear(secret)
		if !errors.Is(err, x509.IncorrectPasswordError) {
			return signer, err
		}
	}
	return nil, fmt.Errorf("passphrase of %s: not the right one", k.path)
}

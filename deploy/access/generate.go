package access

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"godeploy/internal/fault"
)

// GenerateOptions say what kind of key pair is made.
type GenerateOptions struct {
	Comment    string
	Passphrase []byte // empty leaves the private half readable to whoever can read the file
	Force      bool   // replace a pair that is there
}

// Generate makes an ed25519 key pair: PATH in OpenSSH's format, mode 0600 in a folder of mode 0700 where that
// is missing, and PATH.pub. Both are whole and on disk when it returns; the private half is there first. A
// pair that is there is a fault of code key-refused, and is not touched.
func Generate(path string, o GenerateOptions) (Key, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, err
	}
	o.Comment = oneWord(o.Comment)
	block, err := seal(private, o)
	if err != nil {
		return Key{}, fmt.Errorf("encode the key: %w", err)
	}
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		return Key{}, fmt.Errorf("encode the key: %w", err)
	}
	k := Key{Type: pub.Type(), Blob: pub.Marshal(), Comment: o.Comment}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Key{}, fmt.Errorf("make the folder of the key: %w", err)
	}
	if _, err := os.Lstat(path + ".pub"); err == nil && !o.Force {
		return Key{}, taken(path + ".pub")
	}
	if err := place(path, pem.EncodeToMemory(block), 0o600, o.Force); err != nil {
		return Key{}, err
	}
	return k, place(path+".pub", []byte(k.Public()+"\n"), 0o644, o.Force)
}

func seal(private ed25519.PrivateKey, o GenerateOptions) (*pem.Block, error) {
	if len(o.Passphrase) == 0 {
		return ssh.MarshalPrivateKey(private, o.Comment)
	}
	return ssh.MarshalPrivateKeyWithPassphrase(private, o.Comment, o.Passphrase)
}

func taken(path string) error {
	return fault.New(fault.KeyRefused, "%s is there already", path).
		Hint("a key that is lost is gone for good; take another --name, or replace it with --force")
}

// place gives a file its name when it is whole and on disk. Unless it may replace another, the name must be
// free, and taking it is one step: of two that make the same key one is refused.
func place(path string, content []byte, mode os.FileMode, replace bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".godeploy-key-*") // mode 0600
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // after a rename there is nothing left to remove
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = named(f.Name(), path, replace)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return taken(path)
	case err != nil:
		return fmt.Errorf("make %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func named(temp, path string, replace bool) error {
	if replace {
		return os.Rename(temp, path)
	}
	return os.Link(temp, path)
}

// syncDir makes a change of names last. Windows cannot, and needs it less.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	_ = f.Sync() // not every file system can
	return f.Close()
}

// Opens reports whether a passphrase opens a private key.
func Opens(pem, passphrase []byte) bool {
	_, err := ssh.ParseRawPrivateKeyWithPassphrase(pem, passphrase)
	return err == nil
}

package overssh

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"godeploy/internal/wire"
)

// Binary is one helper that can be pushed to hosts of one kind.
type Binary struct {
	OS   string // as GOOS: linux
	Arch string // as GOARCH: amd64, arm64
	Hash string // hex SHA-256 of Content
	load func() ([]byte, error)
	pack map[string]func() ([]byte, error) // Content packed, by the name of the program that unpacks it
}

// Content gives the executable. It is read or unpacked anew on each call.
func (b Binary) Content() ([]byte, error) { return b.load() }

// upload gives it as a host can take it, the smallest way first.
func (b Binary) upload(unpacks func(string) bool) (wire.Upload, error) {
	up := wire.Upload{Hash: b.Hash, Packing: "raw"}
	content := b.load
	for _, packing := range []string{"xz", "gzip"} {
		if pack := b.pack[packing]; pack != nil && unpacks(packing) {
			up.Packing, content = packing, pack
			break
		}
	}
	var err error
	up.Content, err = content()
	return up, err
}

// Binaries are the helpers this build of godeploy has. Safe for concurrent use.
type Binaries struct {
	list func() ([]Binary, error)
}

// Helpers gives the embedded helpers of a release build; a development build has none and pushes
// itself, as `godeploy helper`, where system and architecture are its own.
func Helpers() *Binaries {
	if blobs := embedded(); len(blobs) > 0 {
		list := builtIn(blobs)
		return &Binaries{func() ([]Binary, error) { return list, nil }}
	}
	return &Binaries{sync.OnceValues(self)}
}

// All lists the helpers.
func (b *Binaries) All() ([]Binary, error) { return b.list() }

// For picks the helper for a host that answered uname -s and uname -m. ok is false when there is none.
func (b *Binaries) For(kernel, machine string) (Binary, bool) {
	list, err := b.list()
	if err != nil {
		return Binary{}, false
	}
	for _, one := range list {
		if one.OS == goos(kernel) && one.Arch == goarch(machine) {
			return one, true
		}
	}
	return Binary{}, false
}

func self() ([]Binary, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the running godeploy: %w", err)
	}
	load := func() ([]byte, error) { return os.ReadFile(path) }
	content, err := load()
	if err != nil {
		return nil, fmt.Errorf("read the running godeploy: %w", err)
	}
	pack := sync.OnceValues(func() ([]byte, error) { return gzipped(content) })
	return []Binary{{OS: runtime.GOOS, Arch: runtime.GOARCH, Hash: hashOf(content), load: load,
		pack: map[string]func() ([]byte, error){"gzip": pack}}}, nil
}

func gzipped(content []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(content)
	err = errors.Join(err, w.Close())
	return b.Bytes(), err
}

func hashOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func goos(kernel string) string {
	switch kernel {
	case "Linux":
		return "linux"
	case "Darwin":
		return "darwin"
	}
	return ""
}

func goarch(machine string) string {
	switch machine {
	case "x86_64", "amd64":
		return "amd64"
	case "aarch64", "arm64":
		return "arm64"
	}
	return ""
}

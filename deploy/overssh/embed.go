package overssh

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// blob is one compressed helper as `make helper` leaves it.
type blob struct {
	os, arch string
	packed   []byte
}

// maxHelper bounds an unpacked helper.
const maxHelper = 32 << 20

func unpackAll(blobs []blob) ([]Binary, error) {
	list := make([]Binary, 0, len(blobs))
	for _, b := range blobs {
		load := func() ([]byte, error) { return unpack(b) }
		content, err := load()
		if err != nil {
			return nil, err
		}
		list = append(list, Binary{OS: b.os, Arch: b.arch, Hash: hashOf(content), load: load})
	}
	return list, nil
}

func unpack(b blob) ([]byte, error) {
	r, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxHelper))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, err := r.DecodeAll(b.packed, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack the helper for %s/%s: %w", b.os, b.arch, err)
	}
	return content, nil
}

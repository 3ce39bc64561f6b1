package overssh

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
)

// blob is one helper as `make helper` leaves it: packed by gzip, which every host can undo, and by xz,
// which is a fifth smaller and which most can; and the SHA-256 of what is packed, so that it need not be
// unpacked to know its name.
type blob struct {
	os, arch string
	gzip, xz []byte
	sum      string
}

// maxHelper bounds an unpacked helper.
const maxHelper = 32 << 20

func builtIn(blobs []blob) []Binary {
	list := make([]Binary, 0, len(blobs))
	for _, b := range blobs {
		list = append(list, Binary{
			OS: b.os, Arch: b.arch, Hash: strings.TrimSpace(b.sum),
			load: func() ([]byte, error) { return unpack(b) },
			pack: map[string]func() ([]byte, error){
				"gzip": func() ([]byte, error) { return b.gzip, nil },
				"xz":   func() ([]byte, error) { return b.xz, nil },
			},
		})
	}
	return list
}

func unpack(b blob) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b.gzip))
	var content []byte
	if err == nil {
		content, err = io.ReadAll(io.LimitReader(r, maxHelper+1))
	}
	if err == nil && (len(content) > maxHelper || hashOf(content) != strings.TrimSpace(b.sum)) {
		err = fmt.Errorf("it is not what was built")
	}
	if err != nil {
		return nil, fmt.Errorf("unpack the helper for %s/%s: %w", b.os, b.arch, err)
	}
	return content, nil
}

package filesync

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func (l *local) ReadDir(path string) ([]Info, error) {
	if err := checkPath(path); err != nil {
		return nil, wrap("readdir", path, err)
	}
	fd, err := l.openBelow(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, wrap("readdir", path, err)
	}
	defer unix.Close(fd)
	names, err := l.namesIn(fd)
	if err != nil {
		return nil, wrap("readdir", path, err)
	}
	infos := make([]Info, 0, len(names))
	for _, name := range names {
		info, err := retry(func() (Info, error) { return statAt(fd, name) })
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return nil, wrap("lstat", join(path, name), err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// names lists a folder without a look at what is in it.
func (l *local) names(path string) ([]string, error) {
	fd, err := l.openBelow(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, wrap("readdir", path, err)
	}
	defer unix.Close(fd)
	names, err := l.namesIn(fd)
	return names, wrap("readdir", path, err)
}

// direntsSize is how much of a folder is read at once, in bytes: about a thousand names.
const direntsSize = 32 << 10

// namesIn lists an open folder, sorted. All names share one string.
func (l *local) namesIn(fd int) ([]string, error) {
	buf, _ := l.buffers.Get().(*[direntsSize]byte)
	if buf == nil {
		buf = new([direntsSize]byte)
	}
	defer l.buffers.Put(buf)
	var text strings.Builder
	var ends []int
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(fd, buf[:]) })
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		if ends, err = takeNames(buf[:n], &text, ends); err != nil {
			return nil, err
		}
		if len(ends) > MaxEntries {
			return nil, errTooMany
		}
	}
	names := make([]string, len(ends))
	all, from := text.String(), 0
	for i, end := range ends {
		names[i], from = all[from:end], end
	}
	slices.Sort(names)
	return names, nil
}

// takeNames puts the names of what getdents64 gave one behind the other and notes where each ends.
func takeNames(p []byte, text *strings.Builder, ends []int) ([]int, error) {
	const head = 19 // inode 8, offset 8, length of the record 2, kind 1
	for len(p) > 0 {
		if len(p) < head {
			return nil, errBadFolder
		}
		size := int(binary.NativeEndian.Uint16(p[16:]))
		if size < head || size > len(p) {
			return nil, errBadFolder
		}
		name := p[head:size]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		p = p[size:]
		if string(name) == "." || string(name) == ".." {
			continue
		}
		if len(name) == 0 || bytes.IndexByte(name, '/') >= 0 {
			return nil, errBadFolder
		}
		text.Write(name)
		ends = append(ends, text.Len())
	}
	return ends, nil
}

var errBadFolder = errors.New("holds a name that cannot be")

package filesync

import (
	"errors"
	"io/fs"
	"path"
	"strings"
)

var errPath = errors.New("path is not a clean relative one")

// checkPath refuses every path that is not made of plain components below the root. "." passes.
func checkPath(p string) error {
	if p == "." {
		return nil
	}
	if p == "" || len(p) > MaxPath {
		return errPath
	}
	for rest, more := p, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		if err := checkName(name); err != nil {
			return err
		}
	}
	return nil
}

// checkName refuses what cannot be one component of a path.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > MaxComponent || strings.ContainsAny(name, "/\x00") {
		return errPath
	}
	return nil
}

// split gives the folder a path lies in and its last component.
func split(p string) (dir, name string) {
	i := strings.LastIndexByte(p, '/')
	if i < 0 {
		return ".", p
	}
	return p[:i], p[i+1:]
}

// join puts a path below a folder; either may be ".".
func join(dir, p string) string {
	switch {
	case dir == ".":
		return p
	case p == ".":
		return dir
	}
	return dir + "/" + p
}

// MkdirAll makes a folder and those on the way to it, each with these permission bits, where they
// are missing. It returns the paths it made, the outermost first, also when it fails later.
func MkdirAll(fsys FS, p string, perm uint32) (made []string, err error) {
	if err := checkPath(p); err != nil {
		return nil, &fs.PathError{Op: "mkdir", Path: p, Err: err}
	}
	var missing []string
	for q := p; q != "."; q = path.Dir(q) {
		info, err := fsys.Lstat(q)
		if err == nil && info.Kind != Dir {
			return nil, &fs.PathError{Op: "mkdir", Path: q, Err: errors.New("is not a folder")}
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		missing = append(missing, q)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		// Somebody else may have made it meanwhile: two apps share parents.
		err := fsys.Mkdir(missing[i], perm)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return made, err
		}
		if err == nil {
			made = append(made, missing[i])
		}
	}
	return made, nil
}

// floorDiv gives whole seconds and the nanoseconds above them, never negative ones.
func floorDiv(ns int64) (sec, nsec int64) {
	sec, nsec = ns/1_000_000_000, ns%1_000_000_000
	if nsec < 0 {
		sec, nsec = sec-1, nsec+1_000_000_000
	}
	return sec, nsec
}

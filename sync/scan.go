package filesync

import (
	"context"
	"errors"
)

// Source is a scanned folder, ready to be sent. Close it.
type Source struct {
	Manifest *Manifest
	Notes    []string // what was left out and why, for the user
	fs       FS
}

// Close lets go of the folder.
func (s *Source) Close() error { return s.fs.Close() }

// Scan reads the tree below dir.
func Scan(ctx context.Context, dir string, o ScanOptions) (*Source, error) {
	return nil, errors.ErrUnsupported
}

// OpenLocal opens a folder of this machine as an FS.
func OpenLocal(dir string) (FS, error) { return nil, errors.ErrUnsupported }

// Rules decides what is left out.
type Rules struct{}

// ParseRules reads rsync's filter rules.
func ParseRules(exclude, include, filter []string) (*Rules, error) { return &Rules{}, nil }

// Excluded says whether a path is left out; ask for a folder before what is in it.
func (r *Rules) Excluded(path string, dir bool) bool { return false }

package helper

import (
	"errors"
	"io/fs"

	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// drained reads why the host is out of its balancer. It is a note of the controller's; what lies there
// and makes no sense says nothing.
func (s *Site) drained() (*wire.Drained, error) {
	info, err := s.FS.Lstat(wire.DrainedFile)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Kind != filesync.File {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := s.read(wire.DrainedFile)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errRecord) {
		return nil, nil
	}
	return wire.ReadDrained(b), err
}

package helper

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"

	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// frozen reads who wants no changes here. What cannot be made out is a freeze by somebody: a note that is
// damaged must not be taken for none.
func (s *Site) frozen() (*wire.Freeze, error) {
	info, err := s.FS.Lstat(wire.FreezeFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && info.Kind != filesync.File {
		return wire.ReadFreeze([]byte(wire.FreezeFile + " is no plain file")), nil
	}
	if err != nil {
		return nil, err
	}
	b, err := s.read(wire.FreezeFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, errRecord):
		return wire.ReadFreeze([]byte(wire.FreezeFile + " is too long to be read")), nil
	}
	return wire.ReadFreeze(b), err
}

// Freeze notes who wants no changes here; nil lifts what was noted.
func (s *Site) Freeze(_ context.Context, f *wire.Freeze) error {
	var text []byte
	if f != nil {
		var err error
		if text, err = json.Marshal(f); err != nil {
			return err
		}
	}
	if _, err := filesync.MkdirAll(s.FS, stateDir, 0o755); err != nil {
		return explain(err, "make %s", stateDir)
	}
	return explain(s.replace(wire.FreezeFile, text), "write %s", wire.FreezeFile)
}

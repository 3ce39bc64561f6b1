package helper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"

	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

const (
	auditLog = stateDir + "/audit.log"
	maxAudit = 256 << 10 // bytes of the log; beyond it the oldest lines go
)

// Audit adds a line of JSON to the log of commands that changed the host. The log is written whole, so
// that no line is ever half there; it holds the newest lines.
func (s *Site) Audit(_ context.Context, entry wire.AuditEntry) error {
	line, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	if _, err := filesync.MkdirAll(s.FS, stateDir, 0o755); err != nil {
		return explain(err, "make %s", stateDir)
	}
	had, err := s.auditLines()
	if err != nil {
		return explain(err, "read %s", auditLog)
	}
	return explain(s.replace(auditLog, newestLines(had, append(line, '\n'))), "write %s", auditLog)
}

// auditLines reads the log; one that is no plain file, or too large to be ours, is started anew.
func (s *Site) auditLines() ([]byte, error) {
	f, err := s.FS.Open(auditLog)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		if info, lerr := s.FS.Lstat(auditLog); lerr == nil && info.Kind != filesync.File {
			return nil, s.FS.RemoveAll(auditLog)
		}
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, 2*maxAudit))
	return b, errors.Join(err, f.Close())
}

// newestLines joins what was there and a new line, without the oldest lines when there is no room.
func newestLines(had, line []byte) []byte {
	if n := len(had); n > 0 && had[n-1] != '\n' {
		had = append(had, '\n')
	}
	for len(had)+len(line) > maxAudit {
		i := bytes.IndexByte(had, '\n')
		if i < 0 {
			return line
		}
		had = had[i+1:]
	}
	return append(had, line...)
}

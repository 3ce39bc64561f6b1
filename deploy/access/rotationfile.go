package access

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"godeploy/internal/fault"
)

// keptRotation is the form of a rotation's file. It holds no secret.
type keptRotation struct {
	Version int    `json:"v"`
	Path    string `json:"path"`
	Old     string `json:"old"`
	New     string `json:"new"`
	Stage   Stage  `json:"stage"`
}

// maxRotation bounds what is read as a rotation.
const maxRotation = 64 << 10

// SaveRotation writes a rotation to a file, whole and on disk, making its folder.
func SaveRotation(file string, r Rotation) error {
	b, err := json.MarshalIndent(keptRotation{1, r.Path, r.Old.Public(), r.New.Public(), r.Stage}, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o755)
	}
	if err != nil {
		return fmt.Errorf("keep the rotation: %w", err)
	}
	return place(file, append(b, '\n'), 0o600, true)
}

// LoadRotation reads what SaveRotation wrote. A file that is not there is an error that is fs.ErrNotExist; one
// that makes no sense is a fault of code usage.
func LoadRotation(file string) (*Rotation, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read from
	b, err := io.ReadAll(io.LimitReader(f, maxRotation))
	if err != nil {
		return nil, err
	}
	r, err := decodeRotation(b)
	if err != nil {
		return nil, fault.New(fault.Usage, "%s tells no rotation that this godeploy can go on with", file).Wrap(err).
			Hint("keys rotate keeps it between runs; the new pair is beside the old one as FILE.new until it takes its place")
	}
	return r, nil
}

func decodeRotation(b []byte) (*Rotation, error) {
	var kept keptRotation
	if err := json.Unmarshal(b, &kept); err != nil {
		return nil, err
	}
	if kept.Version != 1 || !filepath.IsAbs(kept.Path) || !slices.Contains([]Stage{StageMade, StageInstalled, StageSwitched}, kept.Stage) {
		return nil, fmt.Errorf("version %d, stage %q", kept.Version, kept.Stage)
	}
	before, err := ParseKey([]byte(kept.Old), "the old key")
	if err != nil {
		return nil, err
	}
	after, err := ParseKey([]byte(kept.New), "the new key")
	return &Rotation{Path: kept.Path, Old: before, New: after, Stage: kept.Stage}, err
}

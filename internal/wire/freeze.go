package wire

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
)

// FreezeFile is where a host has its Freeze, below the app's path.
const FreezeFile = ".godeploy/freeze"

// maxFreezeText bounds what is told of a file that somebody wrote by hand.
const maxFreezeText = 200

// Freeze says that somebody wants no changes for now. It is a note that every command which changes a release
// obeys; it ends with nobody's connection.
type Freeze struct {
	By      string    `json:"by"` // user@machine
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until,omitzero"` // zero: until somebody lifts it
	Message string    `json:"message,omitempty"`
}

// Check bounds the texts.
func (f *Freeze) Check() error {
	if err := checkShort(f.By, f.Message); err != nil {
		return err
	}
	return validUTF8(f.By + f.Message)
}

// Holds reports whether the freeze is in force at a time; that of no freeze is not.
func (f *Freeze) Holds(now time.Time) bool {
	return f != nil && (f.Until.IsZero() || now.Before(f.Until))
}

// ReadFreeze reads what stands in a file of the name; nil for an empty one. A text that godeploy did not
// write is a freeze too, by somebody, with that text as its message: whoever wrote it meant one.
func ReadFreeze(content []byte) *Freeze {
	content = bytes.TrimSpace(content)
	if len(content) == 0 {
		return nil
	}
	var f Freeze
	if json.Unmarshal(content, &f) == nil && f.By != "" && f.Check() == nil {
		return &f
	}
	text := string(content[:min(len(content), maxFreezeText)])
	return &Freeze{By: "somebody", Message: strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")}
}

package wire

import (
	"encoding/json"
	"time"
)

// DrainedFile is where a host has its Drained, below the app's path.
const DrainedFile = ".godeploy/drained"

// Drained says why a server is out of its balancer.
type Drained struct {
	By     string    `json:"by"`  // user@machine
	Run    string    `json:"run"` // of whom
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
	// Hand says that somebody asked for it: no run puts the server back by itself.
	Hand bool `json:"hand,omitempty"`
}

// Check bounds the texts.
func (d *Drained) Check() error {
	if err := checkShort(d.By, d.Run, d.Reason); err != nil {
		return err
	}
	return validUTF8(d.By + d.Reason)
}

// ReadDrained reads what stands in a file of the name; nil for an empty one and for one that makes no
// sense.
func ReadDrained(content []byte) *Drained {
	var d Drained
	if json.Unmarshal(content, &d) != nil || d.Run == "" || d.Check() != nil {
		return nil
	}
	return &d
}

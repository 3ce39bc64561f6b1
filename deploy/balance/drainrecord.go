package balance

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"godeploy/internal/wire"
)

// Record is what every balancer host notes of the servers that are out, and of those that are being put
// back, before anything is done. The one with the largest number is what was meant last: a run that died
// may have brought it to some of the hosts only, and its changes to fewer still.
type Record struct {
	Seq  int64                   `json:"seq"`
	Out  map[string]wire.Drained `json:"out,omitempty"`
	Back []string                `json:"back,omitempty"`
	// Warm are servers that were put back by hand with another weight than their own.
	Warm map[string]int `json:"warm,omitempty"`
	// Ramp are servers whose weight a run is raising: whoever finds it gives them their own.
	Ramp map[string]int `json:"ramp,omitempty"`
}

const (
	maxRecord  = 256 << 10
	maxServers = 10_000
	maxWeight  = 65535
)

// ReadRecord reads a Record; a file that makes no sense is none.
func ReadRecord(content []byte) Record {
	var r Record
	if len(content) > maxRecord || json.Unmarshal(content, &r) != nil || r.check() != nil {
		return Record{}
	}
	return r
}

func (r *Record) check() error {
	if r.Seq < 0 || len(r.Out)+len(r.Back)+len(r.Warm)+len(r.Ramp) > maxServers {
		return errors.New("impossible numbers")
	}
	for name, d := range r.Out {
		if err := d.Check(); err != nil || len(name) > 253 {
			return fmt.Errorf("server %.80q: %w", name, err)
		}
	}
	for _, weights := range []map[string]int{r.Warm, r.Ramp} {
		for name, w := range weights {
			if w < 1 || w > maxWeight {
				return fmt.Errorf("server %.80q has weight %d", name, w)
			}
		}
	}
	return nil
}

// next is the record that follows: a copy with the next number, in which nobody is being put back or raised.
func (r Record) next() Record {
	n := Record{Seq: r.Seq + 1, Out: map[string]wire.Drained{}, Warm: map[string]int{}}
	maps.Copy(n.Out, r.Out)
	maps.Copy(n.Warm, r.Warm)
	return n
}

// drains is the record of taking servers out.
func (r Record) drains(servers []string, why wire.Drained) Record {
	n := r.next()
	for _, s := range servers {
		n.Out[s] = why
		delete(n.Warm, s)
	}
	return n
}

// puts is the record of putting servers back, with a weight of their own or, above 0, with another one.
func (r Record) puts(servers []string, weight int) Record {
	n := r.next()
	for _, s := range servers {
		delete(n.Out, s)
		delete(n.Warm, s)
		if weight > 0 {
			n.Warm[s] = weight
		}
	}
	n.Back = slices.Clone(servers)
	return n
}

// ramps is the record of a step on a server's way to its own weight.
func (r Record) ramps(server string, weight int) Record {
	n := r.puts([]string{server}, 0)
	n.Ramp = map[string]int{server: weight}
	return n
}

// state is what the balancer's files should say.
func (r Record) state() State {
	s := State{Down: map[string]bool{}, Warm: map[string]int{}}
	maps.Copy(s.Warm, r.Warm)
	maps.Copy(s.Warm, r.Ramp)
	for name := range r.Out {
		s.Down[name] = true
	}
	return s
}

// Agree finds out what was meant, given what each host notes and what its file says. A server that a
// file has as down and that nobody has noted stays down, as drained by hand: somebody else's note, or none.
func Agree(records []Record, files []State) Record {
	var newest Record
	for _, r := range records {
		if r.Seq >= newest.Seq {
			newest = r
		}
	}
	meant := newest.next()
	meant.Seq = newest.Seq
	for _, f := range files {
		for _, name := range f.DownNames() {
			if _, known := meant.Out[name]; !known && !slices.Contains(newest.Back, name) {
				meant.Out[name] = wire.Drained{By: "unknown", Run: "unknown", Reason: "it is down in the balancer's file, and nobody noted why", Hand: true}
			}
		}
	}
	return meant
}

// equal reports whether two states come to the same.
func (s State) equal(o State) bool {
	return slices.Equal(s.DownNames(), o.DownNames()) && maps.Equal(s.warm(), o.warm())
}

// warm is Warm without what a drained server has no use for.
func (s State) warm() map[string]int {
	w := map[string]int{}
	for name, weight := range s.Warm {
		if weight > 0 && !s.Down[name] {
			w[name] = weight
		}
	}
	return w
}

// because says why a server is out, for people.
func because(d wire.Drained) string {
	text := "drained by " + d.By
	if !d.Since.IsZero() {
		text += " at " + d.Since.Format("2006-01-02 15:04:05Z")
	}
	if reason := strings.TrimSpace(d.Reason); reason != "" {
		text += ": " + reason
	}
	return text
}

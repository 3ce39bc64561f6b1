package wire

import (
	"errors"
	"fmt"
	"time"
)

// MaxEnv bounds the content of an EnvFile: with what stands beside it it fits one frame.
const MaxEnv = 512 << 10

// Bounds of what is recorded of a database schema.
const (
	MaxHeads    = 256      // lines
	MaxHead     = 255      // bytes of one
	maxAllHeads = 16 << 10 // bytes of all
)

// EnvFile is the file of secrets that belongs to one release. It lies in .godeploy/env/ID, readable by its
// owner alone, and the release links to it.
type EnvFile struct {
	Path    string `json:"path"` // of the link, below the release
	Content []byte `json:"content"`
}

// String names the file and keeps what is in it.
func (f *EnvFile) String() string { return "env file " + f.Path }

// GoString is String.
func (f *EnvFile) GoString() string { return f.String() }

// OnceRun is what is known of the once hooks of a release: they run on one host, one time.
type OnceRun struct {
	Host  string    `json:"host"` // by its name in the operator's file
	By    string    `json:"by"`   // user@machine
	Run   string    `json:"run"`
	Began time.Time `json:"began"`
	MS    int64     `json:"ms,omitempty"`
	// Exit is the exit status of the last hook that ran, -1 when a signal or a limit ended it. It means
	// something once Ended is set; a record without it is of a run that died meanwhile.
	Exit  int  `json:"exit"`
	Ended bool `json:"ended,omitempty"`
}

// Done reports whether the hooks ran to their end, well.
func (o *OnceRun) Done() bool { return o != nil && o.Ended && o.Exit == 0 }

// NoteRequest adds to the record of a release what became known after it was staged. What is nil stays
// as it is. The lock is held by this connection.
type NoteRequest struct {
	Site Site   `json:"site"`
	ID   string `json:"id"`
	Note Note   `json:"note"`
}

// Note is what a NoteRequest adds.
type Note struct {
	Once *OnceRun `json:"once,omitempty"`
	// Heads are the heads of the database schema after the once hooks, sorted; empty is not nil: there
	// are none.
	Heads *[]string `json:"heads,omitempty"`
}

// Check wants a path below the release and a bounded content.
func (f *EnvFile) Check() error {
	if f == nil {
		return nil
	}
	if len(f.Content) > MaxEnv {
		return fmt.Errorf("env file of %d bytes", len(f.Content))
	}
	return checkRelative(f.Path)
}

// Check bounds texts and numbers.
func (o *OnceRun) Check() error {
	if o == nil {
		return nil
	}
	if o.Exit < -1 || o.Exit > 255 || o.MS < 0 {
		return errors.New("impossible end of the once hooks")
	}
	return checkShort(o.Host, o.By, o.Run)
}

// Check checks site, id and note.
func (r *NoteRequest) Check() error {
	return firstError(r.Site.Check(), CheckID(r.ID), r.Note.Once.Check(), CheckHeads(r.Note.Heads))
}

// CheckHeads wants a bounded list of short lines of text; nil is well.
func CheckHeads(heads *[]string) error {
	if heads == nil {
		return nil
	}
	if len(*heads) > MaxHeads {
		return fmt.Errorf("%d schema heads", len(*heads))
	}
	total := 0
	for _, h := range *heads {
		if h == "" || len(h) > MaxHead || hasControl(h) {
			return fmt.Errorf("schema head %.80q", h)
		}
		if err := validUTF8(h); err != nil {
			return err
		}
		total += len(h)
	}
	if total > maxAllHeads {
		return fmt.Errorf("schema heads of %d bytes", total)
	}
	return nil
}

package wire

import (
	"errors"
	"fmt"
	"path"
)

// MaxKeyFile is how large a file of keys may be, in bytes, to be read or written.
const MaxKeyFile = 720 << 10

// KeyFileRequest reads or replaces the file that says which keys may log in to an account. Both are done as
// the account, also by a helper that runs as root, so that a link of its owner leads to nothing that the
// owner may not touch.
type KeyFileRequest struct {
	User string `json:"user,omitempty"` // the account; "" is the helper's own
	// Path is absolute, or relative to the account's home; "" is .ssh/authorized_keys. A write wants the real
	// path that a read gave, and follows no link in its last place.
	Path    string `json:"path,omitempty"`
	Write   bool   `json:"write,omitempty"`
	Content []byte `json:"content,omitempty"`
	// Expect is the SHA-256, in hex, of what a write replaces; "" says that there is no file yet.
	Expect string `json:"expect,omitempty"`
}

// KeyPart is one folder on the way to the file, or the file, as lstat shows it.
type KeyPart struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode"` // st_mode: the type too
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
}

// KeyFileReply is what there is.
type KeyFileReply struct {
	Path    string    `json:"path"`             // the real path, links resolved
	Home    string    `json:"home"`             // of the account, links resolved; "" when it is not there
	UID     int       `json:"uid"`              // of the account
	GID     int       `json:"gid"`              // its own group
	Link    bool      `json:"link,omitempty"`   // the path as asked for leads through a link
	Exists  bool      `json:"exists,omitempty"` // the file is there
	Denied  bool      `json:"denied,omitempty"` // and the account may not read it
	Content []byte    `json:"content,omitempty"`
	Way     []KeyPart `json:"way,omitempty"` // from "/" down to the file, as far as there is something
	// Stale says that a write changed nothing, because the file is not what was expected.
	Stale bool `json:"stale,omitempty"`
}

// Check wants a path that can be one and a bounded content.
func (r *KeyFileRequest) Check() error {
	if len(r.Content) > MaxKeyFile {
		return fmt.Errorf("%d bytes of keys", len(r.Content))
	}
	if r.Write && !path.IsAbs(r.Path) {
		return errors.New("a write needs an absolute path")
	}
	where := checkRelative
	if path.IsAbs(r.Path) {
		where = checkPath
	}
	return firstError(checkUser(r.User), optional(r.Path, where), optional(r.Expect, checkSum))
}

// Check bounds content and way.
func (r *KeyFileReply) Check() error {
	if len(r.Content) > MaxKeyFile {
		return fmt.Errorf("%d bytes of keys", len(r.Content))
	}
	if len(r.Way) > maxName {
		return fmt.Errorf("%d folders on the way", len(r.Way))
	}
	for _, p := range r.Way {
		if err := checkPath(p.Path); err != nil {
			return err
		}
	}
	return firstError(optional(r.Path, checkPath), optional(r.Home, checkPath))
}

func checkSum(s string) error {
	if len(s) != 64 || !only(s, digit+"abcdef") {
		return fmt.Errorf("SHA-256 %.80q", s)
	}
	return nil
}

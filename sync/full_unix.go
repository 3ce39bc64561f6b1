//go:build unix

package filesync

import (
	"errors"
	"syscall"
)

// isFull reports whether err says that no room is left, for this user or for anybody.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

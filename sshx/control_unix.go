//go:build unix

package sshx

import (
	"os"
	"syscall"
)

// ourSocket reports whether a path is a socket that belongs to this user and that nobody else may use.
func ourSocket(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 || info.Mode().Perm()&0o077 != 0 {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

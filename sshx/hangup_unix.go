//go:build unix

package sshx

import (
	"os"
	"syscall"
)

// hangUp asks a process to end, as a terminal that goes away does.
func hangUp(p *os.Process) { _ = p.Signal(syscall.SIGHUP) } // it may have ended

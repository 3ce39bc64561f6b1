//go:build !unix

package sshx

import "os"

// hangUp ends a process: there is no way to ask.
func hangUp(p *os.Process) { _ = p.Kill() } // it may have ended
